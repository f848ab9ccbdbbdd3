//! One TOML a run: sizes of the network, and a section for each thing that is trained. A section
//! that is not given has its defaults, an unknown key is refused.

use serde::{Deserialize, Serialize};

use crate::finetune::apnea::ApneaRecipe;
use crate::finetune::risk::RiskRecipe;
use crate::finetune::staging::StagingRecipe;
use crate::network::NetworkConfig;
use crate::pretrain::PretrainConfig;

/// A run's TOML.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// The base network.
    pub network: NetworkConfig,
    /// `sfm-train pretrain`.
    pub pretrain: PretrainConfig,
    /// `sfm-train finetune staging`.
    pub staging: StagingRecipe,
    /// `sfm-train finetune risk`.
    pub risk: RiskRecipe,
    /// `sfm-train finetune apnea`.
    pub apnea: ApneaRecipe,
}
