//! sfm-benches
