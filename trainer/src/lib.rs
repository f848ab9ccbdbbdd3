//! Trains SleepFM networks and writes them as model bundles. What exists so far: the network
//! as burn modules, import of published PyTorch checkpoints, export of bundles.

#![recursion_limit = "256"]

pub mod chart;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
pub mod embed;
pub mod evaluate;
pub mod export;
pub mod finetune;
pub mod import;
pub mod jobs;
pub mod loss;
pub mod memory;
pub mod metrics;
pub mod network;
pub mod nn;
pub mod optim;
pub mod preprocess;
pub mod pretrain;
pub mod recipe;
pub mod run;
pub mod synth;
