//! What a simulated device measures: the samples of an EDF or BDF file, read as they are needed (one
//! batch of records in memory), or of a function. Outside the file and in its holes the last value
//! is held. Leaves out, with a warning, channels that the protocol cannot describe.

use std::fs::File;
use std::path::Path;

use sfm_firmware_bridge::SampleRate;

use super::{ChannelSpec, SimError};
use crate::edf::{Continuity, EdfError, Header, RecordReader, Signal};

/// A hole between records begins with this much, seconds.
const HOLE_S: f64 = 0.002;
/// A record placed further from the last than this has a damaged onset, seconds.
const MAX_HOLE_S: f64 = 7.0 * 86_400.0;
/// Rates are described as samples in at most so many seconds.
const MAX_RATE_SECONDS: u32 = 3600;

/// Samples by channel and index; index 0 is the recording's beginning.
pub enum Playback {
    /// From a file.
    Edf(Box<EdfPlayback>),
    /// Digital value of a channel ([`ChannelSpec::source`]) at an index.
    Function(Box<dyn FnMut(usize, u64) -> i32 + Send>),
}

impl std::fmt::Debug for Playback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Playback::Edf(_) => f.write_str("Playback::Edf"),
            Playback::Function(_) => f.write_str("Playback::Function"),
        }
    }
}

impl Playback {
    /// Replaces `out` by `count` values of `channel` from index `first`.
    ///
    /// # Errors
    /// [`SimError::Recording`] if the file cannot be read.
    pub fn read(
        &mut self,
        channel: usize,
        first: u64,
        count: usize,
        out: &mut Vec<i32>,
    ) -> Result<(), SimError> {
        out.clear();
        match self {
            Playback::Edf(edf) => edf.read(channel, first, count, out),
            Playback::Function(function) => {
                out.extend((first..).take(count).map(|index| function(channel, index)));
                Ok(())
            }
        }
    }
}

/// The samples of a file. Records that overlap earlier ones are played behind them.
#[derive(Debug)]
pub struct EdfPlayback {
    name: String,
    reader: RecordReader<File>,
    channels: Vec<ChannelSpec>,
    /// Index of each channel among the file's signals.
    signals: Vec<usize>,
    stretches: Vec<Stretch>,
    warnings: Vec<String>,
}

/// Contiguous records.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    first_record: u64,
    /// Seconds after the first sample of the recording.
    start_s: f64,
}

impl EdfPlayback {
    /// Opens a file.
    ///
    /// # Errors
    /// [`SimError::Recording`] if it cannot be read or no channel can be played.
    pub fn open(path: &Path) -> Result<Self, SimError> {
        let name = path.display().to_string();
        let refuse = |error: EdfError| SimError::Recording(format!("{name} {error}"));
        let file = File::open(path).map_err(|error| refuse(error.into()))?;
        let mut reader = RecordReader::new(file).map_err(refuse)?;
        let stretches = stretches(&mut reader).map_err(refuse)?;
        let (mut channels, mut signals, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        let header = reader.header();
        let measured = |s: &Signal| !s.is_annotation && s.samples_per_record > 0;
        for (index, signal) in header.signals.iter().enumerate().filter(|(_, s)| measured(s)) {
            match describe(header, signal, channels.len()) {
                Some(channel) => {
                    channels.push(channel);
                    signals.push(index);
                }
                None => warnings.push(format!(
                    "channel '{}' is left out: no device could describe its rate and range",
                    signal.label
                )),
            }
        }
        if channels.is_empty() || header.record_count == 0 {
            return Err(SimError::Recording(format!("{name} holds no samples that can be played")));
        }
        Ok(EdfPlayback { name, reader, channels, signals, stretches, warnings })
    }

    /// The channels that can be played.
    pub fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }

    /// What was left out, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// From the first sample to behind the last, holes included, seconds.
    pub fn duration_s(&self) -> f64 {
        let header = self.reader.header();
        self.stretches.last().map_or(0.0, |last| {
            let records = header.record_count.saturating_sub(last.first_record);
            last.start_s + records as f64 * header.record_duration_s
        })
    }

    fn read(
        &mut self,
        channel: usize,
        first: u64,
        count: usize,
        out: &mut Vec<i32>,
    ) -> Result<(), SimError> {
        let Some(&signal) = self.signals.get(channel) else {
            return Err(SimError::Recording(format!("{} has no channel {channel}", self.name)));
        };
        while out.len() < count {
            let (record, sample, run) = self.locate(signal, first + out.len() as u64);
            let length = run.min(count - out.len());
            let filled = out.len();
            // In a hole and behind the end one value is read, and held for the rest of it.
            let (wanted, held) = if run == 0 { (1, count - filled) } else { (length, length) };
            self.reader
                .digital(record, signal, sample..sample + wanted, out)
                .map_err(|error| SimError::Recording(format!("{} {error}", self.name)))?;
            if out.len() == filled {
                return Err(SimError::Recording(format!("{} became shorter", self.name)));
            }
            if run == 0 {
                let hole = self.hole(signal, first + filled as u64);
                let value = out.last().copied().unwrap_or_default();
                out.resize(filled + held.min(hole), value);
            }
        }
        Ok(())
    }

    /// Record and sample at an index, and how many follow in the record; 0: it lies in a hole or
    /// behind the end, and the place is that of the last sample before.
    fn locate(&self, signal: usize, index: u64) -> (u64, usize, usize) {
        let (per_record, start, next) = self.stretch(signal, index);
        let header = self.reader.header();
        let end_record =
            self.stretches.get(next).map_or(header.record_count, |stretch| stretch.first_record);
        let first_record = self.stretches.get(next - 1).map_or(0, |stretch| stretch.first_record);
        let offset = index.saturating_sub(start);
        let (record, sample) =
            (first_record + offset / per_record as u64, (offset % per_record as u64) as usize);
        if record < end_record {
            (record, sample, per_record - sample)
        } else {
            (end_record - 1, per_record - 1, 0)
        }
    }

    /// Samples from `index`, which lies in a hole, to the hole's end.
    fn hole(&self, signal: usize, index: u64) -> usize {
        let (per_record, _, next) = self.stretch(signal, index);
        let end = self.stretches.get(next).map(|s| self.start_of(s, per_record));
        end.map_or(usize::MAX, |end| (end - index) as usize)
    }

    /// Samples per record, index of the first sample of the stretch that an index belongs to, and
    /// the number of the stretch behind it (at least 1).
    fn stretch(&self, signal: usize, index: u64) -> (usize, u64, usize) {
        let signals = &self.reader.header().signals;
        let per_record = signals.get(signal).map_or(1, |s| s.samples_per_record);
        let next = self.stretches.partition_point(|s| self.start_of(s, per_record) <= index).max(1);
        let start = self.stretches.get(next - 1).map_or(0, |s| self.start_of(s, per_record));
        (per_record, start, next)
    }

    fn start_of(&self, stretch: &Stretch, per_record: usize) -> u64 {
        let rate_hz = per_record as f64 / self.reader.header().record_duration_s;
        (stretch.start_s * rate_hz).round() as u64
    }
}

fn stretches(reader: &mut RecordReader<File>) -> Result<Vec<Stretch>, EdfError> {
    let mut stretches = vec![Stretch { first_record: 0, start_s: 0.0 }];
    if reader.header().continuity != Continuity::Discontinuous {
        return Ok(stretches);
    }
    let record_s = reader.header().record_duration_s;
    let first_s = reader.record_onset_s(0)?.unwrap_or_default();
    let mut follows_s = record_s;
    for record in 1..reader.header().record_count {
        let onset_s = reader.record_onset_s(record)?.map(|onset_s| onset_s - first_s);
        let hole = HOLE_S..MAX_HOLE_S;
        if let Some(start_s) = onset_s.filter(|onset_s| hole.contains(&(onset_s - follows_s))) {
            stretches.push(Stretch { first_record: record, start_s });
            follows_s = start_s;
        }
        follows_s += record_s;
    }
    Ok(stretches)
}

fn describe(header: &Header, signal: &Signal, source: usize) -> Option<ChannelSpec> {
    let possible = signal.has_scale() && signal.digital_min < signal.digital_max;
    let (physical_min, physical_max) = (signal.physical_min as f32, signal.physical_max as f32);
    (possible && physical_min != physical_max).then_some(())?;
    Some(ChannelSpec {
        label: signal.label.clone(),
        unit: signal.unit.clone(),
        rate: rate(signal.samples_per_record, header.record_duration_s)?,
        digital_min: signal.digital_min,
        digital_max: signal.digital_max,
        physical_min,
        physical_max,
        source,
    })
}

/// The rate as whole samples in whole seconds.
fn rate(samples_per_record: usize, record_duration_s: f64) -> Option<SampleRate> {
    let rate_hz = samples_per_record as f64 / record_duration_s;
    (1..=MAX_RATE_SECONDS).find_map(|seconds| {
        let samples = rate_hz * f64::from(seconds);
        let whole = samples.round();
        let exact = (samples - whole).abs() <= 1e-9 * whole && (1.0..=1e6).contains(&whole);
        exact.then_some(SampleRate { samples: whole as u32, seconds })
    })
}
