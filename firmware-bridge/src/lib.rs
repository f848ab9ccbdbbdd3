//! The wire protocol that sensor firmware and the runtime share: messages, the frames they
//! travel in, and the packing of samples. `PROTOCOL.md` says the same byte by byte.
//!
//! For microcontrollers: no standard library, no allocation, no unsafe code. The encoder writes
//! into the caller's buffer, the decoder collects a frame in the caller's buffer and hands out
//! messages that borrow from it. It refuses, and goes on behind, whatever is no intact frame.
//! Nothing panics: `example`, a sensor's firmware, does not link if something can.
//!
//! ```
//! use sfm_firmware_bridge::{Decoder, FromHost, MAX_FRAME_BYTES, encode};
//!
//! let mut out = [0; MAX_FRAME_BYTES];
//! let frame = encode(&FromHost::TimeRequest { request: 7 }, &mut out).expect("it has room");
//!
//! let mut buffer = [0; MAX_FRAME_BYTES];
//! let mut decoder = Decoder::new(&mut buffer);
//! let mut received: &[u8] = frame;
//! while let Some(message) = decoder.push::<FromHost>(&mut received) {
//!     assert_eq!(message, Ok(FromHost::TimeRequest { request: 7 }));
//! }
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod cobs;
mod delta;
mod frame;
mod message;
mod sample;

pub use delta::MAX_DELTA_SAMPLES;
pub use frame::{Decoder, EncodeError, FrameError, MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES, encode};
pub use message::{
    ByeReason, Channel, Contact, FromDevice, FromHost, Hello, Mark, MarkKind, PROTOCOL_VERSION,
    SCHEMA_HASH, SampleRate, Samples, Status, TimeReply,
};
pub use sample::{SampleError, SampleFormat, SampleValues, pack, shortest_format};
