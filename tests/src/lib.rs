//! sfm-tests
