//! Hypnograms of other programs: a file a format, its writer beside its reader. What a file is, its
//! content says, not its name. Refused, with the line: stages nobody knows, times that are none,
//! stretches that overlap. R&K's stages 3 and 4 are N3; movement and artifacts are unscored.

pub mod agreement;
pub mod bids;
mod edf;
pub mod luna;
mod names;
mod native;
pub mod nsrr;
pub mod profusion;
mod reference;
mod table;
pub mod timeline;
pub mod usleep;
mod xml;
pub mod yasa;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sfm_models::SleepStage;

pub use self::names::stage_named;
use self::table::Table;
use crate::staging::EPOCH_S;

/// A night in the most talkative format is 1 MB.
const MAX_BYTES: u64 = 64 << 20;
/// 7 days: longer than any recording.
const MAX_S: f64 = 7.0 * 86_400.0;
/// Times closer than this are one, seconds: programs round them.
const TOLERANCE_S: f64 = 0.01;

/// A hypnogram of 30-s epochs from the start of the recording; `None` is an epoch not scored.
pub type Stages = [Option<SleepStage>];

/// A stretch of one stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// Start behind the start of the recording, seconds; may be negative.
    pub onset_s: f64,
    /// Length, seconds.
    pub duration_s: f64,
    /// `None` where nobody could or would score.
    pub stage: Option<SleepStage>,
}

/// What a file says of a night.
#[derive(Debug, Clone, PartialEq)]
pub struct Scoring {
    /// The file's format, for the user.
    pub format: &'static str,
    /// In order of time, without overlaps.
    pub stretches: Vec<Stretch>,
    /// What the reading left out, one phrase each.
    pub notes: Vec<String>,
}

/// Why a file is no hypnogram: one line with the file, the place in it and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}", file = file.display())]
pub struct HypnogramError {
    file: PathBuf,
    reason: String,
}

/// Reads a hypnogram of any of the formats; of a folder its `hypnogram.csv`.
///
/// # Errors
/// [`HypnogramError`].
pub fn read(path: &Path) -> Result<Scoring, HypnogramError> {
    let file = if path.is_dir() { path.join("hypnogram.csv") } else { path.to_owned() };
    read_file(&file).map_err(|reason| HypnogramError { file, reason })
}

fn read_file(path: &Path) -> Result<Scoring, String> {
    let cannot = |e: std::io::Error| format!("cannot be read: {e}");
    let mut file = File::open(path).map_err(cannot)?;
    let mut begin = Vec::new();
    file.by_ref().take(8).read_to_end(&mut begin).map_err(cannot)?;
    // A recording may be larger than any hypnogram: only its annotations are read.
    if matches!(begin.as_slice(), [b'0', b' ' | 0, ..] | [0xff, b'B', b'I', b'O', ..]) {
        return edf::read(path);
    }
    let mut bytes = begin;
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 >= MAX_BYTES {
        return Err(format!("has more than {} MiB, which no hypnogram has", MAX_BYTES >> 20));
    }
    recognized(&bytes)
}

/// Reads a hypnogram that is no EDF file from memory.
///
/// # Errors
/// The reason, with the line, without the file's name.
pub fn recognized(bytes: &[u8]) -> Result<Scoring, String> {
    // Libraries draw what they do not understand over several lines.
    let in_a_line = |reason: String| {
        let first = reason.lines().next().unwrap_or_default().trim_end();
        first.replace(char::is_control, " ")
    };
    scoring(bytes).map_err(in_a_line)
}

fn scoring(bytes: &[u8]) -> Result<Scoring, String> {
    if bytes.starts_with(b"\x93NUMPY") {
        return usleep::read_npy(bytes);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| "is no hypnogram of a known format: it is neither EDF, NumPy nor text")?;
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('<') {
        let elements = xml::elements(text)?;
        return match elements.last().map(|root| root.name.as_str()) {
            Some(nsrr::ROOT) => nsrr::read(&elements),
            Some(profusion::ROOT) => profusion::read(&elements),
            _ => Err(format!("is XML, but neither {} nor {}", nsrr::ROOT, profusion::ROOT)),
        };
    }
    let table = Table::parse(text)?;
    if let Some(read) = reader_of(&table) {
        return read(&table);
    }
    Err("is no hypnogram of a known format; README lists them".into())
}

type Reader = fn(&Table<'_>) -> Result<Scoring, String>;

/// The reader of a table, by the names of its columns.
fn reader_of(table: &Table<'_>) -> Option<Reader> {
    let readers: [(&[&str], Reader); 7] = [
        (&["epoch", "onset_s", "stage", "status"], native::read),
        (&["start", "stop", "stagename"], reference::read),
        (&["init_sec", "duration_sec", "stage"], usleep::read_tsv),
        (&["onset", "duration", "trial_type"], bids::read),
        (&["class", "start", "stop"], luna::read),
        (&["onset", "duration", "description"], yasa::read_events),
        (&["stage"], yasa::read),
    ];
    let has = |names: &[&str]| names.iter().all(|name| table.column(name).is_some());
    if table.has_names() {
        return readers.iter().find(|(names, _)| has(names)).map(|(_, read)| *read);
    }
    match (table.width(), table.is_comma()) {
        (1, _) => Some(yasa::read_list),
        (3, true) => Some(usleep::read_ids),
        (3 | 4 | 6, false) => Some(luna::read_unnamed),
        _ => None,
    }
}

impl Scoring {
    /// Orders the stretches and checks them.
    fn of(format: &'static str, mut stretches: Vec<Stretch>) -> Result<Self, String> {
        if stretches.iter().all(|stretch| stretch.stage.is_none()) {
            return Err(format!("is {format}, but holds no sleep stages"));
        }
        stretches.sort_by(|a, b| a.onset_s.total_cmp(&b.onset_s));
        for pair in stretches.windows(2) {
            if let [a, b] = pair
                && b.onset_s < a.onset_s + a.duration_s - TOLERANCE_S
            {
                return Err(format!(
                    "the stage at {} s overlaps the one at {} s; leave one scorer's in it",
                    b.onset_s, a.onset_s
                ));
            }
        }
        Ok(Self { format, stretches, notes: Vec::new() })
    }

    /// Epochs of equal length from the start of the recording.
    fn of_epochs(
        format: &'static str,
        epoch_s: f64,
        stages: impl IntoIterator<Item = Option<SleepStage>>,
    ) -> Result<Self, String> {
        let stretches = stages.into_iter().enumerate().map(|(epoch, stage)| Stretch {
            onset_s: epoch as f64 * epoch_s,
            duration_s: epoch_s,
            stage,
        });
        Self::of(format, stretches.collect())
    }

    /// Whether every stretch begins and ends on the grid of 30-s epochs.
    pub fn is_on_grid(&self) -> bool {
        let off = |s: f64| (s - (s / EPOCH_S).round() * EPOCH_S).abs() > TOLERANCE_S;
        !self.stretches.iter().any(|s| off(s.onset_s) || off(s.onset_s + s.duration_s))
    }

    /// The stages by 30-s epoch from the start of the recording. Where stretches are off the grid
    /// an epoch has the stage that takes most of its time, of equal ones the first in the order W,
    /// N1, N2, N3, R; it is not scored if more of it is unscored than in any stage.
    pub fn epochs(&self) -> Vec<Option<SleepStage>> {
        let end_s = self.stretches.iter().map(|s| s.onset_s + s.duration_s).fold(0.0, f64::max);
        // Readers refuse times beyond a week.
        let count = ((end_s - TOLERANCE_S) / EPOCH_S).ceil().clamp(0.0, MAX_S / EPOCH_S) as usize;
        let mut time_s = vec![[0.0; SleepStage::COUNT]; count];
        for stretch in &self.stretches {
            let Some(stage) = stretch.stage else { continue };
            let (from_s, to_s) = (stretch.onset_s, stretch.onset_s + stretch.duration_s);
            // The conversion saturates: what lies before the recording begins with its first epoch.
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
