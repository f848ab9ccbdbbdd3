//! Where the events of a run go: the sinks, and stdout with `--json`.

use super::{Failure, say, show};
use crate::event::Event;
use crate::sink::{self, Sinks};

/// Where events go: the sinks, and stdout with `--json`.
pub(super) struct Output {
    pub sinks: Sinks,
    pub json: bool,
    /// Why stdout took no more; the files are still written then.
    pub shown: Result<(), Failure>,
}

impl Output {
    /// Hands an event to all of them, and tells the user of a sink that failed.
    pub fn send(&mut self, event: Event) {
        if self.json && self.shown.is_ok() {
            self.shown = match sink::json_line(&event) {
                Ok(line) => show(&line),
                Err(e) => Err(Failure::run(format!("an event cannot be written as JSON: {e}"))),
            };
        }
        self.sinks.send(event);
        for failure in self.sinks.failures() {
            say(&format!("warning: {failure}"));
        }
    }
}
