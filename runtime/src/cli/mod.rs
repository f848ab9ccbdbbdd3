//! What the command line shows: progress while a recording runs, a summary at its end.

pub mod progress;
pub mod summary;
