//! The fused operations: against PyTorch's outputs and gradients, which
//! `tests/foreign/train_goldens.py` computed, and against the chains of burn's operations.

#![allow(clippy::unwrap_used)]

mod chains;
mod fill;
mod goldens;
