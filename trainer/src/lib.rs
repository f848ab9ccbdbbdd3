//! Trains SleepFM networks and writes them as model bundles. What exists so far: the network
//! as burn modules, import of published PyTorch checkpoints, export of bundles.

#![recursion_limit = "256"]

pub mod checkpoint;
pub mod cli;
pub mod export;
pub mod import;
pub mod memory;
pub mod nn;
