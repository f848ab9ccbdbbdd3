//! An EDF or BDF file as a source. Channels advance together, at most about a second at a time,
//! whatever the record length; EDF+D holes become jumps of [`SampleBlock::start`], and records
//! that lie before what was already read are dropped. Refuses files without a whole record.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use super::{Source, SourceError};
use crate::edf::{Continuity, EdfError, Header, RecordReader};
use crate::signal::{SampleBlock, SignalInfo, StreamInfo};

/// Records closer than this to where the last ended are contiguous, seconds: recorders round
/// onsets, and their clocks drift against the samples.
const ONSET_TOLERANCE_S: f64 = 0.002;
/// A record placed further from the first than this has a damaged onset, seconds (7 days). Time
/// without samples costs as many epochs as time with them.
const MAX_ONSET_S: f64 = 7.0 * 86_400.0;
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
        let file = File::open(path).map_err(|error| unreadable(&name, &error.into()))?;
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

    /// Starts again from the first sample.
    pub fn rewind(&mut self) {
        self.cursor = Cursor::default();
        self.next_sample.fill(0);
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

    /// Reads the current slice of a channel; `false` if nothing of it is new.
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

        let per_record = signal.samples_per_record;
        let (first, end) = (per_record * slice / slices, per_record * (slice + 1) / slices);
        let record_start = self.timeline.record_start(record, per_record, header.rate_hz(signal));
        let start = record_start + first as i64;
        let already_read = next_sample.saturating_sub_signed(start).min((end - first) as u64);
        let first = first + already_read as usize;
        if first == end {
            return Ok(false);
        }
        block.channel = channel;
        block.start = start.saturating_add_unsigned(already_read).unsigned_abs();
        block.samples.clear();
        *next_sample = block.start + (end - first) as u64;
        self.reader
            .physical(record, index, first..end, &mut block.samples)
            .map_err(|error| unreadable(&self.name, &error))?;
        Ok(true)
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
            let filled = self.read_slice(channel, slices, block)?;
            self.cursor.selected += 1;
            if filled {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn unreadable(name: &str, error: &EdfError) -> SourceError {
    let advice = match error {
        EdfError::Io(_) => "check the path, the permissions and the disk",
        _ => "export the recording again as EDF or EDF+",
    };
    SourceError::Unreadable(format!("{name} {error}; {advice}"))
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

/// Where the records lie in time. Memory grows with the number of holes, not of records.
#[derive(Debug)]
struct Timeline {
    /// Header's start to the first sample, seconds.
    first_sample_s: f64,
    /// Stretches of contiguous records by their first record, the first of them record 0.
    stretches: Vec<Stretch>,
    duration_s: f64,
}

#[derive(Debug)]
struct Stretch {
    first_record: u64,
    /// Seconds after the first sample of the recording.
    start_s: f64,
}

impl Timeline {
    fn read<R: Read + Seek>(
        reader: &mut RecordReader<R>,
        warnings: &mut Vec<String>,
    ) -> Result<Timeline, EdfError> {
        let first_onset = reader.record_onset_s(0)?;
        if reader.header().timekeeper().is_some() && first_onset.is_none() {
            warnings.push("the first record has no onset; 0 s is taken".into());
        }
        let first_sample_s = first_onset.filter(|s| s.abs() < MAX_ONSET_S).unwrap_or_default();
        if reader.header().continuity == Continuity::Discontinuous
            && reader.header().timekeeper().is_some()
        {
            return Timeline::scan(reader, first_sample_s, warnings);
        }
        let record_duration_s = reader.header().record_duration_s;
        let record_count = reader.header().record_count;
        let timeline = Timeline {
            first_sample_s,
            stretches: vec![Stretch { first_record: 0, start_s: 0.0 }],
            duration_s: record_count as f64 * record_duration_s,
        };
        let last = record_count.saturating_sub(1);
        if let Some(onset_s) = reader.record_onset_s(last)? {
            let late_s = onset_s - first_sample_s - last as f64 * record_duration_s;
            if late_s.abs() > record_duration_s {
                warnings.push(format!(
                    "marked as continuous, but the last record is {late_s:.1} s off; read as continuous"
                ));
            }
        }
        Ok(timeline)
    }

    /// Reads every record's onset.
    fn scan<R: Read + Seek>(
        reader: &mut RecordReader<R>,
        first_sample_s: f64,
        warnings: &mut Vec<String>,
    ) -> Result<Timeline, EdfError> {
        let record_duration_s = reader.header().record_duration_s;
        let mut stretches = vec![Stretch { first_record: 0, start_s: 0.0 }];
        let (mut follows_s, mut duration_s) = (0.0, 0.0_f64);
        let (mut unknown, mut holes, mut hole_s) = (0_u64, 0_u64, 0.0);
        let (mut overlaps, mut overlap_s) = (0_u64, 0.0);
        for record in 0..reader.header().record_count {
            let onset = reader.record_onset_s(record)?.map(|onset| onset - first_sample_s);
            let onset = onset.filter(|s| s.abs() < MAX_ONSET_S);
            unknown += u64::from(onset.is_none());
            let mut start_s = onset.unwrap_or(follows_s);
            if (start_s - follows_s).abs() <= ONSET_TOLERANCE_S {
                start_s = follows_s;
            } else {
                stretches.push(Stretch { first_record: record, start_s });
            }
            if start_s > duration_s + ONSET_TOLERANCE_S {
                holes += 1;
                hole_s += start_s - duration_s;
            } else if start_s < duration_s - ONSET_TOLERANCE_S {
                overlaps += 1;
                overlap_s += (duration_s - start_s).min(record_duration_s);
            }
            follows_s = start_s + record_duration_s;
            duration_s = duration_s.max(follows_s);
        }
        if unknown > 0 {
            warnings
                .push(format!("{unknown} record(s) without an onset; taken to follow the last"));
        }
        if holes > 0 {
            warnings.push(format!("{holes} hole(s) in the recording, {hole_s:.1} s in all"));
        }
        if overlaps > 0 {
            warnings.push(format!(
                "{overlaps} record(s) overlap earlier ones; {overlap_s:.1} s of them dropped"
            ));
        }
        Ok(Timeline { first_sample_s, stretches, duration_s })
    }

    /// Index of a record's first sample on a channel's time axis.
    fn record_start(&self, record: u64, samples_per_record: usize, rate_hz: f64) -> i64 {
        let behind = self.stretches.partition_point(|s| s.first_record <= record);
        let Some(stretch) = self.stretches.get(behind.saturating_sub(1)) else { return 0 };
        // Rounded once per stretch, so that rounding cannot open gaps between its records.
        let stretch_start = (stretch.start_s * rate_hz).round() as i64;
        stretch_start + (record - stretch.first_record) as i64 * samples_per_record as i64
    }
}
