//! Heads on embeddings: losses and figures against other software, training runs end to end.

mod commands;
mod figures;
mod loss;
mod outputs;
mod readout;
mod runs;
