//! What is asked of a graph before an engine sees it. Engines are made for what exporters write;
//! by what another graph claims they panic, recurse without end or allocate without limit. Refused:
//! more parts than a network has, subgraphs, data in other files, tensors that do not hold what
//! their shape promises, values that nothing computes, cycles, and operators that are to make a
//! tensor of an absurd size.

mod wire;

use std::collections::{HashMap, HashSet};

use prost::Message;
use tract_onnx::pb;

use super::InferError;

/// Longest graph, bytes: the published network has 20 MB.
const MAX_BYTES: usize = 1 << 30;
/// Values that a graph may make of nothing, 256 MB of float32.
const MAX_VALUES: u64 = 1 << 26;
/// No attribute of a network's operators is larger: they are axes, strides and sizes of layers.
const MAX_ATTRIBUTE: u64 = 1 << 20;
/// Axes are counted from either end; no tensor of a network has more.
const MAX_AXES: u64 = 8;
/// Operators whose result is as large as the numbers of an input say.
const MAKERS: [&str; 12] = [
    "ConstantOfShape",
    "Expand",
    "Tile",
    "Pad",
    "Range",
    "Resize",
    "Upsample",
    "OneHot",
    "EyeLike",
    "RandomNormal",
    "RandomUniform",
    "CenterCropPad",
];

/// Checks the ONNX file `onnx` of graph `name`.
///
/// # Errors
/// [`InferError`] with the reason; no engine is to see the graph.
pub(crate) fn check(name: &str, onnx: &[u8]) -> Result<(), InferError> {
    graph_of(onnx)
        .and_then(|graph| check_graph(&graph))
        .map_err(|reason| InferError::refused(name, "the bundle", reason))
}

fn graph_of(onnx: &[u8]) -> Result<pb::GraphProto, String> {
    if onnx.len() > MAX_BYTES {
        return Err(format!("it has {} bytes, over the limit of {MAX_BYTES}", onnx.len()));
    }
    wire::check(onnx)?;
    let model = pb::ModelProto::decode(onnx).map_err(|e| format!("it is no ONNX model: {e}"))?;
    model.graph.ok_or_else(|| "it is an ONNX model without a graph".to_owned())
}

fn check_graph(graph: &pb::GraphProto) -> Result<(), String> {
    let mut integers = HashMap::new();
    for tensor in &graph.initializer {
        check_tensor(tensor)?;
        integers.extend(integers_of(tensor).map(|numbers| (tensor.name.as_str(), numbers)));
    }
    for node in &graph.node {
        for attribute in &node.attribute {
            check_attribute(node, attribute)?;
            if let Some(tensor) = attribute.t.as_ref().filter(|_| node.op_type == "Constant") {
                let made = node.output.first().map(String::as_str).unwrap_or_default();
                integers.extend(integers_of(tensor).map(|numbers| (made, numbers)));
            }
        }
    }
    check_order(graph)?;
    graph.node.iter().try_for_each(|node| check_norm(graph, node))?;
    graph.node.iter().try_for_each(|node| check_made(node, &integers))
}

/// A norm is over as many axes as its weight has: tract counts up to any other number.
fn check_norm(graph: &pb::GraphProto, node: &pb::NodeProto) -> Result<(), String> {
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis");
    let (Some(axis), "LayerNormalization") = (axis, node.op_type.as_str()) else { return Ok(()) };
    let weight = graph.initializer.iter().find(|tensor| node.input.get(1) == Some(&tensor.name));
    let axes = weight.map_or(0, |weight| weight.dims.len() as u64);
    if axis.i < 0 && axis.i.unsigned_abs() > axes {
        return Err(format!("{} has axis {}, but a weight of {axes} axes", named(node), axis.i));
    }
    Ok(())
}

/// Every value is computed once, before it is used. ONNX asks for this order; it has no cycles.
fn check_order(graph: &pb::GraphProto) -> Result<(), String> {
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    let weights = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let mut known: HashSet<&str> = inputs.chain(weights).collect();
    for node in &graph.node {
        let missing = node.input.iter().find(|name| !name.is_empty() && !known.contains(&***name));
        if let Some(missing) = missing {
            return Err(format!(
                "{} uses '{}', which nothing before it computes",
                named(node),
                shown(missing)
            ));
        }
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if !known.insert(name) {
                return Err(format!("{} computes '{}' once more", named(node), shown(name)));
            }
        }
    }
    match graph.output.iter().find(|output| !known.contains(output.name.as_str())) {
        Some(output) => Err(format!("nothing computes its output '{}'", shown(&output.name))),
        None => Ok(()),
    }
}

fn check_attribute(node: &pb::NodeProto, attribute: &pb::AttributeProto) -> Result<(), String> {
    let refuse = |what: &str| {
        Err(format!("attribute '{}' of {} {what}", shown(&attribute.name), named(node)))
    };
    if attribute.g.is_some() || !attribute.graphs.is_empty() {
        return refuse("is a graph of its own, which no bundle has");
    }
    if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() {
        return refuse("is a sparse tensor, which no bundle has");
    }
    // The last place of a slice may be as far away as can be said.
    let is_far = |&number: &i64| number.unsigned_abs() > MAX_ATTRIBUTE && number < i64::MAX / 2;
    if let Some(number) = attribute.ints.iter().chain([&attribute.i]).copied().find(is_far) {
        return refuse(&format!("is {number}, which no network has"));
    }
    if attribute.name == "axis" && attribute.i.unsigned_abs() > MAX_AXES {
        return refuse(&format!("is {}, which no tensor has", attribute.i));
    }
    attribute.t.iter().chain(&attribute.tensors).try_for_each(check_tensor)
}

/// A tensor holds as many values as its shape says.
fn check_tensor(tensor: &pb::TensorProto) -> Result<(), String> {
    let refuse = |what: String| Err(format!("tensor '{}' {what}", shown(&tensor.name)));
    if !tensor.external_data.is_empty() || tensor.data_location == Some(1) {
        return refuse("has its data in another file".to_owned());
    }
    let mut sizes = tensor.dims.iter().map(|&size| usize::try_from(size).ok());
    let count = sizes.try_fold(1_usize, |count, size| count.checked_mul(size?));
    let Some(count) = count else { return refuse(format!("has the shape {:?}", tensor.dims)) };
    let held = match tensor.raw_data.len() {
        0 => [
            tensor.float_data.len(),
            tensor.int32_data.len(),
            tensor.int64_data.len(),
            tensor.double_data.len(),
            tensor.uint64_data.len(),
            tensor.string_data.len(),
        ]
        .into_iter()
        .max()
        .unwrap_or_default(),
        bytes => bytes / bytes_of(tensor.data_type),
    };
    if count != held {
        return refuse(format!("of shape {:?} holds {held} values", tensor.dims));
    }
    Ok(())
}

/// Bytes of one value in `raw_data`.
fn bytes_of(data_type: i32) -> usize {
    use pb::tensor_proto::DataType::{
        Bfloat16, Bool, Complex64, Complex128, Double, Float, Float16, Int8, Int16, Int32, Int64,
        Uint8, Uint16, Uint32, Uint64,
    };
    let is = |kinds: &[pb::tensor_proto::DataType]| kinds.iter().any(|&k| k as i32 == data_type);
    match () {
        () if is(&[Uint8, Int8, Bool]) => 1,
        () if is(&[Uint16, Int16, Float16, Bfloat16]) => 2,
        () if is(&[Float, Int32, Uint32]) => 4,
        () if is(&[Double, Int64, Uint64, Complex64]) => 8,
        () if is(&[Complex128]) => 16,
        () => 1,
    }
}

/// The numbers of a tensor of integers that is short enough to be a shape.
fn integers_of(tensor: &pb::TensorProto) -> Option<Vec<i64>> {
    if tensor.data_type != pb::tensor_proto::DataType::Int64 as i32 {
        return None;
    }
    let (words, _) = tensor.raw_data.as_chunks::<8>();
    match words.is_empty() {
        true => Some(tensor.int64_data.clone()),
        false => Some(words.iter().map(|&word| i64::from_le_bytes(word)).collect()),
    }
}

/// What an operator makes of numbers in the graph is of a size that a network has.
fn check_made(node: &pb::NodeProto, integers: &HashMap<&str, Vec<i64>>) -> Result<(), String> {
    if !MAKERS.contains(&node.op_type.as_str()) {
        return Ok(());
    }
    for numbers in node.input.iter().filter_map(|name| integers.get(name.as_str())) {
        let sizes = numbers.iter().map(|number| number.unsigned_abs().max(1));
        let made = sizes.fold(1_u64, u64::saturating_mul);
        if made > MAX_VALUES {
            return Err(format!(
                "{} makes {made} values, over the limit of {MAX_VALUES}",
                named(node)
            ));
        }
    }
    Ok(())
}

fn named(node: &pb::NodeProto) -> String {
    format!("{} '{}'", shown(&node.op_type), shown(&node.name))
}

/// Untrusted text in a message: its beginning, on one line.
fn shown(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
#[path = "graph_check/tests.rs"]
mod tests;
