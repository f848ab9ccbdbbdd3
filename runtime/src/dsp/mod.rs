//! Signal processing steps
