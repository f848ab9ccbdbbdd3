//! From a checkpoint's tensors to burn modules: which tensor goes where, and in which layout.
//!
//! PyTorch keeps a linear layer as [out, in], burn as [in, out]; everything else keeps its
//! layout, but for the LayerNorms over [channels, length], which are flattened.

use burn::module::Param;
use burn::module::RunningState;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::prelude::*;

use super::{BaseFile, HeadParams};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::nn::lstm::LstmDirection;
use crate::nn::risk::DEMOGRAPHICS;
use crate::nn::tokenizer::{CHANNELS, KERNEL};
use crate::nn::{
    Base, BaseConfig, BiLstm, BiLstmConfig, Encoder, EncoderConfig, Pooling, PoolingConfig,
    PositionalTable, RiskHead, RiskHeadConfig, Stager, StagerConfig, Tokenizer, TokenizerConfig,
    TransformerLayer, TransformerLayerConfig,
};

type Result<T> = std::result::Result<T, CheckpointError>;

/// The channel or modality pooling, which every network has.
const POOLING: &str = "spatial_pooling.transformer_layer";

pub(super) fn base_config(checkpoint: &Checkpoint, file: &BaseFile) -> Result<BaseConfig> {
    let feed_forward = feed_forward(checkpoint)?;
    let layer = |heads| {
        TransformerLayerConfig::new(file.embed_dim, heads)
            .with_feed_forward(feed_forward)
            .with_dropout(file.dropout)
    };
    let pooling = PoolingConfig::new(layer(file.pooling_head));
    let encoder = EncoderConfig::new(
        layer(file.num_heads).with_norm_first(true),
        file.num_layers,
        pooling.clone(),
        table_length(checkpoint, None)?,
    );
    let tokenizer = TokenizerConfig::new(file.patch_size, file.embed_dim);
    Ok(BaseConfig::new(tokenizer, pooling, encoder, true))
}

pub(super) fn stager_config(checkpoint: &Checkpoint, params: &HeadParams) -> Result<StagerConfig> {
    let layer = |heads| {
        Ok(TransformerLayerConfig::new(params.embed_dim, heads)
            .with_feed_forward(feed_forward(checkpoint)?)
            .with_dropout(params.dropout))
    };
    Ok(StagerConfig::new(
        PoolingConfig::new(layer(params.pooling_head)?),
        layer(params.num_heads)?.with_norm_first(true),
        params.num_layers,
        params.num_classes,
        table_length(checkpoint, params.max_seq_length)?,
    ))
}

pub(super) fn risk_config(
    checkpoint: &Checkpoint,
    params: &HeadParams,
    demographics: bool,
) -> Result<RiskHeadConfig> {
    let layer = TransformerLayerConfig::new(params.embed_dim, params.pooling_head)
        .with_feed_forward(feed_forward(checkpoint)?)
        .with_dropout(params.dropout);
    let pooling = PoolingConfig::new(layer);
    Ok(RiskHeadConfig::new(pooling, params.num_layers, params.num_classes)
        .with_demographics(demographics))
}

/// Rows of the positional table [1, rows, E]: `expected` if the configuration states it.
pub(super) fn table_length(checkpoint: &Checkpoint, expected: Option<usize>) -> Result<usize> {
    match expected {
        Some(rows) => Ok(rows),
        None => checkpoint.size("positional_encoding.pe", 3, 1),
    }
}

fn feed_forward(checkpoint: &Checkpoint) -> Result<usize> {
    checkpoint.size(&format!("{POOLING}.linear1.weight"), 2, 0)
}

pub(super) fn base<B: Backend>(
    c: &mut Checkpoint,
    config: &BaseConfig,
    device: &B::Device,
) -> Result<Base<B>> {
    Ok(Base {
        tokenizer: tokenizer(c, &config.tokenizer, device)?,
        pooling: pooling(c, POOLING, &config.pooling, device)?,
        encoder: encoder(c, &config.encoder, device)?,
        skip_single_channel: config.skip_single_channel,
    })
}

pub(super) fn stager<B: Backend>(
    c: &mut Checkpoint,
    config: &StagerConfig,
    device: &B::Device,
) -> Result<Stager<B>> {
    let embed_dim = config.layer.embed_dim;
    Ok(Stager {
        pooling: pooling(c, POOLING, &config.pooling, device)?,
        position: position(c, config.max_seq_length, embed_dim, device)?,
        norm: norm(c, "layer_norm", embed_dim, device)?,
        layers: layers(c, config.layers, &config.layer, device)?,
        lstm: lstm(c, &config.lstm(), device)?,
        classifier: linear(c, "fc", embed_dim, config.classes, device)?,
    })
}

pub(super) fn risk<B: Backend>(
    c: &mut Checkpoint,
    config: &RiskHeadConfig,
    max_seq_length: usize,
    device: &B::Device,
) -> Result<RiskHead<B>> {
    let embed_dim = config.pooling.layer.embed_dim;
    let extra = config.demographics_dim();
    let mut head = config.init(device);
    head.pooling = pooling(c, POOLING, &config.pooling, device)?;
    head.lstm = lstm(c, &config.lstm(), device)?;
    if config.demographics {
        head.demographics = Some(linear(c, "demo_embedding.0", DEMOGRAPHICS, extra, device)?);
    }
    head.hazards = linear(c, "disease_heads", embed_dim + extra, config.classes, device)?;
    c.unused("positional_encoding.pe", &[1, max_seq_length, embed_dim])?;
    c.unused("layer_norm.weight", &[embed_dim])?;
    c.unused("layer_norm.bias", &[embed_dim])?;
    Ok(head)
}

fn tokenizer<B: Backend>(
    c: &mut Checkpoint,
    config: &TokenizerConfig,
    device: &B::Device,
) -> Result<Tokenizer<B>> {
    const NAME: &str = "patch_embedding.tokenizer";
    let mut tokenizer = config.init(device);
    // The reference numbers convolution, BatchNorm, ELU and LayerNorm of a block in one row.
    for (index, (block, (input, output, length))) in
        tokenizer.blocks.iter_mut().zip(config.blocks()).enumerate()
    {
        let conv = format!("{NAME}.{}", 4 * index);
        let kernel = [output, input, KERNEL];
        block.conv.weight =
            Param::from_tensor(c.tensor(&format!("{conv}.weight"), kernel, device)?);
        block.conv.bias = Some(vector(c, &format!("{conv}.bias"), output, device)?);
        let batch_norm = format!("{NAME}.{}", 4 * index + 1);
        block.batch_norm.gamma = vector(c, &format!("{batch_norm}.weight"), output, device)?;
        block.batch_norm.beta = vector(c, &format!("{batch_norm}.bias"), output, device)?;
        let running = |c: &mut Checkpoint, what: &str| {
            let values = c.tensor(&format!("{batch_norm}.{what}"), [output], device)?;
            Ok::<_, CheckpointError>(RunningState::new(values))
        };
        block.batch_norm.running_mean = running(c, "running_mean")?;
        block.batch_norm.running_var = running(c, "running_var")?;
        let norm = format!("{NAME}.{}", 4 * index + 3);
        let flat = |c: &mut Checkpoint, what: &str| {
            let values: Tensor<B, 2> =
                c.tensor(&format!("{norm}.{what}"), [output, length], device)?;
            Ok::<_, CheckpointError>(Param::from_tensor(values.reshape([output * length])))
        };
        block.norm.gamma = flat(c, "weight")?;
        block.norm.beta = Some(flat(c, "bias")?);
    }
    // After the last block's four come the average and the flattening.
    let name = format!("{NAME}.{}", 4 * tokenizer.blocks.len() + 2);
    let width = CHANNELS[CHANNELS.len() - 1];
    tokenizer.linear = linear(c, &name, width, config.embed_dim, device)?;
    Ok(tokenizer)
}

fn encoder<B: Backend>(
    c: &mut Checkpoint,
    config: &EncoderConfig,
    device: &B::Device,
) -> Result<Encoder<B>> {
    let embed_dim = config.layer.embed_dim;
    Ok(Encoder {
        position: position(c, config.max_seq_length, embed_dim, device)?,
        norm: norm(c, "layer_norm", embed_dim, device)?,
        layers: layers(c, config.layers, &config.layer, device)?,
        pooling: pooling(c, "temporal_pooling.transformer_layer", &config.pooling, device)?,
    })
}

fn pooling<B: Backend>(
    c: &mut Checkpoint,
    name: &str,
    config: &PoolingConfig,
    device: &B::Device,
) -> Result<Pooling<B>> {
    Ok(Pooling { layer: layer(c, name, &config.layer, device)? })
}

fn layers<B: Backend>(
    c: &mut Checkpoint,
    count: usize,
    config: &TransformerLayerConfig,
    device: &B::Device,
) -> Result<Vec<TransformerLayer<B>>> {
    (0..count)
        .map(|index| layer(c, &format!("transformer_encoder.layers.{index}"), config, device))
        .collect()
}

fn layer<B: Backend>(
    c: &mut Checkpoint,
    name: &str,
    config: &TransformerLayerConfig,
    device: &B::Device,
) -> Result<TransformerLayer<B>> {
    let (embed_dim, feed_forward) = (config.embed_dim, config.feed_forward);
    let in_weight = format!("{name}.self_attn.in_proj_weight");
    let in_bias = format!("{name}.self_attn.in_proj_bias");
    let out = format!("{name}.self_attn.out_proj");
    let mut layer = config.init(device);
    layer.in_proj = linear_from(c, [&in_weight, &in_bias], embed_dim, 3 * embed_dim, device)?;
    layer.out_proj = linear(c, &out, embed_dim, embed_dim, device)?;
    layer.linear1 = linear(c, &format!("{name}.linear1"), embed_dim, feed_forward, device)?;
    layer.linear2 = linear(c, &format!("{name}.linear2"), feed_forward, embed_dim, device)?;
    layer.norm1 = norm(c, &format!("{name}.norm1"), embed_dim, device)?;
    layer.norm2 = norm(c, &format!("{name}.norm2"), embed_dim, device)?;
    Ok(layer)
}

fn lstm<B: Backend>(
    c: &mut Checkpoint,
    config: &BiLstmConfig,
    device: &B::Device,
) -> Result<BiLstm<B>> {
    let mut lstm = config.init(device);
    for (index, layer) in lstm.layers.iter_mut().enumerate() {
        let input = config.layer_input(index);
        let mut direction = |suffix: &str| -> Result<LstmDirection<B>> {
            let mut part = |kind: &str, inputs: usize| {
                let weight = format!("lstm.weight_{kind}_l{index}{suffix}");
                let bias = format!("lstm.bias_{kind}_l{index}{suffix}");
                linear_from(c, [&weight, &bias], inputs, 4 * config.hidden, device)
            };
            Ok(LstmDirection { input: part("ih", input)?, hidden: part("hh", config.hidden)? })
        };
        layer.forward = direction("")?;
        layer.backward = direction("_reverse")?;
    }
    Ok(lstm)
}

fn position<B: Backend>(
    c: &mut Checkpoint,
    rows: usize,
    embed_dim: usize,
    device: &B::Device,
) -> Result<PositionalTable<B>> {
    let table: Tensor<B, 3> = c.tensor("positional_encoding.pe", [1, rows, embed_dim], device)?;
    Ok(PositionalTable::from_table(table.squeeze_dim(0)))
}

fn linear<B: Backend>(
    c: &mut Checkpoint,
    name: &str,
    inputs: usize,
    outputs: usize,
    device: &B::Device,
) -> Result<Linear<B>> {
    linear_from(c, [&format!("{name}.weight"), &format!("{name}.bias")], inputs, outputs, device)
}

fn linear_from<B: Backend>(
    c: &mut Checkpoint,
    [weight, bias]: [&str; 2],
    inputs: usize,
    outputs: usize,
    device: &B::Device,
) -> Result<Linear<B>> {
    let mut linear = LinearConfig::new(inputs, outputs).init(device);
    let rows: Tensor<B, 2> = c.tensor(weight, [outputs, inputs], device)?;
    linear.weight = Param::from_tensor(rows.transpose());
    linear.bias = Some(vector(c, bias, outputs, device)?);
    Ok(linear)
}

fn norm<B: Backend>(
    c: &mut Checkpoint,
    name: &str,
    size: usize,
    device: &B::Device,
) -> Result<LayerNorm<B>> {
    let mut norm = LayerNormConfig::new(size).init(device);
    norm.gamma = vector(c, &format!("{name}.weight"), size, device)?;
    norm.beta = Some(vector(c, &format!("{name}.bias"), size, device)?);
    Ok(norm)
}

fn vector<B: Backend>(
    c: &mut Checkpoint,
    name: &str,
    size: usize,
    device: &B::Device,
) -> Result<Param<Tensor<B, 1>>> {
    Ok(Param::from_tensor(c.tensor(name, [size], device)?))
}
