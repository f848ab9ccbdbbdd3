//! Writes one ONNX graph: opset 17, float32 and int64, weights inside the file.
//!
//! A value is named by the node that computes it; [`GraphBuilder::output`] renames it to the
//! contract's name. The protobuf types are tract's.

use prost::Message;
use tract_onnx::pb;

use pb::attribute_proto::AttributeType;
use pb::tensor_proto::DataType;
use pb::tensor_shape_proto::{Dimension, dimension};

/// LayerNormalization came with opset 17, which came with IR version 8.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// One axis of an input or output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Axis<'a> {
    /// Any size; the same name means the same size.
    Free(&'a str),
    /// This size.
    Fixed(usize),
}

/// The name of a value in the graph.
pub(super) type Value = String;

/// Collects the nodes, weights, inputs and outputs of one graph.
pub(super) struct GraphBuilder {
    graph: pb::GraphProto,
}

impl GraphBuilder {
    pub(super) fn new(name: &str) -> Self {
        GraphBuilder { graph: pb::GraphProto { name: name.to_owned(), ..Default::default() } }
    }

    /// A float32 input.
    pub(super) fn input(&mut self, name: &str, axes: &[Axis]) -> Value {
        self.graph.input.push(value_info(name, DataType::Float, axes));
        name.to_owned()
    }

    /// An int64 input.
    pub(super) fn input_i64(&mut self, name: &str, axes: &[Axis]) -> Value {
        self.graph.input.push(value_info(name, DataType::Int64, axes));
        name.to_owned()
    }

    /// Makes `value` the float32 output `name`.
    pub(super) fn output(&mut self, value: &str, name: &str, axes: &[Axis]) {
        for node in &mut self.graph.node {
            for edge in node.output.iter_mut().chain(&mut node.input) {
                if edge == value {
                    name.clone_into(edge);
                }
            }
        }
        self.graph.output.push(value_info(name, DataType::Float, axes));
    }

    /// A float32 constant, row-major.
    pub(super) fn weight(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, DataType::Float, shape, bytes)
    }

    /// An int64 vector, shared by all that ask for the same numbers.
    pub(super) fn integers(&mut self, values: &[i64]) -> Value {
        let digits: Vec<String> = values.iter().map(i64::to_string).collect();
        let name = format!("ints.{}", digits.join("_"));
        if self.graph.initializer.iter().any(|tensor| tensor.name == name) {
            return name;
        }
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(&name, DataType::Int64, &[values.len()], bytes)
    }

    /// A float32 scalar, shared by all that ask for the same number under the same name.
    pub(super) fn scalar(&mut self, name: &str, value: f32) -> Value {
        if self.graph.initializer.iter().any(|tensor| tensor.name == name) {
            return name.to_owned();
        }
        self.weight(name, &[], &[value])
    }

    /// A node with one output, whose name is made from `op` and returned.
    pub(super) fn node(&mut self, op: &str, inputs: &[&str], attributes: &[Attribute]) -> Value {
        let name = format!("{}.{}", op.to_ascii_lowercase(), self.graph.node.len());
        self.graph.node.push(pb::NodeProto {
            name: name.clone(),
            op_type: op.to_owned(),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            attribute: attributes.iter().copied().map(Attribute::to_proto).collect(),
            ..Default::default()
        });
        name
    }

    /// The graph as the bytes of an ONNX file.
    pub(super) fn finish(self) -> Vec<u8> {
        pb::ModelProto {
            ir_version: IR_VERSION,
            opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: OPSET }],
            producer_name: env!("CARGO_PKG_NAME").to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(self.graph),
            ..Default::default()
        }
        .encode_to_vec()
    }

    fn initializer(
        &mut self,
        name: &str,
        data_type: DataType,
        shape: &[usize],
        raw_data: Vec<u8>,
    ) -> Value {
        self.graph.initializer.push(pb::TensorProto {
            name: name.to_owned(),
            data_type: data_type as i32,
            dims: shape.iter().map(|&size| size as i64).collect(),
            raw_data,
            ..Default::default()
        });
        name.to_owned()
    }
}

/// An attribute of a node: its name and value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Float(&'a str, f32),
    Text(&'a str, &'a str),
}

impl Attribute<'_> {
    fn to_proto(self) -> pb::AttributeProto {
        let mut proto = pb::AttributeProto::default();
        let (name, kind) = match self {
            Attribute::Int(name, value) => {
                proto.i = value;
                (name, AttributeType::Int)
            }
            Attribute::Ints(name, values) => {
                proto.ints = values.to_vec();
                (name, AttributeType::Ints)
            }
            Attribute::Float(name, value) => {
                proto.f = value;
                (name, AttributeType::Float)
            }
            Attribute::Text(name, value) => {
                proto.s = value.as_bytes().to_vec();
                (name, AttributeType::String)
            }
        };
        name.clone_into(&mut proto.name);
        proto.r#type = kind as i32;
        proto
    }
}

fn value_info(name: &str, data_type: DataType, axes: &[Axis]) -> pb::ValueInfoProto {
    let dim = axes
        .iter()
        .map(|axis| Dimension {
            denotation: String::new(),
            value: Some(match *axis {
                Axis::Free(name) => dimension::Value::DimParam(name.to_owned()),
                Axis::Fixed(size) => dimension::Value::DimValue(size as i64),
            }),
        })
        .collect();
    let tensor = pb::type_proto::Tensor {
        elem_type: data_type as i32,
        shape: Some(pb::TensorShapeProto { dim }),
    };
    pb::ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(pb::TypeProto {
            denotation: String::new(),
            value: Some(pb::type_proto::Value::TensorType(tensor)),
        }),
        doc_string: String::new(),
    }
}
