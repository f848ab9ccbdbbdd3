//! The folder of one training run: its configuration, split, metrics, curves and checkpoints. A
//! checkpoint is one file, replaced whole, so a killed or full machine leaves the one before. An
//! existing run is continued or left alone, never overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::prelude::Backend;
use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Record, Recorder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::data::{DataError, replace_bytes};

/// The configuration as used, every key with its value.
pub const CONFIG: &str = "config.toml";
/// The split as used.
pub const SPLIT: &str = "split.json";
/// The newest checkpoint.
pub const LAST: &str = "last.ckpt";
/// The checkpoint with the best validation figure.
pub const BEST: &str = "best.ckpt";
/// One JSON object a logged step.
pub const METRICS_JSONL: &str = "metrics.jsonl";
/// The same in columns: step, split, metric, value.
pub const METRICS_TSV: &str = "metrics.tsv";
/// Loss and accuracy by step.
pub const CURVES: &str = "curves.svg";

/// Longest checkpoint, bytes: the full-size network with optimizer state has some 60 MB.
const MAX_BYTES: u64 = 8 << 30;

/// Why a run's file could not be read or written. One line.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written; what it held before is still there.
    #[error("{}: cannot be written: {source}; what it held before is kept", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder holds a run already.
    #[error("{}: holds a run already; give --resume to continue it, or another --out", .0.display())]
    Exists(PathBuf),
    /// Nothing to resume.
    #[error("{}: holds no {LAST} to resume from", .0.display())]
    NothingToResume(PathBuf),
    /// A checkpoint is damaged or of another network.
    #[error("{}: is no checkpoint of this network: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl RunError {
    /// The exit code: 2 for the user's choice of folder, 3 unreadable, 4 refused, 5 not written.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Exists(_) | RunError::NothingToResume(_) => 2,
            RunError::Read { .. } => 3,
            RunError::Refused { .. } => 4,
            RunError::Write { .. } => 5,
        }
    }
}

/// A run's folder, open for logging.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    jsonl: File,
    tsv: File,
}

impl RunFolder {
    /// Refuses a folder with a run in it unless it is resumed, and one without if it is.
    ///
    /// # Errors
    /// [`RunError::Exists`], [`RunError::NothingToResume`].
    pub fn check(path: &Path, resume: bool) -> Result<(), RunError> {
        match (resume, path.join(LAST).exists(), path.join(METRICS_JSONL).exists()) {
            (true, false, _) => Err(RunError::NothingToResume(path.to_owned())),
            (false, true, _) | (false, _, true) => Err(RunError::Exists(path.to_owned())),
            _ => Ok(()),
        }
    }

    /// Opens `path` for a new run, or, with `resume`, for going on with the one it holds.
    ///
    /// # Errors
    /// [`RunError`], as [`RunFolder::check`].
    pub fn open(path: &Path, resume: bool) -> Result<Self, RunError> {
        Self::check(path, resume)?;
        let write = |path: &Path, source| RunError::Write { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(|e| write(path, e))?;
        let append = |name: &str| {
            let path = path.join(name);
            OpenOptions::new().append(true).create(true).open(&path).map_err(|e| write(&path, e))
        };
        Ok(Self { jsonl: append(METRICS_JSONL)?, tsv: append(METRICS_TSV)?, path: path.to_owned() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes `bytes` as `name`, whole or not at all.
    ///
    /// # Errors
    /// [`RunError::Write`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunError> {
        replace(&self.file(name), bytes)
    }

    /// Writes the configuration as used.
    ///
    /// # Errors
    /// [`RunError::Write`].
    pub fn write_config(&self, config: &impl Serialize) -> Result<(), RunError> {
        let text = toml::to_string_pretty(config).map_err(|e| RunError::Write {
            path: self.file(CONFIG),
            source: std::io::Error::other(e),
        })?;
        self.write(CONFIG, text.as_bytes())
    }

    /// Logs `metrics` (name, value) of `split` (`train`, `validation`, ...) at `step`.
    ///
    /// # Errors
    /// [`RunError::Write`].
    pub fn log(&mut self, step: u64, split: &str, metrics: &[(&str, f64)]) -> Result<(), RunError> {
        let mut object = serde_json::Map::new();
        object.insert("step".into(), step.into());
        object.insert("split".into(), split.into());
        let mut columns = String::new();
        for &(name, value) in metrics {
            object.insert(name.into(), value.into());
            columns += &format!("{step}\t{split}\t{name}\t{value}\n");
        }
        let line = format!("{}\n", serde_json::Value::Object(object));
        let path = self.path.clone();
        let failed = |name: &str, source| RunError::Write { path: path.join(name), source };
        self.jsonl.write_all(line.as_bytes()).map_err(|e| failed(METRICS_JSONL, e))?;
        self.tsv.write_all(columns.as_bytes()).map_err(|e| failed(METRICS_TSV, e))
    }
}

/// Collects the parts of a checkpoint and writes them as one file.
#[derive(Debug, Default)]
pub struct CheckpointWriter {
    parts: Vec<(String, Vec<u8>)>,
}

impl CheckpointWriter {
    /// A checkpoint with no parts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a module's or an optimizer's record (`module.clone().into_record()`).
    ///
    /// # Errors
    /// burn's message if the record cannot be serialized.
    pub fn record<B: Backend, R: Record<B>>(
        &mut self,
        name: &str,
        record: R,
    ) -> Result<(), String> {
        let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::default();
        let bytes = Recorder::<B>::record(&recorder, record, ()).map_err(|e| e.to_string())?;
        self.parts.push((name.to_owned(), bytes));
        Ok(())
    }

    /// Adds anything else.
    ///
    /// # Errors
    /// serde's message.
    pub fn json(&mut self, name: &str, value: &impl Serialize) -> Result<(), String> {
        self.parts.push((name.to_owned(), serde_json::to_vec(value).map_err(|e| e.to_string())?));
        Ok(())
    }

    /// Writes the checkpoint to `path`: temporary file, fsync, rename.
    ///
    /// # Errors
    /// [`RunError::Write`]; what `path` held before is kept.
    pub fn write(self, path: &Path) -> Result<(), RunError> {
        let zipped = || -> zip::result::ZipResult<Vec<u8>> {
            let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .last_modified_time(zip::DateTime::default())
                .large_file(true);
            for (name, bytes) in &self.parts {
                zip.start_file(name, options)?;
                zip.write_all(bytes)?;
            }
            Ok(zip.finish()?.into_inner())
        };
        let bytes =
            zipped().map_err(|e| RunError::Write { path: path.to_owned(), source: e.into() })?;
        replace(path, &bytes)
    }
}

/// A checkpoint's parts.
#[derive(Debug)]
pub struct CheckpointReader {
    path: PathBuf,
    archive: ZipArchive<Cursor<Vec<u8>>>,
}

impl CheckpointReader {
    /// Opens the checkpoint at `path`.
    ///
    /// # Errors
    /// [`RunError::Read`], or [`RunError::Refused`] if it is no checkpoint.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes))
            .map_err(|source| RunError::Read { path: path.to_owned(), source })?;
        let archive = ZipArchive::new(Cursor::new(bytes))
            .map_err(|e| RunError::Refused { path: path.to_owned(), reason: e.to_string() })?;
        Ok(Self { path: path.to_owned(), archive })
    }

    /// Whether the checkpoint has this part.
    pub fn has(&self, name: &str) -> bool {
        self.archive.index_for_name(name).is_some()
    }

    /// A module's or an optimizer's record, for `load_record`.
    ///
    /// # Errors
    /// [`RunError::Refused`].
    pub fn record<B: Backend, R: Record<B>>(
        &mut self,
        name: &str,
        device: &B::Device,
    ) -> Result<R, RunError> {
        let bytes = self.part(name)?;
        let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::default();
        Recorder::<B>::load(&recorder, bytes, device).map_err(|e| self.refused(name, &e))
    }

    /// Any other part.
    ///
    /// # Errors
    /// [`RunError::Refused`].
    pub fn json<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, RunError> {
        let bytes = self.part(name)?;
        serde_json::from_slice(&bytes).map_err(|e| self.refused(name, &e))
    }

    fn part(&mut self, name: &str) -> Result<Vec<u8>, RunError> {
        let mut bytes = Vec::new();
        let read = self.archive.by_name(name).map_err(std::io::Error::from).and_then(|part| {
            let limit = part.size().min(MAX_BYTES);
            part.take(limit).read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.refused(name, &error)),
        }
    }

    fn refused(&self, name: &str, error: &dyn std::fmt::Display) -> RunError {
        let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        RunError::Refused { path: self.path.clone(), reason: format!("{name}: {error}") }
    }
}

/// Writes `bytes` to `path` through a temporary file beside it.
///
/// # Errors
/// [`RunError::Write`]; what `path` held before is kept.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    replace_bytes(path, bytes).map_err(|error| {
        let reason = match error {
            DataError::Unwritable { reason, .. } => reason,
            other => other.to_string(),
        };
        RunError::Write { path: path.to_owned(), source: std::io::Error::other(reason) }
    })
}

/// Set by SIGINT and SIGTERM; the second one ends the process at once.
#[derive(Debug, Clone)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Registers the signals. Without them (no such signals here) the flag is never set.
    pub fn install() -> Self {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The order matters: the first signal finds the flag unset and sets it.
            let _ = signal_hook::flag::register_conditional_shutdown(
                signal,
                128 + signal,
                Arc::clone(&flag),
            );
            let _ = signal_hook::flag::register(signal, Arc::clone(&flag));
        }
        Self(flag)
    }

    /// A flag that only [`StopFlag::set`] sets.
    pub fn manual() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// Asks the run to stop after its step.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the run should stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
