//! The backends that the network runs on: a [`Kernels`] backend may replace a chain of burn's
//! operations by one of its own. Without an own one, an operation is the chain.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::{Autodiff, Flex};
use burn::tensor::backend::{AutodiffBackend, Backend};

/// A backend with kernels for the network's costly steps.
pub trait Kernels: Backend {}

impl Kernels for Flex {}

#[cfg(feature = "cuda")]
impl Kernels for burn::backend::Cuda {}

#[cfg(feature = "cuda")]
impl Kernels for burn::backend::Cuda<burn::tensor::bf16> {}

impl<B: Kernels, C: CheckpointStrategy> Kernels for Autodiff<B, C> {}

/// A backend that training runs on; evaluation runs on its inner one.
pub trait TrainBackend: AutodiffBackend<InnerBackend: Kernels> + Kernels {}

impl<B: AutodiffBackend<InnerBackend: Kernels> + Kernels> TrainBackend for B {}
