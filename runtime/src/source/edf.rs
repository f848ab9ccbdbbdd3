//! An EDF or BDF file as a source. Channels advance together, at most about a second at a time,
//! whatever the record length; EDF+D holes and the gaps that a record declares become jumps of
//! [`SampleBlock::start`], and records that lie before what was already read are dropped. Refuses
//! files without a whole record.

mod timeline;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use self::timeline::Timeline;
use super::{Source, SourceError};
use crate::edf::gap::{self, Missing, Reason, Sampling};
use crate::edf::{EdfError, Header, RecordReader};
use crate::signal::{SampleBlock, SignalInfo, StreamInfo};

/// Largest block, samples.
const MAX_BLOCK_SAMPLES: usize = 1 << 16;

/// The signals of an EDF or BDF file, in physical units.
#[derive(Debug)]
pub struct EdfSource<R = File> {
    name: String,
    reader: RecordReader<R>,
    info: StreamInfo,
    /// Index of each channel among the file's signals, which include annotations.
    signals: Vec<usize>,
    timeline: Timeline,
    selected: Vec<usize>,
    block_length: BlockLength,
    cursor: Cursor,
    /// Where each channel's next block starts if nothing is missing, samples.
    next_sample: Vec<u64>,
    /// Channels whose samples ended in this record or before it.
    ended: Vec<bool>,
    declared: Declared,
}

/// What the current record declares missing.
#[derive(Debug, Default)]
struct Declared {
    channels: HashMap<String, Sampling>,
    /// The record it is known of.
    record: Option<u64>,
    /// In order of channel, then of time.
    missing: Vec<Missing>,
}

impl Declared {
    fn of(header: &Header, signals: &[usize]) -> Self {
        let mut channels = HashMap::new();
        for (channel, signal) in signals.iter().filter_map(|&i| header.signals.get(i)).enumerate() {
            let samples_per_record = signal.samples_per_record;
            let rate_hz = header.rate_hz(signal);
            let sampling = Sampling { channel, samples_per_record, rate_hz };
            channels.entry(signal.label.clone()).or_insert(sampling);
        }
        Declared { channels, ..Declared::default() }
    }

    /// The first that ends behind `sample` of a channel.
    fn next(&self, channel: usize, sample: usize) -> Option<&Missing> {
        let before =
            |missing: &Missing| (missing.channel, missing.samples.end) <= (channel, sample);
        let index = self.missing.partition_point(before);
        self.missing.get(index).filter(|missing| missing.channel == channel)
    }
}

#[derive(Debug, Clone, Copy)]
enum BlockLength {
    Seconds(f64),
    Samples(usize),
}

/// The next block to read: a slice of a record of one of the selected channels.
#[derive(Debug, Default)]
struct Cursor {
    record: u64,
    slice: usize,
    selected: usize,
}

impl EdfSource<File> {
    /// Opens a file.
    ///
    /// # Errors
    /// [`SourceError::Unreadable`] if it cannot be opened, is no EDF or BDF, has a damaged header
    /// or holds no samples.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let name = path.display().to_string();
        let file =
            crate::files::open_input(path).map_err(|error| unreadable(&name, &error.into()))?;
        Self::new(file, &name)
    }
}

impl<R: Read + Seek> EdfSource<R> {
    /// Reads from anything seekable; `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`EdfSource::open`].
    pub fn new(input: R, name: &str) -> Result<Self, SourceError> {
        let refuse = |error| unreadable(name, &error);
        let mut reader = RecordReader::new(input).map_err(refuse)?;
        check_samples(reader.header(), name)?;
        let mut warnings = reader.header().warnings.clone();
        let signals = recorded_signals(reader.header(), &mut warnings);
        let timeline = Timeline::read(&mut reader, &mut warnings).map_err(refuse)?;
        let info = describe(reader.header(), &signals, &timeline, warnings);
        Ok(EdfSource {
            name: name.to_owned(),
            selected: (0..signals.len()).collect(),
            next_sample: vec![0; signals.len()],
            ended: vec![false; signals.len()],
            declared: Declared::of(reader.header(), &signals),
            reader,
            info,
            signals,
            timeline,
            block_length: BlockLength::Seconds(1.0),
            cursor: Cursor::default(),
        })
    }

    /// Blocks of at most `samples` (at least 1), never longer than a record; default 1 s.
    #[must_use]
    pub fn with_block_samples(mut self, samples: usize) -> Self {
        self.block_length = BlockLength::Samples(samples.max(1));
        self
    }

    /// Blocks of about `seconds`, never longer than a record; default 1 s.
    #[must_use]
    pub fn with_block_seconds(mut self, seconds: f64) -> Self {
        self.block_length = BlockLength::Seconds(seconds);
        self
    }

    /// Restricts reading to these channels (indices into [`StreamInfo::signals`]; others are
    /// ignored) and rewinds. Samples of the rest are not decoded.
    pub fn select(&mut self, channels: &[usize]) {
        self.selected = channels.iter().copied().filter(|&c| c < self.signals.len()).collect();
        self.rewind();
    }

    /// What recorded it, where the header says so.
    pub fn equipment(&self) -> &str {
        &self.reader.header().equipment
    }

    /// Starts again from the first sample.
    pub fn rewind(&mut self) {
        self.cursor = Cursor::default();
        self.next_sample.fill(0);
        self.ended.fill(false);
    }

    /// Into how many slices a record is cut.
    fn slices(&self) -> usize {
        let signals = &self.reader.header().signals;
        let longest = self
            .selected
            .iter()
            .filter_map(|&channel| signals.get(*self.signals.get(channel)?))
            .map(|signal| signal.samples_per_record)
            .max()
            .unwrap_or_default();
        let wanted = match self.block_length {
            BlockLength::Samples(n) => longest.div_ceil(n),
            // The conversion saturates, also for a length of zero.
            BlockLength::Seconds(s) => (self.reader.header().record_duration_s / s).ceil() as usize,
        };
        wanted.max(longest.div_ceil(MAX_BLOCK_SAMPLES)).clamp(1, longest.max(1))
    }

    /// Reads what follows in the current slice of a channel, up to a gap or behind one; `false` if
    /// nothing of the slice is left.
    fn read_slice(
        &mut self,
        channel: usize,
        slices: usize,
        block: &mut SampleBlock,
    ) -> Result<bool, SourceError> {
        let Cursor { record, slice, .. } = self.cursor;
        let header = self.reader.header();
        let Some(&index) = self.signals.get(channel) else { return Ok(false) };
        let Some(signal) = header.signals.get(index) else { return Ok(false) };
        let Some(next_sample) = self.next_sample.get_mut(channel) else { return Ok(false) };
        let Some(has_ended) = self.ended.get_mut(channel) else { return Ok(false) };

        let per_record = signal.samples_per_record;
        let (first, end) = (per_record * slice / slices, per_record * (slice + 1) / slices);
        let record_start = self.timeline.record_start(record, per_record, header.rate_hz(signal));
        let start = record_start + first as i64;
        let already_read = next_sample.saturating_sub_signed(start).min((end - first) as u64);
        let mut first = first + already_read as usize;
        if first == end {
            return Ok(false);
        }
        let place = |sample: usize| record_start.saturating_add(sample as i64).unsigned_abs();
        let mut upto = end;
        while let Some(missing) = self.declared.next(channel, first) {
            if missing.samples.start > first {
                upto = missing.samples.start.min(end);
                break;
            }
            // Up to its end a channel is known to be silent, behind it nothing was ever said.
            let is_end = missing.reason == Reason::End;
            let known = if is_end { first } else { missing.samples.end.min(end) };
            if is_end || known == end {
                let is_news = !(is_end && *has_ended);
                *has_ended = is_end;
                *next_sample = place(if is_end { missing.samples.end.max(end) } else { end });
                block.channel = channel;
                block.start = place(known);
                block.samples.clear();
                return Ok(is_news);
            }
            first = known;
        }
        *has_ended = false;
        block.channel = channel;
        block.start = place(first);
        block.samples.clear();
        *next_sample = place(upto);
        self.reader
            .physical(record, index, first..upto, &mut block.samples)
            .map_err(|error| unreadable(&self.name, &error))?;
        Ok(true)
    }

    /// Reads what the current record declares missing, once.
    fn read_declared(&mut self) -> Result<(), SourceError> {
        let Declared { channels, record, missing } = &mut self.declared;
        if *record == Some(self.cursor.record) {
            return Ok(());
        }
        *record = Some(self.cursor.record);
        gap::missing(&mut self.reader, self.cursor.record, channels, missing)
            .map_err(|error| unreadable(&self.name, &error))
    }
}

impl<R: Read + Seek + Send> Source for EdfSource<R> {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next_block(&mut self, block: &mut SampleBlock) -> Result<bool, SourceError> {
        let slices = self.slices();
        while self.cursor.record < self.reader.header().record_count && !self.selected.is_empty() {
            let Some(&channel) = self.selected.get(self.cursor.selected) else {
                self.cursor.selected = 0;
                self.cursor.slice += 1;
                if self.cursor.slice == slices {
                    self.cursor.slice = 0;
                    self.cursor.record += 1;
                }
                continue;
            };
            self.read_declared()?;
            // A slice with gaps is several blocks.
            if self.read_slice(channel, slices, block)? {
                return Ok(true);
            }
            self.cursor.selected += 1;
        }
        Ok(false)
    }
}

fn unreadable(name: &str, error: &EdfError) -> SourceError {
    let advice = match error {
        EdfError::Io(_) => "; check the path, the permissions and the disk",
        // Says itself what to do.
        EdfError::Excess(_) => "",
        _ => "; export the recording again as EDF or EDF+",
    };
    SourceError::Unreadable(format!("{name} {error}{advice}"))
}

fn check_samples(header: &Header, name: &str) -> Result<(), SourceError> {
    let complaint = if !header.signals.iter().any(|s| !s.is_annotation && s.samples_per_record > 0)
    {
        "holds annotations but no signals; give the recording itself"
    } else if header.record_count == 0 {
        "ends before its first data record is complete; copy or export it again"
    } else {
        return Ok(());
    };
    Err(SourceError::Unreadable(format!("{name} {complaint}")))
}

fn recorded_signals(header: &Header, warnings: &mut Vec<String>) -> Vec<usize> {
    let mut recorded = Vec::new();
    for (index, signal) in header.signals.iter().enumerate().filter(|(_, s)| !s.is_annotation) {
        if signal.samples_per_record > 0 {
            recorded.push(index);
        } else {
            warnings.push(format!("'{}' has no samples and is left out", signal.label));
        }
    }
    recorded
}

fn describe(
    header: &Header,
    signals: &[usize],
    timeline: &Timeline,
    warnings: Vec<String>,
) -> StreamInfo {
    let signals = signals.iter().filter_map(|&index| header.signals.get(index));
    let start = header.start.map(|start| start.plus_seconds(timeline.first_sample_s).to_string());
    StreamInfo {
        format: header.format_name().to_owned(),
        start,
        duration_s: Some(timeline.duration_s),
        preprocessed: false,
        signals: signals
            .map(|signal| SignalInfo {
                label: signal.label.clone(),
                rate_hz: header.rate_hz(signal),
                unit: signal.unit.clone(),
                physical_min: signal.physical_min,
                physical_max: signal.physical_max,
                digital_min: signal.digital_min,
                digital_max: signal.digital_max,
            })
            .collect(),
        warnings,
    }
}
