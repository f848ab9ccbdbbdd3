//! Lets other EDF readers check ours and be checked against our writer:
//! `edf_dump read FILE DIR` prints the header and annotations as JSON and writes each signal's
//! digital (`N.i32`) and physical (`N.f32`) samples to DIR; `edf_dump write DIR` writes files.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use sfm_models::SleepStage;
use sfm_runtime::edf::{
    Annotation, Continuity, DateTime, EdfWriter, RecordReader, RecordingSpec, SampleFormat,
    SignalSpec, annotations,
};
use sfm_runtime::hypnogram::HypnogramWriter;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["read", file, dir] => read(Path::new(file), Path::new(dir)),
        ["write", dir] => write(Path::new(dir)),
        _ => Err("usage: edf_dump read FILE DIR | write DIR".into()),
    }
}

fn read(file: &Path, dir: &Path) -> Result<()> {
    let mut reader = RecordReader::new(File::open(file)?)?;
    let header = reader.header().clone();
    let first_onset_s = reader.record_onset_s(0)?.unwrap_or(0.0);
    let mut signals = Vec::new();
    for (index, signal) in header.signals.iter().enumerate().filter(|(_, s)| !s.is_annotation) {
        let (mut digital, mut physical) = (Vec::new(), Vec::new());
        for record in 0..header.record_count {
            reader.digital(record, index, 0..signal.samples_per_record, &mut digital)?;
            reader.physical(record, index, 0..signal.samples_per_record, &mut physical)?;
        }
        let bytes: Vec<u8> = digital.iter().flat_map(|d| d.to_le_bytes()).collect();
        std::fs::write(dir.join(format!("{index}.i32")), bytes)?;
        let bytes: Vec<u8> = physical.iter().flat_map(|p| p.to_le_bytes()).collect();
        std::fs::write(dir.join(format!("{index}.f32")), bytes)?;
        signals.push(serde_json::json!({
            "index": index,
            "label": signal.label,
            "unit": signal.unit,
            "prefilter": signal.prefilter,
            "rate_hz": header.rate_hz(signal),
            "physical": [signal.physical_min, signal.physical_max],
            "digital": [signal.digital_min, signal.digital_max],
        }));
    }
    let annotations: Vec<_> = annotations(file)?
        .into_iter()
        .map(|a| serde_json::json!([a.onset_s, a.duration_s, a.text]))
        .collect();
    let summary = serde_json::json!({
        "format": header.format_name(),
        "start": header.start.map(|s| s.plus_seconds(first_onset_s).to_string()),
        "records": header.record_count,
        "record_duration_s": header.record_duration_s,
        "signals": signals,
        "annotations": annotations,
        "warnings": header.warnings,
    });
    writeln!(std::io::stdout(), "{summary}")?;
    Ok(())
}

fn write(dir: &Path) -> Result<()> {
    let start: DateTime = "2024-02-29T22:58:41".parse()?;
    let stages = [None, Some(SleepStage::Wake), Some(SleepStage::N2), Some(SleepStage::Rem)];
    for (name, start) in [
        ("hypnogram.edf", Some(start)),
        ("hypnogram_subsecond.edf", Some(start.plus_seconds(0.25))),
        ("hypnogram_undated.edf", None),
    ] {
        let mut hypnogram = HypnogramWriter::create(&dir.join(name), start)?;
        for epoch in 0..960 {
            hypnogram.append(stages[epoch % stages.len()])?;
        }
        hypnogram.finish()?;
    }
    let formats = [(SampleFormat::I16, "edf"), (SampleFormat::I24, "bdf")];
    let kinds = [
        (Continuity::Plain, "plain"),
        (Continuity::Continuous, "plus_c"),
        (Continuity::Discontinuous, "plus_d"),
    ];
    for (sample_format, extension) in formats {
        for (continuity, name) in kinds {
            write_signals(
                &dir.join(format!("{name}.{extension}")),
                sample_format,
                continuity,
                start,
            )?;
        }
    }
    Ok(())
}

/// Five records of half a second: a ramp over the whole digital range and a slow channel.
fn write_signals(
    path: &Path,
    sample_format: SampleFormat,
    continuity: Continuity,
    start: DateTime,
) -> Result<()> {
    let (digital_min, digital_max) = sample_format.range();
    let signal = |label: &str, samples_per_record| SignalSpec {
        label: label.to_owned(),
        unit: "\u{b5}V".to_owned(),
        prefilter: "HP:0.3Hz LP:35Hz".to_owned(),
        physical_min: -187.5,
        physical_max: 187.5,
        digital_min,
        digital_max,
        samples_per_record,
    };
    let spec = RecordingSpec {
        sample_format,
        continuity,
        start: Some(start),
        record_duration_s: 0.5,
        signals: vec![signal("EEG C4-M1", 128), signal("EMG Chin1-Chin2", 1)],
        annotation_bytes: 60,
    };
    let mut writer = EdfWriter::new(File::create(path)?, &spec)?;
    for record in 0..5_i32 {
        let step = (digital_max - digital_min) / (5 * 128);
        let ramp: Vec<i32> = (0..128).map(|i| digital_min + step * (record * 128 + i)).collect();
        let apnea =
            Annotation { onset_s: 0.75, duration_s: Some(1.5), text: "Obstructive apnea".into() };
        let events =
            if continuity != Continuity::Plain && record == 1 { vec![apnea] } else { vec![] };
        // The last two records of the discontinuous file lie behind a hole.
        if continuity == Continuity::Discontinuous && record == 3 {
            writer.write_record_at(96.5, &[&ramp, &[digital_max]], &events)?;
        } else {
            writer.write_record(&[&ramp, &[digital_max]], &events)?;
        }
    }
    writer.finish()?;
    Ok(())
}
