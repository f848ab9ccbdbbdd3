//! Both objectives against PyTorch: loss, gradients, windows found; with and without missing
//! modalities.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use serde::Deserialize;
use sfm_trainer::loss::contrastive::{Contrast, Objective, normalized};

type B = Autodiff<Flex>;

const TOLERANCE: f64 = 2e-6;

#[derive(Deserialize)]
struct Golden {
    embeddings: Vec<Vec<Vec<f32>>>,
    temperature: f32,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    objective: Objective,
    present: Vec<Vec<f32>>,
    loss: f64,
    embeddings_grad: Vec<Vec<Vec<f32>>>,
    temperature_grad: f64,
    found: Vec<[u64; 3]>,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/pretrain/contrastive.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn cube(values: &[Vec<Vec<f32>>]) -> Tensor<B, 3> {
    let shape = [values.len(), values[0].len(), values[0][0].len()];
    let flat: Vec<f32> = values.iter().flatten().flatten().copied().collect();
    Tensor::from_data(TensorData::new(flat, shape), &Default::default())
}

fn table(values: &[Vec<f32>]) -> Tensor<B, 2> {
    let shape = [values.len(), values[0].len()];
    let flat: Vec<f32> = values.iter().flatten().copied().collect();
    Tensor::from_data(TensorData::new(flat, shape), &Default::default())
}

fn value(tensor: Tensor<Flex, 1>) -> f64 {
    f64::from(tensor.into_scalar())
}

#[test]
fn loss_and_gradients_are_pytorchs() {
    let golden = golden();
    assert_eq!(golden.cases.len(), 4);
    for case in &golden.cases {
        let embeddings = cube(&golden.embeddings).require_grad();
        let temperature =
            Tensor::<B, 1>::from_floats([golden.temperature], &Default::default()).require_grad();
        let contrast = Contrast::new(
            case.objective,
            normalized(embeddings.clone()),
            table(&case.present),
            temperature.clone(),
        );
        let loss = contrast.loss();
        let mut gradients = loss.backward();
        let off = (value(loss.inner()) - case.loss).abs();
        assert!(off < TOLERANCE, "{:?}: the loss is off by {off}", case.objective);
        let gradient = value(temperature.grad_remove(&mut gradients).unwrap());
        assert!((gradient - case.temperature_grad).abs() < TOLERANCE);
        let gradient = embeddings.grad_remove(&mut gradients).unwrap();
        let wanted = cube(&case.embeddings_grad).inner();
        let off = f64::from((gradient - wanted).abs().max().into_scalar());
        assert!(off < TOLERANCE, "{:?}: a gradient is off by {off}", case.objective);

        let found: Vec<[u64; 3]> =
            contrast.retrieval().iter().map(|r| [r.rows, r.columns, r.windows]).collect();
        assert_eq!(found, case.found, "{:?}", case.objective);
    }
}

#[test]
fn what_a_missing_modality_holds_does_not_matter() {
    let golden = golden();
    for case in golden.cases.iter().filter(|case| case.present.iter().flatten().any(|&p| p == 0.0))
    {
        let embeddings = cube(&golden.embeddings);
        let present = table(&case.present);
        let other = embeddings.clone().neg() * 3.0 + 1.0;
        let mask = present.clone().unsqueeze_dim::<3>(2);
        let mixed = embeddings.clone() * mask.clone() + other * (mask.clone().neg() + 1.0);
        let of = |embeddings: Tensor<B, 3>| {
            let embeddings = embeddings.require_grad();
            let temperature = Tensor::from_floats([golden.temperature], &Default::default());
            let unit = normalized(embeddings.clone());
            let loss = Contrast::new(case.objective, unit, present.clone(), temperature).loss();
            let gradient = embeddings.grad(&loss.backward()).unwrap();
            let gradient = gradient * mask.clone().inner();
            (value(loss.inner()), gradient.into_data().to_vec::<f32>().unwrap())
        };
        let empty = embeddings.clone() * mask.clone();
        assert_eq!(of(embeddings.clone()), of(mixed));
        assert_eq!(of(embeddings), of(empty));
    }
}
