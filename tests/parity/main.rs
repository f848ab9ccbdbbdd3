//! The runtime's whole path beside the PyTorch reference: from the reference's own preprocessing
//! to 1e-4, from the EDF file by cosine, live beside final, and whatever must not matter.

mod from_edf;
mod from_store;
mod invariance;
mod live;
mod run;
