//! The store, embeddings, labels and splits: against the reference's own files, against what
//! `sfm-stream` computes, and with input that must be refused.

// A test may panic.
#![allow(clippy::unwrap_used)]

mod commands;
mod damaged;
mod embeddings;
mod events;
mod made;
mod split;
mod stages;
mod store;
