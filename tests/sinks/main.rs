//! The files of the output folder, from events made up here: no network runs.
//!
//! `SFM_SINKS_OUT=DIR` keeps the folder of one night for `tests/foreign/*.py`; with
//! `SFM_PYTHON=python` (one that has h5py) the files of killed runs are opened with h5py as well.

mod embeddings;
mod files;
mod kill;
mod queue;
mod statistics;
mod synthetic;
