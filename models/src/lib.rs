//! The contract between the trainer and the runtime: the vocabulary of modalities and sleep
//! stages, the bundle manifest, the graphs' inputs and outputs, and reading and writing of
//! `.sfm` bundles. Depends on no inference engine.

#![forbid(unsafe_code)]

pub mod bundle;
pub mod graph;
pub mod manifest;
mod quantiles;
pub mod vocabulary;

pub use bundle::{Bundle, BundleError, BundleWriter, Label};
pub use manifest::Manifest;
pub use quantiles::ReferenceQuantiles;
pub use vocabulary::{EPOCH_S, EPOCH_SECONDS, Modality, SleepStage};
