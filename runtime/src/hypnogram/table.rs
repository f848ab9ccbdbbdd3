//! Tables of text: comma or tab between fields, quotes around a field are taken off, lines that
//! begin with `#` are comments. A first line of names makes columns known by name.

use super::names::{shown, stage_among_events};
use super::{MAX_S, Scoring, Stretch, stage_named};

/// More columns than any hypnogram has.
const MAX_COLUMNS: usize = 64;

/// A table by rows.
#[derive(Debug)]
pub(super) struct Table<'a> {
    /// Lower case; empty if the first line is data.
    names: Vec<String>,
    rows: Vec<Row<'a>>,
    is_comma: bool,
}

/// One row.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// Counted from 1.
    pub line: usize,
    fields: Vec<&'a str>,
}

impl<'a> Table<'a> {
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let lines = (1..).zip(text.lines());
        let mut lines = lines.filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'));
        let Some((line, first)) = lines.next() else { return Err("is empty".into()) };
        let is_comma = !first.contains('\t');
        let split = |line: usize, text: &'a str| -> Result<Row<'a>, String> {
            let fields: Vec<&str> = text
                .split(if is_comma { ',' } else { '\t' })
                .take(MAX_COLUMNS + 1)
                .map(|field| unquoted(field.trim()))
                .collect();
            if fields.len() > MAX_COLUMNS {
                return Err(format!("line {line}: more than {MAX_COLUMNS} columns"));
            }
            Ok(Row { line, fields })
        };
        let first = split(line, first)?;
        let names = if first.is_names() {
            first.fields.iter().map(|name| name.to_lowercase()).collect()
        } else {
            Vec::new()
        };
        let data = names.is_empty().then_some(Ok(first)).into_iter();
        let rows = data.chain(lines.map(|(line, text)| split(line, text)));
        Ok(Self { rows: rows.collect::<Result<_, _>>()?, names, is_comma })
    }

    pub fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    pub fn is_comma(&self) -> bool {
        self.is_comma
    }

    /// Columns of the first row.
    pub fn width(&self) -> usize {
        self.rows.first().map_or(self.names.len(), |row| row.fields.len())
    }

    pub fn column(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    /// The columns of these names.
    ///
    /// # Errors
    /// One is not there.
    pub fn columns<const N: usize>(&self, names: [&str; N]) -> Result<[usize; N], String> {
        let mut found = [0; N];
        for (place, name) in found.iter_mut().zip(names) {
            *place = self.column(name).ok_or_else(|| format!("has no column '{name}'"))?;
        }
        Ok(found)
    }

    pub fn rows(&self) -> &[Row<'a>] {
        &self.rows
    }

    /// Stages with their places in time, from columns of onset, length and name.
    pub fn stretches(
        &self,
        format: &'static str,
        [onset, duration, name]: [usize; 3],
    ) -> Result<Scoring, String> {
        let stretch = |row: &Row<'_>| {
            Ok(Stretch {
                onset_s: row.seconds(onset)?,
                duration_s: row.duration_s(duration)?,
                stage: row.stage(name)?,
            })
        };
        let stretches = self.rows.iter().map(stretch).collect::<Result<_, String>>()?;
        Scoring::of(format, stretches)
    }

    /// As [`Table::stretches`] where other events lie between the stages; `time` is where a row
    /// lies, onset and length.
    pub fn stretches_among_events(
        &self,
        format: &'static str,
        name: usize,
        time: impl Fn(&Row<'_>) -> Result<(f64, f64), String>,
    ) -> Result<Scoring, String> {
        let mut stretches = Vec::new();
        for row in &self.rows {
            let stage = stage_among_events(row.text(name)?).map_err(|e| row.refused(e))?;
            let Some(stage) = stage else { continue };
            let (onset_s, duration_s) = time(row)?;
            stretches.push(Stretch { onset_s, duration_s, stage });
        }
        let others = self.rows.len() - stretches.len();
        let mut scoring = Scoring::of(format, stretches)?;
        scoring.note_others(others);
        Ok(scoring)
    }
}

impl Scoring {
    /// Says how many events were no stages.
    pub(super) fn note_others(&mut self, others: usize) {
        if others > 0 {
            self.notes.push(format!("{others} events that are no stages were passed over"));
        }
    }
}

impl Row<'_> {
    /// No number and no stage in it: a line of names.
    fn is_names(&self) -> bool {
        let is_data = |field: &&str| field.parse::<f64>().is_ok() || stage_named(field).is_ok();
        !self.fields.iter().any(is_data)
    }

    pub fn refused(&self, reason: impl std::fmt::Display) -> String {
        format!("line {}: {reason}", self.line)
    }

    pub fn text(&self, column: usize) -> Result<&str, String> {
        self.fields
            .get(column)
            .copied()
            .ok_or_else(|| self.refused(format!("has no column {}", column + 1)))
    }

    /// A time within a week of the start of the recording.
    pub fn seconds(&self, column: usize) -> Result<f64, String> {
        let text = self.text(column)?;
        seconds(text).map_err(|e| self.refused(e))
    }

    /// A length of time, not negative.
    pub fn duration_s(&self, column: usize) -> Result<f64, String> {
        let seconds = self.seconds(column)?;
        if seconds < 0.0 {
            return Err(self.refused(format!("a length of {seconds} s")));
        }
        Ok(seconds)
    }

    pub fn stage(&self, column: usize) -> Result<Option<sfm_models::SleepStage>, String> {
        stage_named(self.text(column)?).map_err(|e| self.refused(e))
    }
}

/// A time within a week of the start of the recording, seconds.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(seconds) => within_a_week(seconds),
        Err(_) => Err(format!("'{}' is no time in seconds", shown(text))),
    }
}

/// The same time, if it is one: memory grows with it.
pub(super) fn within_a_week(seconds: f64) -> Result<f64, String> {
    if seconds.abs() <= MAX_S { Ok(seconds) } else { Err(format!("{seconds} s is beyond a week")) }
}

fn unquoted(field: &str) -> &str {
    let inner = field.strip_prefix('"').and_then(|field| field.strip_suffix('"'));
    inner.unwrap_or(field)
}
