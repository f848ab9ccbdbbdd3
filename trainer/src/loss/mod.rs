//! What training minimizes.

pub mod cox;
