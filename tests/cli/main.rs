//! `sfm-stream` as its user meets it: the binary, its exit codes, what it prints and the files it
//! leaves, on real, odd and damaged recordings.

mod bundles;
mod damaged;
mod engines;
mod formats;
mod holes;
mod inspect;
mod odd;
mod output;
mod real;
mod recordings;
mod run;
mod stopped;
mod text;
mod usage;
