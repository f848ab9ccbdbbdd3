//! Pretraining: losses and updates against PyTorch, batches against the store they are read from,
//! and whole runs through the program: resumption, interruption, bad input.

// A test may panic.
#![allow(clippy::unwrap_used)]

mod batches;
mod cohort;
mod configuration;
mod devices;
mod losses;
mod network;
mod refusals;
mod runs;
mod updates;
