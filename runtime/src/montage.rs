//! Channel labels to modalities
