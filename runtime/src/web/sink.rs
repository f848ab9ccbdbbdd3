//! Events of a run for the page. Only notes them in the room's memory: a browser that is slow or
//! gone is none of its concern. Runs on the sinks' thread.

use std::sync::Arc;

use super::room::Room;
use crate::event::Event;
use crate::sink::{Sink, SinkError};

/// Feeds a room.
#[derive(Debug)]
pub struct WebSink(pub Arc<Room>);

impl Sink for WebSink {
    fn name(&self) -> String {
        "the live page".to_owned()
    }

    fn is_output(&self) -> bool {
        false
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        self.0.take(event);
        Ok(())
    }

    fn publish(&mut self) -> Result<(), SinkError> {
        self.0.publish();
        Ok(())
    }
}
