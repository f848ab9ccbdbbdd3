//! `hypnogram.csv` of our own output folder. Where the final pass has been, its rows count alone,
//! else the settled ones: a provisional stage is a first word, not a scoring.

use super::table::Table;
use super::{Scoring, Stretch};
use crate::event::EpochStatus;
use crate::staging::EPOCH_S;

/// Reads the rows of the best status.
pub(super) fn read(table: &Table<'_>) -> Result<Scoring, String> {
    let [onset, stage, status] = table.columns(["onset_s", "stage", "status"])?;
    let has = |wanted: EpochStatus| {
        table.rows().iter().any(|row| row.text(status).is_ok_and(|s| s == wanted.as_str()))
    };
    let wanted = [EpochStatus::Final, EpochStatus::Settled].into_iter().find(|s| has(*s));
    let Some(wanted) = wanted else {
        return Err("has neither final nor settled epochs; let the run go on first".into());
    };
    let mut stretches = Vec::new();
    for row in table.rows() {
        if row.text(status)? == wanted.as_str() {
            let (onset_s, stage) = (row.seconds(onset)?, row.stage(stage)?);
            stretches.push(Stretch { onset_s, duration_s: EPOCH_S, stage });
        }
    }
    let others = table.rows().len() - stretches.len();
    let mut scoring = Scoring::of("hypnogram.csv of sfm-stream", stretches)?;
    scoring.notes.push(format!("{} epochs", wanted.as_str()));
    if others > 0 {
        scoring.notes.push(format!("{others} of another status left out"));
    }
    Ok(scoring)
}
