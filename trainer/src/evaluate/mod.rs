//! Measuring heads on a part of a split: figures with what they need to be judged, as JSON, CSV and
//! charts.

pub mod classification;
pub mod staging;
pub mod survival;
