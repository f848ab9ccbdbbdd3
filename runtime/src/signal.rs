//! What a source yields: a description of its channels, then blocks of samples in physical
//! units. Owned by no thread; plain data.

pub use sfm_edf::Scale;

/// A recording or a live session as its source describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamInfo {
    /// Format in words, e.g. `EDF+C`, `BDF`, `HDF5 (preprocessed)`.
    pub format: String,
    /// Start as written in the source, local time of the recorder, `YYYY-MM-DDThh:mm:ss[.fff]`;
    /// `None` where it is absent or not a date.
    pub start: Option<String>,
    /// Time from the first to behind the last sample, seconds, gaps included; `None` while live.
    pub duration_s: Option<f64>,
    /// Samples are already filtered, at the network's rate and z-scored.
    pub preprocessed: bool,
    /// The channels, in the source's order; annotation channels are not among them.
    pub signals: Vec<SignalInfo>,
    /// What was odd but did not prevent reading, one sentence each, for the user.
    pub warnings: Vec<String>,
}

/// One channel of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalInfo {
    /// Label as written, trimmed; Latin-1 bytes are decoded as such. Need not be unique.
    pub label: String,
    /// Nominal sampling rate, Hz.
    pub rate_hz: f64,
    /// Physical dimension as written, e.g. `uV`.
    pub unit: String,
    /// Physical value of `digital_min`.
    pub physical_min: f64,
    /// Physical value of `digital_max`.
    pub physical_max: f64,
    /// Smallest digital value.
    pub digital_min: i32,
    /// Largest digital value.
    pub digital_max: i32,
}

impl SignalInfo {
    /// How digital values become physical ones; `None` where the limits define no scale.
    pub fn scale(&self) -> Option<Scale> {
        Scale::new((self.digital_min, self.digital_max), (self.physical_min, self.physical_max))
    }
}

/// Contiguous digital samples of one channel of a live session, as its sensor sent them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DigitalBlock {
    /// Index into [`StreamInfo::signals`].
    pub channel: usize,
    /// Index of the first sample on the channel's time axis, as in [`SampleBlock::start`]. Blocks
    /// of a channel come in order and do not overlap; a jump is a gap.
    pub start: u64,
    /// Digital values. A block without any says that what lies before `start` and has not come
    /// will not come.
    pub samples: Vec<i32>,
}

/// Contiguous samples of one channel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SampleBlock {
    /// Index into [`StreamInfo::signals`].
    pub channel: usize,
    /// Index of the first sample on the channel's own time axis: it lies `start / rate_hz`
    /// seconds behind the start of the recording. A jump from one block to the next is a gap.
    pub start: u64,
    /// Physical values. A block without any says that what lies before `start` and has not come
    /// will not come: nobody waits for it any longer.
    pub samples: Vec<f32>,
}
