//! Writes a night: the recording as plain EDF, the hypnogram as EDF+, the stages as rows of 5 s.
//! Every file is written beside its place, synchronized and renamed: it is whole or not there.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sfm_models::SleepStage;
use sfm_runtime::edf::{Continuity, EdfError, EdfWriter, RecordingSpec, SampleFormat, SignalSpec};
use sfm_runtime::hypnogram::HypnogramWriter;

use super::SynthError;
use super::montage::Channel;
use super::night::Night;
use super::render::Renderer;

/// Length of a data record, seconds: far below the 61,440 bytes that EDF allows.
const RECORD_S: usize = 5;
const RECORDS_PER_EPOCH: usize = 6;
/// Seconds of a row of stages: a token.
const ROW_S: usize = 5;

/// Writes the recording, hypnogram and stages of a night below `folder`.
pub fn write(night: &Night, folder: &Path) -> Result<(), SynthError> {
    let id = night.id();
    let laboratory = night.laboratory.as_str();
    let stages = folder.join("stages").join(laboratory).join(format!("{id}.csv"));
    replace(&stages, |path| Ok(write_stages(path, &night.stages)?))?;
    let hypnogram = folder.join("hypnograms").join(format!("{id}.edf"));
    replace(&hypnogram, |path| write_hypnogram(path, night))?;
    let recording = folder.join("edf").join(laboratory).join(format!("{id}.edf"));
    replace(&recording, |path| write_signals(path, night))
}

/// Has `write` fill a file beside `path`, then puts it in its place.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), EdfError>,
) -> Result<(), SynthError> {
    let failed = |error: EdfError| SynthError::Write { path: path.to_owned(), error };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| failed(e.into()))?;
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let written = write(&unfinished)
        .and_then(|()| Ok(File::open(&unfinished)?.sync_all()?))
        .and_then(|()| Ok(fs::rename(&unfinished, path)?));
    written.map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        failed(error)
    })
}

fn write_stages(path: &Path, stages: &[SleepStage]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "Start,Stop,StageName,StageNumber")?;
    let rows = stages.iter().flat_map(|&s| std::iter::repeat_n(s, 30 / ROW_S));
    for (row, stage) in rows.enumerate() {
        let name = match stage {
            SleepStage::Wake => "Wake",
            SleepStage::Rem => "REM",
            other => other.as_str(),
        };
        writeln!(file, "{},{},{name},{}", row * ROW_S, (row + 1) * ROW_S, stage.index())?;
    }
    file.flush()
}

fn write_hypnogram(path: &Path, night: &Night) -> Result<(), EdfError> {
    let mut writer = HypnogramWriter::create(path, night.start())?;
    for &stage in &night.stages {
        writer.append(Some(stage))?;
    }
    writer.finish()
}

fn write_signals(path: &Path, night: &Night) -> Result<(), EdfError> {
    let channels: Vec<Channel> = night.channels.iter().map(|&(channel, _)| channel).collect();
    let spec = RecordingSpec {
        sample_format: SampleFormat::I16,
        continuity: Continuity::Plain,
        start: night.start(),
        record_duration_s: RECORD_S as f64,
        signals: channels.iter().map(signal).collect(),
        annotation_bytes: 0,
    };
    let mut writer = EdfWriter::new(File::create(path)?, &spec)?;
    let mut renderer = Renderer::new(night);
    let mut digital: Vec<Vec<i32>> = vec![Vec::new(); channels.len()];
    for epoch in 0..night.stages.len() {
        renderer.render(epoch);
        for ((channel, samples), digital) in
            channels.iter().zip(&renderer.samples).zip(&mut digital)
        {
            digitize(channel, samples, digital);
        }
        for record in 0..RECORDS_PER_EPOCH {
            let parts = digital.iter().map(|d| {
                let samples = d.len() / RECORDS_PER_EPOCH;
                &d[record * samples..(record + 1) * samples]
            });
            writer.write_record(&parts.collect::<Vec<_>>(), &[])?;
        }
    }
    writer.finish()?;
    Ok(())
}

fn signal(channel: &Channel) -> SignalSpec {
    SignalSpec {
        label: channel.label.into(),
        unit: channel.unit.into(),
        prefilter: String::new(),
        physical_min: channel.range.0,
        physical_max: channel.range.1,
        digital_min: i32::from(i16::MIN),
        digital_max: i32::from(i16::MAX),
        samples_per_record: channel.rate_hz as usize * RECORD_S,
    }
}

fn digitize(channel: &Channel, samples: &[f32], digital: &mut Vec<i32>) {
    let (min, max) = channel.range;
    let per_unit = (65_535.0 / (max - min)) as f32;
    let offset = f32::from(i16::MIN) - min as f32 * per_unit;
    digital.clear();
    // `as` saturates, and takes what is no number for 0.
    let convert = |&x: &f32| i32::from((x * per_unit + offset).round() as i16);
    digital.extend(samples.iter().map(convert));
}
