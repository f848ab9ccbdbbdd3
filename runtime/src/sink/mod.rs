//! Where events go. Sinks run on their own thread behind a queue; a sink that fails is reported
//! once and left out from then on, the others go on.

use crate::event::Event;

/// Takes events in order.
pub trait Sink: Send {
    /// The sink's name in messages, e.g. the file it writes.
    fn name(&self) -> String;

    /// Takes one event.
    ///
    /// # Errors
    /// One sentence with the file and the reason; the sink is not called again.
    fn take(&mut self, event: &Event) -> Result<(), SinkError>;

    /// The last pass is over: completes what is open.
    ///
    /// # Errors
    /// As [`Sink::take`].
    fn finish(&mut self) -> Result<(), SinkError>;
}

/// Why a sink cannot go on: one sentence with the file and the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);
