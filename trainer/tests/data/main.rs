//! The store, embeddings, labels and splits: against the reference's own files, against what
//! `sfm-stream` computes, and with input that must be refused.

// A test may panic.
#![allow(clippy::unwrap_used)]

mod commands;
mod damaged;
mod embeddings;
mod events;
mod help;
mod made;
#[allow(dead_code)]
#[path = "../../../tests/snapshot.rs"]
mod snapshot;
mod split;
mod stages;
mod store;
