//! The header of EDF, EDF+ and BDF files: parsed once, checked completely, so that everything
//! after it can trust the geometry. Refuses impossible claims before allocating by them; the
//! number of records is taken from the file's length, not from the header.

use std::io::{Read, Seek, SeekFrom};

use super::EdfError;
use super::datetime::{DateTime, parse_edf_date, parse_edf_plus_date, parse_edf_time};
use super::field::{self, Number};
use super::scale::Scale;

/// Bytes of the fixed header, and again of each signal's.
const BLOCK_BYTES: u64 = 256;
/// Place of the equipment in `Startdate dd-MMM-yyyy code technician equipment ...`.
const EQUIPMENT_FIELD: usize = 4;
/// The largest amplifiers have a few hundred channels.
const MAX_SIGNALS: i32 = 4096;
/// 24 h at 256 Hz in a single record is 22 million.
const MAX_SAMPLES_PER_RECORD: i32 = 1 << 25;
/// 11 days: longer than any recording, let alone a record.
const MAX_RECORD_DURATION_S: f64 = 1e6;
/// Sound is recorded at 48 kHz; nothing a sleep laboratory records is faster.
const MAX_RATE_HZ: f64 = 1e6;
/// Beyond it a physical limit is damage, and samples would leave the range of `f32`.
const MAX_PHYSICAL: f64 = 1e15;

/// How a sample is stored: little-endian, two's complement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleFormat {
    /// EDF: 16 bits.
    I16,
    /// BDF: 24 bits.
    I24,
}

impl SampleFormat {
    /// Bytes of one sample.
    pub fn bytes(self) -> usize {
        match self {
            SampleFormat::I16 => 2,
            SampleFormat::I24 => 3,
        }
    }

    /// Smallest and largest digital value.
    pub fn range(self) -> (i32, i32) {
        match self {
            SampleFormat::I16 => (-0x8000, 0x7fff),
            SampleFormat::I24 => (-0x80_0000, 0x7f_ffff),
        }
    }
}

/// What the file says of its records' place in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// Plain EDF or BDF: contiguous, no time-keeping.
    Plain,
    /// EDF+C, BDF+C: contiguous, each record carries its onset.
    Continuous,
    /// EDF+D, BDF+D: there may be holes between records.
    Discontinuous,
}

/// One signal of a file, annotation signals included.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Label, trimmed.
    pub label: String,
    /// Physical dimension, trimmed, e.g. `uV`.
    pub unit: String,
    /// Filters as written, e.g. `HP:0.1Hz LP:75Hz`.
    pub prefilter: String,
    /// Physical value of `digital_min`; 0 where the field is no number.
    pub physical_min: f64,
    /// Physical value of `digital_max`; 0 where the field is no number.
    pub physical_max: f64,
    /// Digital minimum; 0 where the field is no number.
    pub digital_min: i32,
    /// Digital maximum; 0 where the field is no number.
    pub digital_max: i32,
    /// Samples of this signal in each record; 0 for a channel that was never recorded.
    pub samples_per_record: usize,
    /// Place of its samples in a record, bytes.
    pub record_offset: u64,
    /// Carries time-stamped annotations instead of samples.
    pub is_annotation: bool,
    /// `None` if the limits define no scale.
    scale: Option<Scale>,
}

impl Signal {
    /// The physical value of a digital one. Every value is 0 where [`Signal::has_scale`] is not.
    pub fn physical(&self, digital: i32) -> f64 {
        self.scale.map_or(0.0, |scale| scale.physical(digital))
    }

    /// The digital and physical limits define a scale. Without one the samples mean nothing and
    /// read as 0, a flat channel.
    pub fn has_scale(&self) -> bool {
        self.scale.is_some()
    }
}

/// A checked header: offsets, counts and rates can be relied upon.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// 16 bits (EDF) or 24 bits (BDF).
    pub sample_format: SampleFormat,
    /// Plain, EDF+C or EDF+D.
    pub continuity: Continuity,
    /// Start as written, whole seconds; `None` where it is no date.
    pub start: Option<DateTime>,
    /// What recorded it, as EDF+ and BDF+ name it, e.g. `sfm-stream_0.1.0`; else empty.
    pub equipment: String,
    /// Bytes before the first record.
    pub header_bytes: u64,
    /// Whole records in the file, whatever the header says.
    pub record_count: u64,
    /// Time one record spans, seconds; 0 only if there are no signals but annotations.
    pub record_duration_s: f64,
    /// Bytes of one record, at least 1.
    pub record_bytes: u64,
    /// The signals in the file's order.
    pub signals: Vec<Signal>,
    /// What was odd but did not prevent reading, one sentence each.
    pub warnings: Vec<String>,
}

impl Header {
    /// Reads and checks the header; leaves the position of `input` undefined.
    ///
    /// # Errors
    /// [`EdfError::Foreign`] for other formats, [`EdfError::Damaged`] for a header that is cut or
    /// claims the impossible, [`EdfError::Io`].
    pub fn read<R: Read + Seek>(input: &mut R) -> Result<Header, EdfError> {
        let file_bytes = input.seek(SeekFrom::End(0))?;
        input.seek(SeekFrom::Start(0))?;
        let fixed: [u8; BLOCK_BYTES as usize] = read_fixed(input, file_bytes)?;
        let mut dirty = Dirty::default();
        let mut fields = Fields { rest: &fixed };
        let recognized = recognize(&fixed).ok_or_else(foreign)?;
        let sample_format = recognized.sample_format;
        let version = fields.next(8);
        let _patient = fields.next(80);
        let recording = field::text(fields.next(80));
        let (date, time) = (fields.next(8), fields.next(8));
        let header_bytes_field = fields.next(8);
        let reserved = fields.next(44);
        let record_count_field = fields.next(8);
        let record_duration_s = parse_record_duration(fields.next(8), &mut dirty)?;
        let signal_count = parse_signal_count(fields.next(4), &mut dirty)?;

        let header_bytes = BLOCK_BYTES * (1 + u64::from(signal_count));
        if file_bytes < header_bytes {
            let message = format!("it is cut: {file_bytes} of {header_bytes} bytes");
            return Err(EdfError::Damaged(message));
        }
        // At most 1 MiB, and the file is at least that long.
        let mut table = vec![0; (header_bytes - BLOCK_BYTES) as usize];
        input.read_exact(&mut table)?;

        let mut warnings = Vec::new();
        if !recognized.has_version {
            let (format, version) = (recognized.name(), version.escape_ascii());
            warnings.push(format!(
                "version field '{version}' is not that of {format}; read as {format}, since all else in the header is"
            ));
        }
        if field::integer(header_bytes_field)
            .is_none_or(|(n, _)| i64::from(n) != header_bytes as i64)
        {
            warnings.push(format!(
                "header length field is wrong; {header_bytes} bytes taken from the number of signals"
            ));
        }
        let continuity = parse_continuity(reserved);
        let start = parse_start(date, time, continuity, &recording, &mut warnings);
        let equipment = match continuity {
            Continuity::Plain => String::new(),
            _ => recording.split(' ').nth(EQUIPMENT_FIELD).unwrap_or_default().to_owned(),
        };
        let signals =
            parse_signals(&table, signal_count, sample_format, &mut dirty, &mut warnings)?;
        check_rates(&signals, record_duration_s)?;
        let record_bytes: u64 =
            signals.iter().map(|s| (s.samples_per_record * sample_format.bytes()) as u64).sum();
        if record_bytes == 0 {
            return Err(EdfError::Damaged("no signal has any samples".into()));
        }
        if dirty.count > 0 {
            let Dirty { count, first } = dirty;
            warnings.push(format!(
                "{count} header number(s) padded or punctuated against the rules, first {first}"
            ));
        }
        let data_bytes = file_bytes - header_bytes;
        let record_count = data_bytes / record_bytes;
        warn_of_length(record_count_field, record_count, data_bytes % record_bytes, &mut warnings);
        let header = Header {
            sample_format,
            continuity,
            start,
            equipment,
            header_bytes,
            record_count,
            record_duration_s,
            record_bytes,
            signals,
            warnings,
        };
        Ok(header.with_annotation_warnings())
    }

    /// The format in words: `EDF`, `EDF+C`, `EDF+D`, `BDF`, `BDF+C`, `BDF+D`.
    pub fn format_name(&self) -> &'static str {
        match (self.sample_format, self.continuity) {
            (SampleFormat::I16, Continuity::Plain) => "EDF",
            (SampleFormat::I16, Continuity::Continuous) => "EDF+C",
            (SampleFormat::I16, Continuity::Discontinuous) => "EDF+D",
            (SampleFormat::I24, Continuity::Plain) => "BDF",
            (SampleFormat::I24, Continuity::Continuous) => "BDF+C",
            (SampleFormat::I24, Continuity::Discontinuous) => "BDF+D",
        }
    }

    /// Index of the first annotation signal, which keeps the records' time; `None` in plain files
    /// and where it is missing.
    pub fn timekeeper(&self) -> Option<usize> {
        if self.continuity == Continuity::Plain {
            return None;
        }
        self.signals.iter().position(|s| s.is_annotation && s.samples_per_record > 0)
    }

    /// Sampling rate of a signal, Hz; 0 where records have no duration.
    pub fn rate_hz(&self, signal: &Signal) -> f64 {
        if self.record_duration_s > 0.0 {
            signal.samples_per_record as f64 / self.record_duration_s
        } else {
            0.0
        }
    }

    fn with_annotation_warnings(mut self) -> Header {
        let annotated = self.signals.iter().any(|s| s.is_annotation);
        if self.continuity == Continuity::Plain && annotated {
            let warning = "annotation signal in a plain file, which keeps no record times";
            self.warnings.push(warning.into());
        }
        if self.continuity != Continuity::Plain && !annotated {
            let holes = if self.continuity == Continuity::Discontinuous {
                ": holes between records cannot be seen"
            } else {
                ""
            };
            self.warnings
                .push(format!("{} file without an annotation signal{holes}", self.format_name()));
        }
        self
    }
}

/// Hands out consecutive fields of a header block.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn next(&mut self, width: usize) -> &'a [u8] {
        let (field, rest) = self.rest.split_at(width.min(self.rest.len()));
        self.rest = rest;
        field
    }
}

/// Numbers that were readable but broke a rule.
#[derive(Default)]
struct Dirty {
    count: usize,
    first: String,
}

impl Dirty {
    fn note(&mut self, dirty: bool, name: impl FnOnce() -> String) {
        if dirty {
            if self.count == 0 {
                self.first = name();
            }
            self.count += 1;
        }
    }
}

fn read_fixed<R: Read, const N: usize>(
    input: &mut R,
    file_bytes: u64,
) -> Result<[u8; N], EdfError> {
    let mut fixed = [0; N];
    if file_bytes >= N as u64 {
        input.read_exact(&mut fixed)?;
        return Ok(fixed);
    }
    if file_bytes == 0 {
        return Err(EdfError::Foreign("it is empty".into()));
    }
    let mut start = Vec::new();
    input.take(8).read_to_end(&mut start)?;
    recognize(&start).ok_or_else(foreign)?;
    Err(EdfError::Damaged(format!("it is cut: {file_bytes} of at least {N} bytes")))
}

/// What the first bytes of a file say of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recognized {
    sample_format: SampleFormat,
    /// The version field is as specified.
    has_version: bool,
}

impl Recognized {
    fn name(self) -> &'static str {
        match self.sample_format {
            SampleFormat::I16 => "EDF",
            SampleFormat::I24 => "BDF",
        }
    }
}

/// Whether a file that begins with `head` is EDF or BDF: by its version field, and where that is
/// another one, as some exports leave it, by the rest of the fixed header. Lists of numbers begin with
/// a 0 too, but have lines.
pub fn recognize(head: &[u8]) -> Option<Recognized> {
    let by_version = match head {
        [0xff, b'B', b'I', b'O', b'S', b'E', b'M', b'I', ..] => Some(SampleFormat::I24),
        [b'0', rest @ ..] if rest.len() >= 7 && rest[..7].iter().all(|b| b" \0".contains(b)) => {
            Some(SampleFormat::I16)
        }
        _ => None,
    };
    let by_geometry = geometry_format(head);
    let is_text = by_geometry.is_none() && head.contains(&b'\n');
    match (by_version, by_geometry) {
        (Some(sample_format), _) if !is_text => {
            Some(Recognized { sample_format, has_version: true })
        }
        (None, Some(sample_format)) => Some(Recognized { sample_format, has_version: false }),
        _ => None,
    }
}

/// The format by what the fixed header says of its own length: no other file repeats the number of its
/// signals in it.
fn geometry_format(head: &[u8]) -> Option<SampleFormat> {
    let integer = |place: std::ops::Range<usize>| Some(field::integer(head.get(place)?)?.0);
    let (header_bytes, signals) = (integer(184..192)?, integer(252..256)?);
    let is_header = (1..=MAX_SIGNALS).contains(&signals)
        && i64::from(header_bytes) == BLOCK_BYTES as i64 * (1 + i64::from(signals));
    let is_bdf =
        head.get(192..236).is_some_and(|r| r.starts_with(b"24BIT") || r.starts_with(b"BDF"));
    is_header.then_some(if is_bdf { SampleFormat::I24 } else { SampleFormat::I16 })
}

fn foreign() -> EdfError {
    EdfError::Foreign("it does not begin with a header of EDF or BDF".into())
}

fn parse_record_duration(bytes: &[u8], dirty: &mut Dirty) -> Result<f64, EdfError> {
    let Some(Number { value, dirty: is_dirty }) = field::number(bytes) else {
        return Err(EdfError::Damaged(format!(
            "record duration '{}' is no number",
            field::text(bytes)
        )));
    };
    if !(0.0..=MAX_RECORD_DURATION_S).contains(&value) {
        return Err(EdfError::Damaged(format!("record duration of {value} s")));
    }
    dirty.note(is_dirty, || "record duration".into());
    Ok(value)
}

fn parse_signal_count(bytes: &[u8], dirty: &mut Dirty) -> Result<u32, EdfError> {
    let Some((count, is_dirty)) = field::integer(bytes) else {
        return Err(EdfError::Damaged(format!(
            "number of signals '{}' is no whole number",
            field::text(bytes)
        )));
    };
    if !(1..=MAX_SIGNALS).contains(&count) {
        return Err(EdfError::Damaged(format!("{count} signals, possible are 1 to {MAX_SIGNALS}")));
    }
    dirty.note(is_dirty, || "number of signals".into());
    Ok(count.unsigned_abs())
}

fn parse_continuity(reserved: &[u8]) -> Continuity {
    match reserved {
        [b'E' | b'B', b'D', b'F', b'+', b'C', ..] => Continuity::Continuous,
        [b'E' | b'B', b'D', b'F', b'+', b'D', ..] => Continuity::Discontinuous,
        _ => Continuity::Plain,
    }
}

fn parse_start(
    date: &[u8],
    time: &[u8],
    continuity: Continuity,
    recording: &str,
    warnings: &mut Vec<String>,
) -> Option<DateTime> {
    let (date, time) = (field::text(date), field::text(time));
    // EDF+ repeats the date with four digits of the year.
    let plus_date = match continuity {
        Continuity::Plain => None,
        _ => parse_edf_plus_date(recording),
    };
    let short_date = parse_edf_date(&date);
    let same_day = |(_, month, day)| short_date.is_none_or(|(_, m, d)| (m, d) == (month, day));
    let best_date = plus_date.filter(|&full| same_day(full)).or(short_date);
    let start = best_date.zip(parse_edf_time(&time)).and_then(|(d, t)| DateTime::new(d, t));
    if start.is_none() {
        warnings.push(format!("start '{date} {time}' is no date and time"));
    }
    start
}

fn parse_signals(
    table: &[u8],
    count: u32,
    sample_format: SampleFormat,
    dirty: &mut Dirty,
    warnings: &mut Vec<String>,
) -> Result<Vec<Signal>, EdfError> {
    // The table is stored by field: all labels, then all transducers, and so on.
    let count = count as usize;
    let mut fields = Fields { rest: table };
    let mut column = |width: usize| fields.next(width * count).chunks_exact(width);
    let (labels, _transducers, units) = (column(16), column(80), column(8));
    let (mut physical_min, mut physical_max) = (column(8), column(8));
    let (mut digital_min, mut digital_max) = (column(8), column(8));
    let (mut prefilters, mut samples) = (column(80), column(8));

    let mut record_offset = 0;
    let mut signals = Vec::with_capacity(count);
    for (label, unit) in labels.zip(units) {
        let label = field::text(label);
        let mut next = |column: &mut std::slice::ChunksExact<'_, u8>, name: &str| {
            let number = field::number(column.next().unwrap_or_default());
            dirty.note(number.is_some_and(|n| n.dirty), || format!("{name} of '{label}'"));
            number.map(|n| n.value)
        };
        let physical = (
            next(&mut physical_min, "physical minimum"),
            next(&mut physical_max, "physical maximum"),
        );
        let digital =
            (next(&mut digital_min, "digital minimum"), next(&mut digital_max, "digital maximum"));
        let samples = next(&mut samples, "samples per record");
        let samples_per_record = check_samples_per_record(samples, &label)?;
        let is_annotation = matches!(label.as_str(), "EDF Annotations" | "BDF Annotations");
        let mut signal = Signal {
            unit: field::text(unit),
            prefilter: field::text(prefilters.next().unwrap_or_default()),
            physical_min: physical.0.unwrap_or_default(),
            physical_max: physical.1.unwrap_or_default(),
            digital_min: digital.0.and_then(whole).unwrap_or_default(),
            digital_max: digital.1.and_then(whole).unwrap_or_default(),
            samples_per_record,
            record_offset,
            is_annotation,
            scale: None,
            label,
        };
        record_offset += (samples_per_record * sample_format.bytes()) as u64;
        if !is_annotation {
            scale(&mut signal, warnings);
        }
        signals.push(signal);
    }
    warn_of_duplicates(&signals, warnings);
    Ok(signals)
}

/// Digital limits are whole; some exports write them as `2047.0` or even `2047.5`.
fn whole(value: f64) -> Option<i32> {
    let rounded = value.round();
    (rounded.abs() <= f64::from(i32::MAX)).then_some(rounded as i32)
}

fn check_samples_per_record(samples: Option<f64>, label: &str) -> Result<usize, EdfError> {
    let Some(samples) = samples.filter(|n| n.fract() == 0.0) else {
        return Err(EdfError::Damaged(format!(
            "samples per record of '{label}' is no whole number"
        )));
    };
    if !(0.0..=f64::from(MAX_SAMPLES_PER_RECORD)).contains(&samples) {
        return Err(EdfError::Damaged(format!(
            "{samples} samples per record of '{label}', possible are 0 to {MAX_SAMPLES_PER_RECORD}"
        )));
    }
    Ok(samples as usize)
}

/// Sets the scale, or warns where the limits define none.
fn scale(signal: &mut Signal, warnings: &mut Vec<String>) {
    let Signal { physical_min, physical_max, digital_min, digital_max, ref label, .. } = *signal;
    let digital_span = f64::from(digital_max) - f64::from(digital_min);
    let physical_span = physical_max - physical_min;
    let complaint = if digital_span == 0.0 {
        format!("digital limits are both {digital_min}")
    } else if physical_span == 0.0 {
        format!("physical limits are both {physical_min}")
    } else if physical_min.abs().max(physical_max.abs()) > MAX_PHYSICAL {
        format!("physical limits {physical_min} to {physical_max} are impossible")
    } else {
        if digital_span < 0.0 {
            warnings.push(format!("'{label}': digital limits are swapped; read as written"));
        }
        signal.scale = Scale::new((digital_min, digital_max), (physical_min, physical_max));
        return;
    };
    warnings.push(format!("'{label}': {complaint}; its samples are read as 0"));
}

fn check_rates(signals: &[Signal], record_duration_s: f64) -> Result<(), EdfError> {
    for signal in signals.iter().filter(|s| !s.is_annotation && s.samples_per_record > 0) {
        if record_duration_s == 0.0 {
            return Err(EdfError::Damaged("record duration of 0 s, but there are signals".into()));
        }
        let rate_hz = signal.samples_per_record as f64 / record_duration_s;
        if rate_hz > MAX_RATE_HZ {
            return Err(EdfError::Damaged(format!(
                "'{}' is sampled at {rate_hz} Hz",
                signal.label
            )));
        }
    }
    Ok(())
}

fn warn_of_duplicates(signals: &[Signal], warnings: &mut Vec<String>) {
    let mut labels: Vec<&str> =
        signals.iter().filter(|s| !s.is_annotation).map(|s| s.label.as_str()).collect();
    labels.sort_unstable();
    for group in labels.chunk_by(|a, b| a == b) {
        if let [label, _, ..] = group {
            warnings.push(format!("{} channels are labelled '{label}'; all are kept", group.len()));
        }
    }
}

fn warn_of_length(claimed: &[u8], present: u64, spare_bytes: u64, warnings: &mut Vec<String>) {
    match field::integer(claimed) {
        Some((-1, _)) => {
            warnings
                .push(format!("header does not say how many records; the file holds {present}"));
        }
        Some((n, _)) if i64::from(n) == present as i64 => {}
        _ => warnings.push(format!(
            "header claims {} records, the file holds {present}; {present} are read",
            field::text(claimed)
        )),
    }
    if spare_bytes > 0 {
        warnings.push(format!("the last record is cut; its {spare_bytes} bytes are dropped"));
    }
}
