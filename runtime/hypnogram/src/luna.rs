//! Luna's `.annot` (zzz.bwh.harvard.edu/luna/ref/annotations): tab-delimited `class`, `instance`,
//! `channel`, `start`, `stop`, `meta`, times in seconds behind the start of the EDF, `.` for what
//! there is not. Read: also with fewer columns, without names, with a `+length` or `...` (until the
//! next) as stop, with elapsed times `0+hh:mm:ss`, epochs `e:N` and times of day.

use std::fmt::Write;

use sfm_models::SleepStage;

use super::columns::{self, Columns, Scaled};
use super::rows::{self, Dialect};
use super::table::Table;
use super::{ReadOptions, Scoring, Stages};
use sfm_models::EPOCH_S;

const DIALECT: Dialect = Dialect::plain("a Luna .annot file");

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

/// With its columns' names, or by the marks of a table without.
pub(super) fn is_it(table: &Table) -> bool {
    table.has(&["class", "start", "stop"]) || columns::is_luna(table)
}

/// Reads the classes that are stages.
pub(super) fn read(table: &Table, options: &ReadOptions) -> Result<Scoring, String> {
    let place = |name| table.column(name).map(Scaled::seconds);
    let columns = match (place("class"), place("start"), place("stop")) {
        (Some(class), Some(start), stop) => {
            let event = Some(class.column);
            Columns { starts: vec![start], stop, event, ..Columns::default() }
        }
        _ => Columns::of_luna(table),
    };
    rows::read_columns(table, columns, &DIALECT, options)
}
