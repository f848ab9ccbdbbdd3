//! The graphs of a bundle: their names and the names of their inputs and outputs.
//!
//! Every input and output is float32 but `position` (int64); masks are 1.0 = present,
//! 0.0 = absent. N, B, C, T, Q are free dimensions (an engine may want one plan per concrete
//! shape), E the embedding size, M the number of modalities (4), K the number of hazards.
//! BatchNorm is folded into the convolutions. Row-wise graphs (all but the encoder, the
//! attention and the recurrent ones) may be run in blocks of any size.
//!
//! | graph | inputs | outputs |
//! |---|---|---|
//! | [`TOKENIZER`] | `patches` [N, patch_samples] | `tokens` [N, E] |
//! | [`POOL`] | `tokens` [N, C, E], `present` [N, C] | `pooled` [N, E] |
//! | [`ENCODER`] | `tokens` [B, T, E], `present` [B, T] | `embeddings` [B, T, E], `window` [B, E] |
//! | [`STAGING_POOL`] | `tokens` [N, M, E], `present` [N, M], `position` i64 `[N]` | `x` [N, E] |
//! | [`staging_key_value`] | `x` [T, E] | `key` [T, E], `value` [T, E] |
//! | [`staging_attend`] | `x` [Q, E], `key` [T, E], `value` [T, E], `present` `[T]` | `y` [Q, E] |
//! | [`STAGING_RNN`] | `x` [T, E] | `logits` [T, 5] |
//! | [`RISK_POOL`] | `tokens` [N, M, E], `present` [N, M] | `x` [N, E] |
//! | [`RISK_RNN`] | `x` [T, E], `demographics` [1, 2] | `embedding` [1, E], `log_hazard` [1, K] |
//! | [`APNEA_POOL`] | `tokens` [N, M, E], `present` [N, M] | `x` [N, E] |
//! | [`APNEA_RNN`] | `x` [T, E] | `presence` [1, 2], `severity` [1, 4], both logits |
//!
//! `demographics` is age, scaled to 0..1 by the manifest's `age_range`, and sex, 1 = male. T of the
//! encoder is at most the rows of its positional table (at least `window_patches`), `position` is
//! below `max_seq_length`. A row with nothing present gives finite values, zeros from [`POOL`],
//! [`RISK_POOL`] and [`APNEA_POOL`]; attention never looks at such a row, but the recurrent graphs run over it.
//! `embedding` is the mean over all T rows.
//!
//! The heads come in parts for memory's sake: the staging head's attention spans the night, so
//! it is run by blocks of query rows against all keys (exact, no night-by-night score matrix),
//! and the feed-forward rows of both heads' pooling are never all alive at once.

/// One 5-s patch of one channel to one token.
pub const TOKENIZER: &str = "tokenizer";
/// The channels of one modality to one token.
pub const POOL: &str = "pool";
/// The tokens of one window to contextual embeddings and the window's embedding.
pub const ENCODER: &str = "encoder";
/// Staging head: modalities to one token, plus position, LayerNorm.
pub const STAGING_POOL: &str = "staging.pool";
/// Staging head: BiLSTM and classifier.
pub const STAGING_RNN: &str = "staging.rnn";
/// Risk head: modalities to one token.
pub const RISK_POOL: &str = "risk.pool";
/// Risk head: BiLSTM, mean, demographics, hazards.
pub const RISK_RNN: &str = "risk.rnn";

/// Apnea head: modalities to one token.
pub const APNEA_POOL: &str = "apnea.pool";
/// Apnea head: BiLSTM, mean, presence at [`crate::manifest::PRESENCE_AHI`] (a logit each) and
/// severity (four classes: none, mild, moderate, severe).
pub const APNEA_RNN: &str = "apnea.rnn";

/// Staging head, attention layer `layer`: pre-norm and projections to keys and values.
pub fn staging_key_value(layer: usize) -> String {
    format!("staging.layer{layer}.key_value")
}

/// Staging head, attention layer `layer`: query rows against all keys, and the feed-forward.
pub fn staging_attend(layer: usize) -> String {
    format!("staging.layer{layer}.attend")
}

/// The file inside the bundle that holds graph `name`.
pub fn file_name(name: &str) -> String {
    format!("{name}.onnx")
}

/// Names of the tokenizer graph's initializers, which the runtime's own kernel reads.
///
/// `conv{i}.weight` [C_out, C_in, 5] and `conv{i}.bias` `[C_out]` with BatchNorm folded in,
/// `norm{i}.weight` and `norm{i}.bias` [C_out, L_out], `linear.weight` [128, E] (input-major, as a
/// MatMul takes it) and `linear.bias` `[E]`; i counts the convolutions from 0. Each is float32 in
/// `raw_data`, little-endian, row-major.
pub fn tokenizer_initializer(part: &str, index: usize, tensor: &str) -> String {
    format!("{part}{index}.{tensor}")
}
