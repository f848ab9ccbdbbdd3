//! `sfm-stream` as its user meets it: the binary, its exit codes, what it prints and the files it
//! leaves, on real, odd and damaged recordings.

mod bundles;
mod claims;
mod damaged;
mod engines;
mod field;
mod formats;
mod graphs;
mod holes;
#[cfg(unix)]
mod inputs;
mod inspect;
mod odd;
mod output;
mod real;
mod recordings;
mod run;
mod score;
#[path = "../skip.rs"]
mod skip;
#[path = "../snapshot.rs"]
mod snapshot;
mod snapshots;
mod stopped;
mod text;
mod usage;
