//! What U-Sleep (github.com/perslev/U-Time, `ut predict_one`) writes and reads: `.tsv` with
//! `init_sec`, `duration_sec`, `stage`, a run of one stage a line; `.npy` with [epochs, 1] integers
//! 0 W, 1 N1, 2 N2, 3 N3, 4 REM, 5 unknown, 6 out of bounds; `.ids`, which is the table without
//! names. The array says no times: 30-s epochs are taken.

use std::fmt::Write;
use std::io;

use npyz::WriterBuilder;
use sfm_models::SleepStage;

use super::codes::{Decoder, USLEEP};
use super::draft::{Draft, Place};
use super::{EpochLength, MAX_S, ReadOptions, Scoring, Stages, Timing, runs};
use sfm_models::EPOCH_S;

/// More opening brackets than the header of a NumPy array of stages has.
const MAX_BRACKETS: usize = 4;

/// The night as a `.tsv` file.
pub fn tsv(stages: &Stages) -> String {
    let mut text = String::from("init_sec\tduration_sec\tstage\n");
    for (first, count, stage) in runs(stages) {
        let name = match stage {
            None => "UNKNOWN",
            Some(SleepStage::Rem) => "REM",
            Some(stage) => stage.as_str(),
        };
        let (onset_s, duration_s) = (first as f64 * EPOCH_S, count as f64 * EPOCH_S);
        // Writing into a string does not fail.
        let _ = writeln!(text, "{onset_s}\t{duration_s}\t{name}");
    }
    text
}

/// The night as a `.npy` file.
///
/// # Errors
/// The header cannot be written, which does not happen in memory.
pub fn npy(stages: &Stages) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = npyz::WriteOptions::<i64>::new()
        .default_dtype()
        .shape(&[stages.len() as u64, 1])
        .writer(&mut bytes)
        .begin_nd()?;
    writer.extend(stages.iter().map(|stage| stage.map_or(5, |stage| stage.index() as i64)))?;
    writer.finish()?;
    Ok(bytes)
}

/// Reads an array of whole numbers, [epochs] or [epochs, 1]; YASA's -1 (artifact) and -2 (unscored)
/// are known too.
pub(super) fn read_npy(bytes: &[u8], options: &ReadOptions) -> Result<Scoring, String> {
    let damaged = |e: io::Error| format!("is a damaged NumPy file: {e}");
    if brackets(bytes) > MAX_BRACKETS {
        return Err("is a NumPy file, but its header is none of an array of stages".into());
    }
    let npy = npyz::NpyFile::new(bytes).map_err(damaged)?;
    let shape = npy.shape().to_vec();
    let epochs = match shape.as_slice() {
        [epochs] | [epochs, 1] => *epochs,
        _ => return Err(format!("is an array of shape {shape:?}, not [epochs] or [epochs, 1]")),
    };
    let epoch = EpochLength {
        s: options.epoch_s.unwrap_or(EPOCH_S),
        is_assumed: options.epoch_s.is_none(),
    };
    if epochs as f64 * epoch.s > MAX_S {
        return Err(format!("{epochs} epochs are more than a week"));
    }
    let mut decoder = Decoder::new(options.codes.as_ref(), &USLEEP);
    let mut stages = Vec::new();
    for (index, number) in whole_numbers(npy)?.enumerate() {
        let place = Place::Index(index);
        let number = number.map_err(damaged)?.to_string();
        stages.push((place, decoder.stage(&number).map_err(|e| place.refused(0.0, e))?));
    }
    let mut draft = Draft::new("a NumPy array of stages", Timing::RowNumber);
    draft.push_epochs(0.0, epoch, stages);
    draft.code = decoder.finish();
    draft.finish()
}

/// Opening brackets in the header: a dictionary with the shape in it has two. The parser takes for
/// ever over dozens that are not closed.
fn brackets(bytes: &[u8]) -> usize {
    // Format 1 has its length in two bytes, later ones in four.
    let start = if bytes.get(6) == Some(&1) { 10 } else { 12 };
    let length = bytes.get(8..start).unwrap_or_default();
    let length = length.iter().rev().fold(0, |length, &byte| (length << 8) | usize::from(byte));
    let header = bytes.get(start..).unwrap_or_default();
    header.iter().take(length).filter(|byte| b"([{".contains(byte)).count()
}

type Numbers<'a> = Box<dyn Iterator<Item = io::Result<i64>> + 'a>;

/// The array's values, whatever integers they are.
fn whole_numbers(mut npy: npyz::NpyFile<&[u8]>) -> Result<Numbers<'_>, String> {
    macro_rules! try_as {
        ($($kind:ty),*) => {$(
            npy = match npy.try_data::<$kind>() {
                Ok(data) => return Ok(Box::new(data.map(|v| v.map(i64::from)))),
                Err(other) => other,
            };
        )*};
    }
    try_as!(i64, i32, i16, i8, u32, u16, u8);
    Err(format!("is an array of {}, not of whole numbers", npy.dtype().descr()))
}
