//! Scorings (hypnograms) of other programs: one reader for all of them, and a writer for some. What a
//! file is, its content says, not its name. A stage has its place in time, and all that a file says
//! about time counts: what cannot be used, or contradicts itself, is refused with its line. What had
//! to be assumed is in the [`Scoring`]: the code of bare numbers, the length of an epoch, what times
//! count from. R&K's stages 3 and 4 are N3; movement and artifacts are unscored.
//!
//! A new format is a line in `formats.rs`, and a file if it has rules of its own. Beside scorings there
//! are what is made of them: statistics of a night, and agreement of two scorers.
//!
//! ```
//! use sfm_hypnogram::{ReadOptions, Timing, recognized};
//!
//! let table = b"onset,duration,stage\n0,30,W\n30,30,N1\n60,60,N2\n";
//! let scoring = recognized(table, &ReadOptions::default())?;
//! assert_eq!(scoring.timing, Timing::Seconds);
//! assert_eq!(scoring.epochs().len(), 4);
//! assert_eq!(scoring.at(75.0).map(|stage| stage.as_str()), Some("N2"));
//! # Ok::<(), String>(())
//! ```

#![forbid(unsafe_code)]

pub mod agreement;
pub mod bids;
mod clocks;
mod codes;
mod columns;
pub mod confusion;
mod draft;
mod edf;
mod formats;
mod headings;
mod lights;
pub mod luna;
mod names;
mod native;
pub mod nsrr;
mod philips;
mod preamble;
pub mod profusion;
mod rows;
pub mod statistics;
mod table;
mod text;
mod time;
pub mod timeline;
pub mod usleep;
mod writer;
mod xml;
pub mod yasa;

#[cfg(test)]
mod field_tests;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sfm_models::SleepStage;

pub use self::codes::{CodeUsed, Codes, PRESETS, Preset};
pub use self::formats::{FORMATS, Format, list};
pub use self::lights::{LightsText, lights_text};
pub use self::names::stage_named;
pub use self::writer::HypnogramWriter;
use sfm_edf::DateTime;
use sfm_models::EPOCH_S;

/// A night in the most talkative format is 1 MB.
const MAX_BYTES: u64 = 16 << 20;
/// More stretches, rows or elements than a week has, scored by the second.
const MAX_STRETCHES: usize = 1_000_000;
/// 7 days: longer than any recording.
const MAX_S: f64 = 7.0 * 86_400.0;
/// Times closer than this are one, seconds: programs round them.
const TOLERANCE_S: f64 = 0.01;

/// A hypnogram of 30-s epochs; `None` is an epoch not scored.
pub type Stages = [Option<SleepStage>];

/// A stretch of one stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// Start behind the scoring's zero ([`Scoring::timing`]), seconds; may be negative.
    pub onset_s: f64,
    /// Length, seconds.
    pub duration_s: f64,
    /// `None` where it was not scored.
    pub stage: Option<SleepStage>,
}

impl Stretch {
    /// Where it ends, seconds.
    pub fn end_s(&self) -> f64 {
        self.onset_s + self.duration_s
    }
}

/// What the times of a scoring were taken from, and with it what they count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// Seconds since the start of the recording.
    Seconds,
    /// Times of day; they count from the first row.
    Clock,
    /// Numbers of epochs since the start of the recording.
    EpochNumber,
    /// The file has no times: the first row is the first epoch.
    RowNumber,
}

/// When a scoring's zero was, local time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// With its date.
    Date(DateTime),
    /// Seconds since midnight of a day that is not known.
    Clock(f64),
}

impl Start {
    /// Seconds since midnight.
    pub fn clock_s(self) -> f64 {
        match self {
            Start::Date(date) => {
                let (hour, minute, second) = date.time();
                let whole = f64::from(hour) * 3600.0 + f64::from(minute) * 60.0 + f64::from(second);
                whole + date.fraction_s()
            }
            Start::Clock(s) => s,
        }
    }
}

/// The length of the epochs of a scoring that has them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochLength {
    /// Seconds.
    pub s: f64,
    /// Neither the file nor the user said so.
    pub is_assumed: bool,
}

/// The length of an epoch as a user gives it, seconds.
///
/// # Errors
/// It is none.
pub fn parse_epoch_s(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.5..=600.0).contains(&s) => Ok(s),
        _ => Err("give 0.5 to 600 seconds".into()),
    }
}

/// What the user knows about a file that does not say it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadOptions {
    /// What numbers stand for.
    pub codes: Option<Codes>,
    /// Length of an epoch, seconds, of files that do not say it.
    pub epoch_s: Option<f64>,
}

/// What a file says of a night.
#[derive(Debug, Clone, PartialEq)]
pub struct Scoring {
    /// The file's format, for the user.
    pub format: &'static str,
    /// In order of time, without overlaps; what lies between two of them is not scored.
    pub stretches: Vec<Stretch>,
    /// When their zero was, if the file says so.
    pub start: Option<Start>,
    /// What their times are taken from.
    pub timing: Timing,
    /// The length of an epoch, if the scoring is made of epochs.
    pub epoch: Option<EpochLength>,
    /// The code of its numbers, if it has any.
    pub code: Option<CodeUsed>,
    /// How it was read and what was left out, one phrase each.
    pub notes: Vec<String>,
    /// What may be wrong, one sentence each.
    pub warnings: Vec<String>,
}

/// Why a file is no hypnogram: one line with the file, the place in it and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}", file = file.display())]
pub struct HypnogramError {
    file: PathBuf,
    reason: String,
}

impl HypnogramError {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// The place in it and what to do.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Reads a scoring of any of the [`FORMATS`]; of a folder its `hypnogram.csv`. That file's start is
/// the one of the `hypnogram.edf` beside it.
///
/// # Errors
/// [`HypnogramError`].
pub fn read(path: &Path, options: &ReadOptions) -> Result<Scoring, HypnogramError> {
    let file = if path.is_dir() { path.join("hypnogram.csv") } else { path.to_owned() };
    read_file(&file, options).map_err(|reason| HypnogramError { file, reason })
}

fn read_file(path: &Path, options: &ReadOptions) -> Result<Scoring, String> {
    let cannot = |e: std::io::Error| format!("cannot be read: {e}");
    // A pipe would wait for its writer, a device never end.
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("cannot be read: is not a regular file".into());
    }
    let mut file = File::open(path).map_err(cannot)?;
    let mut begin = Vec::new();
    file.by_ref().take(HEADER_BYTES).read_to_end(&mut begin).map_err(cannot)?;
    // A recording may be larger than any hypnogram: only its annotations are read.
    if is_edf(&begin) {
        return edf::read(path, options).map_err(in_a_line);
    }
    let mut bytes = begin;
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 >= MAX_BYTES {
        return Err(format!("has more than {} MiB, which no hypnogram has", MAX_BYTES >> 20));
    }
    let mut scoring = recognized(&bytes, options)?;
    if scoring.format == native::FORMAT {
        let beside = path.with_file_name("hypnogram.edf");
        let start = || edf::read(&beside, &ReadOptions::default()).ok()?.start;
        scoring.start = if beside.is_file() { start() } else { None };
    }
    Ok(scoring)
}

/// The fixed part of an EDF header, bytes.
const HEADER_BYTES: u64 = 256;

/// By the version field, which has eight characters: `0` and blanks. A table may begin so too, but is
/// shorter than any header, or has line ends within one.
fn is_edf(begin: &[u8]) -> bool {
    match begin {
        [0xff, b'B', b'I', b'O', ..] => true,
        [b'0', rest @ ..] => {
            let is_blank = rest.iter().take(7).all(|byte| matches!(byte, b' ' | 0));
            let is_long = begin.len() as u64 == HEADER_BYTES;
            is_blank && is_long && !rest.iter().any(|byte| matches!(byte, b'\n' | b'\r'))
        }
        _ => false,
    }
}

/// Reads a scoring that is no EDF file from memory.
///
/// # Errors
/// The reason, with the line, without the file's name.
pub fn recognized(bytes: &[u8], options: &ReadOptions) -> Result<Scoring, String> {
    scoring(bytes, options).map_err(in_a_line)
}

/// Libraries draw what they do not understand over several lines.
fn in_a_line(reason: String) -> String {
    let first = reason.lines().next().unwrap_or_default().trim_end();
    first.replace(char::is_control, " ")
}

fn scoring(bytes: &[u8], options: &ReadOptions) -> Result<Scoring, String> {
    if bytes.starts_with(b"\x93NUMPY") {
        return formats::read_array(bytes, options);
    }
    let text = text::decoded(bytes)
        .ok_or("is no hypnogram of a known format: it is neither EDF, NumPy nor text")?;
    if text.trim_start().starts_with('<') {
        return formats::read_xml(&xml::elements(&text)?, options);
    }
    formats::read_table(&table::Table::parse(&text)?, options)
}

impl Scoring {
    /// From the first to the end of the last stretch, seconds.
    pub fn span_s(&self) -> (f64, f64) {
        let first = self.stretches.first().map_or(0.0, |stretch| stretch.onset_s);
        (first, self.stretches.iter().map(Stretch::end_s).fold(first, f64::max))
    }

    /// Whether every stretch begins and ends on a grid of 30-s epochs that begins at the first.
    pub fn is_on_grid(&self) -> bool {
        let zero_s = self.span_s().0;
        let off = |s: f64| {
            ((s - zero_s) - ((s - zero_s) / EPOCH_S).round() * EPOCH_S).abs() > TOLERANCE_S
        };
        !self.stretches.iter().any(|stretch| off(stretch.onset_s) || off(stretch.end_s()))
    }

    /// The stages by 30-s epoch from zero on. Where stretches are off the grid an epoch has the stage
    /// that takes most of its time, of equal ones the first in the order W, N1, N2, N3, R; it is not
    /// scored if more of it is unscored than in any stage.
    pub fn epochs(&self) -> Vec<Option<SleepStage>> {
        let end_s = self.span_s().1;
        // Readers refuse times beyond a week.
        let count = ((end_s - TOLERANCE_S) / EPOCH_S).ceil().clamp(0.0, MAX_S / EPOCH_S) as usize;
        self.epochs_from(0.0, count)
    }

    /// As [`Scoring::epochs`], `count` epochs from `origin_s` on.
    pub fn epochs_from(&self, origin_s: f64, count: usize) -> Vec<Option<SleepStage>> {
        let mut time_s = vec![[0.0; SleepStage::COUNT]; count];
        for stretch in &self.stretches {
            let Some(stage) = stretch.stage else { continue };
            let (from_s, to_s) = (stretch.onset_s - origin_s, stretch.end_s() - origin_s);
            // The conversion saturates: what lies before the origin begins with its first epoch.
            let first = (from_s / EPOCH_S) as usize;
            for (epoch, time_s) in time_s.iter_mut().enumerate().skip(first) {
                let begin_s = epoch as f64 * EPOCH_S;
                if begin_s >= to_s {
                    break;
                }
                let share_s = to_s.min(begin_s + EPOCH_S) - from_s.max(begin_s);
                time_s[stage.index()] += share_s.max(0.0);
            }
        }
        time_s.iter().map(longest).collect()
    }

    /// The stage at a moment, seconds from zero; `None` where there is none.
    pub fn at(&self, s: f64) -> Option<SleepStage> {
        let behind = self.stretches.partition_point(|stretch| stretch.onset_s <= s);
        let stretch = self.stretches.get(behind.checked_sub(1)?)?;
        if s < stretch.end_s() { stretch.stage } else { None }
    }
}

/// The stage an epoch is longest in; `None` if it is longer in none.
fn longest(time_s: &[f64; SleepStage::COUNT]) -> Option<SleepStage> {
    let mut best = (None, EPOCH_S - time_s.iter().sum::<f64>());
    for stage in SleepStage::ALL {
        let time_s = time_s[stage.index()];
        // The first of equal stages; a stage before nothing.
        if time_s > best.1 + TOLERANCE_S || (best.0.is_none() && time_s >= best.1 && time_s > 0.0) {
            best = (Some(stage), time_s);
        }
    }
    best.0
}

/// Runs of one stage: first epoch, number of epochs, stage.
fn runs(stages: &Stages) -> impl Iterator<Item = (usize, usize, Option<SleepStage>)> {
    let mut first = 0;
    stages.chunk_by(|a, b| a == b).map(move |run| {
        let begin = first;
        first += run.len();
        (begin, run.len(), run.first().copied().flatten())
    })
}
