//! The network as burn modules, one module and its `Config` per file.
//!
//! Shapes, activations and the order of operations are those of SleepFM (Thapa et al.); masks
//! are float tensors, 1 = present, 0 = absent. With nothing absent every module computes what
//! the reference does. Dropout acts only on an autodiff backend.

pub mod apnea;
pub mod base;
pub mod demographics;
pub mod encoder;
pub mod kernels;
pub mod lstm;
pub mod pooling;
pub mod position;
pub mod risk;
pub mod stager;
pub mod tokenizer;
pub mod transformer;

pub use apnea::{Apnea, ApneaHead, ApneaHeadConfig};
pub use base::{Base, BaseConfig};
pub use demographics::{DemographicsHead, DemographicsHeadConfig};
pub use encoder::{Encoded, Encoder, EncoderConfig};
pub use kernels::{Kernels, TrainBackend};
pub use lstm::{BiLstm, BiLstmConfig};
pub use pooling::{Pooling, PoolingConfig};
pub use position::{PositionalTable, PositionalTableConfig};
pub use risk::{Hazards, RiskHead, RiskHeadConfig};
pub use stager::{Stager, StagerConfig};
pub use tokenizer::{Tokenizer, TokenizerConfig};
pub use transformer::{TransformerLayer, TransformerLayerConfig};
