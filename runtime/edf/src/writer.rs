//! Writing EDF, EDF+ and BDF by streaming. Every record is written whole, then counted in the
//! header at once: pyedflib, MNE and edfio all open a file with more records than its header
//! counts, so one killed at any moment opens. The records of a live session are counted when its
//! recorder knows that they are on the disk, so that a power cut never leaves a count of records
//! that are not there. Never writes anything that identifies a person. Refuses samples and texts
//! that do not fit.

use std::io::{Seek, SeekFrom, Write};

use super::EdfError;
use super::annotation::Annotation;
use super::datetime::DateTime;
use super::field::{format_number, push_text};
use super::header::{Continuity, SampleFormat};
use super::tal::push_tal;

/// Place and width of the record count in the header.
const RECORD_COUNT: (u64, usize) = (236, 8);
/// Place of the `C` or `D` in a header's `EDF+C`.
const CONTINUITY: u64 = 192 + 4;
/// Times are written to the microsecond.
const DECIMALS: usize = 6;
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
    /// The header counts every record at once, and not only when it is asked to.
    counts_at_once: bool,
    has_holes: bool,
    /// The header of an open recording says EDF+D.
    says_holes: bool,
    record: Vec<u8>,
}

/// How far a recording was written, to go back to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WriterPlace {
    record_count: u64,
    next_onset_s: f64,
    has_holes: bool,
}

impl WriterPlace {
    /// Records before it.
    pub fn record_count(&self) -> u64 {
        self.record_count
    }
}

impl<W: Write + Seek> EdfWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`EdfError::Unwritable`] if a number does not fit its field, [`EdfError::Io`].
    pub fn new(mut output: W, spec: &RecordingSpec) -> Result<Self, EdfError> {
        output.write_all(&header_bytes(spec, "X")?)?;
        output.flush()?;
        Ok(Self::behind_header(output, spec))
    }

    /// Writes the header of a recording that is open: its number of records is -1 until
    /// [`EdfWriter::count_records`] or [`EdfWriter::finish`], and it says EDF+C, which more readers
    /// take, until the first hole makes it EDF+D. `equipment` is the name of what records, without
    /// spaces.
    ///
    /// # Errors
    /// As [`EdfWriter::new`].
    pub fn open_ended(
        mut output: W,
        spec: &RecordingSpec,
        equipment: &str,
    ) -> Result<Self, EdfError> {
        let begun = RecordingSpec {
            continuity: match spec.continuity {
                Continuity::Discontinuous => Continuity::Continuous,
                other => other,
            },
            ..spec.clone()
        };
        output.write_all(&header_bytes(&begun, equipment)?)?;
        output.flush()?;
        Ok(Self { counts_at_once: false, ..Self::behind_header(output, spec) })
    }

    /// Goes on behind the `record_count` records of a file that was begun with the same `spec`,
    /// the last of which ends `next_onset_s` after the first sample. Writes nothing yet.
    pub fn reopened(output: W, spec: &RecordingSpec, record_count: u64, next_onset_s: f64) -> Self {
        let has_holes = next_onset_s != record_count as f64 * spec.record_duration_s;
        Self { record_count, next_onset_s, has_holes, ..Self::behind_header(output, spec) }
    }

    /// Makes the header that of an open recording again, with the records that are there.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn leave_open(&mut self) -> Result<(), EdfError> {
        self.counts_at_once = false;
        self.count_records()?;
        self.says_holes = self.has_holes;
        self.write_continuity(if self.has_holes { b"D" } else { b"C" })
    }

    /// Counts the records so far in the header of an open recording. Call it when they are on the
    /// disk.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn count_records(&mut self) -> Result<(), EdfError> {
        let none_yet = self.record_count == 0;
        self.write_record_count(if none_yet { -1 } else { self.record_count as i64 })
    }

    /// Makes the header of an open recording say EDF+D. [`EdfWriter::write_record_at`] does so, too;
    /// who syncs in between makes sure that no hole is ever behind a header that denies it.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn declare_holes(&mut self) -> Result<(), EdfError> {
        if !self.says_holes && !self.counts_at_once {
            self.write_continuity(b"D")?;
            self.says_holes = true;
        }
        Ok(())
    }

    /// How far it is written.
    pub fn place(&self) -> WriterPlace {
        let Self { record_count, next_onset_s, has_holes, .. } = *self;
        WriterPlace { record_count, next_onset_s, has_holes }
    }

    /// Goes back to where it was: the next record takes the place of the one that followed.
    pub fn go_back(&mut self, place: WriterPlace) {
        let WriterPlace { record_count, next_onset_s, has_holes } = place;
        (self.record_count, self.next_onset_s, self.has_holes) =
            (record_count, next_onset_s, has_holes);
    }

    /// Goes on in `output`, a copy of what was written so far; returns the output before it.
    pub fn replace_output(&mut self, output: W) -> W {
        std::mem::replace(&mut self.output, output)
    }

    /// Whether a record that starts at `onset_s` is behind a hole.
    pub fn is_behind_hole(&self, onset_s: f64) -> bool {
        onset_s != self.next_onset_s
    }

    /// Writes the header of an EDF+C file without signals and with room for `annotation_bytes` in
    /// each record. Other readers refuse a file without any record: an empty one holds the first
    /// record's place until that is written over it.
    ///
    /// # Errors
    /// As [`EdfWriter::new`].
    pub fn annotations_only(
        output: W,
        start: Option<DateTime>,
        record_duration_s: f64,
        annotation_bytes: usize,
    ) -> Result<Self, EdfError> {
        let spec = RecordingSpec {
            sample_format: SampleFormat::I16,
            continuity: Continuity::Continuous,
            start,
            record_duration_s,
            signals: Vec::new(),
            annotation_bytes,
        };
        let mut writer = EdfWriter::new(output, &spec)?;
        writer.write_record(&[], &[])?;
        writer.record_count = 0;
        writer.next_onset_s = 0.0;
        Ok(writer)
    }

    fn behind_header(output: W, spec: &RecordingSpec) -> Self {
        let signals = spec.signals.len() + usize::from(spec.continuity != Continuity::Plain);
        EdfWriter {
            output,
            sample_format: spec.sample_format,
            continuity: spec.continuity,
            record_duration_s: spec.record_duration_s,
            samples_per_record: spec.signals.iter().map(|s| s.samples_per_record).collect(),
            annotation_bytes: annotation_bytes(spec),
            first_sample_s: spec.start.map_or(0.0, DateTime::fraction_s),
            next_onset_s: 0.0,
            header_bytes: 256 * (1 + signals) as u64,
            record_count: 0,
            counts_at_once: true,
            has_holes: false,
            says_holes: false,
            record: Vec::new(),
        }
    }

    /// Where the next record starts if it follows the last, seconds after the first sample.
    pub fn next_onset_s(&self) -> f64 {
        self.next_onset_s
    }

    /// Records written.
    pub fn record_count(&self) -> u64 {
        self.record_count
    }

    /// Bytes of one record.
    pub fn record_bytes(&self) -> u64 {
        let samples: usize = self.samples_per_record.iter().sum();
        (samples * self.sample_format.bytes() + self.annotation_bytes) as u64
    }

    /// Bytes before the first record.
    pub fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    /// Bytes of the header and the whole records.
    pub fn whole_bytes(&self) -> u64 {
        self.header_bytes + self.record_count * self.record_bytes()
    }

    /// What is written to.
    pub fn output(&self) -> &W {
        &self.output
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
        if self.is_behind_hole(onset_s) {
            self.declare_holes()?;
        }
        // By count and not at the end: a record that a full disk cut short is written over.
        self.output.seek(SeekFrom::Start(self.whole_bytes()))?;
        self.output.write_all(&self.record)?;
        self.record_count += 1;
        self.has_holes |= onset_s != self.next_onset_s;
        if self.counts_at_once {
            self.write_record_count(self.record_count as i64)?;
        }
        self.next_onset_s = onset_s + self.record_duration_s;
        Ok(())
    }

    /// Completes the header if that is still to be done, and hands the output back.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn finish(mut self) -> Result<W, EdfError> {
        if !self.counts_at_once {
            self.write_record_count(self.record_count as i64)?;
        }
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
        push_tal(&mut self.record, DECIMALS, onset_s + self.first_sample_s, None, "");
        for Annotation { onset_s, duration_s, text } in annotations {
            let onset_s = onset_s + self.first_sample_s;
            push_tal(&mut self.record, DECIMALS, onset_s, *duration_s, text);
        }
        if self.record.len() > full {
            let message = format!("annotations need more than {} bytes", self.annotation_bytes);
            return Err(EdfError::Unwritable(message));
        }
        self.record.resize(full, 0);
        Ok(())
    }

    fn write_continuity(&mut self, letter: &[u8; 1]) -> Result<(), EdfError> {
        self.output.seek(SeekFrom::Start(CONTINUITY))?;
        self.output.write_all(letter)?;
        Ok(())
    }

    fn write_record_count(&mut self, count: i64) -> Result<(), EdfError> {
        let (place, width) = RECORD_COUNT;
        self.output.seek(SeekFrom::Start(place))?;
        // One write: a kill between two would leave half a number.
        self.output.write_all(format!("{count:<width$}").as_bytes())?;
        self.output.flush()?;
        Ok(())
    }
}

/// Bytes of a record's annotation signal; 0 in plain files.
fn annotation_bytes(spec: &RecordingSpec) -> usize {
    match spec.continuity {
        Continuity::Plain => 0,
        _ => spec.annotation_bytes.max(24).next_multiple_of(spec.sample_format.bytes()),
    }
}

fn header_bytes(spec: &RecordingSpec, equipment: &str) -> Result<Vec<u8>, EdfError> {
    let annotation_samples = annotation_bytes(spec) / spec.sample_format.bytes();
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
    push_text(&mut out, &format!("Startdate {plus_date} X X {equipment}"), 80);
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
