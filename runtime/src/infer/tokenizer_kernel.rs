//! kernel placeholder
