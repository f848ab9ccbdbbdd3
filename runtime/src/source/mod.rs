//! Where samples come from. A source runs on its own thread and knows sequence numbers, so it
//! is the only place that can tell a gap from silence.

pub mod edf;
pub mod recording;
pub mod store;

pub use recording::{Recording, open};

use crate::signal::{SampleBlock, StreamInfo};

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The input cannot be read at all: one sentence with the file, the reason and what to do.
    #[error("{0}")]
    Unreadable(String),
}

/// Yields the samples of a recording or of a live session.
pub trait Source: Send {
    /// The channels and what is known of the recording.
    fn info(&self) -> &StreamInfo;

    /// Fills `block` with the next samples of one channel, reusing its buffer; `Ok(false)` at the
    /// end. Blocks of one channel come in order of time; a jump of `block.start` is a gap. Nobody
    /// downstream guesses that a channel has fallen silent: the source decides it, by blocks
    /// without samples, and keeps the selected channels within a minute of each other.
    ///
    /// # Errors
    /// [`SourceError::Unreadable`] if the input breaks off in a way that is not merely an end.
    fn next_block(&mut self, block: &mut SampleBlock) -> Result<bool, SourceError>;

    /// The source can wait for the pipeline, as a file can. Asked after every block: a session
    /// that begins with what was recorded before waits first and then does not. Blocks of one
    /// that does not wait are dropped when a ring is full.
    fn can_wait(&self) -> bool {
        true
    }
}
