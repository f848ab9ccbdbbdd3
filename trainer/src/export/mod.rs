//! Export: the network as ONNX graphs, and a bundle around them.

pub mod bundle;
mod graphs;
mod onnx;
pub mod read;
pub mod verify;

pub use graphs::{NamedGraph, apnea_graphs, base_graphs, risk_graphs, staging_graphs};
