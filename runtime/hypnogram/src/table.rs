//! Tables of text: the delimiter is what most lines have, quotes around a field are taken off, lines
//! that begin with `#`, `%` or `//` are comments. What stands above the columns' names is kept: it
//! may say when the recording began.

use std::borrow::Cow;

use super::headings::is_header;
use super::names::{plain, shown};
use super::time::{Moment, number};
use super::{MAX_STRETCHES, stage_named};

/// More columns than any scoring has.
const MAX_COLUMNS: usize = 256;
/// Lines that decide about the delimiter.
const SAMPLE: usize = 400;
/// Lines above the columns' names.
const MAX_PREAMBLE: usize = 200;
/// Delimiter of a table with one column: a character that no text has.
const NONE: u8 = 0x1f;

/// A table by rows. All fields share one text: a string each would take fifty times a short line.
#[derive(Debug)]
pub(super) struct Table {
    /// Names of the columns as written; empty if the first line is data.
    names: Vec<String>,
    /// Comments, and lines above the names or the data.
    preamble: Vec<Line>,
    text: String,
    /// Ends of the fields in `text`.
    ends: Vec<u32>,
    rows: Vec<Place>,
    /// Lines whose cells are all empty.
    blank_lines: Vec<usize>,
    /// The line of the columns' names.
    names_line: Option<usize>,
    /// The first empty line between two rows.
    pub gap_line: Option<usize>,
}

/// A line with its number from 1.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub number: usize,
    pub text: String,
}

/// Where a row is.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: u32,
    /// Its first field.
    first: u32,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// From 1.
    pub line: usize,
    table: &'a Table,
    first: usize,
    end: usize,
}

impl Table {
    /// # Errors
    /// It is empty, or has more columns or rows than any scoring.
    pub fn parse(text: &str) -> Result<Self, String> {
        let delimiter = delimiter(text);
        let mut table = Self {
            names: Vec::new(),
            preamble: Vec::new(),
            text: String::new(),
            ends: Vec::new(),
            rows: Vec::new(),
            blank_lines: Vec::new(),
            names_line: None,
            gap_line: None,
        };
        // An empty line is a comment, lest it goes uncounted; runs of blanks become one tab each.
        let lines = text.lines().map(|line| match delimiter {
            _ if line.trim().is_empty() => Cow::Borrowed("#"),
            Some(b' ') => Cow::Owned(tabbed(line)),
            _ => Cow::Borrowed(line),
        });
        let lines: Vec<Cow<'_, str>> = lines.collect();
        let delimiter = delimiter.map_or(NONE, |byte| if byte == b' ' { b'\t' } else { byte });
        let lines = lines.join("\n");
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .has_headers(false)
            .from_reader(lines.as_bytes());
        let mut record = csv::StringRecord::new();
        loop {
            let more = reader.read_record(&mut record);
            if !more.map_err(|e| format!("is no table: {e}"))? {
                break;
            }
            let line = record.position().map_or(1, csv::Position::line) as usize;
            table.push(line, &record)?;
        }
        if table.rows.is_empty() && table.preamble.is_empty() {
            return Err("is empty".into());
        }
        table.find_names();
        table.gap_line = table.first_gap(text);
        Ok(table)
    }

    fn push(&mut self, line: usize, record: &csv::StringRecord) -> Result<(), String> {
        if self.rows.len() == MAX_STRETCHES {
            return Err(format!("line {line}: over {MAX_STRETCHES} rows, which no scoring has"));
        }
        if record.len() > MAX_COLUMNS {
            return Err(format!("line {line}: more than {MAX_COLUMNS} columns"));
        }
        if record.iter().all(|field| field.trim().is_empty()) {
            self.blank_lines.push(line);
            return Ok(());
        }
        let begin = record.get(0).unwrap_or_default().trim_start();
        if ["#", "%", "//"].iter().any(|mark| begin.starts_with(mark)) {
            self.comment(line, &joined(record));
            return Ok(());
        }
        if record.iter().any(|field| field.contains('\n')) {
            return Err(format!(
                "line {line}: a cell goes on in the next line; close its quotation mark, or write it in \
                 one line"
            ));
        }
        // The file has fewer than 4 GiB.
        let place = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.rows.push(Place { line: place(line), first: place(self.ends.len()) });
        for field in record {
            self.text.push_str(field.trim());
            self.ends.push(place(self.text.len()));
        }
        Ok(())
    }

    fn comment(&mut self, number: usize, text: &str) {
        if self.preamble.len() < MAX_PREAMBLE && text != "#" {
            self.preamble.push(Line { number, text: text.to_owned() });
        }
    }

    /// Takes the columns' names, and what stands above them, out of the rows.
    fn find_names(&mut self) {
        let count = self.rows.len().min(MAX_PREAMBLE);
        let named = self.named_row(count);
        // A first line without any value above lines with some: names that are not known.
        let is_named = named.or_else(|| {
            let first = self.row(0)?;
            let next = self.row(1)?;
            let is_wide = first.len() > 1 && next.len() >= first.len();
            (is_wide && !first.has_values() && next.has_values()).then_some(0)
        });
        let data = match is_named {
            Some(index) => {
                let fields = self.row(index).map(|row| row.fields().map(str::to_owned).collect());
                self.names = fields.unwrap_or_default();
                self.names_line = self.row(index).map(|row| row.line);
                // A delimiter at the end of every line.
                if self.names.len() > 1 && self.names.last().is_some_and(String::is_empty) {
                    self.names.pop();
                }
                index + 1
            }
            None => self.first_data(count),
        };
        for index in 0..data - usize::from(is_named.is_some()) {
            if let Some(row) = self.row(index) {
                let (line, text) = (row.line, row.fields().collect::<Vec<_>>().join("\t"));
                self.comment(line, &text);
            }
        }
        self.rows.drain(..data);
    }

    /// The row of the columns' names: the last that looks like one above the data.
    fn named_row(&self, count: usize) -> Option<usize> {
        let mut named = None;
        for (index, row) in (0..count).filter_map(|index| Some((index, self.row(index)?))) {
            if row.is_header() {
                named = Some(index);
            } else if named.is_some() && row.has_values() {
                break;
            }
        }
        // A title above a table without names is one cell above rows of several.
        named.filter(|&index| {
            let width = |index| self.row(index).map_or(1, |row| row.len());
            width(index) > 1 || width(index + 1) == 1
        })
    }

    /// The first row of data where there are no names. Lines such as `Key: value` may stand above it;
    /// above a list also a title, with an empty line behind it. Any other word is of the list.
    fn first_data(&self, count: usize) -> usize {
        let is_first = |&index: &usize| self.row(index).is_some_and(|row| row.begins_data());
        let mut first = (0..count).find(is_first).unwrap_or(0);
        if self.row(first).is_some_and(|row| row.len() > 1) {
            return first;
        }
        let is_of_list = |index: usize| {
            let (row, next) = (self.row(index)?, self.row(index + 1)?);
            Some(row.len() == 1 && !row.is_key() && row.line + 1 == next.line)
        };
        while first > 0 && is_of_list(first - 1) == Some(true) {
            first -= 1;
        }
        first
    }

    fn first_gap(&self, text: &str) -> Option<usize> {
        let (first, last) = (self.rows.first()?.line as usize, self.rows.last()?.line as usize);
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let empty = lines
            .find(|(number, line)| (first..last).contains(number) && line.trim().is_empty())
            .map(|(number, _)| number);
        let first = self.names_line.unwrap_or(first);
        let blank = self.blank_lines.iter().copied().find(|line| (first..last).contains(line));
        empty.into_iter().chain(blank).min()
    }

    fn row(&self, index: usize) -> Option<Row<'_>> {
        let Place { line, first } = *self.rows.get(index)?;
        let end = self.rows.get(index + 1).map_or(self.ends.len(), |next| next.first as usize);
        Some(Row { line: line as usize, table: self, first: first as usize, end })
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.rows.len()).filter_map(|index| self.row(index))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The columns' names as written; none if the first line is data.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn preamble(&self) -> &[Line] {
        &self.preamble
    }

    /// Columns of the first row.
    pub fn width(&self) -> usize {
        self.row(0).map_or(self.names.len(), |row| row.len())
    }

    /// The place of a column by its name in [`plain`] letters.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|written| plain(written) == name)
    }

    /// Whether there are columns of all these names.
    pub fn has(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.column(name).is_some())
    }

    /// Whether a line above the table begins so, as written but for capitals.
    pub fn is_headed_as(&self, begin: &str) -> bool {
        self.preamble.iter().any(|line| line.text.trim().to_lowercase().starts_with(begin))
    }

    /// Whether a line above the table begins so, in [`plain`] letters.
    pub fn is_headed(&self, begin: &str) -> bool {
        self.preamble.iter().any(|line| plain(&line.text).starts_with(begin))
    }
}

impl<'a> Row<'a> {
    /// The text of a column; empty where the row is too short.
    pub fn text(&self, column: usize) -> &'a str {
        let index = self.first + column;
        if index >= self.end {
            return "";
        }
        let end = self.table.ends.get(index).map_or(0, |end| *end as usize);
        let begin = match index.checked_sub(1) {
            Some(before) => self.table.ends.get(before).map_or(0, |end| *end as usize),
            None => 0,
        };
        self.table.text.get(begin..end).unwrap_or_default()
    }

    pub fn fields(&self) -> impl Iterator<Item = &'a str> {
        let row = *self;
        (0..self.len()).map(move |column| row.text(column))
    }

    pub fn len(&self) -> usize {
        self.end - self.first
    }

    pub fn refused(&self, reason: impl std::fmt::Display) -> String {
        format!("line {}: {reason}", self.line)
    }

    /// A number, a time or a stage is in it.
    fn has_values(&self) -> bool {
        self.fields().any(is_value)
    }

    /// It is of the data and not of lines above them, such as `Start: 22:30`.
    fn begins_data(&self) -> bool {
        let is_key = |text: &str| text.ends_with([':', '=']) || text.contains(": ");
        self.has_values()
            && !self.fields().next().is_some_and(|text| is_key(text) || text.starts_with('*'))
    }

    /// A line that says something about the list below it: `EPOCH=30`, `Start: 22:30`, `[Hypnogram]`.
    fn is_key(&self) -> bool {
        let text = self.text(0);
        let key = text.split([':', '=']).next().unwrap_or_default();
        (text.starts_with(['*', '[']) && text.len() > 1)
            || (key.len() < text.len() && key.chars().any(char::is_alphabetic))
    }

    fn is_header(&self) -> bool {
        let fields: Vec<&str> = self.fields().collect();
        is_header(&fields)
    }
}

fn is_value(text: &str) -> bool {
    let is_stage = || stage_named(text).is_ok() && !matches!(text, "" | "?" | "none" | "None");
    number(text).is_some() || Moment::parse(text).is_some() || text.starts_with("e:") || is_stage()
}

fn joined(record: &csv::StringRecord) -> String {
    record.iter().collect::<Vec<_>>().join("\t")
}

fn tabbed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join("\t")
}

/// What stands between fields; `None` in a list of one column. A tab or a semicolon is rarely part
/// of a field, a comma is where it is the decimal sign.
fn delimiter(text: &str) -> Option<u8> {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with(['#', '%', '[', '*']))
        .collect();
    // What stands above a table is at the file's begin.
    let count = lines.len().div_ceil(2).min(SAMPLE);
    let lines = lines.get(lines.len() - count..).unwrap_or_default();
    let half = lines.len().div_ceil(2).max(1);
    let in_most = |c: char| lines.iter().filter(|line| line.trim_end().contains(c)).count() >= half;
    let is_list = |line: &&&str| {
        let is_alone = !line.contains(['\t', ';', ',', '|']);
        is_alone && (stage_named(line).is_ok() || line.trim().parse::<f64>().is_ok())
    };
    // Names of two words.
    if lines.iter().filter(is_list).count() > lines.len() / 2 {
        return None;
    }
    let found = ['\t', ';', ',', '|'].into_iter().find(|c| in_most(*c)).map(|c| c as u8);
    let is_spaced =
        || lines.iter().filter(|line| line.split_whitespace().count() > 1).count() >= half;
    found.or_else(|| is_spaced().then_some(b' '))
}

/// What a file is that is no table of stages, for the message.
pub(super) fn beginning(table: &Table) -> String {
    let names = table.names.iter().take(8).map(|name| shown(name)).collect::<Vec<_>>();
    let row = || table.row(0).map(|row| row.fields().take(8).map(shown).collect::<Vec<_>>());
    let fields = if names.is_empty() { row().unwrap_or_default() } else { names };
    fields.join(", ")
}
