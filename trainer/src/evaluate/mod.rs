//! Measuring heads on a part of a split: figures with what they need to be judged, as JSON, CSV and
//! charts.

pub mod apnea;
pub mod classification;
pub mod outputs;
pub mod plots;
pub mod replay;
pub mod report;
pub mod risk;
pub mod stages;
pub mod staging;
pub mod survival;
