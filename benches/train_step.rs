//! Forward, backward and optimizer step of the full-size network, beside `train_step.py`, which
//! runs this and PyTorch in turn.
//!
//! usage: train_step [--network base|tokenizer|pooling|encoder|lstm] [--batch N] [--steps N]
//!                   [--threads N] [--dropout P] [--device cpu|cuda] [--float f32|bf16]
//!
//! `base`: windows of four modalities (4, 4, 2 and 2 channels of 60 patches), embed 128, 6 layers;
//! `tokenizer`, `pooling` and `encoder`: its parts alone, on what they have of such a batch.
//! `lstm`: nights of 5,760 tokens through two bidirectional layers of 64 units.
//! Prints one JSON line a step, the first of which warms up: seconds, and peak memory so far.

use std::time::Instant;

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::optim::{AdamWConfig, GradientsParams, Optimizer};
use burn::prelude::*;
use burn::tensor::Distribution;
use sfm_trainer::nn::{
    BaseConfig, BiLstmConfig, EncoderConfig, PoolingConfig, TokenizerConfig, TrainBackend,
    TransformerLayerConfig,
};

/// Channels of each modality.
const CHANNELS: [usize; 4] = [4, 4, 2, 2];
const PATCHES: usize = 60;
const PATCH_SAMPLES: usize = 640;
const NIGHT_TOKENS: usize = 5_760;

fn main() {
    let options = Options::parse(std::env::args().skip(1).filter(|arg| arg != "--bench"));
    sfm_trainer::memory::keep_freed();
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build_global()
        .expect("the first thread pool");
    match (options.device.as_str(), options.float.as_str()) {
        ("cpu", "f32") => run::<Autodiff<Flex>>(&options, &Default::default()),
        #[cfg(feature = "cuda")]
        ("cuda", "f32") => run::<Autodiff<burn::backend::Cuda>>(&options, &Default::default()),
        #[cfg(feature = "cuda")]
        ("cuda", "bf16") => {
            run::<Autodiff<burn::backend::Cuda<burn::tensor::bf16>>>(&options, &Default::default());
        }
        (device, float) => panic!("no {float} on {device} in this build"),
    }
}

struct Options {
    network: String,
    batch: usize,
    steps: usize,
    threads: usize,
    dropout: f64,
    device: String,
    float: String,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut options = Self {
            network: "base".into(),
            batch: 32,
            steps: 3,
            threads,
            dropout: 0.3,
            device: "cpu".into(),
            float: "f32".into(),
        };
        while let Some(name) = args.next() {
            let value = args.next().unwrap_or_else(|| panic!("{name} needs a value"));
            match name.as_str() {
                "--device" => options.device = value,
                "--float" => options.float = value,
                "--network" => options.network = value,
                "--batch" => options.batch = value.parse().expect("--batch N"),
                "--steps" => options.steps = value.parse().expect("--steps N"),
                "--threads" => options.threads = value.parse().expect("--threads N"),
                "--dropout" => options.dropout = value.parse().expect("--dropout P"),
                _ => panic!("no option {name}"),
            }
        }
        options
    }
}

fn run<B: TrainBackend>(options: &Options, device: &B::Device) {
    let noise = |shape| Tensor::<B, 3>::random(shape, Distribution::Normal(0.0, 1.0), device);
    let sum = |losses: Vec<Tensor<B, 1>>| Tensor::cat(losses, 0).sum();
    let batch = options.batch;
    let base = base(options.dropout);
    match options.network.as_str() {
        "base" => {
            let windows = CHANNELS.map(|channels| {
                let shape = [batch, channels, PATCHES, PATCH_SAMPLES];
                Tensor::<B, 4>::random(shape, Distribution::Normal(0.0, 1.0), device)
            });
            let base = base.init::<B>(device);
            steps(options, device, base, |base| {
                let losses = windows.each_ref().map(|patches| {
                    let [n, channels, tokens, _] = patches.dims();
                    let present = Tensor::ones([n, channels, tokens], device);
                    let encoded = base.forward(patches.clone(), present);
                    encoded.window.powi_scalar(2).mean() + encoded.embeddings.powi_scalar(2).mean()
                });
                sum(losses.to_vec())
            });
        }
        "tokenizer" => {
            let patches = CHANNELS.map(|n| noise([batch * n, PATCHES, PATCH_SAMPLES]));
            steps(options, device, base.tokenizer.init::<B>(device), |tokenizer| {
                let losses = patches.each_ref().map(|patches| {
                    tokenizer.forward(patches.clone().flatten(0, 1)).powi_scalar(2).mean()
                });
                sum(losses.to_vec())
            });
        }
        "pooling" => {
            let sets = CHANNELS.map(|n| noise([batch * PATCHES, n, 128]));
            steps(options, device, base.pooling.init::<B>(device), |pooling| {
                let losses = sets.each_ref().map(|set| {
                    let present = Tensor::ones([set.dims()[0], set.dims()[1]], device);
                    pooling.forward(set.clone(), present).powi_scalar(2).mean()
                });
                sum(losses.to_vec())
            });
        }
        "encoder" => {
            let windows = CHANNELS.map(|_| noise([batch, PATCHES, 128]));
            steps(options, device, base.encoder.init::<B>(device), |encoder| {
                let losses = windows.each_ref().map(|window| {
                    let present = Tensor::ones([batch, PATCHES], device);
                    let encoded = encoder.forward(window.clone(), present);
                    encoded.window.powi_scalar(2).mean() + encoded.embeddings.powi_scalar(2).mean()
                });
                sum(losses.to_vec())
            });
        }
        "lstm" => {
            let tokens = noise([batch, NIGHT_TOKENS, 128]);
            let lstm = BiLstmConfig::new(128, 64, 2).init::<B>(device);
            steps(options, device, lstm, |lstm| lstm.forward(tokens.clone()).powi_scalar(2).mean());
        }
        other => panic!("no network {other}"),
    }
}

fn base(dropout: f64) -> BaseConfig {
    let layer = |norm_first| {
        TransformerLayerConfig::new(128, 8).with_dropout(dropout).with_norm_first(norm_first)
    };
    let pooling = PoolingConfig::new(layer(false));
    BaseConfig::new(
        TokenizerConfig::new(PATCH_SAMPLES, 128),
        pooling.clone(),
        EncoderConfig::new(layer(true), 6, pooling, 128),
        false,
    )
}

fn steps<B: TrainBackend, M: AutodiffModule<B>>(
    options: &Options,
    device: &B::Device,
    mut module: M,
    loss: impl Fn(&M) -> Tensor<B, 1>,
) {
    let mut optimizer = AdamWConfig::new().init::<B, M>();
    for _ in 0..=options.steps {
        let start = Instant::now();
        let loss = loss(&module);
        let forward_s = start.elapsed().as_secs_f64();
        let gradients = GradientsParams::from_grads(loss.backward(), &module);
        let backward_s = start.elapsed().as_secs_f64();
        module = optimizer.step(1e-4, module, gradients);
        B::sync(device).expect("the device is there");
        let seconds = start.elapsed().as_secs_f64();
        println!(
            r#"{{"seconds": {seconds:.3}, "forward_s": {forward_s:.3}, "backward_s": {:.3}, "peak_mib": {}}}"#,
            backward_s - forward_s,
            peak_mib()
        );
    }
}

/// The most memory this process has held.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
