//! Luna's `.annot` (zzz.bwh.harvard.edu/luna/ref/annotations): tab-delimited `class`, `instance`,
//! `channel`, `start`, `stop`, `meta`, times in seconds behind the start of the EDF, `.` for what
//! there is not. Read: also with fewer columns, without names, with a `+length` as stop and with
//! elapsed times `0+hh:mm:ss`; clock times are refused, since the file does not say the start.

use std::fmt::Write;

use sfm_models::SleepStage;

use super::names::shown;
use super::table::{self, Row, Table};
use super::{Scoring, Stages};
use crate::staging::EPOCH_S;

/// The night as an `.annot` file, an epoch a line.
pub fn text(stages: &Stages) -> String {
    let mut text = String::from(
        "# W | wake\n# N1 | NREM stage 1\n# N2 | NREM stage 2\n# N3 | NREM stage 3\n# R | REM\n\
         # ? | not scored\nclass\tinstance\tchannel\tstart\tstop\tmeta\n",
    );
    for (epoch, stage) in stages.iter().enumerate() {
        let name = stage.map_or("?", SleepStage::as_str);
        let (start, stop) = (epoch as f64 * EPOCH_S, (epoch + 1) as f64 * EPOCH_S);
        // Writing into a string does not fail.
        let _ = writeln!(text, "{name}\t.\t.\t{start}\t{stop}\t.");
    }
    text
}

/// Reads a table with columns `class`, `start`, `stop`.
pub(super) fn read(table: &Table<'_>) -> Result<Scoring, String> {
    let [class, start, stop] = table.columns(["class", "start", "stop"])?;
    read_columns(table, class, start, stop)
}

/// Reads a table without names, of as many columns as Luna writes.
pub(super) fn read_unnamed(table: &Table<'_>) -> Result<Scoring, String> {
    match table.width() {
        3 => read_columns(table, 0, 1, 2),
        4 => read_columns(table, 0, 2, 3),
        _ => read_columns(table, 0, 3, 4),
    }
}

fn read_columns(
    table: &Table<'_>,
    class: usize,
    start: usize,
    stop: usize,
) -> Result<Scoring, String> {
    table.stretches_among_events("a Luna .annot file", class, |row: &Row<'_>| {
        let onset_s = time_s(row.text(start)?).map_err(|e| row.refused(e))?;
        let text = row.text(stop)?;
        let duration_s = match text.strip_prefix('+') {
            Some(length) => table::seconds(length).map_err(|e| row.refused(e))?,
            None => time_s(text).map_err(|e| row.refused(e))? - onset_s,
        };
        if duration_s < 0.0 {
            return Err(row.refused("it stops before it starts"));
        }
        Ok((onset_s, duration_s))
    })
}

/// Seconds, or hours, minutes and seconds since the start behind `0+`.
fn time_s(text: &str) -> Result<f64, String> {
    let Some(clock) = text.strip_prefix("0+") else {
        return match text.contains(':') {
            true => Err(format!(
                "'{}' is a time of day; write the file with elapsed seconds",
                shown(text)
            )),
            false => table::seconds(text),
        };
    };
    let mut parts = clock.split(':').map(|part| part.parse::<f64>().ok());
    match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten(), parts.next()) {
        (Some(h), Some(m), Some(s), None) => table::within_a_week(h * 3600.0 + m * 60.0 + s),
        _ => Err(format!("'{}' is no time 0+hh:mm:ss", shown(text))),
    }
}
