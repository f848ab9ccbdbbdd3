//! Which diagnosis came when: `is_event.csv` and `time_to_event.csv`, `Study ID` and one column a
//! label in both; 1 an event, 0 censored, and the years to either.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Table, shown};
use crate::data::DataError;

const STUDY_ID: &str = "Study ID";
/// More labels than there are phecodes.
const MAX_LABELS: usize = 20_000;
/// Longer than any follow-up, also in days as the reference has it.
const MAX_TIME: f64 = 1e6;

/// What is known of one label in one recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The diagnosis came; else follow-up ended without it.
    pub event: bool,
    /// When, counted from the recording: years, or whatever unit the file is in.
    pub years: f32,
}

/// Outcomes of recordings by label.
#[derive(Debug, Clone, PartialEq)]
pub struct Events {
    /// Names of the K labels, from the header.
    pub labels: Vec<String>,
    rows: BTreeMap<String, Vec<Option<Outcome>>>,
}

impl Events {
    /// Reads both files. A cell that is empty in either is unknown.
    ///
    /// # Errors
    /// [`DataError`] with the line, for values that are no 0, 1 or time, for columns or ids that
    /// only one of the files has, and for an id that occurs twice.
    pub fn read(is_event: &Path, time_to_event: &Path) -> Result<Events, DataError> {
        let (labels, flags) = cells(is_event, flag)?;
        let (time_labels, mut times) = cells(time_to_event, time)?;
        if labels != time_labels {
            let is_event = is_event.display();
            let reason = format!("its columns are not those of {is_event}, in the same order");
            return Err(DataError::line(time_to_event, 1, reason));
        }
        let mut rows = BTreeMap::new();
        for (id, flags) in flags {
            let times = times.remove(&id).ok_or_else(|| only_one(time_to_event, &id))?;
            let outcomes = flags
                .into_iter()
                .zip(times)
                .map(|(flag, years)| Some(Outcome { event: flag? == 1.0, years: years? as f32 }));
            rows.insert(id, outcomes.collect());
        }
        match times.into_keys().next() {
            Some(id) => Err(only_one(is_event, &id)),
            None => Ok(Events { labels, rows }),
        }
    }

    /// Ids of the recordings, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.rows.keys().map(String::as_str)
    }

    /// The K outcomes of a recording.
    pub fn outcomes(&self, id: &str) -> Option<&[Option<Outcome>]> {
        self.rows.get(id).map(Vec::as_slice)
    }

    /// Number of events of each label among the recordings `ids`. A label with none is all
    /// censored: nothing can be learned of it, and its loss is to be masked.
    pub fn events<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
        let mut events = vec![0; self.labels.len()];
        for outcomes in ids.into_iter().filter_map(|id| self.outcomes(id)) {
            for (count, outcome) in events.iter_mut().zip(outcomes) {
                *count += usize::from(outcome.is_some_and(|o| o.event));
            }
        }
        events
    }

    /// Indices of the labels without any event among the recordings `ids`.
    pub fn all_censored<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
        let events = self.events(ids);
        events.iter().enumerate().filter(|(_, count)| **count == 0).map(|(k, _)| k).collect()
    }
}

type Cells = BTreeMap<String, Vec<Option<f64>>>;

/// The header's labels, and each id's row.
fn cells(
    path: &Path,
    check: fn(&Table, f64) -> Result<(), DataError>,
) -> Result<(Vec<String>, Cells), DataError> {
    let mut table = Table::open(path)?;
    let id_column = table.column(STUDY_ID)?;
    let columns: Vec<usize> = (0..table.columns.len()).filter(|&c| c != id_column).collect();
    if columns.is_empty() || columns.len() > MAX_LABELS {
        let reason = format!("{} labels; 1 to {MAX_LABELS} can be used", columns.len());
        return Err(DataError::line(path, 1, reason));
    }
    let mut rows = Cells::new();
    while table.next()? {
        let id = table.text(id_column).to_owned();
        let mut row = Vec::with_capacity(columns.len());
        for &column in &columns {
            let value = table.number(column)?;
            if let Some(value) = value {
                check(&table, value)?;
            }
            row.push(value);
        }
        if id.is_empty() {
            return Err(table.refuse("has no Study ID"));
        }
        if rows.insert(id.clone(), row).is_some() {
            return Err(table.refuse(format!("'{}' occurs twice; keep one row", shown(&id))));
        }
    }
    let labels = columns.iter().filter_map(|&c| table.columns.get(c).cloned()).collect();
    Ok((labels, rows))
}

fn flag(table: &Table, value: f64) -> Result<(), DataError> {
    if value == 0.0 || value == 1.0 {
        return Ok(());
    }
    Err(table.refuse(format!("{value} is neither 1, an event, nor 0, none")))
}

fn time(table: &Table, value: f64) -> Result<(), DataError> {
    if (0.0..=MAX_TIME).contains(&value) {
        return Ok(());
    }
    let reason = format!("{value} is no time after the recording; leave it empty to mask it");
    Err(table.refuse(reason))
}

fn only_one(path: &Path, id: &str) -> DataError {
    let id = shown(id);
    DataError::refused(path, format!("has no row for '{id}', which the other file has"))
}
