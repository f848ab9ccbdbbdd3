//! YASA (github.com/raphaelvallat/yasa): `Epoch,Stage` as `Hypnogram.hypno.to_csv()` writes it,
//! `Time,Stage` of one that has a start, the events of `Hypnogram.as_events()`, and lists of one
//! stage or number a line (0 W, 1 N1, 2 N2, 3 N3, 4 R, -1 artifact, -2 unscored), as U-Sleep's
//! `.hyp` is. What says no times has 30-s epochs.

use sfm_models::SleepStage;

use super::names::shown;
use super::table::{Row, Table};
use super::{MAX_S, Scoring, Stages};
use crate::edf::DateTime;
use crate::staging::EPOCH_S;

const FORMAT: &str = "a YASA hypnogram";

/// The night as `Epoch,Stage` with YASA's names, `UNS` for what is not scored.
pub fn text(stages: &Stages) -> String {
    let mut text = String::from("Epoch,Stage\n");
    for (epoch, stage) in stages.iter().enumerate() {
        let name = match stage {
            Some(SleepStage::Wake) => "WAKE",
            Some(SleepStage::Rem) => "REM",
            Some(stage) => stage.as_str(),
            None => "UNS",
        };
        text.push_str(&format!("{epoch},{name}\n"));
    }
    text
}

/// Reads a table with a column `Stage`; a column `Time` says how long its epochs are.
pub(super) fn read(table: &Table<'_>) -> Result<Scoring, String> {
    let [stage] = table.columns(["stage"])?;
    let epoch_s = match table.column("time") {
        Some(time) => step_s(table, time)?,
        None => EPOCH_S,
    };
    read_epochs(table, stage, epoch_s)
}

/// Reads a list without names.
pub(super) fn read_list(table: &Table<'_>) -> Result<Scoring, String> {
    read_epochs(table, 0, EPOCH_S)
}

/// Reads the events of `as_events()`.
pub(super) fn read_events(table: &Table<'_>) -> Result<Scoring, String> {
    let [onset, duration, name] = table.columns(["onset", "duration", "description"])?;
    table.stretches_among_events("YASA's events", name, |row| {
        Ok((row.seconds(onset)?, row.duration_s(duration)?))
    })
}

fn read_epochs(table: &Table<'_>, column: usize, epoch_s: f64) -> Result<Scoring, String> {
    if table.rows().len() as f64 * epoch_s > MAX_S {
        return Err(format!("{} epochs are more than a week", table.rows().len()));
    }
    let stages =
        table.rows().iter().map(|row| stage(row, column)).collect::<Result<Vec<_>, _>>()?;
    Scoring::of_epochs(FORMAT, epoch_s, stages)
}

/// A name or YASA's number. 5 is refused: to some programs it is R, to others nothing.
fn stage(row: &Row<'_>, column: usize) -> Result<Option<SleepStage>, String> {
    let text = row.text(column)?;
    let Ok(number) = text.parse::<i64>() else { return row.stage(column) };
    match number {
        -2 | -1 => Ok(None),
        0..=4 => Ok(SleepStage::ALL.get(number as usize).copied()),
        _ => Err(row.refused(format!("{} is no sleep stage of YASA's", shown(text)))),
    }
}

/// The time from one row to the next, the same throughout.
fn step_s(table: &Table<'_>, column: usize) -> Result<f64, String> {
    let mut steps = Vec::new();
    let mut before: Option<DateTime> = None;
    for row in table.rows() {
        let time: DateTime = row.text(column)?.parse().map_err(|e: String| row.refused(e))?;
        steps.extend(before.map(|before| (row, time.seconds_since(before))));
        before = Some(time);
    }
    let Some((_, step_s)) = steps.first() else { return Ok(EPOCH_S) };
    if let Some((row, other_s)) = steps.iter().find(|(_, other_s)| other_s != step_s) {
        return Err(row.refused(format!("{other_s} s after the row before, others {step_s} s")));
    }
    if *step_s < 1.0 { Err(format!("has epochs of {step_s} s")) } else { Ok(*step_s) }
}
