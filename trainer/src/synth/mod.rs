//! Simulated sleep: people, their nights as polysomnography, and what becomes of them years later,
//! with every cause known. Shows that training works; says nothing about people.
//!
//! A night depends on its seed and number only, so cohorts can be made in chunks and by any number
//! of workers with the same bytes. Refuses to mix nights of two seeds in one folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use sfm_runtime::edf::EdfError;

pub mod brain;
pub mod breath;
pub mod cohort;
pub mod events;
pub mod heart;
pub mod hypnogram;
pub mod montage;
pub mod muscle;
pub mod night;
pub mod noise;
pub mod outcome;
pub mod person;
mod recording;
pub mod render;
pub mod waves;

use cohort::{Cohort, Shares, Truth};
use montage::Laboratory;
use night::Night;

/// What is to be simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct SynthSpec {
    /// Seed of everything.
    pub seed: u64,
    /// Number of the first night.
    pub first: u64,
    /// Number of nights.
    pub nights: u64,
    /// Length of each night.
    pub hours: f64,
    /// `None` takes both by turns.
    pub laboratory: Option<Laboratory>,
    /// Shares of subjects for pretraining, training, validation and test.
    pub split: Shares,
    /// Nights made at the same time.
    pub workers: usize,
}

/// Why a cohort is not made. Messages are one line and name the file.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// The output folder cannot be made or written: choose another.
    #[error("{path}: {error}; choose a folder that can be written", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the file system says.
        error: std::io::Error,
    },
    /// Nights that are there do not belong to these.
    #[error("{path}: {reason}", path = path.display())]
    Register {
        /// The register.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Writing failed; the nights written before are whole.
    #[error("{path}: {error}; nights written before are whole, make room and start again", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the file system or the format says.
        error: EdfError,
    },
    /// Threads could not be started.
    #[error("no threads: {0}; try fewer --workers")]
    Threads(String),
}

/// Writes the nights into `folder` and returns the whole cohort in it; `done` hears of each night.
///
/// # Errors
/// [`SynthError`]; after a failed night no other is begun, and those written are registered.
pub fn generate(
    spec: &SynthSpec,
    folder: &Path,
    done: impl Fn(&str) + Sync,
) -> Result<Cohort, SynthError> {
    let unwritable = |error| SynthError::Folder { path: folder.to_owned(), error };
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    let mut cohort = Cohort::open(folder, spec.seed, spec.split)?;
    // Also tells whether the folder can be written, before an hour of work.
    cohort.write(folder).map_err(|e| match e {
        SynthError::Write { error: EdfError::Io(error), .. } => unwritable(error),
        other => other,
    })?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(spec.workers)
        .build()
        .map_err(|e| SynthError::Threads(e.to_string()))?;
    let failed = AtomicBool::new(false);
    let one = |index: u64| {
        if failed.load(Ordering::Relaxed) {
            return None;
        }
        let night = Night::new(spec.seed, index, spec.hours, spec.laboratory);
        let written = recording::write(&night, folder);
        match &written {
            Ok(()) => done(&night.id()),
            Err(_) => failed.store(true, Ordering::Relaxed),
        }
        Some(written.map(|()| (night.id(), Truth::new(spec.seed, &night))))
    };
    let indices = (spec.first..spec.first.saturating_add(spec.nights)).into_par_iter();
    let written: Vec<_> = pool.install(|| indices.filter_map(one).collect());
    let mut failure = None;
    for night in written {
        match night {
            Ok((id, truth)) => _ = cohort.nights.insert(id, truth),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let registered = cohort.write(folder);
    match failure {
        Some(error) => Err(error),
        None => registered.map(|()| cohort),
    }
}
