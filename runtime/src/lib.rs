//! PSG channels to sleep stages and an overnight risk embedding, live or from a file.
//!
//! The straight line is [`pipeline`]; everything else is a step of it or one of the seams
//! [`source::Source`], [`infer::Session`] and [`sink::Sink`].

pub mod batch;
pub mod caught;
pub mod cli;
pub mod dsp;
pub mod encode;
pub mod event;
pub mod files;
pub mod hazards;
pub mod health;
pub mod infer;
pub mod intake;
pub mod journal;
pub mod lights;
pub mod link;
mod modality_pool;
pub mod montage;
pub mod night;
pub mod pipeline;
pub mod publish;
pub mod quality;
mod rate;
pub mod recorder;
pub mod ring;
pub mod service;
pub mod session_folder;
pub mod signal;
pub mod sim;
pub mod sink;
#[cfg(test)]
#[path = "../../tests/skip.rs"]
mod skip;
pub mod source;
pub mod staging;
pub mod telemetry;
pub mod text;
pub mod timing;
pub mod web;

pub use sfm_edf as edf;
pub use sfm_hypnogram::{self as hypnogram, confusion, statistics};
