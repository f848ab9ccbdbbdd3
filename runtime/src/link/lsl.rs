//! Lab Streaming Layer: each stream becomes a device that speaks the wire protocol over an
//! in-process pipe, so that everything behind it (clocks, gaps, reconnection) is that of a sensor.
//! A thread of its own for each stream; it ends when its [`LslDevice`] is dropped. Refuses streams
//! of text, of 64-bit integers, without a rate, or with more than 255 channels.
//!
//! Integers pass exactly, one digital step a unit. Floating-point values are rounded to steps of
//! 0.01 of their unit between -80,000 and 80,000 (volts and millivolts are taken as microvolts
//! first), and saturate there; one that is no number is a lost sample of its channel.

mod library;
pub mod outlet;
mod slots;
mod speaker;

use std::collections::HashSet;
use std::sync::mpsc;
use std::time::Duration;

use library::{Inlet, Library, StreamInfo, ValueKind};
use speaker::Speaker;

/// Frames that wait for the host; then the library keeps the samples.
const QUEUE_FRAMES: usize = 1024;
/// Once a stream is found, others have so long to answer the query.
const OTHERS_WITHIN: Duration = Duration::from_secs(1);
/// Opening a stream that was found.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
const MAX_RATE_HZ: f64 = 100_000.0;

/// Why there is no stream to read.
#[derive(Debug, thiserror::Error)]
pub enum LslError {
    /// The library is not there.
    #[error(
        "liblsl was not found ({0}); install it, or `pip install pylsl` and set SFM_LIBLSL to its \
         liblsl.so"
    )]
    Library(String),
    /// The library does not understand the query.
    #[error("LSL query `{0}` is not understood; it is a condition like type='EEG' or name='bed 3'")]
    Query(String),
    /// No stream answered.
    #[error("no LSL stream matches `{0}`; is its sender running on this network?")]
    NoStream(String),
    /// A stream of our own is refused.
    #[error("liblsl refuses this name for a stream")]
    Outlet,
    /// Streams answered, but none can be used.
    #[error("LSL stream {0}")]
    Refused(String),
}

/// One stream as a device: frames out, frames in.
pub struct LslDevice {
    /// Bytes of frames of [`FromDevice`](sfm_firmware_bridge::FromDevice).
    pub frames: tokio::sync::mpsc::Receiver<Vec<u8>>,
    /// Bytes of frames of [`FromHost`](sfm_firmware_bridge::FromHost).
    pub host: mpsc::Sender<Vec<u8>>,
}

/// Streams that match `query` (a condition of XPath on the stream's description) now, waiting up to
/// `timeout` for the first; one device a stream. A stream that cannot be used is left out with a
/// warning. Blocks.
///
/// # Errors
/// [`LslError`] if there is no usable stream.
pub fn open(query: &str, timeout: Duration) -> Result<Vec<LslDevice>, LslError> {
    let library = Library::load()?;
    if library.resolve(query, 1, timeout)?.is_empty() {
        return Err(LslError::NoStream(query.escape_debug().to_string()));
    }
    let mut refusals = Vec::new();
    let mut devices = Vec::new();
    let mut seen = HashSet::new();
    for found in library.resolve(query, usize::MAX, OTHERS_WITHIN)? {
        if !seen.insert(found.uid()) {
            continue;
        }
        match Stream::open(&found).and_then(|stream| device(library, stream)) {
            Ok(device) => devices.push(device),
            Err(reason) => {
                let refusal = format!("`{}` {reason}", found.name());
                tracing::warn!("LSL stream {refusal}");
                refusals.push(refusal);
            }
        }
    }
    match refusals.into_iter().next() {
        _ if !devices.is_empty() => Ok(devices),
        Some(refusal) => Err(LslError::Refused(refusal)),
        None => Err(LslError::NoStream(query.escape_debug().to_string())),
    }
}

fn device(library: &'static Library, stream: Stream) -> Result<LslDevice, String> {
    let (send_frames, frames) = tokio::sync::mpsc::channel(QUEUE_FRAMES);
    let (host, from_host) = mpsc::channel();
    let speaker = Speaker::new(library, stream, send_frames, from_host);
    std::thread::Builder::new()
        .name("lsl".into())
        .spawn(move || speaker.run())
        .map_err(|error| format!("gets no thread: {error}"))?;
    Ok(LslDevice { frames, host })
}

/// A stream that is open, and what is known of it.
struct Stream {
    inlet: Inlet,
    info: StreamInfo,
    rate_hz: f64,
    kind: ValueKind,
    channels: usize,
}

impl Stream {
    /// Opens a stream that can be used; else says why not.
    fn open(found: &StreamInfo) -> Result<Self, String> {
        let (rate_hz, kind, channels) =
            (found.rate_hz(), found.value_kind(), found.channel_count());
        if kind == ValueKind::Other {
            return Err("holds text or 64-bit integers, not signals".into());
        }
        if !(rate_hz > 0.0 && rate_hz <= MAX_RATE_HZ) {
            return Err(format!("has a rate of {rate_hz} Hz; signals have a fixed rate"));
        }
        if channels == 0 || channels > usize::from(u8::MAX) {
            return Err(format!("has {channels} channels; 1 to 255 are possible"));
        }
        let inlet = Inlet::open(found, OPEN_WITHIN).map_err(|_| "does not open")?;
        let info = inlet.full_info(OPEN_WITHIN).map_err(|_| "does not describe itself")?;
        Ok(Self { inlet, info, rate_hz, kind, channels })
    }
}
