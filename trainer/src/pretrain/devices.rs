//! Gradients of a step on one device or several. Each of several has its own copy of the weights and
//! computes its part of the batch, which is compared within itself; the parts' gradients are added
//! up on the first device, which alone has the optimizer and BatchNorm's running statistics.
//!
//! One thread gives every device its work and reads no value before all have theirs: GPUs compute at
//! the same time, and what is drawn at random does not depend on which is faster.

use burn::module::{AutodiffModule, Module};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::prelude::*;

use super::Pretrainer;
use super::validation::scalar;
use crate::data::windows::{Batch, Shape};
use crate::loss::contrastive::{Contrast, Objective, normalized};
use crate::nn::TrainBackend;

/// The devices of a run.
#[derive(Debug, Clone)]
pub struct Devices<B: Backend>(Vec<B::Device>);

/// What is computed of a batch, wherever.
#[derive(Debug, Clone, Copy)]
pub struct Comparison<'a> {
    /// What is compared with what.
    pub objective: Objective,
    /// The sizes of a window.
    pub shape: &'a Shape,
}

/// Losses and gradients of the parts of a step so far.
pub struct Sum<B: TrainBackend> {
    /// Loss of each part that had any signal.
    pub losses: Vec<f64>,
    /// Of the last of these parts.
    pub contrast: Option<Contrast<B::InnerBackend>>,
    gradients: GradientsAccumulator<Pretrainer<B>>,
}

impl<B: TrainBackend> Default for Sum<B> {
    fn default() -> Self {
        Self { losses: Vec::new(), contrast: None, gradients: GradientsAccumulator::new() }
    }
}

impl<B: TrainBackend> Sum<B> {
    /// The gradients' sum, on the first device; what is left has none.
    pub fn gradients(&mut self) -> GradientsParams {
        self.gradients.grads()
    }
}

/// What a device gave; a GPU may still be at it.
struct Part<B: TrainBackend> {
    loss: Tensor<B::InnerBackend, 1>,
    contrast: Contrast<B::InnerBackend>,
    gradients: GradientsParams,
}

impl<B: TrainBackend> Devices<B> {
    /// `count` devices from `first` on; one at least.
    pub fn new(first: &B::Device, count: usize) -> Self {
        let device = |place: usize| {
            let mut id = first.to_id();
            id.index_id = id.index_id.saturating_add(place as u16);
            B::Device::from_id(id)
        };
        Self(std::iter::once(first.clone()).chain((1..count).map(device)).collect())
    }

    /// How many.
    #[expect(clippy::len_without_is_empty, reason = "there is always a first")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The one with the weights.
    pub fn first(&self) -> &B::Device {
        &self.0[0]
    }

    /// Copies of `module` on the other devices; to be made anew when its weights have changed.
    pub fn copies(&self, module: &Pretrainer<B>) -> Vec<Pretrainer<B>> {
        // Through the inner backend: a clone would share the running statistics, and moving them to
        // its device would move the first one's. Forked after that: moved before, weights would no
        // longer ask for gradients.
        let copy = |device| Pretrainer::from_inner(module.valid()).fork(device);
        self.0.iter().skip(1).map(copy).collect()
    }

    /// Adds to `sum` the losses and gradients of `batches`, one for each device at most, with the
    /// seed of what each draws. `copies` are those of `module`. A batch without signal adds nothing.
    pub fn add(
        &self,
        sum: &mut Sum<B>,
        module: &Pretrainer<B>,
        copies: &[Pretrainer<B>],
        batches: &[(Batch, u64)],
        comparison: Comparison<'_>,
    ) {
        let modules = std::iter::once(module).chain(copies);
        let parts: Vec<Option<Part<B>>> = self
            .0
            .iter()
            .zip(modules)
            .zip(batches)
            .map(|((device, module), (batch, seed))| {
                B::seed(device, *seed);
                part(module, batch, comparison, device)
            })
            .collect();
        for part in parts.into_iter().flatten() {
            let gradients = match self.len() {
                1 => part.gradients,
                _ => part.gradients.to_device(self.first(), module),
            };
            sum.gradients.accumulate(module, gradients);
            // Reading the value waits for a GPU.
            sum.losses.push(f64::from(scalar(part.loss)));
            sum.contrast = Some(part.contrast);
        }
    }
}

fn part<B: TrainBackend>(
    module: &Pretrainer<B>,
    batch: &Batch,
    comparison: Comparison<'_>,
    device: &B::Device,
) -> Option<Part<B>> {
    let embedded = module.forward(batch, comparison.shape, device)?;
    let contrast = Contrast::new(
        comparison.objective,
        normalized(embedded.embeddings),
        embedded.present,
        module.temperature.val(),
    );
    let loss = contrast.loss();
    let gradients = GradientsParams::from_grads(loss.backward(), module);
    let contrast = Contrast { logits: contrast.logits.inner(), valid: contrast.valid.inner() };
    Some(Part { loss: loss.inner(), contrast, gradients })
}
