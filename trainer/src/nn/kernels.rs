//! Fused operations with gradients of their own, for the network's costly steps.
//!
//! An [`Op`] is CPU code on plain slices: forward, and backward from what forward kept. Burn's
//! CPU backend runs it; around it, automatic differentiation sees one node. On a GPU the caller
//! gets its inputs back and runs the chain of burn's operations instead, unless the operation is
//! worth a way to the CPU and back ([`Op::ON_HOST`]).
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
#[cfg(any(feature = "cuda", test))]
use burn::tensor::try_read_sync;
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
pub use dense::{Activation, dense, dense_chain, product};
pub use layer_norm::layer_norm;
pub use lstm::{bilstm, bilstm_chain};
pub use tokenizer::{convolutions, convolutions_chain};

/// LayerNorm's epsilon: PyTorch's and burn's default, which the whole network has.
pub(super) const NORM_EPSILON: f64 = 1e-5;

/// A differentiable operation of N float tensors, on the CPU.
pub trait Op<const N: usize>: Send + Sync + 'static {
    /// What backward needs of forward.
    type Tape: Send + Sync + 'static;

    /// Faster on the CPU than as a chain of operations on a GPU, copies included.
    const ON_HOST: bool = false;

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
impl Kernels for burn::backend::Cuda {
    fn traced<const N: usize>(
        op: impl Op<N>,
        inputs: [FloatTensor<Self>; N],
    ) -> Result<Traced<Self, N>, [FloatTensor<Self>; N]> {
        on_host(op, inputs)
    }
}

#[cfg(feature = "cuda")]
impl Kernels for burn::backend::Cuda<burn::tensor::bf16> {
    fn traced<const N: usize>(
        op: impl Op<N>,
        inputs: [FloatTensor<Self>; N],
    ) -> Result<Traced<Self, N>, [FloatTensor<Self>; N]> {
        on_host(op, inputs)
    }
}

/// Runs `op` on the CPU, in float32, for a backend of another device, if it is worth it.
#[cfg(any(feature = "cuda", test))]
fn on_host<B: Backend, O: Op<N>, const N: usize>(
    op: O,
    inputs: [FloatTensor<B>; N],
) -> Result<Traced<B, N>, [FloatTensor<B>; N]> {
    if !O::ON_HOST {
        return Err(inputs);
    }
    let device = inputs.first().map(|input| B::float_device(input)).unwrap_or_default();
    let (output, tape) = op.forward(inputs.map(to_host::<B>));
    let output = from_host::<B>(output, &device);
    let pullback = move |gradient: FloatTensor<B>, needed| {
        let gradients = op.backward(&tape, to_host::<B>(gradient), needed);
        gradients.map(|gradient| gradient.map(|gradient| from_host::<B>(gradient, &device)))
    };
    Ok(Traced { output, pullback: Arc::new(pullback) })
}

#[cfg(any(feature = "cuda", test))]
fn to_host<B: Backend>(tensor: FloatTensor<B>) -> FlexTensor {
    let data = try_read_sync(B::float_into_data(tensor));
    let data = data.expect("reads without an event loop").expect("the device gives its data");
    FlexTensor::from_data(data.convert::<f32>())
}

#[cfg(any(feature = "cuda", test))]
fn from_host<B: Backend>(tensor: FlexTensor, device: &B::Device) -> FloatTensor<B> {
    let shape = tensor.layout().shape().clone();
    let values = tensor.to_contiguous().storage::<f32>().to_vec();
    B::float_from_data(TensorData::new(values, shape).convert::<B::FloatElem>(), device)
}

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

#[cfg(test)]
mod tests {
    use burn::tensor::ops::FloatTensorOps;

    use super::*;

    /// 3 x, where it is worth a way to the CPU or not.
    struct Triple<const WORTH_IT: bool>;

    impl<const WORTH_IT: bool> Op<1> for Triple<WORTH_IT> {
        type Tape = ();
        const ON_HOST: bool = WORTH_IT;

        fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, ()) {
            (Flex::float_mul_scalar(x, 3.0.into()), ())
        }

        fn backward(&self, (): &(), output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
            [Some(Flex::float_mul_scalar(output, 3.0.into()))]
        }
    }

    fn values(tensor: FlexTensor) -> Vec<f32> {
        wrap::<Flex, 2>(tensor).into_data().to_vec().expect("float32")
    }

    #[test]
    fn the_way_to_the_cpu_keeps_values_and_shape() {
        let x = flex(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3]);
        // What a GPU holds is not always in the order of its axes.
        let x = x.transpose(0, 1);
        let traced = on_host::<Flex, _, 1>(Triple::<true>, [x]).expect("worth it");
        assert_eq!(values(traced.output), [3.0, 12.0, 6.0, 15.0, 9.0, 18.0]);
        let [gradient] = (traced.pullback)(flex(vec![1.0, 0.0], [1, 2]), [true]);
        assert_eq!(values(gradient.expect("one")), [3.0, 0.0]);
    }

    #[test]
    fn other_operations_give_their_inputs_back() {
        let refused = on_host::<Flex, _, 1>(Triple::<false>, [flex(vec![7.0], [1, 1])]);
        let [x] = refused.err().expect("not worth it");
        assert_eq!(values(x), [7.0]);
    }
}
