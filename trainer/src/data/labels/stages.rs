//! Stages by token: `Start,Stop,StageName,StageNumber`, seconds. A row may span one token or the
//! whole night; a token has the stage of the row that its middle lies in.

use std::path::Path;

use sfm_models::SleepStage;

use super::{Table, shown};
use crate::data::DataError;

/// Seconds of one token.
pub const TOKEN_S: f64 = 5.0;
/// Tokens of a 30-s epoch: stages and signals that differ by more do not end together.
const EPOCH_TOKENS: usize = 6;
/// 7 days, as everywhere.
const MAX_S: f64 = 7.0 * 86_400.0;

/// A recording's scored stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hypnogram {
    /// One a token; `None` where it was not scored, or scored as unknown.
    pub stages: Vec<Option<SleepStage>>,
    /// What the user should know, one sentence.
    pub warning: Option<String>,
}

/// The stage of each of a recording's `tokens`, `None` where there is none.
///
/// # Errors
/// As [`hypnogram`].
pub fn stages(path: &Path, tokens: usize) -> Result<Vec<Option<SleepStage>>, DataError> {
    hypnogram(path, tokens).map(|hypnogram| hypnogram.stages)
}

/// The stages of a recording of `tokens` 5-s tokens. Where file and recording differ in length, the
/// shorter counts: tokens behind the file's end have no stage. By more than an epoch, it warns.
///
/// # Errors
/// [`DataError`] with the line: a stage that is unknown, or whose name and number differ; times
/// that are none, or that lie before the end of the row above; a file without rows.
pub fn hypnogram(path: &Path, tokens: usize) -> Result<Hypnogram, DataError> {
    let mut table = Table::open(path)?;
    let start = table.column("Start")?;
    let stop = table.column("Stop")?;
    let (name, number) = (table.find("StageName"), table.find("StageNumber"));
    if name.is_none() && number.is_none() {
        table.column("StageName")?;
    }
    let mut stages = vec![None; tokens];
    let mut end_s = 0.0;
    let mut rows = 0_u64;
    while table.next()? {
        rows += 1;
        let (from_s, to_s) = (time(&table, start)?, time(&table, stop)?);
        if to_s < from_s {
            return Err(table.refuse(format!("stops at {to_s} s, before it starts at {from_s} s")));
        }
        if from_s < end_s - TOKEN_S / 2.0 {
            let reason = format!("starts at {from_s} s, before the row above ends at {end_s} s");
            return Err(table.refuse(reason));
        }
        end_s = to_s;
        let stage = stage(&table, name, number)?;
        let token = |s: f64| ((s / TOKEN_S - 0.5).ceil().max(0.0) as usize).min(tokens);
        stages[token(from_s)..token(to_s)].fill(stage);
    }
    if rows == 0 {
        return Err(DataError::refused(path, "has no row below its header; score it again"));
    }
    let scored = (end_s / TOKEN_S).round() as usize;
    let warning = (scored.abs_diff(tokens) > EPOCH_TOKENS).then(|| {
        format!(
            "{}: scored for {end_s} s, but the recording has {} s; the shorter counts",
            path.display(),
            tokens as f64 * TOKEN_S
        )
    });
    Ok(Hypnogram { stages, warning })
}

fn time(table: &Table, column: usize) -> Result<f64, DataError> {
    match table.number(column)? {
        Some(s) if (0.0..=MAX_S).contains(&s) => Ok(s),
        Some(s) => Err(table.refuse(format!("{s} s is no time in a recording"))),
        None => Err(table.refuse("a time is missing")),
    }
}

/// The row's stage, where name and number say the same.
fn stage(
    table: &Table,
    name: Option<usize>,
    number: Option<usize>,
) -> Result<Option<SleepStage>, DataError> {
    let named = match name {
        Some(column) => Some(by_name(table.text(column)).ok_or_else(|| {
            let text = shown(table.text(column));
            let known = "use Wake, N1, N2, N3, REM or Unknown";
            table.refuse(format!("'{text}' is no stage; {known}"))
        })?),
        None => None,
    };
    let numbered = match number {
        Some(column) => Some(by_number(table.number(column)?).ok_or_else(|| {
            let text = shown(table.text(column));
            table.refuse(format!("'{text}' is no stage's number; use 0 to 4, or -1 for Unknown"))
        })?),
        None => None,
    };
    match (named, numbered) {
        (Some(a), Some(b)) if a != b => {
            Err(table.refuse("StageName and StageNumber say different stages; correct one of them"))
        }
        (Some(stage), _) | (None, Some(stage)) => Ok(stage),
        (None, None) => Ok(None),
    }
}

/// AASM names, those of EDF+ annotations, and R&K's stage 4, which AASM counts as N3.
fn by_name(text: &str) -> Option<Option<SleepStage>> {
    const PREFIX: &str = "sleep stage ";
    let text = text.to_ascii_lowercase();
    Some(match text.strip_prefix(PREFIX).unwrap_or(&text) {
        "wake" | "w" => Some(SleepStage::Wake),
        "n1" => Some(SleepStage::N1),
        "n2" => Some(SleepStage::N2),
        "n3" | "n4" => Some(SleepStage::N3),
        "rem" | "r" => Some(SleepStage::Rem),
        "unknown" | "unscored" | "artifact" | "movement" | "?" => None,
        _ => return None,
    })
}

/// The reference's numbers, in the order of the staging head's classes.
fn by_number(number: Option<f64>) -> Option<Option<SleepStage>> {
    match number {
        None | Some(-1.0) => Some(None),
        Some(n) if n >= 0.0 && n.fract() == 0.0 => {
            SleepStage::ALL.get(n as usize).map(|&s| Some(s))
        }
        Some(_) => None,
    }
}
