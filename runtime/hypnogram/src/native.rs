//! `hypnogram.csv` of our own output folder. Where the final pass has been, its rows count alone,
//! else the settled ones: a provisional stage is a first word, not a scoring.

use super::codes::{Decoder, YASA};
use super::draft::{Draft, Entry, Place};
use super::table::Table;
use super::{EpochLength, ReadOptions, Scoring, Timing, time};
use sfm_models::EPOCH_S;

/// The format's name.
pub(super) const FORMAT: &str = "hypnogram.csv of sfm-stream";
/// Statuses of epochs that are a scoring, the best first.
const STATUSES: [&str; 2] = ["final", "settled"];

/// By the columns' names.
pub(super) fn is_it(table: &Table) -> bool {
    table.has(&["epoch", "onset s", "stage", "status"])
}

/// Reads the rows of the best status.
pub(super) fn read(table: &Table, _: &ReadOptions) -> Result<Scoring, String> {
    let column = |name: &str| table.column(name).ok_or_else(|| format!("has no column '{name}'"));
    let (onset, stage, status) = (column("onset s")?, column("stage")?, column("status")?);
    let has = |wanted: &str| table.rows().any(|row| row.text(status) == wanted);
    let Some(wanted) = STATUSES.into_iter().find(|status| has(status)) else {
        return Err("has neither final nor settled epochs; let the run go on first".into());
    };
    let mut draft = Draft::new(FORMAT, Timing::Seconds);
    draft.epoch = Some(EpochLength { s: EPOCH_S, is_assumed: false });
    let mut decoder = Decoder::new(None, &YASA);
    for row in table.rows().filter(|row| row.text(status) == wanted) {
        let onset_s = time::seconds(row.text(onset)).map_err(|e| row.refused(e))?;
        let stage = decoder.stage(row.text(stage)).map_err(|e| row.refused(e))?;
        let place = Place::Line(row.line);
        draft.entries.push(Entry { place, onset_s, end_s: Some(onset_s + EPOCH_S), stage });
    }
    draft.notes.push(format!("{wanted} epochs"));
    let others = table.len() - draft.entries.len();
    if others > 0 {
        draft.notes.push(format!("{others} of another status left out"));
    }
    draft.finish()
}
