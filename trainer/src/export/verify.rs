//! One input through burn and through every engine of this machine: how far a bundle's graphs are
//! from the modules they stand for. Inputs are drawn with a fixed seed; of every set one member is
//! absent.

use burn::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sfm_models::manifest::{PRESENCE_AHI, SEVERITY_AHI};
use sfm_models::{Bundle, SleepStage, graph};
use sfm_runtime::infer::backend::Backend as Engine;
use sfm_runtime::infer::{InferError, Input};

use super::read::{self, ReadError};
use crate::nn::{ApneaHead, Kernels, RiskHead, Stager};

/// The largest difference that passes.
pub const TOLERANCE: f32 = 1e-4;

/// Rows, tokens or windows of an input.
const ROWS: usize = 30;

/// A graph and its largest difference from burn on one engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Name of the graph, or of the layer whose two graphs are run one after the other.
    pub graph: String,
    /// Largest absolute difference over all outputs; NaN if an output is not finite.
    pub largest: f32,
}

/// A bundle could not be run. One line.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Its weights cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An engine refuses a graph.
    #[error(transparent)]
    Infer(#[from] InferError),
}

type Result<T> = std::result::Result<T, VerifyError>;

/// The largest difference of each graph of `bundle` between burn on `device` and `engine`.
///
/// # Errors
/// [`VerifyError`] if the bundle was not written by this program, or an engine refuses a graph.
pub fn differences<B: Kernels>(
    bundle: &Bundle,
    engine: &Engine,
    device: &B::Device,
) -> Result<Vec<Difference>> {
    let network = read::base::<B>(bundle, device)?;
    let embed_dim = network.config.embed_dim;
    let mut check = Check::<B> { bundle, engine, device, embed_dim, found: Vec::new() };
    let patches = check.draw([ROWS, network.config.patch_samples], 1);
    let tokens = network.base.tokenizer.forward(patches.clone());
    check.run(graph::TOKENIZER, &[Value::float(&patches)], &[flat(tokens)])?;

    for channels in [1, 5] {
        let (tokens, present) = check.set([ROWS, channels, embed_dim], 2);
        let pooled = network.base.pooling.forward(tokens.clone(), present.clone());
        let inputs = [Value::float(&tokens), Value::float(&present)];
        check.run(graph::POOL, &inputs, &[flat(pooled)])?;
    }

    let (tokens, present) = check.set([2, network.config.window_patches, embed_dim], 3);
    let encoded = network.base.encoder.forward(tokens.clone(), present.clone());
    let inputs = [Value::float(&tokens), Value::float(&present)];
    check.run(graph::ENCODER, &inputs, &[flat(encoded.embeddings), flat(encoded.window)])?;

    let modalities = network.config.modalities.len();
    if let Some(stager) = read::stager::<B>(bundle, device)? {
        check.staging(&stager, modalities)?;
    }
    if let Some(head) = read::risk::<B>(bundle, device)? {
        check.risk(&head, modalities)?;
    }
    if let Some(head) = read::apnea::<B>(bundle, device)? {
        check.apnea(&head, modalities)?;
    }
    Ok(check.found)
}

/// An input of a graph.
enum Value {
    Float(Vec<usize>, Vec<f32>),
    Int(Vec<usize>, Vec<i64>),
}

impl Value {
    fn float<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Self {
        Value::Float(tensor.dims().to_vec(), flat(tensor.clone()))
    }

    fn rows(rows: usize, values: &[f32]) -> Self {
        Value::Float(vec![rows, values.len() / rows], values.to_vec())
    }
}

struct Check<'a, B: Backend> {
    bundle: &'a Bundle,
    engine: &'a Engine,
    device: &'a B::Device,
    embed_dim: usize,
    found: Vec<Difference>,
}

impl<B: Kernels> Check<'_, B> {
    /// Each part of the head on the engine, fed with what the engine gave for the part before.
    fn staging(&mut self, stager: &Stager<B>, modalities: usize) -> Result<()> {
        let (tokens, present) = self.set([ROWS, modalities, self.embed_dim], 4);
        let positions = Value::Int(vec![ROWS], (0..ROWS as i64).collect());
        let pooled = stager.pooling.forward(tokens.clone(), present.clone());
        let x = stager.norm.forward(stager.position.forward(pooled.unsqueeze::<3>()));
        let inputs = [Value::float(&tokens), Value::float(&present), positions];
        self.run(graph::STAGING_POOL, &inputs, &[flat(x.clone())])?;

        let any: Tensor<B, 2> = present.max_dim(1).transpose();
        let mut x = x;
        for (index, layer) in stager.layers.iter().enumerate() {
            let rows = Value::float(&x.clone().squeeze_dim::<2>(0));
            let size = ROWS * self.embed_dim;
            let name = graph::staging_key_value(index);
            let [key, value] = self.outputs(&name, &[rows], [size, size])?;
            let [key, value] = [key, value].map(|values| Value::rows(ROWS, &values));
            let rows = Value::float(&x.clone().squeeze_dim::<2>(0));
            let present = Value::Float(vec![ROWS], flat(any.clone()));
            x = layer.forward(x, any.clone());
            let name = graph::staging_attend(index);
            self.run(&name, &[rows, key, value, present], &[flat(x.clone())])?;
        }
        let rows = Value::float(&x.clone().squeeze_dim::<2>(0));
        let logits = stager.classifier.forward(stager.lstm.forward(x));
        debug_assert_eq!(logits.dims(), [1, ROWS, SleepStage::COUNT]);
        self.run(graph::STAGING_RNN, &[rows], &[flat(logits)])
    }

    fn risk(&mut self, head: &RiskHead<B>, modalities: usize) -> Result<()> {
        let (tokens, present) = self.set([ROWS, modalities, self.embed_dim], 5);
        let x = head.pooling.forward(tokens.clone(), present.clone());
        let inputs = [Value::float(&tokens), Value::float(&present)];
        self.run(graph::RISK_POOL, &inputs, &[flat(x.clone())])?;
        let demographics = Tensor::from_data([[0.6_f32, 1.0]], self.device);
        // One night: M and T change places.
        let night = |x: Tensor<B, 3>| x.swap_dims(0, 1).unsqueeze::<4>();
        let cells = present.transpose().unsqueeze::<3>();
        let hazards = head.forward(night(tokens), cells, demographics.clone());
        let inputs = [Value::float(&x), Value::float(&demographics)];
        let expected = [flat(hazards.embedding), flat(hazards.log_hazard)];
        self.run(graph::RISK_RNN, &inputs, &expected)
    }

    fn apnea(&mut self, head: &ApneaHead<B>, modalities: usize) -> Result<()> {
        let (tokens, present) = self.set([ROWS, modalities, self.embed_dim], 6);
        let x = head.pooling.forward(tokens.clone(), present.clone());
        let inputs = [Value::float(&tokens), Value::float(&present)];
        self.run(graph::APNEA_POOL, &inputs, &[flat(x.clone())])?;
        let night = tokens.swap_dims(0, 1).unsqueeze::<4>();
        let logits = head.forward(night, present.transpose().unsqueeze::<3>());
        let expected = [flat(logits.presence), flat(logits.severity)];
        debug_assert_eq!(expected[0].len(), PRESENCE_AHI.len());
        debug_assert_eq!(expected[1].len(), SEVERITY_AHI.len() + 1);
        self.run(graph::APNEA_RNN, &[Value::float(&x)], &expected)
    }

    /// Runs a graph on the engine and notes how far it is from `expected`.
    fn run<const N: usize>(
        &mut self,
        graph: &str,
        inputs: &[Value],
        expected: &[Vec<f32>; N],
    ) -> Result<()> {
        let outputs = self.outputs(graph, inputs, expected.each_ref().map(Vec::len))?;
        let pairs = outputs.iter().flatten().zip(expected.iter().flatten());
        // f32::max would pass over a NaN.
        let worst = |a: f32, b: f32| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) };
        let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, worst);
        match self.found.iter_mut().find(|difference| difference.graph == graph) {
            Some(difference) => difference.largest = worst(difference.largest, largest),
            None => self.found.push(Difference { graph: graph.to_owned(), largest }),
        }
        Ok(())
    }

    fn outputs<const N: usize>(
        &self,
        graph: &str,
        inputs: &[Value],
        sizes: [usize; N],
    ) -> Result<[Vec<f32>; N]> {
        let onnx = self.bundle.graph(graph).unwrap_or_default();
        let session = self.engine.load(graph, onnx)?;
        let inputs: Vec<Input<'_>> = inputs
            .iter()
            .map(|input| match input {
                Value::Float(shape, values) => Input::F32(shape, values),
                Value::Int(shape, values) => Input::I64(shape, values),
            })
            .collect();
        let mut outputs = sizes.map(|size| vec![0.0; size]);
        session.run(&inputs, &mut outputs.each_mut().map(Vec::as_mut_slice))?;
        Ok(outputs)
    }

    /// Sets of tokens and their presence; the last member of each set but the first is absent.
    fn set(&self, [sets, members, width]: [usize; 3], seed: u64) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let absent = |cell: usize| cell >= members && members > 1 && cell % members == members - 1;
        let present: Vec<f32> = (0..sets * members).map(|cell| f32::from(!absent(cell))).collect();
        let present = TensorData::new(present, [sets, members]);
        (self.draw([sets, members, width], seed), Tensor::from_data(present, self.device))
    }

    fn draw<const D: usize>(&self, shape: [usize; D], seed: u64) -> Tensor<B, D> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Uniform with a standard deviation of 1, as z-scored samples and tokens have.
        let values: Vec<f32> = (0..shape.iter().product::<usize>())
            .map(|_| rng.random_range(-1.732_f32..1.732))
            .collect();
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }
}

fn flat<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().iter::<f32>().collect()
}
