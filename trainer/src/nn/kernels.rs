//! Fused operations with gradients of their own, for the network's costly steps.
//!
//! An [`Op`] is CPU code on plain slices: forward, and backward from what forward kept. Burn's
//! CPU backend runs it; around it, automatic differentiation sees one node. On any other
//! backend the caller gets its inputs back and runs the chain of burn's operations instead.
//! Results do not depend on the number of threads: reductions have fixed parts and order.

use std::fmt;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Flex};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorPrimitive};
use burn_flex::FlexTensor;

mod attention;
mod block_norm;
mod conv;
mod dense;
mod dropout;
mod head;
mod layer_norm;
mod lstm;
mod simd;
mod sweeps;
mod tokenizer;

pub use attention::{attention, attention_chain};
pub use dense::{Activation, dense, dense_chain};
pub use layer_norm::layer_norm;
pub use lstm::{bilstm, bilstm_chain};
pub use tokenizer::{convolutions, convolutions_chain};

/// LayerNorm's epsilon: PyTorch's and burn's default, which the whole network has.
const NORM_EPSILON: f64 = 1e-5;

/// A differentiable operation of N float tensors, on the CPU.
pub trait Op<const N: usize>: Send + Sync + 'static {
    /// What backward needs of forward.
    type Tape: Send + Sync + 'static;

    /// The output, and what [`Op::backward`] needs.
    fn forward(&self, inputs: [FlexTensor; N]) -> (FlexTensor, Self::Tape);

    /// The gradients of those inputs that are `needed`, from the output's.
    fn backward(
        &self,
        tape: &Self::Tape,
        output: FlexTensor,
        needed: [bool; N],
    ) -> [Option<FlexTensor>; N];
}

/// From an output's gradient to those of the inputs that are needed.
type Pullback<B, const N: usize> =
    Arc<dyn Fn(FloatTensor<B>, [bool; N]) -> [Option<FloatTensor<B>>; N] + Send + Sync>;

/// An output with the way back.
pub struct Traced<B: Backend, const N: usize> {
    output: FloatTensor<B>,
    pullback: Pullback<B, N>,
}

/// A backend that may have kernels. Where it has none, `Err` returns the inputs.
pub trait Kernels: Backend {
    /// Runs `op` and keeps what its gradient needs.
    fn traced<const N: usize>(
        _op: impl Op<N>,
        inputs: [FloatTensor<Self>; N],
    ) -> Result<Traced<Self, N>, [FloatTensor<Self>; N]> {
        Err(inputs)
    }

    /// Runs `op`.
    fn run<const N: usize>(
        op: impl Op<N>,
        inputs: [FloatTensor<Self>; N],
    ) -> Result<FloatTensor<Self>, [FloatTensor<Self>; N]> {
        Self::traced(op, inputs).map(|traced| traced.output)
    }
}

impl Kernels for Flex {
    fn traced<const N: usize>(
        op: impl Op<N>,
        inputs: [FlexTensor; N],
    ) -> Result<Traced<Self, N>, [FlexTensor; N]> {
        if inputs.iter().any(|input| input.dtype() != DType::F32) {
            return Err(inputs);
        }
        let (output, tape) = op.forward(inputs);
        Ok(Traced {
            output,
            pullback: Arc::new(move |gradient, needed| op.backward(&tape, gradient, needed)),
        })
    }
}

#[cfg(feature = "cuda")]
impl Kernels for burn::backend::Cuda {}

#[cfg(feature = "cuda")]
impl Kernels for burn::backend::Cuda<burn::tensor::bf16> {}

impl<B: Kernels, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn run<const N: usize>(
        op: impl Op<N>,
        inputs: [FloatTensor<Self>; N],
    ) -> Result<FloatTensor<Self>, [FloatTensor<Self>; N]> {
        let Ok(traced) = B::traced(op, inputs.each_ref().map(|input| input.primitive.clone()))
        else {
            return Err(inputs);
        };
        let node = Node.prepare::<C>(inputs.map(|input| input.node));
        Ok(match node.compute_bound().stateful() {
            OpsKind::Tracked(node) => node.finish(Way(traced.pullback), traced.output),
            OpsKind::UnTracked(node) => node.finish(traced.output),
        })
    }
}

/// An [`Op`] in the graph of automatic differentiation.
#[derive(Debug)]
struct Node;

/// A [`Pullback`] as a node's state.
struct Way<B: Backend, const N: usize>(Pullback<B, N>);

impl<B: Backend, const N: usize> Clone for Way<B, N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Backend, const N: usize> fmt::Debug for Way<B, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Way")
    }
}

impl<B: Backend, const N: usize> Backward<B, N> for Node {
    type State = Way<B, N>;

    fn backward(self, ops: Ops<Way<B, N>, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let output = gradients.consume::<B>(&ops.node);
        let needed = ops.parents.each_ref().map(Option::is_some);
        let inputs = (ops.state.0)(output, needed);
        for (parent, gradient) in ops.parents.iter().zip(inputs) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// A backend that training runs on; evaluation runs on its inner one.
pub trait TrainBackend: AutodiffBackend<InnerBackend: Kernels> + Kernels {}

impl<B: AutodiffBackend<InnerBackend: Kernels> + Kernels> TrainBackend for B {}

/// The tensor's float primitive.
fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// A tensor of a float primitive.
fn wrap<B: Backend, const D: usize>(tensor: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

/// A CPU tensor of these values.
fn flex<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
