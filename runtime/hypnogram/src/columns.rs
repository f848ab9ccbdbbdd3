//! What the columns of a table are, by their names, or, in a table without names, by what stands in them. A column that holds times and is not understood
//! refuses the table: nothing that it says about time is passed over.

use super::headings::{Name, Role};
use super::names::{plain, shown};
use super::table::{Row, Table};
use super::time::{Moment, Value, number};
use super::{TOLERANCE_S, stage_named};

/// Rows that decide about a table without names.
const SAMPLE: usize = 200;

/// A column with what its values are multiplied with to be seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scaled {
    pub column: usize,
    pub unit_s: f64,
    /// Hours, minutes and seconds in it are no time of day.
    pub is_elapsed: bool,
}

impl Scaled {
    /// Seconds.
    pub fn seconds(column: usize) -> Self {
        Self { column, unit_s: 1.0, is_elapsed: false }
    }
}

/// The columns of a table that count.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Columns {
    pub starts: Vec<Scaled>,
    pub stop: Option<Scaled>,
    pub duration: Option<Scaled>,
    pub epoch: Option<usize>,
    pub date: Option<usize>,
    pub stage: Option<usize>,
    pub number: Option<usize>,
    pub event: Option<usize>,
    /// Epochs are numbered by the rows of a data frame, which count from 0.
    pub is_index: bool,
    /// What was taken for what, for the user.
    pub notes: Vec<String>,
}

/// Whether a table has columns of times beside numbers of epochs.
pub(super) fn has_times(table: &Table) -> bool {
    use Role::{Date, Duration, Elapsed, Start, Stop};
    let role = |name: &String| Name::of(name).role();
    table
        .names()
        .iter()
        .filter_map(role)
        .any(|role| matches!(role, Start | Elapsed | Stop | Duration | Date))
}

/// The first row with something in a column, and what.
fn filled(table: &Table, column: usize) -> Option<(Row<'_>, &str)> {
    table.rows().map(|row| (row, row.text(column))).find(|(_, text)| !text.is_empty())
}

impl Columns {
    /// By the columns' names.
    ///
    /// # Errors
    /// Two columns say the same, one holds times that are not understood, or none has stages.
    pub fn named(table: &Table) -> Result<Self, String> {
        let mut columns = Self::default();
        let mut unknown = Vec::new();
        for (column, written) in table.names().iter().enumerate() {
            let name = Name::of(written);
            match name.role() {
                Some(role) => columns.take(role, column, &name, table)?,
                None => unknown.push((column, name)),
            }
        }
        if columns.stage.is_none() && columns.event.is_none() && columns.number.is_none() {
            columns.find_stages(table, &unknown)?;
        }
        columns.use_index(table, &unknown);
        columns.use_dates(table);
        columns.drop_empty_offsets(table);
        for (column, name) in &unknown {
            columns.check_unknown(table, *column, name)?;
        }
        Ok(columns)
    }

    fn take(
        &mut self,
        role: Role,
        column: usize,
        name: &Name,
        table: &Table,
    ) -> Result<(), String> {
        let written = table.names().get(column).map_or("", String::as_str);
        let is_elapsed = role == Role::Elapsed;
        // A unit that is not known is one of numbers: times of day are written out.
        let has_numbers = || filled(table, column).is_some_and(|cell| number(cell.1).is_some());
        let scaled = || match name.unit_s {
            Some(unit_s) => Ok(Scaled { column, unit_s, is_elapsed }),
            None if !has_numbers() => Ok(Scaled { is_elapsed, ..Scaled::seconds(column) }),
            None => Err(format!(
                "column '{}' is not in seconds, minutes, hours or milliseconds; convert it to seconds",
                shown(written)
            )),
        };
        let twice = || {
            let what = shown(written);
            format!("has more than one column like '{what}'; leave the one that counts in it")
        };
        let place = match role {
            Role::Start | Role::Elapsed => {
                self.starts.push(scaled()?);
                return Ok(());
            }
            Role::Stop | Role::Duration => {
                let slot = if role == Role::Stop { &mut self.stop } else { &mut self.duration };
                return match slot.replace(scaled()?) {
                    None => Ok(()),
                    Some(_) => Err(twice()),
                };
            }
            Role::Epoch => &mut self.epoch,
            Role::Date => &mut self.date,
            Role::Stage => &mut self.stage,
            Role::Number => &mut self.number,
            Role::Event => &mut self.event,
        };
        match place.replace(column) {
            // `type` beside `event`, `text` beside `annotation`: the first of them with stages.
            Some(first) if role == Role::Event => {
                let has_stages = |column: usize| {
                    table.rows().any(|row| matches!(stage_named(row.text(column)), Ok(Some(_))))
                };
                *place =
                    Some(if !has_stages(first) && has_stages(column) { column } else { first });
            }
            Some(_) => return Err(twice()),
            None => {}
        }
        Ok(())
    }

    /// The one column among those not known in which every row is a stage.
    fn find_stages(&mut self, table: &Table, unknown: &[(usize, Name)]) -> Result<(), String> {
        let has_stages = |column: usize| {
            let is_stage = |text: &str| number(text).is_none() && stage_named(text).is_ok();
            let has_any =
                table.rows().any(|row| matches!(stage_named(row.text(column)), Ok(Some(_))));
            has_any && table.rows().all(|row| is_stage(row.text(column)))
        };
        let found: Vec<usize> = unknown
            .iter()
            .map(|(column, _)| *column)
            .filter(|column| has_stages(*column))
            .collect();
        match found[..] {
            [column] => {
                let name = table.names().get(column).map(|name| shown(name)).unwrap_or_default();
                self.notes.push(format!("column '{name}' taken for the stages"));
                self.stage = Some(column);
                Ok(())
            }
            [] => Err(format!(
                "is no hypnogram of a known format: no column of stages among '{}'; README lists the \
                 formats",
                super::table::beginning(table)
            )),
            _ => Err("has stages in more than one column; leave one scorer's in it, named 'stage'"
                .into()),
        }
    }

    /// The unnamed first column of a data frame counts rows from 0: an epoch's number, if nothing
    /// else says a time.
    fn use_index(&mut self, table: &Table, unknown: &[(usize, Name)]) {
        let is_timed = !self.starts.is_empty() || self.stop.is_some() || self.epoch.is_some();
        let is_index = |name: &Name| matches!(name.plain.as_str(), "" | "index" | "unnamed 0");
        let index = unknown.iter().find(|(column, name)| *column == 0 && is_index(name));
        if let Some((column, _)) = index
            && !is_timed
            && table.rows().all(|row| number(row.text(*column)).is_some_and(|n| n.fract() == 0.0))
        {
            self.epoch = Some(*column);
            self.is_index = true;
        }
    }

    /// A date with a time of day in one column is a start.
    fn use_dates(&mut self, table: &Table) {
        let is_dated = |column: usize| {
            filled(table, column).is_some_and(|cell| {
                Moment::parse(cell.1).is_some_and(|moment| moment.date.is_some())
            })
        };
        if self.starts.is_empty()
            && let Some(column) = self.date.filter(|&column| is_dated(column))
        {
            self.date = None;
            self.starts.push(Scaled::seconds(column));
        }
    }

    /// FieldTrip's tables have offsets of 0 everywhere, which are no ends.
    fn drop_empty_offsets(&mut self, table: &Table) {
        let is_zero = |row: Row<'_>, stop: Scaled| number(row.text(stop.column)) == Some(0.0);
        self.stop = self.stop.filter(|&stop| {
            let name = table.names().get(stop.column).map(|name| plain(name));
            name.as_deref() != Some("offset") || !table.rows().all(|row| is_zero(row, stop))
        });
    }

    /// Refuses a column that says a time which would be passed over.
    fn check_unknown(&self, table: &Table, column: usize, name: &Name) -> Result<(), String> {
        let is_used = self.stage == Some(column) || self.epoch == Some(column);
        let Some((row, text)) = filled(table, column).filter(|_| !is_used) else { return Ok(()) };
        let is_clock = text.contains([':', '.']) && Moment::parse(text).is_some();
        let is_number = number(text).is_some();
        let is_timed = !self.starts.is_empty() || self.stop.is_some() || self.epoch.is_some();
        let rises = || {
            let cells = || table.rows().map(|row| row.text(column)).filter(|text| !text.is_empty());
            let values: Vec<f64> = cells().map_while(number).collect();
            let is_whole = values.len() == cells().count() && 2 * values.len() > table.len();
            is_whole && values.len() > 2 && values.windows(2).all(|pair| pair[0] < pair[1])
        };
        if is_clock || (is_number && name.promises_time()) || (!is_timed && is_number && rises()) {
            let written = table.names().get(column).map(|name| shown(name)).unwrap_or_default();
            return Err(row.refused(format!(
                "column '{written}' holds times, but its name does not say which; name it start, \
                 stop, duration or epoch, or take it out"
            )));
        }
        Ok(())
    }

    /// By what stands in a table without names.
    ///
    /// # Errors
    /// What numbers beside the stages mean could be more than one thing.
    pub fn guessed(table: &Table) -> Result<Self, String> {
        let plain = Scaled::seconds;
        let rows: Vec<_> = table.rows().take(SAMPLE).collect();
        let width = rows.iter().map(Row::len).max().unwrap_or_default();
        if width <= 1 {
            return Ok(Self { stage: Some(0), ..Self::default() });
        }
        let words = |column: usize| {
            let is_stage = |text: &str| number(text).is_none() && stage_named(text).is_ok();
            rows.iter()
                .filter(|row| !row.text(column).is_empty() && is_stage(row.text(column)))
                .count()
        };
        if (0..width).filter(|&column| 2 * words(column) > rows.len()).count() > 1 {
            let line = rows.first().map_or(1, |row| row.line);
            return Err(format!("line {line}: it has more than one stage; leave one in each line"));
        }
        let most = (0..width).max_by_key(|&column| (words(column), width - column));
        // A damaged cell is refused later, with its line.
        let most_are = |column: usize, is: fn(&str) -> bool| {
            2 * rows.iter().filter(|row| is(row.text(column))).count() > rows.len()
        };
        let is_number = |text: &str| number(text).is_some();
        let is_clock = |text: &str| text.contains([':', '.']) && Moment::parse(text).is_some();
        let numbers: Vec<usize> = (0..width).filter(|&c| most_are(c, is_number)).collect();
        let clocks: Vec<usize> =
            (0..width).filter(|&c| !numbers.contains(&c) && most_are(c, is_clock)).collect();
        let stage = most.filter(|&column| words(column) > 0);
        let (stage, numbers) = match (stage, &numbers[..]) {
            (Some(stage), _) => (stage, numbers),
            // Times of day with numbers of stages.
            (None, [number]) if clocks.len() == 1 => (*number, Vec::new()),
            _ => {
                return Err(format!(
                    "is no hypnogram of a known format: it begins '{}'; README lists the formats",
                    super::table::beginning(table)
                ));
            }
        };
        let values = |column: usize| -> Vec<f64> {
            table.rows().filter_map(|row| number(row.text(column))).collect()
        };
        let counts = |column: usize| {
            let values = values(column);
            let first = values.first().copied().unwrap_or(f64::NAN);
            (first == 0.0 || first == 1.0) && values.windows(2).all(|pair| pair[1] - pair[0] == 1.0)
        };
        let is_whole_column = words(stage) == rows.len() || words(stage) == 0;
        let mut columns = Self::default();
        if is_whole_column {
            columns.stage = Some(stage)
        } else {
            columns.event = Some(stage)
        }
        match (&clocks[..], &numbers[..]) {
            ([], []) => {}
            ([clock], []) => columns.starts = vec![plain(*clock)],
            ([start, stop], []) => {
                columns.starts = vec![plain(*start)];
                columns.stop = Some(plain(*stop));
            }
            ([clock], [number]) => {
                columns.starts = vec![plain(*clock)];
                let first = values(*number).first().copied();
                match () {
                    () if counts(*number) => columns.epoch = Some(*number),
                    () if first == Some(0.0) => columns.starts.push(plain(*number)),
                    () => columns.duration = Some(plain(*number)),
                }
            }
            ([], [only]) if counts(*only) => columns.epoch = Some(*only),
            ([], [only]) if values(*only).first() == Some(&0.0) => {
                columns.starts = vec![plain(*only)]
            }
            ([], [start, other]) => {
                columns.starts = vec![plain(*start)];
                match is_stop(&values(*start), &values(*other)) {
                    Some(true) => columns.stop = Some(plain(*other)),
                    Some(false) => columns.duration = Some(plain(*other)),
                    None => return Err(unclear(table)),
                }
            }
            _ => return Err(unclear(table)),
        }
        Ok(columns)
    }
}

fn unclear(table: &Table) -> String {
    let line = table.rows().next().map_or(1, |row| row.line);
    format!(
        "line {line}: what the numbers beside the stages mean is not clear; put a line of names above \
         them, such as start,duration,stage"
    )
}

/// Whether the second of two numbers is where a stretch stops, else how long it is; `None` if it
/// could be either.
fn is_stop(starts: &[f64], others: &[f64]) -> Option<bool> {
    let mut pairs: Vec<(f64, f64)> = starts.iter().copied().zip(others.iter().copied()).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let end = |stops: bool, (start, other): (f64, f64)| if stops { other } else { start + other };
    let fits = |stops: bool| {
        pairs.iter().all(|&pair| end(stops, pair) > pair.0)
            && pairs.windows(2).all(|two| end(stops, two[0]) <= two[1].0 + TOLERANCE_S)
    };
    let touches = |stops: bool| {
        pairs.windows(2).all(|two| (end(stops, two[0]) - two[1].0).abs() <= TOLERANCE_S)
    };
    match (fits(true), fits(false)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        // One row from 0 is the same either way.
        _ if pairs.iter().all(|(start, _)| *start == 0.0) => Some(true),
        (true, true) if touches(true) != touches(false) => Some(touches(true)),
        (true, true) => None,
        // Rows out of order, or one that is wrong: what most rows say.
        (false, false) => {
            let longer = pairs.iter().filter(|(start, other)| other > start).count();
            if longer * 2 > pairs.len() { Some(true) } else { Some(false) }
        }
    }
}

/// Whether a table is Luna's without names: dots stand for what there is not, or epochs have
/// numbers.
pub(super) fn is_luna(table: &Table) -> bool {
    let is_mark = |text: &str| {
        matches!(text, "." | "...") || matches!(Value::parse(text), Some(Value::Epoch { .. }))
    };
    table.names().is_empty()
        && matches!(table.width(), 3 | 4 | 6)
        && table.rows().next().is_some_and(|row| row.fields().any(is_mark))
}

impl Columns {
    /// Luna's columns, by how many there are.
    pub fn of_luna(table: &Table) -> Self {
        let plain = Scaled::seconds;
        let start = match table.width() {
            3 => 1,
            4 => 2,
            _ => 3,
        };
        Self {
            starts: vec![plain(start)],
            stop: Some(plain(start + 1)),
            event: Some(0),
            ..Self::default()
        }
    }
}
