//! Marks that a person makes at the host: lights off and on, and whatever else is worth a mark.
//! They go the way of a sensor's: into the session log, and from there to `annotations.edf`. The
//! button may be pressed on any thread and never waits; it refuses when nobody takes marks.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use serde::{Deserialize, Serialize};
use sfm_firmware_bridge::MarkKind;

use super::clock::{HostClock, HostSeconds};
use super::describe::mark_text;

/// Marks on their way; they are taken ten times a second.
const QUEUE: usize = 32;

/// What is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// The lights go off: the night begins.
    LightsOff,
    /// The lights go on: the night is over.
    LightsOn,
    /// Anything else.
    Event,
}

impl Mark {
    /// As `annotations.edf` has it.
    pub fn text(self) -> &'static str {
        mark_text(match self {
            Mark::LightsOff => MarkKind::LightsOff,
            Mark::LightsOn => MarkKind::LightsOn,
            Mark::Event => MarkKind::Button,
        })
    }
}

/// A mark and when it was made.
pub(super) type Marked = (HostSeconds, Mark);

/// The end for people.
#[derive(Debug)]
pub struct MarkButton {
    clock: HostClock,
    queue: SyncSender<Marked>,
}

/// The session's end.
#[derive(Debug)]
pub struct Marks(pub(super) Receiver<Marked>);

/// A button and the session's end of it, on the session's clock.
pub fn button(clock: HostClock) -> (MarkButton, Marks) {
    let (queue, marks) = sync_channel(QUEUE);
    (MarkButton { clock, queue }, Marks(marks))
}

impl MarkButton {
    /// Marks this moment.
    ///
    /// # Errors
    /// One sentence: the session is over, or more marks come than can be taken.
    pub fn press(&self, mark: Mark) -> Result<(), &'static str> {
        self.queue.try_send((self.clock.now_s(), mark)).map_err(|refused| match refused {
            TrySendError::Full(_) => "too many marks at a time; try again",
            TrySendError::Disconnected(_) => "the session is over",
        })
    }
}
