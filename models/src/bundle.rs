//! One-file model bundles: reading and writing.
