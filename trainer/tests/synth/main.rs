//! Simulated cohorts: the same bytes for a seed however they are made, files that agree with one
//! another, physiology within the figures of textbooks and the AASM manual, outcomes that follow
//! from traits. Nights of minutes; whole nights are judged by `tests/foreign/synth_judge.py`.

// A test may panic.
#![allow(clippy::unwrap_used)]

mod body;
mod cohorts;
mod files;
mod outcomes;
mod refusals;
mod sleep;
