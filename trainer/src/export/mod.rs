//! Export: the network as ONNX graphs, and a bundle around them.

pub mod bundle;
mod graphs;
mod onnx;

pub use graphs::{NamedGraph, base_graphs, risk_graphs, staging_graphs};
