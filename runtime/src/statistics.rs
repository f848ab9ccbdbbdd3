//! Sleep statistics of one night by the definitions of the AASM manual.

use serde::Serialize;

/// placeholder
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SleepStatistics {}
