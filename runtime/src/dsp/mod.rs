//! From a channel's own samples to z-scored patches on the network's time grid.
//!
//! A channel goes through [`condition::Conditioner`] (zero-phase low-pass, linear resampling),
//! [`patch::PatchBuf`] (patches aligned to the recording's start) and [`normalize`] (z-score).
//! Plain structs that own their buffers: no allocation after warm-up, no clock, and the output
//! is the same to the last bit however the input is cut into blocks.

pub mod butterworth;
pub mod condition;
pub mod filter;
pub mod normalize;
pub mod patch;
pub mod resample;

pub use condition::{Conditioner, GridPoints};
pub use normalize::{ChannelStats, RunningStats};
pub use patch::PatchBuf;

/// A channel or a preprocessing description that these steps cannot serve.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DspError {
    /// Sampling rate that is not a number, not positive or beyond [`condition::MAX_RATE_HZ`].
    #[error("sampling rate of {0} Hz is outside 0 to 1,000,000 Hz; leave the channel out")]
    Rate(f64),
    /// Preprocessing with a zero rate, an empty patch, or a low-pass that cannot be designed.
    #[error("preprocessing cannot be used: {0}; the bundle must be exported again")]
    Preprocessing(String),
}
