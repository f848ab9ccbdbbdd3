//! sfm-trainer
