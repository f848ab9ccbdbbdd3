//! Labels of recordings: sleep stages by token, events and their times by label, age and sex.
//!
//! CSV files of the reference's formats; stages in every format of [`sfm_runtime::hypnogram`]. What is
//! unknown is masked and never guessed: `Unknown` is no Wake. Refuses unknown stage names, times that
//! are no times, ids that occur twice and files of absurd size, with file and line.

mod demographics;
mod events;
mod stages;

pub use demographics::{Age, Demographics, Person};
pub use events::{Events, Outcome};
pub use stages::{Hypnogram, StageFolder, TOKEN_S};

use std::fs::File;
use std::io::{BufReader, Read, Take};
use std::path::{Path, PathBuf};

use super::DataError;
use sfm_runtime::files;

/// A thousand labels of 100,000 recordings.
const MAX_BYTES: u64 = 2 << 30;
/// Longest text that a message repeats.
const MAX_SHOWN: usize = 40;

/// A CSV file with a header line, row by row.
struct Table {
    path: PathBuf,
    reader: csv::Reader<BufReader<Take<File>>>,
    columns: Vec<String>,
    row: csv::StringRecord,
}

impl Table {
    fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|e| DataError::unreadable(path, e))?;
        let length = file.metadata().map_err(|e| DataError::unreadable(path, e))?.len();
        if length > MAX_BYTES {
            return Err(DataError::refused(path, format!("is larger than {} MB", MAX_BYTES >> 20)));
        }
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(BufReader::new(file.take(MAX_BYTES)));
        let header = reader.headers().map_err(|e| csv_error(path, &e))?;
        let columns: Vec<String> =
            header.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        Ok(Table { path: path.to_owned(), reader, columns, row: csv::StringRecord::new() })
    }

    /// Place of a column by its name, in any case.
    fn find(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.eq_ignore_ascii_case(name))
    }

    fn column(&self, name: &str) -> Result<usize, DataError> {
        self.find(name).ok_or_else(|| {
            let columns: Vec<String> = self.columns.iter().take(8).map(|c| shown(c)).collect();
            let found = columns.join(", ");
            DataError::line(&self.path, 1, format!("has no column '{name}'; it begins {found}"))
        })
    }

    /// Moves to the next row; false at the end.
    fn next(&mut self) -> Result<bool, DataError> {
        self.reader.read_record(&mut self.row).map_err(|e| csv_error(&self.path, &e))
    }

    fn text(&self, column: usize) -> &str {
        self.row.get(column).unwrap_or_default()
    }

    /// A finite number; `None` where the cell is empty or `nan`.
    fn number(&self, column: usize) -> Result<Option<f64>, DataError> {
        let text = self.text(column);
        if is_empty(text) {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.refuse(format!("'{}' is no number", shown(text)))),
        }
    }

    fn line(&self) -> u64 {
        self.row.position().map_or(0, |row| line_of(&self.path, row))
    }

    fn refuse(&self, reason: impl std::fmt::Display) -> DataError {
        DataError::line(&self.path, self.line(), reason)
    }
}

/// What pandas reads as missing and people write.
fn is_empty(text: &str) -> bool {
    ["", "nan", "na", "n/a", "none", "null"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Text of a file as it can be shown in a message.
fn shown(text: &str) -> String {
    sfm_runtime::text::escaped(&text.chars().take(MAX_SHOWN).collect::<String>())
}

fn csv_error(path: &Path, error: &csv::Error) -> DataError {
    if let csv::ErrorKind::Io(e) = error.kind() {
        return DataError::unreadable(path, e);
    }
    match error.position() {
        Some(position) => {
            let reason = match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    format!("{len} fields where the header has {expected_len}")
                }
                _ => error.to_string(),
            };
            DataError::line(path, line_of(path, position), reason)
        }
        None => DataError::refused(path, error),
    }
}

/// The line of a row, read once more: the reader counts by other ends than those of Windows.
fn line_of(path: &Path, row: &csv::Position) -> u64 {
    let counted = File::open(path).and_then(|file| files::line_of(file, row.byte()));
    counted.unwrap_or_else(|_| row.line())
}
