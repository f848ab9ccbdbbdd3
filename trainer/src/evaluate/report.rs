//! What an evaluation writes: `metrics.json`, tables as CSV, charts as SVG, each whole or not at all.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::run::{RunError, replace};

/// A folder of results.
#[derive(Debug)]
pub struct Report {
    folder: PathBuf,
}

impl Report {
    /// Results in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// [`RunError::Write`].
    pub fn open(folder: &Path) -> Result<Self, RunError> {
        std::fs::create_dir_all(folder)
            .map_err(|source| RunError::Write { path: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes `metrics.json`. What is not a number is `null`.
    ///
    /// # Errors
    /// [`RunError::Write`].
    pub fn metrics(&self, metrics: &impl Serialize) -> Result<(), RunError> {
        let path = self.file("metrics.json");
        let mut text = serde_json::to_vec_pretty(metrics)
            .map_err(|e| RunError::Write { path: path.clone(), source: e.into() })?;
        text.push(b'\n');
        replace(&path, &text)
    }

    /// Writes a table.
    ///
    /// # Errors
    /// [`RunError::Write`].
    pub fn table(&self, name: &str, header: &[&str], rows: &[Vec<String>]) -> Result<(), RunError> {
        let path = self.file(name);
        let mut writer = csv::Writer::from_writer(Vec::new());
        let written = writer
            .write_record(header)
            .and_then(|()| rows.iter().try_for_each(|row| writer.write_record(row)));
        let bytes = written
            .map_err(std::io::Error::from)
            .and_then(|()| writer.into_inner().map_err(|e| std::io::Error::other(e.to_string())));
        match bytes {
            Ok(bytes) => replace(&path, &bytes),
            Err(source) => Err(RunError::Write { path, source }),
        }
    }
}

/// A figure as a table shows it; empty if there is none.
pub fn cell(value: impl Into<Option<f64>>) -> String {
    match value.into() {
        Some(value) if value.is_finite() => format!("{value:.4}"),
        _ => String::new(),
    }
}
