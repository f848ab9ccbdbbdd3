//! `sfm-train embed`: a store to embeddings, by a bundle's network or by that of a training run.

use std::path::{Path, PathBuf};

use burn::tensor::backend::AutodiffBackend;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sfm_models::bundle::sha256_hex;
use sfm_models::{Bundle, BundleError};
use sfm_runtime::infer::backend::{Backend, BackendChoice};

use super::{Failure, REFUSED, UNREADABLE, USAGE, named, say};
use crate::data::embeddings::window_folder;
use crate::data::{self, EXTENSION, StoreFile};
use crate::device::{Device, DeviceChoice, DeviceJob};
use crate::embed::{self, BurnEmbedder, Embedder, RuntimeEmbedder};
use crate::jobs::{self, Done};
use crate::network::BaseNetwork;
use crate::nn::TrainBackend;
use crate::preprocess::preprocessing;
use crate::run;

/// What the embeddings were made with, beside the cohorts.
const ABOUT: &str = "embeddings.json";
const OTHERWISE: &str = "the folder holds embeddings of another network, or with and without --whole-windows; use another --out";

/// The folders of the store are kept: --out holds the 5-s embeddings, the folder beside it with
/// _5min_agg in its name those of the windows. A recording that is there already is left as it is.
#[derive(Args)]
pub struct EmbedArgs {
    /// The store, as preprocess makes it.
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The network of a bundle.
    #[arg(long, value_name = "FILE.sfm", required_unless_present = "run")]
    bundle: Option<PathBuf>,
    /// The network of a training run: its best checkpoint, or its last where there is no best one.
    #[arg(long, value_name = "DIR", conflicts_with = "bundle")]
    run: Option<PathBuf>,
    /// Folder for the embeddings.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What computes: burn for a run, one of the others for a bundle.
    #[arg(long, value_enum, default_value_t = Engine::Auto)]
    engine: Engine,
    /// Where burn computes: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto", requires = "run")]
    device: DeviceChoice,
    /// Recordings at once; their windows share all cores.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Leave out the part-window at a recording's end, as the reference does.
    #[arg(long)]
    whole_windows: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// For a run burn; for a bundle CUDA where there is a usable GPU, else tract.
    Auto,
    /// tract on the CPU.
    Tract,
    /// ONNX Runtime on the CPU.
    Ort,
    /// ONNX Runtime with CUDA.
    Cuda,
    /// burn on the CPU or a GPU.
    Burn,
}

/// `embeddings.json`: embeddings of two networks cannot be mixed.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    /// SHA-256 of the bundle's or the checkpoint's file.
    network_sha256: String,
    whole_windows: bool,
}

/// Embeds what has no embeddings yet.
pub fn run(args: EmbedArgs) -> Result<(), Failure> {
    let recordings =
        data::find(&args.store, &[EXTENSION]).map_err(|e| (UNREADABLE, e.to_string()))?;
    if recordings.is_empty() {
        let reason = "holds no .hdf5 file; make a store with preprocess";
        return Err((UNREADABLE, named(&args.store, &reason)));
    }
    match (&args.bundle, &args.run) {
        (Some(bundle), _) => by_bundle(&args, bundle, &recordings),
        (None, Some(folder)) => by_run(&args, folder, &recordings),
        (None, None) => Err((USAGE, "give --bundle FILE.sfm or --run DIR".to_owned())),
    }
}

fn by_bundle(args: &EmbedArgs, path: &Path, recordings: &[PathBuf]) -> Result<(), Failure> {
    let choice = match args.engine {
        Engine::Auto => BackendChoice::Auto,
        Engine::Tract => BackendChoice::Tract,
        Engine::Ort => BackendChoice::Ort,
        Engine::Cuda => BackendChoice::Cuda,
        Engine::Burn => {
            let reason =
                "--engine burn takes a run's checkpoint; give --run DIR, or another engine";
            return Err((USAGE, reason.to_owned()));
        }
    };
    let bundle = Bundle::open(path).map_err(|e| bundle_failure(path, &e))?;
    if bundle.manifest().preprocessing != preprocessing() {
        let reason = "takes signals that are preprocessed in another way than the store";
        return Err((REFUSED, named(path, &reason)));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let backend = Backend::choose(choice, threads).map_err(|e| (USAGE, e.to_string()))?;
    let backend = backend.telling(|line| say(format_args!("{line}")));
    say(format_args!("engine   {}", backend.why()));
    let embedder =
        RuntimeEmbedder::load(&bundle, &backend).map_err(|e| (REFUSED, named(path, &e)))?;
    embed_all(args, recordings, &embedder, bundle.sha256())
}

fn by_run(args: &EmbedArgs, folder: &Path, recordings: &[PathBuf]) -> Result<(), Failure> {
    if !matches!(args.engine, Engine::Auto | Engine::Burn) {
        let reason =
            "a run's checkpoint is computed by burn; export it to a bundle for this engine";
        return Err((USAGE, reason.to_owned()));
    }
    let best = folder.join(run::BEST);
    let checkpoint = if best.exists() { best } else { folder.join(run::LAST) };
    let device = Device::choose(args.device).map_err(|e| (USAGE, e.to_string()))?;
    say(format_args!("engine   burn, {}", device.why));
    device.run(false, ByBurn { args, recordings, checkpoint })
}

/// Embeds with the network of a checkpoint.
struct ByBurn<'a> {
    args: &'a EmbedArgs,
    recordings: &'a [PathBuf],
    checkpoint: PathBuf,
}

impl DeviceJob for ByBurn<'_> {
    type Output = Result<(), Failure>;

    fn run<B: TrainBackend>(self, device: &B::Device) -> Self::Output {
        let path = &self.checkpoint;
        let network = BaseNetwork::<<B as AutodiffBackend>::InnerBackend>::read(path, device)
            .map_err(|e| (e.exit_code(), e.to_string()))?;
        let takes = (network.config.rate_hz, network.config.patch_samples);
        if takes != (preprocessing().rate_hz, preprocessing().patch_samples) {
            let reason = "takes another sampling rate or patch length than the store's";
            return Err((REFUSED, named(path, &reason)));
        }
        let bytes = std::fs::read(path).map_err(|e| (UNREADABLE, named(path, &e)))?;
        let embedder = BurnEmbedder::new(network, device.clone());
        embed_all(self.args, self.recordings, &embedder, sha256_hex(&bytes))
    }
}

fn embed_all(
    args: &EmbedArgs,
    recordings: &[PathBuf],
    embedder: &dyn Embedder,
    network_sha256: String,
) -> Result<(), Failure> {
    let about = About { network_sha256, whole_windows: args.whole_windows };
    jobs::keep_settings(&args.out.join(ABOUT), &about, OTHERWISE)?;
    let windows_out = window_folder(&args.out);
    let tally = jobs::run("embed", recordings, usize::from(args.workers), |recording| {
        let (tokens_to, windows_to) = (args.out.join(recording), windows_out.join(recording));
        if tokens_to.exists() && windows_to.exists() {
            return Ok(Done { already: true, ..Done::default() });
        }
        let make = || {
            let file = StoreFile::open(args.store.join(recording))?;
            let embedded = embed::recording(&file, embedder, args.whole_windows)?;
            embed::write_both(&embedded, embedder.sizes().embed_dim, &tokens_to, &windows_to)
        };
        make().map(|()| Done::default()).map_err(|e| e.to_string())
    });
    tally.conclude("embedded")
}

fn bundle_failure(path: &Path, error: &BundleError) -> Failure {
    let code = if matches!(error, BundleError::Read(_)) { UNREADABLE } else { REFUSED };
    (code, named(path, error))
}
