//! Fine-tuning of heads on stored embeddings: staging, risk, apnea, each a [`fit::Task`] of one
//! training loop. Nights are read whole and checked before the first step; one that cannot be used
//! is left out with a note, and a part of the split with none left is refused.

use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::data::DataError;
use crate::run::RunError;

pub mod apnea;
pub mod fit;
pub mod followed;
pub mod head;
pub mod nights;
pub mod risk;
pub mod staging;
pub mod stretch;
pub mod supervised;

/// Why fine-tuning ended early. One line.
#[derive(Debug, thiserror::Error)]
pub enum FinetuneError {
    /// An input cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The run's folder.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A value of the configuration is out of range.
    #[error("{0}")]
    Config(String),
    /// There is too little to train or measure on.
    #[error("{}: {reason}", path.display())]
    TooFew {
        /// The file or folder.
        path: PathBuf,
        /// What there is too little of, and what to do.
        reason: String,
    },
    /// The loss, or a weight, is no number any more.
    #[error(
        "the {what} is not finite at step {step} ({batch}); the last good checkpoint is kept: \
         lower the learning rate, or look at these recordings"
    )]
    NotFinite {
        /// What is no number.
        what: &'static str,
        /// The step, from 0.
        step: u64,
        /// The recordings of the step, the first of them by name.
        batch: String,
    },
    /// A signal asked for a stop; the run is saved.
    #[error("interrupted at step {step}; {} is saved, continue with --resume", out.display())]
    Interrupted {
        /// Steps done.
        step: u64,
        /// The run's folder.
        out: PathBuf,
    },
    /// A checkpoint could not be made, which says more about this program than about its input.
    #[error("{}: {reason}", path.display())]
    Record {
        /// The checkpoint.
        path: PathBuf,
        /// burn's message.
        reason: String,
    },
}

impl FinetuneError {
    /// The exit code of a command that ends with this.
    pub fn exit_code(&self) -> u8 {
        match self {
            FinetuneError::Data(e) => e.exit_code(),
            FinetuneError::Run(e) => e.exit_code(),
            FinetuneError::Config(_) => crate::cli::USAGE,
            FinetuneError::TooFew { .. } => crate::cli::UNREADABLE,
            _ => crate::cli::FAILED,
        }
    }

    pub(crate) fn too_few(path: &Path, reason: impl Into<String>) -> Self {
        FinetuneError::TooFew { path: path.to_owned(), reason: reason.into() }
    }
}

/// Random numbers that depend on the seed, what they are for, and a count, and on nothing else: a
/// resumed run draws what an uninterrupted one draws.
pub(crate) fn random(seed: u64, purpose: &[u8; 8], index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(purpose);
    key[16..24].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// The first few names, for a message.
pub(crate) fn some_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let mut names = names.into_iter();
    let first: Vec<&str> = names.by_ref().take(SHOWN).collect();
    let rest = names.count();
    let shown = sfm_runtime::text::escaped(&first.join(", "));
    if rest > 0 { format!("{shown} and {rest} more") } else { shown }
}

/// Seed of a backend's random numbers, such as dropout's, in step `step`.
pub(crate) fn seed_of(seed: u64, step: u64) -> u64 {
    rand::Rng::random(&mut random(seed, b"backend ", step))
}
