//! What training makes small.

pub mod contrastive;
pub mod cox;
