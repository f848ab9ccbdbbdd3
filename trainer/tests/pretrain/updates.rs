//! Optimizers, schedules and clipping against PyTorch, and an optimizer's state through a file.

use std::collections::HashMap;

use burn::backend::{Autodiff, Flex};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::prelude::Backend;
use burn::tensor::{Tensor, TensorData};
use serde::Deserialize;
use sfm_trainer::optim::{
    Optimizer, OptimizerConfig, OptimizerKind, ScheduleConfig, ScheduleKind, norm,
};
use sfm_trainer::run::{CheckpointReader, CheckpointWriter};

type B = Autodiff<Flex>;

const TOLERANCE: f32 = 1e-6;

#[derive(Debug, Deserialize)]
struct Values {
    matrix: Vec<Vec<f32>>,
    vector: Vec<f32>,
}

#[derive(Deserialize)]
struct Golden {
    start: Values,
    grads: Vec<Values>,
    learning_rate: f64,
    per_pass: u64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: OptimizerKind,
    weight_decay: f64,
    clip_norm: f64,
    schedule: ScheduleKind,
    rates: Vec<f64>,
    after: Vec<Values>,
}

#[derive(Module, Debug)]
struct Two<B: Backend> {
    matrix: Param<Tensor<B, 2>>,
    /// Never has a gradient.
    idle: Param<Tensor<B, 1>>,
    vector: Param<Tensor<B, 1>>,
}

fn matrix<B: Backend>(values: &Values) -> Tensor<B, 2> {
    let shape = [values.matrix.len(), values.matrix[0].len()];
    let flat: Vec<f32> = values.matrix.iter().flatten().copied().collect();
    Tensor::from_data(TensorData::new(flat, shape), &Default::default())
}

fn vector<B: Backend>(values: &Values) -> Tensor<B, 1> {
    Tensor::from_data(TensorData::from(values.vector.as_slice()), &Default::default())
}

fn two(values: &Values) -> Two<B> {
    Two {
        matrix: Param::from_tensor(matrix(values)),
        idle: Param::from_tensor(Tensor::ones([2], &Default::default())),
        vector: Param::from_tensor(vector(values)),
    }
}

fn gradients(module: &Two<B>, values: &Values) -> GradientsParams {
    let mut gradients = GradientsParams::new();
    gradients.register::<Flex, 2>(module.matrix.id, matrix(values));
    gradients.register::<Flex, 1>(module.vector.id, vector(values));
    gradients
}

fn values(module: &Two<B>) -> Vec<f32> {
    let mut values: Vec<f32> = module.matrix.val().into_data().to_vec().unwrap();
    values.extend(module.vector.val().into_data().to_vec::<f32>().unwrap());
    values
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/pretrain/optimizers.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn configs(golden: &Golden, case: &Case) -> (OptimizerConfig, ScheduleConfig) {
    let optimizer = OptimizerConfig {
        kind: case.kind,
        learning_rate: golden.learning_rate,
        weight_decay: case.weight_decay,
        clip_norm: case.clip_norm,
        ..OptimizerConfig::default()
    };
    let kind = case.schedule;
    // As the script that computed them: halves each pass; a tenth of the rate at the end.
    let schedule = ScheduleConfig { kind, step_passes: 1, gamma: 0.5, floor: 0.1, warmup_steps: 0 };
    (optimizer, schedule)
}

/// One step on gradients given as the sum of two batches.
fn step(optimizer: &mut Optimizer<B>, module: Two<B>, grad: &Values, rate: f64) -> Two<B> {
    let twice = Values {
        matrix: grad.matrix.iter().map(|row| row.iter().map(|x| 2.0 * x).collect()).collect(),
        vector: grad.vector.iter().map(|x| 2.0 * x).collect(),
    };
    let gradients = gradients(&module, &twice);
    let norm = f64::from(norm::<B, _>(&module, &gradients).unwrap().into_scalar());
    optimizer.step(module, gradients, 0.5, 0.5 * norm, rate)
}

#[test]
fn updates_are_pytorchs() {
    let golden = golden();
    assert_eq!(golden.cases.len(), 4);
    for case in &golden.cases {
        let (config, schedule) = configs(&golden, case);
        let mut optimizer = Optimizer::<B>::new(config);
        let mut module = two(&golden.start);
        for (number, (grad, after)) in golden.grads.iter().zip(&case.after).enumerate() {
            let steps = golden.grads.len() as u64;
            let rate = schedule.factor(number as u64, steps, golden.per_pass);
            let wanted = case.rates[number] / golden.learning_rate;
            assert!((rate - wanted).abs() < 1e-9, "{:?}: {rate}, not {wanted}", case.schedule);
            module = step(&mut optimizer, module, grad, rate);
            let wanted = after.matrix.iter().flatten().chain(&after.vector);
            for (value, wanted) in values(&module).iter().zip(wanted) {
                let off = (value - wanted).abs();
                assert!(off < TOLERANCE, "{:?}, step {number}: off by {off}", case.kind);
            }
        }
        assert_eq!(module.idle.val().into_data().to_vec::<f32>().unwrap(), [1.0, 1.0]);
    }
}

#[test]
fn an_optimizer_goes_on_from_its_checkpoint() {
    let golden = golden();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.ckpt");
    let mut seen = HashMap::new();
    for case in &golden.cases {
        let (config, _) = configs(&golden, case);
        let mut optimizer = Optimizer::<B>::new(config.clone());
        let mut module = two(&golden.start);
        for grad in &golden.grads[..3] {
            module = step(&mut optimizer, module, grad, 1.0);
        }
        let mut checkpoint = CheckpointWriter::new();
        optimizer.write(&mut checkpoint).unwrap();
        checkpoint.write(&path).unwrap();
        let mut checkpoint = CheckpointReader::open(&path).unwrap();
        let mut resumed =
            Optimizer::<B>::read(config, &mut checkpoint, &Default::default()).unwrap();
        // Another module with other ids, as after a restart.
        let mut other = two(&golden.start);
        other.matrix = Param::from_tensor(module.matrix.val().detach());
        other.vector = Param::from_tensor(module.vector.val().detach());
        for grad in &golden.grads[3..] {
            module = step(&mut optimizer, module, grad, 1.0);
            other = step(&mut resumed, other, grad, 1.0);
        }
        assert_eq!(values(&module), values(&other));
        seen.insert(format!("{:?}", case.kind), ());
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_warm_up_rises_to_the_full_rate() {
    let schedule = ScheduleConfig {
        kind: ScheduleKind::Cosine,
        warmup_steps: 4,
        floor: 0.0,
        ..ScheduleConfig::default()
    };
    let rates: Vec<f64> = (0..12).map(|step| schedule.factor(step, 12, 3)).collect();
    assert_eq!(rates[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
    assert!(rates[4..].windows(2).all(|pair| pair[1] < pair[0]));
    assert!(schedule.factor(12, 12, 3).abs() < 1e-12);
}
