//! The reader of every table: stages from the column that has them, and what every row says about time,
//! of which `place` makes places that must agree with each other.

mod place;

use sfm_models::SleepStage;

use super::codes::{self, Decoder, Preset};
use super::columns::{Columns, Scaled};
use super::draft::Draft;
use super::names::{plain, shown, stage_among_events};
use super::preamble::Preamble;
use super::table::{Row, Table};
use super::time::{Moment, Value, number, within_a_week};
use super::{ReadOptions, Scoring, TOLERANCE_S, Timing, stage_named};

/// What a format says beyond its columns' names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    pub format: &'static str,
    /// What numbers stand for.
    pub preset: &'static Preset,
    /// The format defines them.
    pub is_defined: bool,
    /// Length of an epoch, where the format has one.
    pub epoch_s: Option<f64>,
    /// The number of the first epoch, where the format has one.
    pub first_epoch: Option<f64>,
    /// A number beside a stage without a name is where it ends.
    pub has_ends: bool,
}

impl Dialect {
    /// A format that says no more than its columns' names.
    pub const fn plain(format: &'static str) -> Self {
        Self {
            format,
            preset: &codes::YASA,
            is_defined: false,
            epoch_s: None,
            first_epoch: None,
            has_ends: false,
        }
    }
}

/// A row that is a stage, with what it says about time.
#[derive(Debug, Clone, Copy, Default)]
struct Cells {
    line: usize,
    stage: Option<SleepStage>,
    /// Seconds since the start of the recording.
    start_s: Option<f64>,
    clock: Option<Moment>,
    stop: Option<Value>,
    duration_s: Option<f64>,
    epoch: Option<f64>,
    /// The row gives its epoch's length with its number.
    length_s: Option<f64>,
}

impl Cells {
    fn refused(&self, reason: impl std::fmt::Display) -> String {
        format!("line {}: {reason}", self.line)
    }
}

/// Reads a table with its columns' names, or by what stands in it.
///
/// # Errors
/// With the line: what is no stage or no time, times that contradict each other.
pub(super) fn read(
    table: &Table,
    dialect: &Dialect,
    options: &ReadOptions,
) -> Result<Scoring, String> {
    let columns = match (table.names().is_empty(), dialect.has_ends) {
        (false, _) => Columns::named(table)?,
        (true, true) => {
            Columns { stage: Some(0), stop: Some(Scaled::seconds(1)), ..Columns::default() }
        }
        (true, false) => Columns::guessed(table)?,
    };
    read_columns(table, columns, dialect, options)
}

/// Reads a table whose columns are known.
///
/// # Errors
/// As [`read`].
pub(super) fn read_columns(
    table: &Table,
    columns: Columns,
    dialect: &Dialect,
    options: &ReadOptions,
) -> Result<Scoring, String> {
    let mut draft = Draft::new(dialect.format, Timing::RowNumber);
    let preamble = Preamble::of(table.preamble())?;
    let reader = Reader { table, columns: &columns, dialect, options, preamble: &preamble };
    reader.check_widths()?;
    let rows = reader.rows(&mut draft)?;
    if rows.is_empty() {
        return Err(format!("is {}, but holds no sleep stages", dialect.format));
    }
    reader.check_dates(&rows)?;
    reader.place(&rows, &mut draft)?;
    draft.notes.extend(columns.notes.clone());
    draft.finish()
}

struct Reader<'a> {
    table: &'a Table,
    columns: &'a Columns,
    dialect: &'a Dialect,
    options: &'a ReadOptions,
    preamble: &'a Preamble,
}

impl Reader<'_> {
    /// The rows that are stages.
    fn rows(&self, draft: &mut Draft) -> Result<Vec<Cells>, String> {
        let mut decoder = self.decoder();
        let mut rows = Vec::new();
        let event = self.event_column()?;
        for row in self.table.rows() {
            let stage = match event {
                Some(column) => self.stage_of_event(row, column, &mut decoder)?,
                None => Some(self.stage(row, &mut decoder)?),
            };
            match stage {
                Some(stage) => rows.push(self.cells(row, stage)?),
                None => {
                    let text = event.map_or("", |column| row.text(column));
                    draft.pass_over(text, self.span(row));
                }
            }
        }
        draft.code = decoder.finish();
        Ok(rows)
    }

    /// The column of events, if stages are among them. Beside a column of stages events decide where
    /// they are in most rows: a remark here and there changes nothing.
    ///
    /// # Errors
    /// It is a list of other events, each with the stage that it fell into.
    fn event_column(&self) -> Result<Option<usize>, String> {
        let Some(event) = self.columns.event else { return Ok(None) };
        if self.columns.stage.is_none() {
            return Ok(Some(event));
        }
        let filled = || self.table.rows().filter(|row| !row.text(event).is_empty());
        let is_stage =
            |row: &Row<'_>| matches!(stage_among_events(row.text(event)), Ok(Some(_)) | Err(_));
        let (count, stages) = (filled().count(), filled().filter(is_stage).count());
        if 2 * count < self.table.len() {
            return Ok(None);
        }
        if 10 * stages >= count {
            return Ok(Some(event));
        }
        // A word that says of every row what it is.
        let is_kind = |row: &Row<'_>| {
            let word = plain(row.text(event));
            ["stage", "sleep", "epoch", "hypno", "stad", "scor"]
                .iter()
                .any(|kind| word.contains(kind))
        };
        match filled().find(|row| !is_kind(row)) {
            None => Ok(None),
            Some(row) => Err(row.refused(format!(
                "'{}' is no sleep stage: this is a list of events, each with the stage beside it",
                shown(row.text(event))
            ))),
        }
    }

    /// Seconds from start to end of an event that is no stage, where they are plain numbers.
    fn span(&self, row: Row<'_>) -> Option<(f64, f64)> {
        let seconds = |place: Scaled| Some(number(row.text(place.column))? * place.unit_s);
        let start_s = self.columns.starts.first().copied().and_then(seconds)?;
        let stop_s = self.columns.stop.and_then(seconds);
        let length_s = self.columns.duration.and_then(seconds);
        Some((start_s, stop_s.or(length_s.map(|s| start_s + s))?))
    }

    /// Refuses a row with more cells than there are names, as of a decimal comma in a table of commas.
    /// A text at the end may have any.
    fn check_widths(&self) -> Result<(), String> {
        let width = self.table.names().len();
        if width == 0 || self.columns.event == Some(width - 1) {
            return Ok(());
        }
        let is_wider = |row: &Row<'_>| row.fields().skip(width).any(|text| !text.is_empty());
        match self.table.rows().find(is_wider) {
            None => Ok(()),
            Some(row) => Err(row.refused(format!(
                "it has {} cells under {width} names; put cells with a comma into quotation marks",
                row.len()
            ))),
        }
    }

    /// Refuses dates that differ and have no time of day: they cannot be used.
    fn check_dates(&self, rows: &[Cells]) -> Result<(), String> {
        let is_unused = rows.iter().all(|row| row.clock.is_none());
        let Some(column) = self.columns.date.filter(|_| is_unused) else { return Ok(()) };
        let Some(first) = self.table.rows().next() else { return Ok(()) };
        match self.table.rows().find(|row| row.text(column) != first.text(column)) {
            None => Ok(()),
            Some(row) => Err(row.refused(
                "its date is not that of the first row, and there is no time of day beside it; leave \
                 one night in the file, or write times of day",
            )),
        }
    }

    fn decoder(&self) -> Decoder<'_> {
        let given = self.options.codes.as_ref();
        let Dialect { preset, is_defined, .. } = *self.dialect;
        let column = self.columns.stage;
        if is_defined {
            return Decoder::defined(given, preset);
        }
        // Digits beside letters are the stages of non-REM sleep, whatever the code.
        let is_letter = |text: &str| {
            let stage = stage_named(text);
            matches!(stage, Ok(Some(SleepStage::Wake | SleepStage::Rem)))
        };
        let has_letters =
            column.is_some_and(|column| self.table.rows().any(|row| is_letter(row.text(column))));
        match has_letters && given.is_none() {
            true => Decoder::defined(None, &codes::DIGITS),
            false => Decoder::new(given, preset),
        }
    }

    fn stage_of_event(
        &self,
        row: Row<'_>,
        event: usize,
        decoder: &mut Decoder<'_>,
    ) -> Result<Option<Option<SleepStage>>, String> {
        let text = row.text(event);
        // A word of the user's code is a stage whatever it looks like.
        if decoder.is_given()
            && let Ok(stage) = decoder.stage(text)
        {
            return Ok(Some(stage));
        }
        let stage = stage_among_events(text).map_err(|e| row.refused(e))?;
        let beside = self.columns.stage.map(|column| row.text(column));
        if let (Some(Some(stage)), Some(beside)) = (stage, beside)
            && let Ok(Some(other)) = stage_named(beside)
            && other != stage
        {
            let reason = format!("it says {other} and {stage}; correct one of them");
            return Err(row.refused(reason));
        }
        Ok(stage)
    }

    /// The stage by name or number; by both they must agree.
    fn stage(&self, row: Row<'_>, decoder: &mut Decoder<'_>) -> Result<Option<SleepStage>, String> {
        let mut read = |column: usize| match row.text(column) {
            "" | "-" | "nan" | "NaN" | "NA" => Ok(None),
            text => decoder.stage(text).map_err(|e| row.refused(e)),
        };
        let (Some(named), Some(number)) = (self.columns.stage, self.columns.number) else {
            return match self.columns.stage.or(self.columns.number) {
                Some(column) => read(column),
                None => Err("has no column of stages".into()),
            };
        };
        let stage = read(named)?;
        if row.text(number).is_empty() {
            return Ok(stage);
        }
        // The column has the reference's code, or else the one the user gives.
        let defined = Decoder::defined(None, self.dialect.preset).stage(row.text(number));
        if defined == Ok(stage) {
            return Ok(stage);
        }
        let numbered = match self.options.codes {
            Some(_) => read(number)?,
            None => defined.map_err(|e| row.refused(e))?,
        };
        if stage != numbered {
            let (name, number) = (shown(row.text(named)), shown(row.text(number)));
            return Err(row.refused(format!(
                "name '{name}' and number '{number}' are different stages; correct one of them, or \
                 give --codes"
            )));
        }
        Ok(stage)
    }

    fn cells(&self, row: Row<'_>, stage: Option<SleepStage>) -> Result<Cells, String> {
        let mut cells = Cells { line: row.line, stage, ..Cells::default() };
        for &start in &self.columns.starts {
            let value = match self.value(row, start)? {
                Some(Value::Moment(Moment { s, date: None, .. })) if start.is_elapsed => {
                    Some(Value::Seconds(s))
                }
                value => value,
            };
            match value {
                Some(Value::Seconds(s)) => match cells.start_s.replace(s) {
                    Some(other) if (other - s).abs() > TOLERANCE_S => {
                        return Err(row.refused(format!("it starts at {other} s and at {s} s")));
                    }
                    _ => {}
                },
                Some(Value::Moment(moment)) => {
                    if cells.clock.replace(moment).is_some() {
                        return Err(row.refused("it has two times of day; leave one of them"));
                    }
                }
                Some(Value::Epoch { onset_s, length_s }) => {
                    cells.start_s = Some(onset_s);
                    cells.length_s = Some(length_s);
                }
                None => return Err(row.refused("it has no start")),
            }
        }
        cells.stop = match self.columns.stop {
            Some(stop) if row.text(stop.column).starts_with('+') && cells.start_s.is_some() => {
                let length_s = self.seconds(row, stop)?;
                cells.start_s.zip(length_s).map(|(start_s, s)| Value::Seconds(start_s + s))
            }
            Some(stop) => self.value(row, stop)?,
            None => None,
        };
        cells.duration_s = match self.columns.duration {
            Some(duration) => self.seconds(row, duration)?,
            None => None,
        };
        if cells.duration_s.is_some_and(|s| s < 0.0) {
            return Err(row.refused("its length is negative"));
        }
        if let Some(column) = self.columns.epoch {
            let whole = codes::whole(row.text(column)).filter(|number| *number >= 0);
            let refusal =
                || row.refused(format!("'{}' is no number of an epoch", shown(row.text(column))));
            cells.epoch = Some(whole.ok_or_else(refusal)? as f64);
        }
        Ok(cells)
    }

    /// What a cell says; `None` where it says nothing: empty, `n/a`, `.`, `...`.
    fn value(&self, row: Row<'_>, place: Scaled) -> Result<Option<Value>, String> {
        let text = row.text(place.column);
        if matches!(text, "" | "." | "..." | "-")
            || ["n/a", "nan", "na"].iter().any(|t| text.eq_ignore_ascii_case(t))
        {
            return Ok(None);
        }
        // Date and time of day in columns of their own.
        let date = self.columns.date.map(|column| row.text(column)).filter(|date| !date.is_empty());
        let dated = date.filter(|_| text.contains(':')).map(|date| format!("{date} {text}"));
        let parsed = dated.as_deref().and_then(Moment::parse).map(Value::Moment);
        match parsed.or_else(|| Value::parse(text)) {
            Some(Value::Seconds(s)) => {
                let s = within_a_week(s * place.unit_s).map_err(|e| row.refused(e))?;
                Ok(Some(Value::Seconds(s)))
            }
            Some(Value::Moment(Moment { is_open: true, .. })) => Err(row.refused(format!(
                "'{}' could be minutes and seconds; write hours, minutes and seconds",
                shown(text)
            ))),
            Some(value) => Ok(Some(value)),
            None => Err(row.refused(format!("'{}' is no time", shown(text)))),
        }
    }

    /// A length of time, in seconds or as `hh:mm:ss`.
    fn seconds(&self, row: Row<'_>, place: Scaled) -> Result<Option<f64>, String> {
        match self.value(row, place)? {
            Some(Value::Seconds(s)) => Ok(Some(s)),
            Some(Value::Moment(Moment { s, date: None, utc_offset_s: None, .. })) => Ok(Some(s)),
            Some(_) => {
                let text = shown(row.text(place.column));
                Err(row.refused(format!("'{text}' is no length of time")))
            }
            None => Ok(None),
        }
    }
}
