//! Samples of single channels that a record holds a place for but that were never recorded. The
//! record itself declares them: `Recording gap@@LABEL` with onset and duration, exact to the
//! sample. Foreign readers show it as an annotation of that channel. Declarations that name no
//! channel, or lie outside their record, are passed over.

use std::collections::HashMap;
use std::io::{Read, Seek};
use std::ops::Range;

use super::EdfError;
use super::annotation::too_many;
use super::record::RecordReader;
use super::tal::Tals;

/// Longest label and longest onset and duration make the longest declaration, bytes: up to seven
/// digits and six decimals, 5 s to six decimals, text and label, separators.
pub const DECLARATION_BYTES: usize = 15 + 1 + 8 + 1 + 15 + 16 + 2;

/// Most stretches that a record may declare: it has one a channel, and merges what is close.
const MAX_DECLARED: usize = 1 << 16;

/// Why samples are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// They did not come, or are no values of the channel.
    Gap,
    /// The session ended before them; they only fill the last record.
    End,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Reason::Gap => "Recording gap",
            Reason::End => "Recording end",
        }
    }

    /// The text that declares it for a channel.
    pub fn declaration(self, label: &str) -> String {
        format!("{}@@{label}", self.text())
    }

    /// Reason and label of a declaration; `None` for other texts.
    fn parse(text: &str) -> Option<(Reason, &str)> {
        let (reason, label) = text.split_once("@@")?;
        let reason = [Reason::Gap, Reason::End].into_iter().find(|r| r.text() == reason)?;
        Some((reason, label))
    }
}

/// Contiguous missing samples of one channel in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The channel.
    pub channel: usize,
    /// The samples, counted from the record's first.
    pub samples: Range<usize>,
    /// Why.
    pub reason: Reason,
}

/// Samples per record and rate of a channel, for [`missing`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The channel.
    pub channel: usize,
    /// Its samples in each record.
    pub samples_per_record: usize,
    /// Its rate, Hz.
    pub rate_hz: f64,
}

/// Replaces `found` by what a record declares missing of the channels, which are looked up by
/// label: in order of channel, then of time, without overlaps.
///
/// # Errors
/// [`EdfError::Excess`] if it declares more than any recorder does; [`EdfError::Io`].
pub fn missing<R: Read + Seek>(
    reader: &mut RecordReader<R>,
    record: u64,
    channels: &HashMap<String, Sampling>,
    found: &mut Vec<Missing>,
) -> Result<(), EdfError> {
    found.clear();
    let Some(record_onset_s) = reader.record_onset_s(record)? else { return Ok(()) };
    for signal in 0..reader.header().signals.len() {
        if !reader.header().signals.get(signal).is_some_and(|signal| signal.is_annotation) {
            continue;
        }
        for tal in Tals::new(reader.annotation_bytes(record, signal)?) {
            let Some(duration_s) = tal.duration_s else { continue };
            for text in tal.texts() {
                let Some((reason, label)) = Reason::parse(&text) else { continue };
                let Some(sampling) = channels.get(label) else { continue };
                let samples = sampling.samples(tal.onset_s - record_onset_s, duration_s);
                if found.len() == MAX_DECLARED {
                    return Err(too_many("gaps in a record", MAX_DECLARED));
                }
                if !samples.is_empty() {
                    found.push(Missing { channel: sampling.channel, samples, reason });
                }
            }
        }
    }
    found.sort_unstable_by_key(|missing| (missing.channel, missing.samples.start));
    found.dedup_by(|next, last| {
        let overlaps = next.channel == last.channel && next.samples.start < last.samples.end;
        if overlaps {
            last.samples.end = last.samples.end.max(next.samples.end);
        }
        overlaps
    });
    Ok(())
}

impl Sampling {
    /// The samples of a stretch of a record, cut to it.
    fn samples(&self, onset_s: f64, duration_s: f64) -> Range<usize> {
        // The conversions saturate, so any numbers are good for something within the record.
        let start = (onset_s * self.rate_hz).round().max(0.0) as usize;
        let count = (duration_s * self.rate_hz).round().max(0.0) as usize;
        let end = start.saturating_add(count).min(self.samples_per_record);
        start.min(end)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_told_from_other_texts() {
        let text = Reason::Gap.declaration("EEG C4-M1");
        assert_eq!(text, "Recording gap@@EEG C4-M1");
        assert_eq!(Reason::parse(&text), Some((Reason::Gap, "EEG C4-M1")));
        assert_eq!(Reason::parse("Recording end@@a@@b"), Some((Reason::End, "a@@b")));
        for other in ["Recording gap", "recording gap@@EEG", "Apnea@@Flow", "@@", ""] {
            assert_eq!(Reason::parse(other), None, "{other}");
        }
    }

    #[test]
    fn stretches_are_cut_to_the_record() {
        let sampling = Sampling { channel: 0, samples_per_record: 256, rate_hz: 256.0 };
        assert_eq!(sampling.samples(0.5, 0.25), 128..192);
        assert_eq!(sampling.samples(0.5, 9.0), 128..256);
        assert_eq!(sampling.samples(3.0, 1.0), 256..256);
        assert_eq!(sampling.samples(f64::MAX, f64::MAX), 256..256);
        assert!(sampling.samples(0.5, -1.0).is_empty());
    }
}
