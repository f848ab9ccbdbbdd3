//! What the networks are trained to make small.

pub mod contrastive;
