//! Import of PyTorch checkpoints and export of their graphs: against what the PyTorch reference
//! computed from the same weights, against tract, and against input that must be refused.

// A test may panic.
#![allow(clippy::unwrap_used)]

mod data;
mod engine;
mod graphs;
mod parity;
mod refusals;
mod sizes;
