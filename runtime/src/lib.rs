//! PSG channels to sleep stages and an overnight risk embedding, live or from a file.
//!
//! The straight line is [`pipeline`]; everything else is a step of it or one of the seams
//! [`source::Source`], [`infer::Session`] and [`sink::Sink`].

pub mod dsp;
pub mod edf;
pub mod infer;
pub mod montage;
pub mod signal;
pub mod source;
