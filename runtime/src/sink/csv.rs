//! `hypnogram.csv`: one row an epoch, always the best known one. The file is written anew at
//! every publication; a 24-h night is 2,880 rows.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

use super::hypnogram::Hypnogram;
use super::replace::ReplacedFile;
use super::{Sink, SinkError};
use crate::event::{Event, SleepEpoch};

const HEADER: &str = "epoch,onset_s,stage,p_wake,p_n1,p_n2,p_n3,p_rem,quality,status\n";

/// Writes `hypnogram.csv`.
#[derive(Debug)]
pub struct CsvSink {
    file: ReplacedFile,
    hypnogram: Hypnogram,
    text: String,
}

impl CsvSink {
    /// Begins a `hypnogram.csv` without rows in `out_dir`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(out_dir: &Path) -> Result<Self, SinkError> {
        let file = ReplacedFile::open(out_dir, "hypnogram.csv")?;
        file.write(HEADER.as_bytes())?;
        Ok(CsvSink { file, hypnogram: Hypnogram::default(), text: String::new() })
    }

    /// Goes on with the `hypnogram.csv` of `out_dir`, which is replaced with the first epochs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn reopen(out_dir: &Path) -> Result<Self, SinkError> {
        let file = ReplacedFile::reopen(out_dir, "hypnogram.csv");
        if !file.path().exists() {
            file.write(HEADER.as_bytes())?;
        }
        Ok(CsvSink { file, hypnogram: Hypnogram::default(), text: String::new() })
    }
}

impl Sink for CsvSink {
    fn name(&self) -> String {
        self.file.path().display().to_string()
    }

    fn can_try_again(&self) -> bool {
        true
    }

    fn move_to(&mut self, out_dir: &Path) -> Result<(), SinkError> {
        self.file.move_to(out_dir);
        self.hypnogram.keep_change();
        Ok(())
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        self.hypnogram.take(event);
        Ok(())
    }

    fn publish(&mut self) -> Result<(), SinkError> {
        if !self.hypnogram.take_change() {
            return Ok(());
        }
        self.text.clear();
        self.text.push_str(HEADER);
        for epoch in self.hypnogram.epochs() {
            push_row(&mut self.text, epoch).map_err(|reason| self.file.cannot_write(reason))?;
        }
        self.file.write(self.text.as_bytes()).inspect_err(|_| self.hypnogram.keep_change())
    }
}

/// Six decimals of a probability: ten times finer than engines and thread counts agree. Those of
/// an epoch that was not staged are `NaN`.
fn push_row(text: &mut String, epoch: &SleepEpoch) -> std::fmt::Result {
    let stage = epoch.stage.map_or("?", |stage| stage.as_str());
    write!(text, "{},{},{stage}", epoch.epoch, epoch.onset_s)?;
    for probability in epoch.probabilities {
        write!(text, ",{probability:.6}")?;
    }
    writeln!(text, ",{:.4},{}", epoch.quality, epoch.status.as_str())
}

/// `text` as a field that no spreadsheet takes for a formula.
pub(crate) fn no_formula(text: &str) -> Cow<'_, str> {
    const FORMULA: [char; 10] =
        ['=', '+', '-', '@', '\t', '\r', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
    if text.starts_with(FORMULA) { format!("'{text}").into() } else { text.into() }
}
