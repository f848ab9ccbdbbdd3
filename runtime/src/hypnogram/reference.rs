//! The table of stages the reference's training code reads: `Start,Stop,StageName,StageNumber`,
//! seconds.

use super::table::Table;
use super::{Scoring, Stretch};

/// Reads the table; the names count, not the numbers.
pub(super) fn read(table: &Table<'_>) -> Result<Scoring, String> {
    let [start, stop, name] = table.columns(["start", "stop", "stagename"])?;
    let mut stretches = Vec::new();
    for row in table.rows() {
        let (onset_s, end_s) = (row.seconds(start)?, row.seconds(stop)?);
        if end_s < onset_s {
            return Err(row.refused(format!("it ends at {end_s} s, before it begins")));
        }
        let stage = row.stage(name)?;
        stretches.push(Stretch { onset_s, duration_s: end_s - onset_s, stage });
    }
    Scoring::of("the reference's table of stages", stretches)
}
