//! What a recording can say of its signals. The live pipeline takes them as the header will have
//! them, so that a sample means the same live and replayed. Refuses rates and ranges that no
//! header can hold.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use crate::edf::field::{format_number, push_text, text};
use crate::edf::gap::DECLARATION_BYTES;
use crate::edf::{Continuity, DateTime, RecordingSpec, SampleFormat, SignalSpec};
use crate::signal::SignalInfo;

/// Seconds of a record, the best first: little is lost with the record that a cut leaves open.
const RECORD_S: [f64; 3] = [1.0, 2.0, 5.0];
/// Declared gaps are exact to the sample up to here.
const MAX_RATE_HZ: f64 = 100_000.0;
/// What our reader, and with it any other, takes; one more is the annotation signal.
const MAX_SIGNALS: usize = 4095;
const LABEL_CHARS: usize = 16;
const UNIT_CHARS: usize = 8;
/// Part of a sample that a rate may be off a whole number a record.
const RATE_TOLERANCE: f64 = 1e-6;
/// Room for declared gaps in a record, beyond two a channel: one for so many bytes of samples.
const SAMPLE_BYTES_PER_GAP: usize = 256;
/// And at most so many.
const MAX_GAPS: usize = 1024;

/// The signals as a recording's header will say them: labels of at most 16 printable ASCII
/// characters and unique, units of at most 8, limits as 8 characters hold them, rates with a whole
/// number of samples in every record. Recordable signals stay as they are.
///
/// # Errors
/// One sentence for each signal that cannot be recorded and has to be left out.
pub fn recordable(signals: &[SignalInfo]) -> Vec<Result<SignalInfo, String>> {
    let record_s = record_duration_s(signals);
    let mut labels = HashSet::new();
    let mut taken = 0;
    let mut recorded = Vec::with_capacity(signals.len());
    for signal in signals {
        let mut written = as_written(signal, record_s);
        if taken == MAX_SIGNALS {
            written = Err(format!("a recording holds {MAX_SIGNALS} signals"));
        }
        if let Ok(signal) = &mut written {
            taken += 1;
            signal.label = unique(&signal.label, &labels);
            labels.insert(signal.label.clone());
        }
        let label = text_as_written(&signal.label, LABEL_CHARS);
        recorded.push(written.map_err(|reason| format!("'{label}' is not recorded: {reason}")));
    }
    recorded
}

/// The digital values that a recording of these signals can hold: those of 16 bits, or of 24 where
/// a signal's range needs them. Others are as good as lost.
pub fn storable(signals: &[SignalInfo]) -> RangeInclusive<i32> {
    let (min, max) = sample_format(signals).range();
    min..=max
}

pub(super) fn sample_format(signals: &[SignalInfo]) -> SampleFormat {
    let (min, max) = SampleFormat::I16.range();
    let fits = |signal: &SignalInfo| signal.digital_min >= min && signal.digital_max <= max;
    if signals.iter().all(fits) { SampleFormat::I16 } else { SampleFormat::I24 }
}

/// The record duration with which most signals have a whole number of samples, seconds.
pub(super) fn record_duration_s(signals: &[SignalInfo]) -> f64 {
    let fitting = |record_s: f64| {
        signals.iter().filter(|s| samples_per_record(s.rate_hz, record_s).is_some()).count()
    };
    let best = RECORD_S.map(fitting).into_iter().max();
    RECORD_S.into_iter().find(|&s| Some(fitting(s)) == best).unwrap_or(1.0)
}

/// Samples of a record, if that is a whole number.
pub(super) fn samples_per_record(rate_hz: f64, record_s: f64) -> Option<usize> {
    let samples = rate_hz * record_s;
    let whole = samples.round();
    let fits = (samples - whole).abs() <= RATE_TOLERANCE && whole >= 1.0;
    (fits && rate_hz <= MAX_RATE_HZ).then_some(whole as usize)
}

/// The header of a recording of recordable signals.
pub(super) fn spec(signals: &[SignalInfo], start: Option<DateTime>) -> RecordingSpec {
    let record_duration_s = record_duration_s(signals);
    let sample_format = sample_format(signals);
    let signals: Vec<SignalSpec> = signals
        .iter()
        .map(|signal| SignalSpec {
            label: signal.label.clone(),
            unit: signal.unit.clone(),
            prefilter: String::new(),
            physical_min: signal.physical_min,
            physical_max: signal.physical_max,
            digital_min: signal.digital_min,
            digital_max: signal.digital_max,
            samples_per_record: samples_per_record(signal.rate_hz, record_duration_s)
                .unwrap_or_default(),
        })
        .collect();
    RecordingSpec {
        annotation_bytes: 24 + DECLARATION_BYTES * gap_room(&signals, sample_format),
        sample_format,
        continuity: Continuity::Discontinuous,
        start,
        record_duration_s,
        signals,
    }
}

/// How many gaps a record has room to declare: at least a gap and the session's end in every
/// channel.
pub(super) fn gap_room(signals: &[SignalSpec], sample_format: SampleFormat) -> usize {
    let samples: usize = signals.iter().map(|s| s.samples_per_record).sum();
    let spare = samples * sample_format.bytes() / SAMPLE_BYTES_PER_GAP;
    2 * signals.len() + spare.clamp(4, MAX_GAPS)
}

fn as_written(signal: &SignalInfo, record_s: f64) -> Result<SignalInfo, String> {
    let Some(samples) = samples_per_record(signal.rate_hz, record_s) else {
        return Err(format!(
            "at {} Hz a record of {record_s} s has no whole number of samples, or too many",
            signal.rate_hz
        ));
    };
    let (min, max) = SampleFormat::I24.range();
    if signal.digital_min < min || signal.digital_max > max {
        return Err(format!(
            "digital values of {} to {} need more than 24 bits",
            signal.digital_min, signal.digital_max
        ));
    }
    let limit = |value: f64| {
        format_number(value)
            .and_then(|text| text.parse::<f64>().ok())
            .ok_or_else(|| format!("the physical limit {value} needs over 8 characters"))
    };
    let written = SignalInfo {
        label: label_as_written(&signal.label),
        rate_hz: samples as f64 / record_s,
        unit: text_as_written(&signal.unit, UNIT_CHARS),
        physical_min: limit(signal.physical_min)?,
        physical_max: limit(signal.physical_max)?,
        ..*signal
    };
    if signal.digital_min >= signal.digital_max || written.scale().is_none() {
        return Err(format!(
            "digital limits {} and {} and physical limits {} and {}, of which 8 characters are \
             kept, define no scale",
            signal.digital_min, signal.digital_max, signal.physical_min, signal.physical_max
        ));
    }
    Ok(written)
}

/// What a text is read back as.
fn text_as_written(value: &str, chars: usize) -> String {
    let mut written = Vec::new();
    push_text(&mut written, value.trim(), chars);
    text(&written)
}

fn label_as_written(label: &str) -> String {
    let written = text_as_written(label, LABEL_CHARS);
    match written.as_str() {
        "" => "-".to_owned(),
        "EDF Annotations" | "BDF Annotations" => written.replace(' ', "_"),
        _ => written,
    }
}

/// The label, or with a mark behind it if another signal has it already. The first marks hold no
/// letter or digit, so that the label still means the same to the channel rules.
fn unique(label: &str, others: &HashSet<String>) -> String {
    let marks = ["", "'", "''", "'''"].into_iter().map(str::to_owned);
    let numbers = (5..).map(|number| format!("#{number}"));
    let marked = marks.chain(numbers).map(|mark| {
        let kept = LABEL_CHARS.saturating_sub(mark.len()).min(label.len());
        // Labels are ASCII by now.
        format!("{}{mark}", label.get(..kept).unwrap_or_default().trim_end())
    });
    // There are fewer labels than numbers.
    marked.into_iter().find(|label| !others.contains(label)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(label: &str, rate_hz: f64) -> SignalInfo {
        SignalInfo {
            label: label.to_owned(),
            rate_hz,
            unit: "\u{b5}V".to_owned(),
            physical_min: -187.5,
            physical_max: 187.5,
            digital_min: -32768,
            digital_max: 32767,
        }
    }

    fn all(signals: &[SignalInfo]) -> Vec<SignalInfo> {
        recordable(signals).into_iter().map(|s| s.expect("recordable")).collect()
    }

    #[test]
    fn labels_become_printable_short_and_unique() {
        let labels = [
            "EEG C4-M1",
            "EEG C4-M1",
            " EEG C4-M1 ",
            "",
            "",
            "\u{e4}\n",
            "EDF Annotations",
            "Thermistor airflow left",
            "Thermistor airflow right",
        ];
        let signals: Vec<_> = labels.iter().map(|l| signal(l, 100.0)).collect();
        let written = all(&signals);
        let found: Vec<&str> = written.iter().map(|s| s.label.as_str()).collect();
        assert_eq!(
            found,
            [
                "EEG C4-M1",
                "EEG C4-M1'",
                "EEG C4-M1''",
                "-",
                "-'",
                "_",
                "EDF_Annotations",
                "Thermistor airfl",
                "Thermistor airf'",
            ]
        );
        assert!(written.iter().all(|s| s.unit == "uV"));
        assert_eq!(all(&written), written, "recordable signals stay as they are");
    }

    #[test]
    fn a_thousand_signals_of_one_label_stay_apart() {
        let written = all(&vec![signal("SpO2", 1.0); 1000]);
        let labels: HashSet<_> = written.iter().map(|s| s.label.clone()).collect();
        assert_eq!(labels.len(), 1000);
        assert!(labels.iter().all(|l| l.len() <= 16));
        assert_eq!(all(&written), written);
    }

    #[test]
    fn the_record_is_as_short_as_the_rates_allow() {
        for (rates, expected) in [
            (&[256.0, 1.0][..], 1.0),
            (&[256.0, 12.5], 2.0),
            (&[0.5], 2.0),
            (&[102.4, 128.0], 5.0),
            (&[0.2], 5.0),
        ] {
            let signals: Vec<_> = rates.iter().map(|&rate| signal("A", rate)).collect();
            assert_eq!(record_duration_s(&signals), expected, "{rates:?}");
            let back: Vec<f64> = all(&signals).iter().map(|s| s.rate_hz).collect();
            assert_eq!(back, rates);
        }
    }

    #[test]
    fn what_no_header_holds_is_refused_in_a_sentence() {
        let good = || signal("EEG", 100.0);
        let with = |change: fn(&mut SignalInfo)| {
            let mut signal = good();
            change(&mut signal);
            signal
        };
        let cases = [
            (with(|s| s.rate_hz = 33.333), "whole number"),
            (with(|s| s.rate_hz = 0.0), "whole number"),
            (with(|s| s.rate_hz = f64::NAN), "whole number"),
            (with(|s| s.rate_hz = 1e9), "whole number"),
            (with(|s| s.digital_max = i32::MAX), "24 bits"),
            (with(|s| s.physical_max = 1e12), "8 characters"),
            (with(|s| s.physical_max = f64::INFINITY), "8 characters"),
            (with(|s| (s.physical_min, s.physical_max) = (-1e-9, 1e-9)), "define no scale"),
            (with(|s| s.digital_max = s.digital_min), "define no scale"),
        ];
        for (bad, expected) in cases {
            let found = recordable(&[good(), bad.clone(), good()]);
            assert!(found[0].is_ok() && found[2].is_ok(), "{bad:?}");
            let message = found[1].as_ref().expect_err("refused");
            assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn limits_are_what_eight_characters_say() {
        let third = SignalInfo { physical_max: 1000.0 / 3.0, ..signal("EEG", 100.0) };
        assert_eq!(all(&[third])[0].physical_max, 333.3333);
    }

    #[test]
    fn a_wide_range_makes_all_of_them_24_bits() {
        let wide = SignalInfo { digital_max: 40_000, ..signal("EEG", 100.0) };
        assert_eq!(storable(&[signal("A", 1.0)]), -0x8000..=0x7fff);
        assert_eq!(storable(&[signal("A", 1.0), wide]), -0x80_0000..=0x7f_ffff);
    }
}
