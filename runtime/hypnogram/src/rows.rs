//! The reader of every table: stages from the column that has them, times from all columns that say
//! something about time. They must agree with each other; row numbers count only where there is
//! nothing else.

use sfm_models::SleepStage;

use super::clocks::{self, CLOCK_TOLERANCE_S, Resolved, Span, Timed};
use super::codes::{self, Decoder, Preset};
use super::columns::{Columns, Scaled};
use super::draft::{Draft, Entry, Place};
use super::names::{plain, shown, stage_among_events};
use super::preamble::Preamble;
use super::table::{Row, Table};
use super::time::{DAY_S, Moment, Value, number, within_a_week};
use super::{
    EPOCH_S, EpochLength, MAX_S, ReadOptions, Scoring, Start, TOLERANCE_S, Timing, stage_named,
};

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

    /// Gives every row its place in time.
    fn place(&self, rows: &[Cells], draft: &mut Draft) -> Result<(), String> {
        self.check_even(rows)?;
        let clock = self.clock(rows, draft)?;
        let first = rows.first().copied().unwrap_or_default();
        let mut is_by_clock = false;
        let onsets = if first.start_s.is_some() {
            let is_numbered = first.length_s.is_some();
            draft.timing = if is_numbered { Timing::EpochNumber } else { Timing::Seconds };
            let onsets: Vec<f64> = rows.iter().filter_map(|row| row.start_s).collect();
            self.compare_with_clock(rows, &onsets, clock.as_ref(), draft)?;
            onsets
        } else if first.epoch.is_some() {
            draft.timing = Timing::EpochNumber;
            let onsets = self.by_number(rows, clock.as_ref(), draft)?;
            self.compare_with_clock(rows, &onsets, clock.as_ref(), draft)?;
            onsets
        } else if let Some(clock) = &clock {
            is_by_clock = !clock.are_elapsed && !clock.are_zoned;
            self.by_clock(clock, draft)
        } else if self.columns.stop.is_some() {
            draft.timing = Timing::Seconds;
            self.by_ends(rows)?
        } else if self.columns.duration.is_some() {
            draft.notes.push("stages placed one after the other by their lengths".into());
            self.by_lengths(rows)?
        } else {
            return self.by_row(rows, draft);
        };
        let mut entries = Vec::with_capacity(rows.len());
        for (index, (row, &onset_s)) in rows.iter().zip(&onsets).enumerate() {
            let onset_s = within_a_week(onset_s).map_err(|e| row.refused(e))?;
            let clock_s = clock.as_ref().and_then(|clock| clock.s.get(index)).copied();
            let end_s = self.end_s(row, onset_s, clock_s, draft)?;
            let place = Place::Line(row.line);
            entries.push(Entry { place, onset_s, end_s, stage: row.stage });
        }
        if let Some(clock) = clock.filter(|_| is_by_clock) {
            refuse_changed_clock(&entries, &onsets, &clock)?;
        }
        draft.entries = entries;
        Ok(())
    }

    /// Every row says what the first one does.
    fn check_even(&self, rows: &[Cells]) -> Result<(), String> {
        let kinds =
            |row: &Cells| (row.start_s.is_some(), row.clock.is_some(), row.length_s.is_some());
        let Some(first) = rows.first() else { return Ok(()) };
        match rows.iter().find(|row| kinds(row) != kinds(first)) {
            Some(row) => {
                Err(row.refused("its start is written in another way than in the rows before"))
            }
            None => Ok(()),
        }
    }

    /// The times of day on one scale, if there are any; sets the start where the file itself has it.
    fn clock(&self, rows: &[Cells], draft: &mut Draft) -> Result<Option<Resolved>, String> {
        let mut times: Vec<Timed> = Vec::with_capacity(rows.len() + 1);
        let timed =
            rows.iter().filter_map(|row| Some(Timed { line: row.line, moment: row.clock? }));
        times.extend(timed);
        let Some(first) = times.first().copied() else {
            draft.start = self.preamble.start.map(|start| start.1);
            return Ok(None);
        };
        if times.len() < rows.len() {
            return Err(format!("line {}: it has no time of day", first.line));
        }
        // Seconds beside a clock that goes back say how the night went on.
        let onsets: Option<Vec<f64>> = rows.iter().map(|row| row.start_s).collect();
        let mut resolved = match (clocks::resolve(&times), onsets) {
            (Err(_), Some(onsets)) if first.moment.date.is_none() => {
                clocks::follow(&times, &onsets)
            }
            (resolved, _) => resolved?,
        };
        if resolved.are_elapsed {
            draft.start = self.preamble.start.map(|start| start.1);
            draft.notes.append(&mut resolved.notes);
            return Ok(Some(resolved));
        }
        // Where the file says when the recording began, times count from there.
        if let Some((line, start)) = self.preamble.start {
            let zero_s = match (resolved.midnight, start) {
                (Some(midnight), Start::Date(start)) => start.seconds_since(midnight),
                _ => {
                    let first_s = resolved.s.first().copied().unwrap_or_default();
                    let clock_s = start.clock_s();
                    // The first row is not before the start.
                    let ahead_s = (first_s - clock_s + CLOCK_TOLERANCE_S).rem_euclid(DAY_S);
                    first_s - (ahead_s - CLOCK_TOLERANCE_S)
                }
            };
            let ahead_s = resolved.s.first().copied().unwrap_or_default() - zero_s;
            if !(-CLOCK_TOLERANCE_S..=DAY_S).contains(&ahead_s) {
                return Err(format!(
                    "line {line}: the recording starts {:.0} s behind the first stage; correct one of them",
                    -ahead_s
                ));
            }
            resolved.s.iter_mut().for_each(|s| *s -= zero_s);
            resolved.zero_s = zero_s;
            draft.start = Some(match (resolved.midnight, start) {
                (Some(_), Start::Clock(_)) => start_at(&resolved, 0.0),
                _ => start,
            });
        }
        draft.notes.append(&mut resolved.notes);
        Ok(Some(resolved))
    }

    /// Onsets by times of day: from the file's own start, else from the first row.
    fn by_clock(&self, clock: &Resolved, draft: &mut Draft) -> Vec<f64> {
        if clock.are_elapsed || draft.start.is_some() {
            draft.timing = Timing::Seconds;
            return clock.s.clone();
        }
        draft.timing = Timing::Clock;
        let zero_s = clock.s.iter().copied().fold(f64::INFINITY, f64::min);
        draft.start = Some(start_at(clock, zero_s));
        if clock.are_utc {
            draft.start = None;
            draft.notes.push("times are UTC: the local time of the start is not known".into());
        }
        if self.preamble.has_date_alone && clock.midnight.is_none() {
            draft
                .notes
                .push("the date above the table is not used: rows have times of day alone".into());
        }
        clock.s.iter().map(|s| s - zero_s).collect()
    }

    /// Onsets by number of epoch; its length by the clock, a column, the file's head, the user or 30 s.
    fn by_number(
        &self,
        rows: &[Cells],
        clock: Option<&Resolved>,
        draft: &mut Draft,
    ) -> Result<Vec<f64>, String> {
        let numbers: Vec<f64> = rows.iter().filter_map(|row| row.epoch).collect();
        let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let counted_from = if self.columns.is_index { Some(0.0) } else { self.dialect.first_epoch };
        let first = match (least, counted_from) {
            (0.0, _) => 0.0,
            (1.0, Some(0.0)) => {
                draft.warnings.push(
                    "its epochs begin at 1, although this format counts from 0: taken as the first"
                        .into(),
                );
                1.0
            }
            (_, Some(first)) => first,
            (_, None) => 1.0,
        };
        draft.notes.push(format!("epochs numbered from {first}"));
        if least > 1.0 {
            let (other, way) = if first == 0.0 { (1, "earlier") } else { (0, "later") };
            draft.warnings.push(format!(
                "its first epoch is number {least}: counted from {first}; if they count from {other}, all \
                 of it is an epoch {way}"
            ));
        }
        let epoch = match clock.and_then(|clock| step_by_clock(&numbers, &clock.s)) {
            Some(s) => EpochLength { s, is_assumed: false },
            None => self.epoch_length(rows),
        };
        check_epoch(epoch.s, rows.len())?;
        draft.epoch = Some(epoch);
        Ok(numbers.into_iter().map(|number| (number - first) * epoch.s).collect())
    }

    fn epoch_length(&self, rows: &[Cells]) -> EpochLength {
        let stated = |s| EpochLength { s, is_assumed: false };
        let lengths = rows.iter().map(|row| row.duration_s);
        let first = rows.first().and_then(|row| row.duration_s).filter(|s| *s > 0.0);
        if let Some(s) = first.filter(|_| lengths.clone().all(|length| length == first)) {
            return stated(s);
        }
        if let Some(s) = self.preamble.epoch_s.or(self.options.epoch_s) {
            return stated(s);
        }
        EpochLength { s: self.dialect.epoch_s.unwrap_or(EPOCH_S), is_assumed: true }
    }

    /// Onsets of stages of which only the ends are known.
    fn by_ends(&self, rows: &[Cells]) -> Result<Vec<f64>, String> {
        let mut onset_s = 0.0;
        let mut onsets = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(Value::Seconds(end_s)) = row.stop else {
                return Err(row.refused("its end is not in seconds"));
            };
            if end_s < onset_s {
                return Err(row.refused(format!("it ends at {end_s} s, before the row above does")));
            }
            onsets.push(onset_s);
            onset_s = end_s;
        }
        Ok(onsets)
    }

    fn by_lengths(&self, rows: &[Cells]) -> Result<Vec<f64>, String> {
        let mut onset_s = 0.0;
        rows.iter()
            .map(|row| {
                let length_s = row.duration_s.ok_or_else(|| row.refused("it has no length"))?;
                onset_s += length_s;
                Ok(onset_s - length_s)
            })
            .collect()
    }

    fn by_row(&self, rows: &[Cells], draft: &mut Draft) -> Result<(), String> {
        if let Some(line) = self.table.gap_line {
            return Err(format!(
                "line {line}: it is empty, in a list that has no times; write ? for an epoch that is \
                 not scored"
            ));
        }
        let epoch = self.epoch_length(rows);
        check_epoch(epoch.s, rows.len())?;
        if self.preamble.start_s.is_some() {
            draft.timing = Timing::Seconds;
        }
        let onset_s = self.preamble.start_s.unwrap_or(0.0);
        draft.push_epochs(
            within_a_week(onset_s)?,
            epoch,
            rows.iter().map(|row| (Place::Line(row.line), row.stage)),
        );
        Ok(())
    }

    /// Where a row ends, if it says so; all that it says must agree.
    fn end_s(
        &self,
        row: &Cells,
        onset_s: f64,
        clock_s: Option<f64>,
        draft: &Draft,
    ) -> Result<Option<f64>, String> {
        let stop_s = match row.stop {
            None => None,
            Some(Value::Seconds(s)) if row.start_s.is_some() || row.clock.is_none() => Some(s),
            Some(Value::Epoch { onset_s, length_s }) => Some(onset_s + length_s),
            Some(Value::Moment(stop)) if row.clock.is_some() && clock_s.is_some() => {
                let start_s = row.clock.map_or(0.0, |clock| clock.s);
                let is_elapsed = draft.timing == Timing::Seconds && row.start_s.is_none();
                let length_s = stop.s - start_s;
                Some(onset_s + if is_elapsed { length_s } else { length_s.rem_euclid(DAY_S) })
            }
            Some(_) => {
                return Err(row.refused("its start and its stop are written in different ways"));
            }
        };
        let of_epoch = row.epoch.and(draft.epoch).map(|epoch| epoch.s).or(row.length_s);
        let length_s = row.duration_s.filter(|s| *s > 0.0);
        let ends = [stop_s, length_s.map(|s| onset_s + s), of_epoch.map(|s| onset_s + s)];
        let mut said = ends.into_iter().flatten();
        let Some(first) = said.next() else { return Ok(None) };
        match said.find(|other| (other - first).abs() > CLOCK_TOLERANCE_S) {
            Some(other) if row.length_s.is_none() => {
                let reason = format!("it ends at {first} s and at {other} s; correct one of them");
                Err(row.refused(reason))
            }
            _ => Ok(Some(first)),
        }
    }

    /// Seconds or numbers of epochs beside times of day: they must go on together.
    fn compare_with_clock(
        &self,
        rows: &[Cells],
        onsets: &[f64],
        clock: Option<&Resolved>,
        draft: &mut Draft,
    ) -> Result<(), String> {
        let Some(clock) = clock.filter(|clock| !clock.are_elapsed) else { return Ok(()) };
        let (Some(&onset_s), Some(&clock_s)) = (onsets.first(), clock.s.first()) else {
            return Ok(());
        };
        let mut changed_s = 0.0;
        for ((row, onset), time) in rows.iter().zip(onsets).zip(&clock.s) {
            let apart_s = (time - clock_s) - (onset - onset_s) - changed_s;
            if apart_s.abs() <= CLOCK_TOLERANCE_S {
                continue;
            }
            if (apart_s.abs() - 3600.0).abs() > CLOCK_TOLERANCE_S {
                return Err(row.refused(format!(
                    "its time of day is {apart_s:.0} s apart from its place in the recording; \
                     correct one of them"
                )));
            }
            changed_s += apart_s;
            draft.notes.push(format!(
                "the clock is changed by an hour at line {}; times are those of the recording",
                row.line
            ));
        }
        if draft.start.is_none() {
            draft.start = Some(start_at(clock, clock_s - onset_s));
        }
        Ok(())
    }
}

/// The start of a scoring that begins at `s` of a clock's scale.
fn start_at(clock: &Resolved, s: f64) -> Start {
    let s = s + clock.zero_s;
    match clock.midnight {
        Some(midnight) => Start::Date(midnight.plus_seconds(s)),
        None => Start::Clock(s.rem_euclid(DAY_S)),
    }
}

/// The length of an epoch: what most pairs of rows say whose numbers follow each other.
fn step_by_clock(numbers: &[f64], clock: &[f64]) -> Option<f64> {
    let pairs = numbers.windows(2).zip(clock.windows(2));
    let mut steps: Vec<f64> = pairs
        .filter(|(number, _)| number[1] - number[0] == 1.0)
        .map(|(_, time)| time[1] - time[0])
        .filter(|s| *s > 0.0)
        .collect();
    steps.sort_by(f64::total_cmp);
    let middle = steps.get(steps.len().saturating_sub(1) / 2).copied()?;
    // Clocks may be written in whole seconds: the mean of what the middle stands for.
    let near: Vec<f64> =
        steps.into_iter().filter(|s| (s - middle).abs() <= CLOCK_TOLERANCE_S).collect();
    let mean = near.iter().sum::<f64>() / near.len() as f64;
    Some(if (mean - mean.round()).abs() < 0.05 { mean.round() } else { mean })
}

fn check_epoch(epoch_s: f64, rows: usize) -> Result<(), String> {
    if !(0.5..=600.0).contains(&epoch_s) {
        return Err(format!("has epochs of {epoch_s} s"));
    }
    if rows as f64 * epoch_s > MAX_S {
        return Err(format!("{rows} epochs of {epoch_s} s are more than a week"));
    }
    Ok(())
}

/// As [`clocks::refuse_changed_clock`], in the file's order and in that of time.
fn refuse_changed_clock(entries: &[Entry], onsets: &[f64], clock: &Resolved) -> Result<(), String> {
    let first = clock.s.first().zip(onsets.first());
    let midnight_s = first.map_or(0.0, |(clock, onset)| clock - onset) + clock.zero_s;
    let steps = onsets.windows(2).map(|pair| pair[1] - pair[0]).filter(|s| *s > 0.0);
    let step_s = steps.fold(f64::INFINITY, f64::min);
    let spans = entries.iter().filter_map(|entry| {
        let Place::Line(line) = entry.place else { return None };
        let end_s = entry.end_s.filter(|end_s| *end_s > entry.onset_s);
        let to_s = end_s.unwrap_or(entry.onset_s + if step_s.is_finite() { step_s } else { 0.0 });
        Some(Span { line, from_s: entry.onset_s + midnight_s, to_s: to_s + midnight_s })
    });
    let mut spans: Vec<Span> = spans.collect();
    clocks::refuse_changed_clock(&spans)?;
    spans.sort_by(|a, b| a.from_s.total_cmp(&b.from_s));
    clocks::refuse_changed_clock(&spans)
}
