//! Live sensors: from bytes on a link to samples in their places on the session's time axis.
//!
//! ```text
//! transport -> Port (frames) -> Session -> Device -> Reassembly -> Alignment -> DigitalBlock
//!                                             ClockFit ---------------^
//! ```
//! All of it runs on the links' thread; what it finds goes to the session's thread through a
//! queue. It never waits for inference or the disk.

pub mod admission;
pub mod align;
mod budget;
pub mod clock;
mod describe;
pub mod device;
pub mod event;
pub mod hub;
pub mod ledger;
pub mod live;
pub mod log;
pub mod lsl;
pub mod mark;
pub mod port;
mod probation;
pub mod reassembly;
pub mod refusals;
pub mod saved;
pub mod session;
mod slot;
pub mod standing;
mod tcp;
pub mod transport;
pub mod types;
mod udp;
mod waiting;
pub mod wire;
