//! Lets other EDF readers check the recorder's files: `recording DIR` records sessions into folders
//! of DIR, 16 and 24 bits, with and without holes, one cut and gone on with, each with
//! `annotations.edf`, and writes what was pushed beside them: `expected.json` with every channel's
//! slots and digital values.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use sfm_runtime::edf::{Annotation, DateTime};
use sfm_runtime::lights::{LIGHTS_OFF, LIGHTS_ON};
use sfm_runtime::recorder::{AnnotationLog, EVENT_BUTTON, Recorder};
use sfm_runtime::signal::{DigitalBlock, SignalInfo};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Stretches of signal by channel, seconds: silences of one channel, of a device, of all.
const SHORT_GAPS: &[&[(f64, f64)]] = &[
    &[(0.0, 3.5), (4.0, 10.25), (311.0, 320.0)],
    &[(0.25, 3.5), (304.0, 319.5)],
    &[(0.0, 9.0), (310.0, 320.0)],
];
const CUT: &[&[(f64, f64)]] = &[CUT_BY_CHANNEL, CUT_BY_CHANNEL, CUT_BY_CHANNEL];
const CUT_BY_CHANNEL: &[(f64, f64)] = &[(0.0, 10.0), (311.0, 320.0)];
/// In the middle of the silence.
const CUT_S: f64 = 150.0;
const HOLES: &[&[(f64, f64)]] = &[
    &[(0.0, 3.5), (4.0, 10.25), (3995.5, 4020.0)],
    &[(2.0, 3.5), (3996.0, 4019.5)],
    &[(0.0, 9.0), (3995.0, 4020.0)],
];

fn main() -> Result<()> {
    let Some(folder) = std::env::args().nth(1) else { return Err("usage: recording DIR".into()) };
    let start: DateTime = "2026-11-24T22:58:41.25".parse()?;
    for (name, bits, stretches, start) in [
        ("gaps", 16, SHORT_GAPS, start),
        ("wide_gaps", 24, SHORT_GAPS, start),
        ("cut", 16, CUT, start),
        ("growing", 16, SHORT_GAPS, start),
        ("wide_growing", 24, SHORT_GAPS, start),
        ("holes", 16, HOLES, start),
        ("wide_holes", 24, HOLES, start.plus_seconds(0.75)),
    ] {
        let dir = Path::new(&folder).join(name);
        std::fs::create_dir_all(&dir)?;
        record(&dir, bits, stretches, start)?;
        annotate(&dir, start)?;
    }
    Ok(())
}

fn signals(bits: u32) -> Vec<SignalInfo> {
    let signal = |label: &str, rate_hz, unit: &str, limit: f64| SignalInfo {
        label: label.to_owned(),
        rate_hz,
        unit: unit.to_owned(),
        physical_min: -limit,
        physical_max: limit,
        digital_min: -1 << (bits - 1),
        digital_max: (1 << (bits - 1)) - 1,
    };
    vec![
        signal("EEG C4-M1", 256.0, "uV", 187.5),
        signal("Resp Thorax", 32.0, "mV", 5.0),
        signal("SaO2", 1.0, "%", 100.0),
    ]
}

fn record(dir: &Path, bits: u32, stretches: &[&[(f64, f64)]], start: DateTime) -> Result<()> {
    let signals = signals(bits);
    let mut recorder = Recorder::create(dir, &signals, start)?;
    let channels: Vec<(Vec<u64>, Vec<i32>)> = signals
        .iter()
        .zip(stretches)
        .map(|(signal, stretches)| {
            let slot = |s: f64| (s * signal.rate_hz) as u64;
            let slots: Vec<u64> = stretches.iter().flat_map(|&(a, b)| slot(a)..slot(b)).collect();
            let values = slots.iter().map(|&slot| digital(signal, slot)).collect();
            (slots, values)
        })
        .collect();
    // Of one that grows some records are on the disk and counted, more are written, one in part.
    let is_growing = dir.ends_with("growing") || dir.ends_with("wide_growing");
    let mut counted = None;
    for before_cut in [true, false] {
        for (channel, (slots, values)) in channels.iter().enumerate() {
            let rate_hz = signals[channel].rate_hz;
            for (&start, &value) in slots.iter().zip(values) {
                if (start as f64 / rate_hz < CUT_S) == before_cut {
                    recorder.push(&DigitalBlock { channel, start, samples: vec![value] })?;
                }
            }
        }
        if before_cut && is_growing {
            recorder.sync()?;
            counted = Some(recorder.space().recorded_s as u64);
        }
        if before_cut && stretches == CUT {
            cut(recorder)?;
            (recorder, _) = Recorder::reopen(dir)?;
        }
    }
    let channels: Vec<_> = signals
        .iter()
        .zip(&channels)
        .map(|(signal, (slots, values))| {
            serde_json::json!({
                "label": signal.label, "rate_hz": signal.rate_hz, "unit": signal.unit,
                "digital_min": signal.digital_min, "slots": slots, "values": values,
            })
        })
        .collect();
    let records = if is_growing {
        let records = recorder.space().recorded_s as u64;
        cut(recorder)?;
        records
    } else {
        recorder.finish()?.records
    };
    let expected = serde_json::json!({
        "start": start.to_string(), "records": records, "counted": counted.unwrap_or(records),
        "channels": channels,
    });
    std::fs::write(dir.join("expected.json"), expected.to_string())?;
    Ok(())
}

/// As a kill in the middle of a record leaves it.
fn cut(recorder: Recorder) -> Result<()> {
    let path = recorder.path().to_owned();
    drop(recorder);
    std::fs::OpenOptions::new().append(true).open(path)?.write_all(&[7; 1000])?;
    Ok(())
}

/// Over the whole digital range.
fn digital(signal: &SignalInfo, slot: u64) -> i32 {
    let span = (i64::from(signal.digital_max) - i64::from(signal.digital_min) + 1) as u64;
    let place = slot.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (i64::from(signal.digital_min) + (place % span) as i64) as i32
}

fn annotate(dir: &Path, start: DateTime) -> Result<()> {
    let mut log = AnnotationLog::create(dir, start)?;
    for (onset_s, duration_s, text) in [
        (0.5, None, LIGHTS_OFF),
        (30.0, Some(30.0), "Sleep stage W"),
        (12.345_678, None, EVENT_BUTTON),
        (60.0, Some(30.0), "Sleep stage N2"),
        (28_800.0, None, LIGHTS_ON),
    ] {
        log.append(&Annotation { onset_s, duration_s, text: text.to_owned() })?;
    }
    log.sync()?;
    Ok(())
}
