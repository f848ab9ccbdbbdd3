//! Writing EDF, EDF+ and BDF by streaming. Every record is written whole, then counted in the
//! header at once: pyedflib, MNE and edfio all open a file with one record more than its header
//! counts, so one killed at any moment opens. Never writes anything that identifies a person.
//! Refuses samples and texts that do not fit.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use sfm_models::SleepStage;

use super::EdfError;
use super::annotation::Annotation;
use super::datetime::DateTime;
use super::field::{format_number, push_text};
use super::header::{Continuity, SampleFormat};

/// Place and width of the record count in the header.
const RECORD_COUNT: (u64, usize) = (236, 8);
/// A scoring epoch, seconds.
const EPOCH_S: f64 = 30.0;

/// A recording to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordingSpec {
    /// EDF or BDF.
    pub sample_format: SampleFormat,
    /// Plain, or EDF+ with an annotation signal.
    pub continuity: Continuity,
    /// Start; `None` writes EDF+'s unknown date.
    pub start: Option<DateTime>,
    /// Time each record spans, seconds.
    pub record_duration_s: f64,
    /// The signals; the annotation signal is added by the writer.
    pub signals: Vec<SignalSpec>,
    /// Room for annotations in each record, bytes; at least 24 is taken. Unused in plain files.
    pub annotation_bytes: usize,
}

/// One signal to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalSpec {
    /// Label, at most 16 ASCII characters are kept.
    pub label: String,
    /// Physical dimension, at most 8 characters are kept.
    pub unit: String,
    /// Filters, at most 80 characters are kept.
    pub prefilter: String,
    /// Physical value of `digital_min`.
    pub physical_min: f64,
    /// Physical value of `digital_max`.
    pub physical_max: f64,
    /// Digital minimum.
    pub digital_min: i32,
    /// Digital maximum.
    pub digital_max: i32,
    /// Samples in each record.
    pub samples_per_record: usize,
}

/// Writes a recording record by record.
#[derive(Debug)]
pub struct EdfWriter<W> {
    output: W,
    sample_format: SampleFormat,
    continuity: Continuity,
    record_duration_s: f64,
    samples_per_record: Vec<usize>,
    annotation_bytes: usize,
    /// Header's start to the first sample, below 1 s.
    first_sample_s: f64,
    /// Onset of the next record if it follows the last, seconds after the first sample.
    next_onset_s: f64,
    header_bytes: u64,
    record_count: u64,
    record: Vec<u8>,
}

impl<W: Write + Seek> EdfWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`EdfError::Unwritable`] if a number does not fit its field, [`EdfError::Io`].
    pub fn new(mut output: W, spec: &RecordingSpec) -> Result<Self, EdfError> {
        let sample_bytes = spec.sample_format.bytes();
        let annotation_bytes = match spec.continuity {
            Continuity::Plain => 0,
            _ => spec.annotation_bytes.max(24).next_multiple_of(sample_bytes),
        };
        let header = header_bytes(spec, annotation_bytes / sample_bytes)?;
        output.write_all(&header)?;
        output.flush()?;
        Ok(EdfWriter {
            output,
            sample_format: spec.sample_format,
            continuity: spec.continuity,
            record_duration_s: spec.record_duration_s,
            samples_per_record: spec.signals.iter().map(|s| s.samples_per_record).collect(),
            annotation_bytes,
            first_sample_s: spec.start.map_or(0.0, DateTime::fraction_s),
            next_onset_s: 0.0,
            header_bytes: header.len() as u64,
            record_count: 0,
            record: Vec::new(),
        })
    }

    /// Writes the record that follows the last one: the digital samples of each signal, and
    /// annotations with onsets in seconds after the first sample.
    ///
    /// # Errors
    /// [`EdfError::Unwritable`] if samples are missing, too many or out of the format's range, or
    /// if the annotations need more room; nothing is written then. [`EdfError::Io`].
    pub fn write_record(
        &mut self,
        samples: &[&[i32]],
        annotations: &[Annotation],
    ) -> Result<(), EdfError> {
        self.write_record_at(self.next_onset_s, samples, annotations)
    }

    /// Writes a record that starts `onset_s` seconds after the first sample: EDF+D only, for a
    /// place other than behind the last record.
    ///
    /// # Errors
    /// As [`EdfWriter::write_record`].
    pub fn write_record_at(
        &mut self,
        onset_s: f64,
        samples: &[&[i32]],
        annotations: &[Annotation],
    ) -> Result<(), EdfError> {
        if self.continuity != Continuity::Discontinuous && onset_s != self.next_onset_s {
            return Err(EdfError::Unwritable("only EDF+D has holes".into()));
        }
        self.record.clear();
        self.push_samples(samples)?;
        self.push_annotations(onset_s, annotations)?;
        // By count and not at the end: a record that a full disk cut short is written over.
        let place = self.header_bytes + self.record_count * self.record.len() as u64;
        self.output.seek(SeekFrom::Start(place))?;
        self.output.write_all(&self.record)?;
        self.record_count += 1;
        self.write_record_count()?;
        self.next_onset_s = onset_s + self.record_duration_s;
        Ok(())
    }

    /// Hands the output back; the file is complete after each record anyway.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn finish(mut self) -> Result<W, EdfError> {
        self.output.flush()?;
        Ok(self.output)
    }

    fn push_samples(&mut self, samples: &[&[i32]]) -> Result<(), EdfError> {
        let counts = samples.iter().map(|s| s.len());
        if !counts.eq(self.samples_per_record.iter().copied()) {
            let message = "samples of a record do not match the signals' samples per record";
            return Err(EdfError::Unwritable(message.into()));
        }
        let (min, max) = self.sample_format.range();
        for &sample in samples.iter().copied().flatten() {
            if !(min..=max).contains(&sample) {
                let message = format!("sample {sample} is beyond {min} to {max}");
                return Err(EdfError::Unwritable(message));
            }
            let bytes = sample.to_le_bytes();
            self.record.extend(bytes.iter().take(self.sample_format.bytes()));
        }
        Ok(())
    }

    fn push_annotations(
        &mut self,
        onset_s: f64,
        annotations: &[Annotation],
    ) -> Result<(), EdfError> {
        if self.continuity == Continuity::Plain {
            return match annotations {
                [] => Ok(()),
                _ => Err(EdfError::Unwritable("plain EDF has no annotations".into())),
            };
        }
        let full = self.record.len() + self.annotation_bytes;
        let onset = signed_seconds(onset_s + self.first_sample_s);
        self.record.extend_from_slice(format!("{onset}\x14\x14\0").as_bytes());
        for annotation in annotations {
            let onset = signed_seconds(annotation.onset_s + self.first_sample_s);
            let duration =
                annotation.duration_s.map_or(String::new(), |d| format!("\x15{}", seconds(d)));
            let text = annotation.text.replace(char::is_control, " ");
            self.record.extend_from_slice(format!("{onset}{duration}\x14{text}\x14\0").as_bytes());
        }
        if self.record.len() > full {
            let message = format!("annotations need more than {} bytes", self.annotation_bytes);
            return Err(EdfError::Unwritable(message));
        }
        self.record.resize(full, 0);
        Ok(())
    }

    fn write_record_count(&mut self) -> Result<(), EdfError> {
        let (place, width) = RECORD_COUNT;
        self.output.seek(SeekFrom::Start(place))?;
        write!(self.output, "{:<width$}", self.record_count)?;
        self.output.flush()?;
        Ok(())
    }
}

/// Seconds to the microsecond, without trailing zeros.
fn seconds(seconds: f64) -> String {
    let text = format!("{seconds:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn signed_seconds(onset_s: f64) -> String {
    let text = seconds(onset_s);
    if text.starts_with('-') { text } else { format!("+{text}") }
}

fn header_bytes(spec: &RecordingSpec, annotation_samples: usize) -> Result<Vec<u8>, EdfError> {
    let mut signals = spec.signals.clone();
    if annotation_samples > 0 {
        signals.push(annotation_signal(spec.sample_format, annotation_samples));
    }
    let mut out = Vec::with_capacity(256 * (1 + signals.len()));
    match spec.sample_format {
        SampleFormat::I16 => out.extend(b"0       "),
        SampleFormat::I24 => out.extend(b"\xffBIOSEMI"),
    }
    push_text(&mut out, "X X X X", 80);
    let plus_date = spec.start.map_or("X".into(), DateTime::edf_plus_date);
    push_text(&mut out, &format!("Startdate {plus_date} X X X"), 80);
    push_text(&mut out, &spec.start.map_or("01.01.85".into(), DateTime::edf_date), 8);
    push_text(&mut out, &spec.start.map_or("00.00.00".into(), DateTime::edf_time), 8);
    push_number(&mut out, "header length", 256.0 * (1 + signals.len()) as f64)?;
    push_text(&mut out, reserved(spec), 44);
    // Unknown, until the first record is counted.
    push_text(&mut out, "-1", RECORD_COUNT.1);
    push_number(&mut out, "record duration", spec.record_duration_s)?;
    push_text(&mut out, &signals.len().to_string(), 4);

    let mut text = |width: usize, field: fn(&SignalSpec) -> &str| {
        signals.iter().for_each(|s| push_text(&mut out, field(s), width));
    };
    text(16, |s| &s.label);
    text(80, |_| "");
    text(8, |s| &s.unit);
    let mut number = |name: &str, field: fn(&SignalSpec) -> f64| {
        signals.iter().try_for_each(|s| push_number(&mut out, name, field(s)))
    };
    number("physical minimum", |s| s.physical_min)?;
    number("physical maximum", |s| s.physical_max)?;
    number("digital minimum", |s| f64::from(s.digital_min))?;
    number("digital maximum", |s| f64::from(s.digital_max))?;
    signals.iter().for_each(|s| push_text(&mut out, &s.prefilter, 80));
    for signal in &signals {
        push_number(&mut out, "samples per record", signal.samples_per_record as f64)?;
    }
    signals.iter().for_each(|_| push_text(&mut out, "", 32));
    Ok(out)
}

fn push_number(out: &mut Vec<u8>, name: &str, value: f64) -> Result<(), EdfError> {
    let text = format_number(value)
        .ok_or_else(|| EdfError::Unwritable(format!("{name} {value} needs over 8 characters")))?;
    push_text(out, &text, 8);
    Ok(())
}

fn reserved(spec: &RecordingSpec) -> &'static str {
    match (spec.sample_format, spec.continuity) {
        (SampleFormat::I16, Continuity::Plain) => "",
        (SampleFormat::I16, Continuity::Continuous) => "EDF+C",
        (SampleFormat::I16, Continuity::Discontinuous) => "EDF+D",
        (SampleFormat::I24, Continuity::Plain) => "24BIT",
        (SampleFormat::I24, Continuity::Continuous) => "BDF+C",
        (SampleFormat::I24, Continuity::Discontinuous) => "BDF+D",
    }
}

fn annotation_signal(format: SampleFormat, samples_per_record: usize) -> SignalSpec {
    let (digital_min, digital_max) = format.range();
    let label = match format {
        SampleFormat::I16 => "EDF Annotations",
        SampleFormat::I24 => "BDF Annotations",
    };
    SignalSpec {
        label: label.into(),
        unit: String::new(),
        prefilter: String::new(),
        physical_min: -1.0,
        physical_max: 1.0,
        digital_min,
        digital_max,
        samples_per_record,
    }
}

/// Writes a hypnogram as EDF+C annotations with the standard texts: a record an epoch.
#[derive(Debug)]
pub struct HypnogramWriter {
    writer: EdfWriter<File>,
}

impl HypnogramWriter {
    /// Creates the file, replacing one that exists.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn create(path: &Path, start: Option<DateTime>) -> Result<Self, EdfError> {
        let spec = RecordingSpec {
            sample_format: SampleFormat::I16,
            continuity: Continuity::Continuous,
            start,
            record_duration_s: EPOCH_S,
            signals: Vec::new(),
            annotation_bytes: 80,
        };
        let mut writer = EdfWriter::new(File::create(path)?, &spec)?;
        // Other readers refuse a file without any record: an empty one holds the first epoch's
        // place until that is written over it.
        writer.write_record(&[], &[])?;
        writer.record_count = 0;
        writer.next_onset_s = 0.0;
        Ok(HypnogramWriter { writer })
    }

    /// Appends the next epoch; `None` is one that could not be scored.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn append(&mut self, stage: Option<SleepStage>) -> Result<(), EdfError> {
        let epoch = Annotation {
            onset_s: self.writer.next_onset_s,
            duration_s: Some(EPOCH_S),
            text: stage.map_or("Sleep stage ?", SleepStage::edf_text).to_owned(),
        };
        self.writer.write_record(&[], &[epoch])
    }

    /// Closes the file; it is complete after each epoch anyway.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn finish(self) -> Result<(), EdfError> {
        self.writer.finish()?.sync_all()?;
        Ok(())
    }
}
