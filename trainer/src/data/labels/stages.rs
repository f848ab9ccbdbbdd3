//! Stages by token, of a folder of scorings in any format that `sfm-stream score` reads; the reader
//! is the same. A token has the stage that its middle lies in.

use std::fs;
use std::path::{Path, PathBuf};

use sfm_models::SleepStage;
use sfm_runtime::hypnogram::agreement::epochs_of_another_length;
use sfm_runtime::hypnogram::{self, ReadOptions, Timing};

use crate::data::{DataError, study_id};

/// Seconds of one token.
pub const TOKEN_S: f64 = 5.0;
/// Tokens of a 30-s epoch: stages and signals that differ by more do not end together.
const EPOCH_TOKENS: usize = 6;
/// Endings of files that lie beside scorings and are none.
const OTHER_ENDINGS: [&str; 6] = ["hdf5", "json", "svg", "pdf", "png", "md"];

/// A recording's scored stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hypnogram {
    /// One a token; `None` where it was not scored, or scored as unknown.
    pub stages: Vec<Option<SleepStage>>,
    /// What the user should know, one sentence each.
    pub warnings: Vec<String>,
}

/// A folder of scorings, named after their recordings.
#[derive(Debug, Clone)]
pub struct StageFolder {
    /// The folder.
    pub path: PathBuf,
    /// What its files do not say.
    pub options: ReadOptions,
}

impl StageFolder {
    /// The scoring of `recording` (`<cohort>/<id>.hdf5`): `<cohort>/<id>.csv` or `<id>.csv`; else the
    /// one file there whose name is the id or begins with it (`<id>-nsrr.xml`, `<id>.annot`).
    ///
    /// # Errors
    /// [`DataError::Refused`] if there is more than one.
    pub fn find(&self, recording: &str) -> Result<Option<PathBuf>, DataError> {
        let recording = Path::new(recording);
        let id = study_id(recording);
        let below = recording.parent().map(|parent| self.path.join(parent));
        for folder in below.into_iter().chain([self.path.clone()]) {
            let usual = folder.join(format!("{id}.csv"));
            if usual.is_file() {
                return Ok(Some(usual));
            }
            let found = named_after(&folder, &id);
            match &found[..] {
                [] => {}
                [one] => return Ok(Some(one.clone())),
                [one, other, ..] => {
                    let other = other.file_name().unwrap_or_default().to_string_lossy();
                    let reason =
                        format!("{other} is a scoring of the same recording; leave one there");
                    return Err(DataError::refused(one, reason));
                }
            }
        }
        Ok(None)
    }

    /// The stages of a recording of `tokens` 5-s tokens, from its scoring. Where the two differ in
    /// length, the shorter counts: tokens behind the scoring's end have no stage. By more than an
    /// epoch, it warns.
    ///
    /// # Errors
    /// [`DataError`] with the line, as [`hypnogram::read`]; epochs whose length is not known and is
    /// not 30 s.
    pub fn read(&self, path: &Path, tokens: usize) -> Result<Hypnogram, DataError> {
        let scoring = hypnogram::read(path, &self.options)
            .map_err(|e| DataError::refused(e.path(), e.reason()))?;
        let night_s = tokens as f64 * TOKEN_S;
        if let Some(reason) = epochs_of_another_length(&scoring, night_s, "--epoch-s") {
            return Err(DataError::refused(path, reason));
        }
        let stages = (0..tokens).map(|token| scoring.at((token as f64 + 0.5) * TOKEN_S)).collect();
        let mut warnings = scoring.warnings.clone();
        if let Some(code) = scoring.code.as_ref().filter(|code| code.is_assumed) {
            warnings.push(format!("its numbers are taken as {}'s; else give --codes", code.name));
        }
        match scoring.timing {
            Timing::Clock => {
                warnings.push("its first row is taken as the start of the recording".into());
            }
            Timing::RowNumber => {
                warnings
                    .push("it has no times: its first value is taken as the first epoch".into());
            }
            Timing::Seconds | Timing::EpochNumber => {}
        }
        let end_s = scoring.span_s().1;
        let scored = (end_s / TOKEN_S).round() as usize;
        if scored.abs_diff(tokens) > EPOCH_TOKENS {
            warnings.push(format!(
                "scored for {end_s} s, but the recording has {night_s} s; the shorter counts"
            ));
        }
        let warnings = warnings.iter().map(|text| format!("{}: {text}", path.display())).collect();
        Ok(Hypnogram { stages, warnings })
    }
}

/// Files in `folder` that an id names, sorted. A recording of its own name counts only where there
/// is nothing else: it may hold its stages as annotations.
fn named_after(folder: &Path, id: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_after = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let is_other = OTHER_ENDINGS.contains(&ending.as_str());
        let rest = name.strip_prefix(id);
        !is_other
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '_', ' ']))
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(|path| is_after(path) && path.is_file()).collect();
    found.sort();
    let is_recording = |path: &PathBuf| {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        matches!(ending.as_str(), "edf" | "bdf" | "rec") && study_id(path) == id
    };
    if found.iter().any(|path| !is_recording(path)) {
        found.retain(|path| !is_recording(path));
    }
    found
}
