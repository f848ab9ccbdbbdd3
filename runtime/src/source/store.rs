//! The reference's preprocessed HDF5 as a source: one float data set a channel, filtered, at
//! 128 Hz and z-scored, named by its label. Holds one piece of each channel. Skips data sets that
//! are no such channel; refuses files without any.

use std::path::Path;

use rust_hdf5::{DatatypeMessage, H5Dataset, H5File, Hdf5Error};

use super::{Source, SourceError};
use crate::signal::{SampleBlock, SignalInfo, StreamInfo};

/// The network's rate, which the store is at.
const RATE_HZ: f64 = 128.0;
/// Samples read at once, about 4 min, rounded up to whole chunks of the data set.
const PIECE_SAMPLES: usize = 1 << 15;
/// Chunks beyond this (2.3 h) are read in parts, though each part decompresses the chunk again.
const MAX_PIECE_SAMPLES: usize = 1 << 20;
/// The library allocates chunks by the size the file claims; 36 h of a channel are enough.
const MAX_CHUNK_SAMPLES: usize = 1 << 24;
/// 7 days: a longer data set is damage, not sleep. One that was never filled takes no room in the
/// file.
const MAX_SAMPLES: usize = 7 * 86_400 * 128;
/// More data sets than any montage has channels.
const MAX_CHANNELS: usize = 4096;

/// The channels of a preprocessed recording; values are z-scores.
pub struct StoreSource {
    name: String,
    info: StreamInfo,
    channels: Vec<Channel>,
    selected: Vec<usize>,
    block_samples: usize,
    /// Index of the current block's first sample.
    position: usize,
    /// Index into `selected` of the next channel at `position`.
    turn: usize,
}

struct Channel {
    dataset: H5Dataset,
    /// Bytes of one stored float: 2, 4 or 8.
    float_bytes: usize,
    samples: usize,
    /// Samples read at once, a chunk where possible.
    piece_samples: usize,
    piece_start: usize,
    piece: Vec<f32>,
}

impl StoreSource {
    /// Opens a file.
    ///
    /// # Errors
    /// [`SourceError::Unreadable`] if it is no HDF5, damaged, or holds no channel.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let name = path.display().to_string();
        let file = H5File::options()
            .best_effort_locking()
            .open(path)
            .map_err(|error| unreadable(&name, &error))?;
        let mut warnings = Vec::new();
        let mut channels = Vec::new();
        let mut signals = Vec::new();
        for label in file.dataset_names().into_iter().take(MAX_CHANNELS) {
            match file.dataset(&label).map_err(|e| one_line(&e)).and_then(Channel::new) {
                Ok(channel) => {
                    channels.push(channel);
                    signals.push(z_scored(label));
                }
                Err(reason) => warnings.push(format!("data set '{label}' {reason}; left out")),
            }
        }
        if channels.is_empty() {
            return Err(SourceError::Unreadable(format!(
                "{name} holds no data set of one float channel each; give EDF, or preprocess again"
            )));
        }
        let samples = channels.iter().map(|c| c.samples).max().unwrap_or_default();
        let info = StreamInfo {
            format: "HDF5 (preprocessed)".to_owned(),
            start: None,
            duration_s: Some(samples as f64 / RATE_HZ),
            preprocessed: true,
            signals,
            warnings,
        };
        Ok(StoreSource {
            name,
            info,
            selected: (0..channels.len()).collect(),
            channels,
            block_samples: RATE_HZ as usize,
            position: 0,
            turn: 0,
        })
    }

    /// Blocks of at most `samples` (at least 1); default 128, 1 s.
    #[must_use]
    pub fn with_block_samples(mut self, samples: usize) -> Self {
        self.block_samples = samples.clamp(1, MAX_PIECE_SAMPLES);
        self
    }

    /// Restricts reading to these channels (indices into [`StreamInfo::signals`]; others are
    /// ignored) and rewinds.
    pub fn select(&mut self, channels: &[usize]) {
        self.selected = channels.iter().copied().filter(|&c| c < self.channels.len()).collect();
        self.rewind();
    }

    /// Starts again from the first sample.
    pub fn rewind(&mut self) {
        self.position = 0;
        self.turn = 0;
    }
}

impl Source for StoreSource {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next_block(&mut self, block: &mut SampleBlock) -> Result<bool, SourceError> {
        let lengths = self.selected.iter().filter_map(|&c| self.channels.get(c));
        let longest = lengths.map(|c| c.samples).max().unwrap_or_default();
        while self.position < longest {
            let Some(&index) = self.selected.get(self.turn) else {
                self.turn = 0;
                self.position += self.block_samples;
                continue;
            };
            self.turn += 1;
            let Some(channel) = self.channels.get_mut(index) else { continue };
            block.channel = index;
            block.start = self.position as u64;
            block.samples.clear();
            channel
                .read(self.position, self.block_samples, &mut block.samples)
                .map_err(|error| unreadable(&self.name, &error))?;
            if block.samples.is_empty() {
                // A channel that ends before the others: nobody is to wait for it.
                let decided = self.position.saturating_add(self.block_samples).min(longest);
                block.start = decided as u64;
            }
            return Ok(true);
        }
        Ok(false)
    }
}

impl Channel {
    /// The data set, or why it is no channel.
    fn new(dataset: H5Dataset) -> Result<Channel, String> {
        let [samples] = dataset.shape()[..] else {
            return Err(format!("has {} dimensions instead of 1", dataset.shape().len()));
        };
        if !(1..=MAX_SAMPLES).contains(&samples) {
            return Err(format!("has {samples} samples"));
        }
        let float_bytes = match dataset.datatype().map_err(|error| one_line(&error))? {
            DatatypeMessage::FloatingPoint { size: size @ (2 | 4 | 8), .. } => size as usize,
            _ => return Err("holds no floats".to_owned()),
        };
        let chunk = match dataset.chunk_dims().as_deref() {
            None => 1,
            Some(&[samples]) if (1..=MAX_CHUNK_SAMPLES).contains(&samples) => samples,
            Some(dims) => return Err(format!("has chunks of {dims:?} samples")),
        };
        let piece_samples = PIECE_SAMPLES.next_multiple_of(chunk).min(MAX_PIECE_SAMPLES);
        Ok(Channel {
            dataset,
            float_bytes,
            samples,
            piece_samples,
            piece_start: 0,
            piece: Vec::new(),
        })
    }

    /// Appends samples `start..start + count`, as many as there are.
    fn read(&mut self, start: usize, count: usize, out: &mut Vec<f32>) -> Result<(), Hdf5Error> {
        let end = self.samples.min(start.saturating_add(count));
        let mut position = start;
        while position < end {
            let held = self.piece_start..self.piece_start + self.piece.len();
            if !held.contains(&position) {
                self.load(position)?;
                continue;
            }
            let stop = end.min(held.end);
            let range = position - held.start..stop - held.start;
            out.extend_from_slice(self.piece.get(range).unwrap_or_default());
            position = stop;
        }
        Ok(())
    }

    /// Reads the piece that holds a sample.
    fn load(&mut self, sample: usize) -> Result<(), Hdf5Error> {
        let start = sample - sample % self.piece_samples;
        let count = self.piece_samples.min(self.samples - start);
        self.piece.clear();
        self.piece = match self.float_bytes {
            8 => {
                let wide = self.dataset.read_numeric_slice_as::<f64>(&[start], &[count])?;
                wide.into_iter().map(|value| value as f32).collect()
            }
            _ => self.dataset.read_numeric_slice_as::<f32>(&[start], &[count])?,
        };
        self.piece_start = start;
        if self.piece.len() != count {
            return Err(Hdf5Error::InvalidState("a data set ends before its length".into()));
        }
        Ok(())
    }
}

fn z_scored(label: String) -> SignalInfo {
    SignalInfo {
        label,
        rate_hz: RATE_HZ,
        unit: String::new(),
        physical_min: 0.0,
        physical_max: 0.0,
        digital_min: 0,
        digital_max: 0,
    }
}

fn one_line(error: &Hdf5Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn unreadable(name: &str, error: &Hdf5Error) -> SourceError {
    let reason = one_line(error);
    SourceError::Unreadable(format!("{name} is a damaged HDF5 file: {reason}; preprocess again"))
}
