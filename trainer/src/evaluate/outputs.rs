//! Live against final of what `sfm-stream` has already done: the stages in the `events.jsonl` of its
//! output folders. Refuses folders that lack a pass: nothing is staged here.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sfm_models::SleepStage;

use super::replay::Hypnograms;

/// Longest file of events, bytes: a week has some 50 MB.
const MAX_BYTES: u64 = 1 << 30;
/// Epochs of 7 days.
const MAX_EPOCHS: usize = 7 * 2880;
/// How `sfm-stream` names a folder after a recording.
const FOLDER: &str = "sfm-out";

/// A line of events, of which only epochs matter.
#[derive(Deserialize)]
struct Line {
    event: String,
    epoch: Option<usize>,
    stage: Option<SleepStage>,
    status: Option<String>,
}

/// The output folder of `recording` (`<cohort>/<id>.hdf5`) below `dir`: `<cohort>/<id>.sfm-out`,
/// `<id>.sfm-out`, or the same without the ending.
pub fn folder(dir: &Path, recording: &str) -> Option<PathBuf> {
    let recording = Path::new(recording);
    let id = recording.file_stem()?;
    let places = [dir.join(recording.parent()?), dir.to_owned()];
    let named = |place: &PathBuf| {
        let plain = place.join(id);
        let mut ending = plain.clone().into_os_string();
        ending.push(format!(".{FOLDER}"));
        [PathBuf::from(ending), plain]
    };
    places.iter().flat_map(named).find(|folder| folder.join("events.jsonl").is_file())
}

/// The stages in `folder`, of a run with `--pass both`.
///
/// # Errors
/// A sentence that names the file.
pub fn read(folder: &Path) -> Result<Hypnograms, String> {
    let path = folder.join("events.jsonl");
    let named = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
    let file = File::open(&path).map_err(|e| named(&e))?;
    let mut hypnograms = Hypnograms::default();
    for (number, line) in BufReader::new(file.take(MAX_BYTES)).lines().enumerate() {
        let refuse = |reason: &dyn std::fmt::Display| {
            named(&format!("line {}: {}", number + 1, reason.to_string().replace('\n', " ")))
        };
        let line: Line =
            serde_json::from_str(&line.map_err(|e| refuse(&e))?).map_err(|e| refuse(&e))?;
        if line.event != "epoch" {
            continue;
        }
        let stages = match line.status.as_deref() {
            Some("provisional") => &mut hypnograms.provisional,
            Some("settled") => &mut hypnograms.settled,
            Some("final") => &mut hypnograms.last,
            _ => return Err(refuse(&"an epoch without a status that is known")),
        };
        match line.epoch {
            Some(epoch) if epoch < MAX_EPOCHS => {
                if stages.len() <= epoch {
                    stages.resize(epoch + 1, None);
                }
                stages[epoch] = line.stage;
            }
            _ => return Err(refuse(&"an epoch without a number that is possible")),
        }
    }
    let Hypnograms { provisional, settled, last } = &hypnograms;
    if last.is_empty() || settled.len() != last.len() || provisional.len() != last.len() {
        return Err(named(&format!(
            "has {} provisional, {} settled and {} final epochs; run sfm-stream with --pass both \
             to its end",
            provisional.len(),
            settled.len(),
            last.len()
        )));
    }
    Ok(hypnograms)
}
