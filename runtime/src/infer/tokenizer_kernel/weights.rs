//! The tokenizer's weights, read from the initializers of its ONNX graph.
//! Every shape and every attribute that the kernel takes for granted is checked.

use prost::Message;
use sfm_models::graph::tokenizer_initializer;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataType};

/// Taps of every convolution.
pub(super) const TAPS: usize = 5;
/// Default of ONNX LayerNormalization.
const DEFAULT_EPSILON: f32 = 1e-5;

/// Why a graph cannot be run by the kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The bytes are not a serialized ONNX model with a graph.
    #[error("the tokenizer graph cannot be read ({0}); export the bundle again")]
    NotOnnx(String),
    /// An initializer that must be there is not.
    #[error("the tokenizer graph has no initializer '{0}'; export the bundle again")]
    Missing(String),
    /// An initializer's shape does not follow from the others.
    #[error("tokenizer initializer '{name}' has shape {found:?} where {expected} is needed")]
    Shape {
        /// Name of the initializer.
        name: String,
        /// Shape as the graph declares it.
        found: Vec<i64>,
        /// What would fit.
        expected: String,
    },
    /// An initializer that is not float32, or whose data are not as long as its shape says.
    #[error("tokenizer initializer '{0}' does not hold the float32 values its shape promises")]
    Data(String),
    /// A node differs from what the kernel computes.
    #[error("the tokenizer graph is not one this kernel computes: {0}")]
    Structure(String),
}

/// One convolution (kernel 5, stride 2, padding 2, BatchNorm folded in), ELU, LayerNorm.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Convolution {
    pub inputs: usize,
    pub outputs: usize,
    /// Output positions: half of the input positions.
    pub length: usize,
    /// [outputs, inputs, 5].
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    /// [outputs, length].
    pub norm_weight: Vec<f32>,
    pub norm_bias: Vec<f32>,
    pub epsilon: f32,
}

/// Weights of the whole tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizerWeights {
    pub(super) patch_samples: usize,
    pub(super) convolutions: Vec<Convolution>,
    /// [channels of the last convolution, E].
    pub(super) linear_weight: Vec<f32>,
    pub(super) linear_bias: Vec<f32>,
}

impl TokenizerWeights {
    /// Reads the initializers named by [`tokenizer_initializer`].
    ///
    /// # Errors
    /// [`KernelError`], which names the initializer or node.
    pub fn from_onnx(bytes: &[u8]) -> Result<Self, KernelError> {
        let model = ModelProto::decode(bytes).map_err(|e| KernelError::NotOnnx(e.to_string()))?;
        let graph = model.graph.ok_or_else(|| KernelError::NotOnnx("no graph".into()))?;
        check_nodes(&graph)?;
        let graph = Initializers(&graph);

        let mut convolutions: Vec<Convolution> = Vec::new();
        while graph.find(&tokenizer_initializer("conv", convolutions.len(), "weight")).is_ok() {
            let convolution = graph.convolution(convolutions.len(), convolutions.last())?;
            convolutions.push(convolution);
        }
        let (Some(first), Some(last)) = (convolutions.first(), convolutions.last()) else {
            return Err(KernelError::Missing(tokenizer_initializer("conv", 0, "weight")));
        };
        let ([_, embed_dim], linear_weight) =
            graph.read("linear.weight", [Some(last.outputs), None])?;
        let (_, linear_bias) = graph.read("linear.bias", [Some(embed_dim)])?;
        Ok(Self { patch_samples: 2 * first.length, convolutions, linear_weight, linear_bias })
    }
}

struct Initializers<'a>(&'a GraphProto);

impl Initializers<'_> {
    fn find(&self, name: &str) -> Result<&TensorProto, KernelError> {
        let found = self.0.initializer.iter().find(|t| t.name == name);
        found.ok_or_else(|| KernelError::Missing(name.to_owned()))
    }

    /// Shape and values of an initializer; `None` is any positive length.
    fn read<const R: usize>(
        &self,
        name: &str,
        expected: [Option<usize>; R],
    ) -> Result<([usize; R], Vec<f32>), KernelError> {
        let tensor = self.find(name)?;
        let misfit = || {
            let axis = |n: &Option<usize>| n.map_or("any".to_owned(), |n| n.to_string());
            let expected = expected.iter().map(axis).collect::<Vec<_>>().join(", ");
            KernelError::Shape {
                name: name.to_owned(),
                found: tensor.dims.clone(),
                expected: format!("[{expected}]"),
            }
        };
        if tensor.dims.len() != R {
            return Err(misfit());
        }
        let mut shape = [0; R];
        for ((axis, &dim), want) in shape.iter_mut().zip(&tensor.dims).zip(&expected) {
            *axis = usize::try_from(dim).map_err(|_| misfit())?;
            if *axis == 0 || want.is_some_and(|want| want != *axis) {
                return Err(misfit());
            }
        }
        let values = values(tensor).ok_or_else(|| KernelError::Data(name.to_owned()))?;
        let count = shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis));
        if count != Some(values.len()) {
            return Err(KernelError::Data(name.to_owned()));
        }
        Ok((shape, values))
    }

    fn convolution(
        &self,
        index: usize,
        before: Option<&Convolution>,
    ) -> Result<Convolution, KernelError> {
        let name = |part, tensor| tokenizer_initializer(part, index, tensor);
        let inputs = before.map_or(1, |c| c.outputs);
        let ([outputs, ..], weight) =
            self.read(&name("conv", "weight"), [None, Some(inputs), Some(TAPS)])?;
        let (_, bias) = self.read(&name("conv", "bias"), [Some(outputs)])?;
        // An odd input would need other padding at its end.
        let halved = match before {
            Some(c) if c.length % 2 != 0 => {
                let half =
                    format!("{}: {} positions cannot be halved", name("conv", "weight"), c.length);
                return Err(KernelError::Structure(half));
            }
            Some(c) => Some(c.length / 2),
            None => None,
        };
        let ([_, length], norm_weight) =
            self.read(&name("norm", "weight"), [Some(outputs), halved])?;
        let (_, norm_bias) = self.read(&name("norm", "bias"), [Some(outputs), Some(length)])?;
        let epsilon = self.epsilon(&name("norm", "weight"))?;
        Ok(Convolution { inputs, outputs, length, weight, bias, norm_weight, norm_bias, epsilon })
    }

    /// Epsilon of the LayerNormalization that uses this weight.
    fn epsilon(&self, weight: &str) -> Result<f32, KernelError> {
        let uses = |n: &&NodeProto| {
            n.op_type == "LayerNormalization" && n.input.iter().any(|input| input == weight)
        };
        let node = self.0.node.iter().find(uses).ok_or_else(|| {
            KernelError::Structure(format!("no LayerNormalization uses '{weight}'"))
        })?;
        let attribute = node.attribute.iter().find(|a| a.name == "epsilon");
        Ok(attribute.map_or(DEFAULT_EPSILON, |a| a.f))
    }
}

fn values(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != DataType::Float as i32 {
        return None;
    }
    if tensor.raw_data.is_empty() {
        return Some(tensor.float_data.clone());
    }
    let (words, rest) = tensor.raw_data.as_chunks::<4>();
    rest.is_empty().then(|| words.iter().map(|&w| f32::from_le_bytes(w)).collect())
}

/// The convolutions' geometry, ELU's alpha and the number of each.
fn check_nodes(graph: &GraphProto) -> Result<(), KernelError> {
    let refuse = |node: &NodeProto, what: &str| {
        Err(KernelError::Structure(format!("{} '{}' {what}", node.op_type, node.name)))
    };
    let (mut convolutions, mut elus, mut norms) = (0, 0, 0);
    for node in &graph.node {
        let ints =
            |name: &str| node.attribute.iter().find(|a| a.name == name).map(|a| a.ints.as_slice());
        match node.op_type.as_str() {
            "Conv" => {
                convolutions += 1;
                let group = node.attribute.iter().find(|a| a.name == "group");
                if ints("strides") != Some(&[2])
                    || ints("pads") != Some(&[2, 2])
                    || ints("dilations").is_some_and(|d| d != [1])
                    || group.is_some_and(|a| a.i != 1)
                {
                    return refuse(node, "is not of stride 2 and padding 2");
                }
            }
            "Elu" => {
                elus += 1;
                if node.attribute.iter().any(|a| a.name == "alpha" && a.f != 1.0) {
                    return refuse(node, "has an alpha other than 1");
                }
            }
            "LayerNormalization" => norms += 1,
            _ => {}
        }
    }
    if convolutions != elus || convolutions != norms {
        return Err(KernelError::Structure(format!(
            "{convolutions} Conv, {elus} Elu and {norms} LayerNormalization nodes do not pair up"
        )));
    }
    Ok(())
}
