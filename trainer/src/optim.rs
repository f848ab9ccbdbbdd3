//! Optimizers with PyTorch's update rules, schedules of the learning rate, clipping by the norm of
//! all gradients together. A parameter of less than float32 is updated through a float32 copy, or
//! steps smaller than its last bit would be lost.

use burn::module::{AutodiffModule, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, FloatDType};
use serde::{Deserialize, Serialize};

use crate::run::{CheckpointReader, CheckpointWriter, RunError};

/// Part of a checkpoint: the optimizer's state.
const STATE: &str = "optimizer.mpk";
/// As PyTorch's `clip_grad_norm_`.
const CLIP_EPSILON: f64 = 1e-6;
/// AdamW's decay rates of the two moments and its epsilon, PyTorch's defaults.
const BETAS: (f64, f64) = (0.9, 0.999);
const ADAM_EPSILON: f64 = 1e-8;

/// The update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Gradient descent with momentum; weight decay is part of the gradient.
    #[default]
    Sgd,
    /// Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019); biases,
    /// scales and other vectors do not decay.
    Adamw,
}

/// What an [`Optimizer`] does; the defaults are the reference's pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The update rule.
    pub kind: OptimizerKind,
    /// Learning rate before the schedule.
    pub learning_rate: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Longest gradient, the norm over all parameters; 0 = any.
    pub clip_norm: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Sgd,
            learning_rate: 1e-3,
            momentum: 0.9,
            weight_decay: 0.0,
            clip_norm: 0.0,
        }
    }
}

impl OptimizerConfig {
    /// Checks every number.
    ///
    /// # Errors
    /// One line that names the field and its range.
    pub fn check(&self) -> Result<(), String> {
        check_range("learning_rate", self.learning_rate, f64::MIN_POSITIVE, f64::MAX)?;
        check_range("momentum", self.momentum, 0.0, 1.0)?;
        check_range("weight_decay", self.weight_decay, 0.0, f64::MAX)?;
        check_range("clip_norm", self.clip_norm, 0.0, f64::MAX)
    }
}

/// How the learning rate goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// As it is.
    Constant,
    /// Multiplied by `gamma` every `step_passes` passes, as in the reference.
    #[default]
    Step,
    /// Half a cosine from 1 to `floor` at the last step.
    Cosine,
}

/// A schedule of the learning rate; the defaults are the reference's pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// How the rate goes on.
    pub kind: ScheduleKind,
    /// Steps over which the rate rises from 0.
    pub warmup_steps: u64,
    /// Passes between two reductions.
    pub step_passes: u64,
    /// What a reduction multiplies by.
    pub gamma: f64,
    /// Last share of the learning rate.
    pub floor: f64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { kind: ScheduleKind::Step, warmup_steps: 0, step_passes: 2, gamma: 0.1, floor: 0.0 }
    }
}

impl ScheduleConfig {
    /// Checks every number.
    ///
    /// # Errors
    /// One line that names the field and its range.
    pub fn check(&self) -> Result<(), String> {
        check_range("gamma", self.gamma, 0.0, 1.0)?;
        check_range("floor", self.floor, 0.0, 1.0)?;
        match self.step_passes {
            0 => Err("step_passes is 0, not 1 or more".into()),
            _ => Ok(()),
        }
    }

    /// The factor of the learning rate at `step` (from 0) of `steps`, `pass_steps` to a pass.
    pub fn factor(&self, step: u64, steps: u64, pass_steps: u64) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Step => {
                let reductions = step / pass_steps.max(1) / self.step_passes.max(1);
                self.gamma.powf(reductions as f64)
            }
            ScheduleKind::Cosine => {
                let span = steps.saturating_sub(self.warmup_steps).max(1) as f64;
                let progress = ((step - self.warmup_steps) as f64 / span).min(1.0);
                let wave = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
                self.floor + (1.0 - self.floor) * wave
            }
        }
    }
}

/// Refuses a number outside of `min` to `max`.
///
/// # Errors
/// One line that names the field and its range.
pub fn check_range(field: &str, value: f64, min: f64, max: f64) -> Result<(), String> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(match (min, max) {
        (_, f64::MAX) if min > 0.0 => format!("{field} is {value}, not a number above 0"),
        (_, f64::MAX) => format!("{field} is {value}, not a number from {min}"),
        _ => format!("{field} is {value}, not in {min} to {max}"),
    })
}

/// What an optimizer keeps of one parameter, flattened, float32.
#[derive(Debug, Clone)]
struct Slot<B: Backend> {
    /// The parameter itself, if its own type holds less than float32.
    value: Option<Tensor<B, 1>>,
    /// Momentum, or the first moment.
    first: Option<Tensor<B, 1>>,
    /// The second moment.
    second: Option<Tensor<B, 1>>,
}

impl<B: Backend> Default for Slot<B> {
    fn default() -> Self {
        Self { value: None, first: None, second: None }
    }
}

/// Updates a module's parameters. Slots are in the order in which the module lists its parameters.
#[derive(Debug)]
pub struct Optimizer<B: AutodiffBackend> {
    config: OptimizerConfig,
    steps: u64,
    slots: Vec<Slot<B::InnerBackend>>,
}

impl<B: AutodiffBackend> Optimizer<B> {
    /// An optimizer that has made no step yet.
    pub fn new(config: OptimizerConfig) -> Self {
        Self { config, steps: 0, slots: Vec::new() }
    }

    /// Updates `module` by `grads` times `scale`, at `rate` times the learning rate. `norm` is that
    /// of the gradients after scaling, see [`norm`].
    pub fn step<M: AutodiffModule<B>>(
        &mut self,
        module: M,
        mut grads: GradientsParams,
        scale: f64,
        norm: f64,
        rate: f64,
    ) -> M {
        let clip_norm = self.config.clip_norm;
        let clip = if clip_norm > 0.0 { (clip_norm / (norm + CLIP_EPSILON)).min(1.0) } else { 1.0 };
        self.steps += 1;
        module.map(&mut Update {
            optimizer: self,
            grads: &mut grads,
            scale: scale * clip,
            rate,
            index: 0,
        })
    }

    /// Adds the state to a checkpoint.
    ///
    /// # Errors
    /// burn's message.
    pub fn write(&self, checkpoint: &mut CheckpointWriter) -> Result<(), String> {
        let values = |tensor: &Option<Tensor<B::InnerBackend, 1>>| match tensor {
            Some(tensor) => tensor.to_data().to_vec::<f32>().map_err(|e| format!("{e:?}")),
            None => Ok(Vec::new()),
        };
        let slots = self
            .slots
            .iter()
            .map(|slot| Ok(vec![values(&slot.value)?, values(&slot.first)?, values(&slot.second)?]))
            .collect::<Result<Vec<_>, String>>()?;
        checkpoint.record::<B, (u64, Vec<Vec<Vec<f32>>>)>(STATE, (self.steps, slots))
    }

    /// Reads the state that [`Optimizer::write`] wrote.
    ///
    /// # Errors
    /// [`RunError::Refused`] if the checkpoint has none.
    pub fn read(
        config: OptimizerConfig,
        checkpoint: &mut CheckpointReader,
        device: &B::Device,
    ) -> Result<Self, RunError> {
        let (steps, slots) = checkpoint.record::<B, (u64, Vec<Vec<Vec<f32>>>)>(STATE, device)?;
        let tensor = |values: Option<Vec<f32>>| {
            let values = values.filter(|values| !values.is_empty())?;
            let shape = [values.len()];
            let options = (device, DType::F32);
            Some(Tensor::from_data(TensorData::new(values, shape), options))
        };
        let slot = |parts: Vec<Vec<f32>>| {
            let mut parts = parts.into_iter();
            let mut next = || tensor(parts.next());
            Slot { value: next(), first: next(), second: next() }
        };
        Ok(Self { config, steps, slots: slots.into_iter().map(slot).collect() })
    }

    /// One parameter's new value, flattened, float32.
    fn updated(
        &self,
        slot: &mut Slot<B::InnerBackend>,
        value: Tensor<B::InnerBackend, 1>,
        grad: Tensor<B::InnerBackend, 1>,
        rate: f64,
        decays: bool,
    ) -> Tensor<B::InnerBackend, 1> {
        let OptimizerConfig { learning_rate, momentum, weight_decay, .. } = self.config;
        let rate = learning_rate * rate;
        match self.config.kind {
            OptimizerKind::Sgd => {
                let grad = match weight_decay {
                    0.0 => grad,
                    _ => grad + value.clone() * weight_decay,
                };
                let velocity = match slot.first.take() {
                    Some(velocity) => velocity * momentum + grad,
                    None => grad,
                };
                slot.first = (momentum > 0.0).then(|| velocity.clone());
                value - velocity * rate
            }
            OptimizerKind::Adamw => {
                let (beta1, beta2) = BETAS;
                let moment = |old: Option<Tensor<_, 1>>, new: Tensor<_, 1>, beta: f64| match old {
                    Some(old) => old * beta + new * (1.0 - beta),
                    None => new * (1.0 - beta),
                };
                let first = moment(slot.first.take(), grad.clone(), beta1);
                let second = moment(slot.second.take(), grad.clone() * grad, beta2);
                let steps = self.steps as f64;
                let size = first.clone() / (1.0 - beta1.powf(steps));
                let root = (second.clone() / (1.0 - beta2.powf(steps))).sqrt() + ADAM_EPSILON;
                (slot.first, slot.second) = (Some(first), Some(second));
                let value = match decays && weight_decay > 0.0 {
                    true => value * (1.0 - rate * weight_decay),
                    false => value,
                };
                value - size / root * rate
            }
        }
    }
}

struct Update<'a, B: AutodiffBackend> {
    optimizer: &'a mut Optimizer<B>,
    grads: &'a mut GradientsParams,
    scale: f64,
    rate: f64,
    index: usize,
}

impl<B: AutodiffBackend> ModuleMapper<B> for Update<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let index = self.index;
        self.index += 1;
        if self.optimizer.slots.len() <= index {
            self.optimizer.slots.resize_with(index + 1, Slot::default);
        }
        let (id, tensor, mapper) = param.consume();
        let Some(grad) = self.grads.remove::<B::InnerBackend, D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let mut slot = std::mem::take(&mut self.optimizer.slots[index]);
        let (shape, dtype) = (tensor.shape(), tensor.dtype());
        let flat = |tensor: Tensor<B::InnerBackend, D>| {
            let count = tensor.shape().num_elements();
            in_f32(tensor.reshape([count]))
        };
        let value = slot.value.take().unwrap_or_else(|| flat(tensor.inner()));
        let grad = match self.scale {
            1.0 => flat(grad),
            scale => flat(grad) * scale,
        };
        let updated = self.optimizer.updated(&mut slot, value, grad, self.rate, D > 1);
        let tensor = if dtype == DType::F32 {
            updated.reshape(shape)
        } else {
            slot.value = Some(updated.clone());
            updated.reshape(shape).cast(dtype)
        };
        self.optimizer.slots[index] = slot;
        Param::from_mapped_value(id, Tensor::from_inner(tensor).require_grad(), mapper)
    }
}

/// The norm of all of a module's gradients together, `[1]` in float32, on the device; `None` if it
/// has no gradient at all.
pub fn norm<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: &M,
    grads: &GradientsParams,
) -> Option<Tensor<B::InnerBackend, 1>> {
    struct Squares<'a, B: AutodiffBackend> {
        grads: &'a GradientsParams,
        sum: Option<Tensor<B::InnerBackend, 1>>,
    }
    impl<B: AutodiffBackend> ModuleVisitor<B> for Squares<'_, B> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let Some(grad) = self.grads.get::<B::InnerBackend, D>(param.id) else { return };
            let grad = in_f32(grad);
            let squares = (grad.clone() * grad).sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + squares,
                None => squares,
            });
        }
    }
    let mut squares = Squares::<B> { grads, sum: None };
    module.visit(&mut squares);
    squares.sum.map(Tensor::sqrt)
}

/// The tensor in float32, itself if it is so already.
pub fn in_f32<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Tensor<B, D> {
    match tensor.dtype() {
        DType::F32 => tensor,
        _ => tensor.cast(FloatDType::F32),
    }
}
