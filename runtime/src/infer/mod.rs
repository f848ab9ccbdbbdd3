//! Running the networks of a bundle.

pub mod tokenizer_kernel;
