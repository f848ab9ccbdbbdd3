//! The EDF reader and writer and the recordings as sources: good files, the files real recorders
//! write, and everything that must be refused.

mod allocation;
mod bad;
mod files;
mod fuzz;
mod recorder;
mod recordings;
mod store;
mod timeline;
