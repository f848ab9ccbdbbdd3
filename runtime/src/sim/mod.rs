//! Simulated sensors: a recording played as one or many devices that speak the wire protocol, with
//! seeded faults and an exact account of them. [`Sensor`] is the deterministic core: true time and
//! the host's bytes in, frames out, without sockets, threads or clocks. `links` paces it over UDP,
//! TCP and serial lines for `sfm-sim`. Refuses what no device could say (see [`SensorSpec`]); a
//! device that says it nonetheless is [`Hostile`].
//!
//! **True time** runs in seconds, at `--speed` times the wall's. **Recording time** is true time
//! since the first device of a bed was started, rounded up to a whole second; at recording time `u`
//! the world is what the file holds at `from_s + u`, for all devices alike. A device begins to take
//! samples at the next whole second after its *start*, so that without drift it sends the file's own
//! values.

pub mod cli;
mod faults;
mod hostile;
mod ledger;
mod links;
mod memory;
mod plan;
mod playback;
mod queue;
mod report;
mod sampler;
mod sensor;
mod spec;
#[cfg(test)]
mod tests;

pub use faults::{Faults, MAX_REORDER_S};
pub use hostile::{Hostile, HostileKind};
pub use plan::{LeadOff, Plan, PlanSpec, Span};
pub use playback::{EdfPlayback, Playback};
pub use report::{Cause, ChannelReport, DeviceReport, LostRange, Report, SessionReport};
pub use sensor::Sensor;
pub use spec::{ChannelSpec, Link, SensorSpec, deal, device_id};

/// Why a simulation cannot start or go on. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// What is asked for is impossible.
    #[error("{0}")]
    Spec(String),
    /// The recording cannot be read.
    #[error("{0}")]
    Recording(String),
    /// A link or a file of the simulator's own failed.
    #[error("{0}")]
    Failed(String),
}

/// What leaves a simulated device, in order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Packet<'a> {
    /// Bytes that reach the host: one frame; the first of a connection has a zero byte before it.
    Frame {
        /// True time at which it leaves, seconds.
        at_s: f64,
        /// The frame as sent.
        bytes: &'a [u8],
    },
    /// The link breaks: a stream is closed here, nothing passes in either direction.
    LinkDown {
        /// True time, seconds.
        at_s: f64,
    },
    /// The link can be used again: a stream is to be connected anew.
    LinkUp {
        /// True time, seconds.
        at_s: f64,
    },
}
