//! The files of the output folder, from events made up here: no network runs.
//!
//! With `SFM_PYTHON=python` (one that has h5py, mne, pyedflib, edfio, yasa; all but h5py may be missing)
//! the files are read by `tests/foreign/*.py` too; `SFM_SINKS_OUT=DIR` keeps the folder they read.

mod embeddings;
mod files;
mod foreign;
mod kill;
mod queue;
mod restore;
mod statistics;
mod synthetic;
