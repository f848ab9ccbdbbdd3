//! `sfm-train embed`: a store to embeddings.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sfm_models::{Bundle, BundleError};
use sfm_runtime::infer::backend::{Backend, BackendChoice};

use super::{Failure, REFUSED, UNREADABLE, USAGE, named, say};
use crate::data::embeddings::window_folder;
use crate::data::{self, EXTENSION, StoreFile};
use crate::embed::{self, Embedder, RuntimeEmbedder};
use crate::jobs::{self, Done};
use crate::preprocess::preprocessing;

/// What the embeddings were made with, beside the cohorts.
const ABOUT: &str = "embeddings.json";
const OTHERWISE: &str = "the folder holds embeddings of another bundle, or with and without --whole-windows; use another --out";

/// The folders of the store are kept: --out holds the 5-s embeddings, the folder beside it with
/// _5min_agg in its name those of the windows. A recording that is there already is left as it is.
#[derive(Args)]
pub struct EmbedArgs {
    /// The store, as preprocess makes it.
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The network.
    #[arg(long, value_name = "FILE.sfm")]
    bundle: PathBuf,
    /// Folder for the embeddings.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What computes.
    #[arg(long, value_enum, default_value_t = Engine::Auto)]
    engine: Engine,
    /// Recordings at once; their windows share all cores.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Leave out the part-window at a recording's end, as the reference does.
    #[arg(long)]
    whole_windows: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// CUDA where there is a usable GPU, else tract.
    Auto,
    /// tract on the CPU.
    Tract,
    /// ONNX Runtime on the CPU.
    Ort,
    /// ONNX Runtime with CUDA.
    Cuda,
}

/// `embeddings.json`: embeddings of two networks cannot be mixed.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    bundle: String,
    bundle_sha256: String,
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
    let bundle = Bundle::open(&args.bundle).map_err(|e| bundle_failure(&args.bundle, &e))?;
    if bundle.manifest().preprocessing != preprocessing() {
        let reason = "takes signals that are preprocessed in another way than the store";
        return Err((REFUSED, named(&args.bundle, &reason)));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let embedder = load(&args, &bundle, threads)?;
    let about = About {
        bundle: bundle.manifest().name.clone(),
        bundle_sha256: bundle.sha256(),
        whole_windows: args.whole_windows,
    };
    jobs::keep_settings(&args.out.join(ABOUT), &about, OTHERWISE)?;
    let windows_out = window_folder(&args.out);
    let tally = jobs::run("embed", &recordings, usize::from(args.workers), |recording| {
        let (tokens_to, windows_to) = (args.out.join(recording), windows_out.join(recording));
        if tokens_to.exists() && windows_to.exists() {
            return Ok(Done { already: true, ..Done::default() });
        }
        let make = || {
            let file = StoreFile::open(args.store.join(recording))?;
            let embedded = embed::recording(&file, &embedder, args.whole_windows)?;
            embed::write_both(&embedded, embedder.sizes().embed_dim, &tokens_to, &windows_to)
        };
        make().map(|()| Done::default()).map_err(|e| e.to_string())
    });
    tally.conclude("embedded")
}

fn load(args: &EmbedArgs, bundle: &Bundle, threads: usize) -> Result<RuntimeEmbedder, Failure> {
    let choice = match args.engine {
        Engine::Auto => BackendChoice::Auto,
        Engine::Tract => BackendChoice::Tract,
        Engine::Ort => BackendChoice::Ort,
        Engine::Cuda => BackendChoice::Cuda,
    };
    let backend = Backend::choose(choice, threads).map_err(|e| (USAGE, e.to_string()))?;
    say(format_args!("engine   {}", backend.why));
    RuntimeEmbedder::load(bundle, &backend).map_err(|e| (REFUSED, named(&args.bundle, &e)))
}

fn bundle_failure(path: &Path, error: &BundleError) -> Failure {
    let code = if matches!(error, BundleError::Read(_)) { UNREADABLE } else { REFUSED };
    (code, named(path, error))
}
