//! What several tests share: the parity recordings and what the reference computed from them.

pub mod reference;
#[path = "../skip.rs"]
pub mod skip;
