//! What several tests share: the parity recordings and what the reference computed from them.

pub mod reference;
