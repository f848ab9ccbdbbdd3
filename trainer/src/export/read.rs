//! A bundle's networks as burn modules again, from the weights in its graphs, which are found by
//! the names that the exporter gives them. BatchNorm stays folded into the convolutions.
//! Refuses graphs of other writers: their weights have other names.

use std::collections::BTreeMap;

use burn::module::{Param, RunningState};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::prelude::*;
use prost::Message;
use sfm_models::manifest::SingleChannel;
use sfm_models::{Bundle, Manifest, graph};
use tract_onnx::pb;

use crate::network::{BaseNetwork, HeadConfig, NetworkConfig};
use crate::nn::lstm::LstmDirection;
use crate::nn::{
    ApneaHead, BiLstm, Encoder, Pooling, PositionalTable, RiskHead, Stager, Tokenizer,
    TransformerLayer,
};

/// Why a bundle's network cannot be had as modules. One line.
#[derive(Debug, thiserror::Error)]
#[error("{graph}: {reason}")]
pub struct ReadError {
    graph: String,
    reason: String,
}

type Result<T> = std::result::Result<T, ReadError>;

/// The base network.
///
/// # Errors
/// [`ReadError`] if a weight is missing or has another size.
pub fn base<B: Backend>(bundle: &Bundle, device: &B::Device) -> Result<BaseNetwork<B>> {
    let config = network_config(bundle.manifest());
    let mut base = config.base().init(device);
    let weights = Weights::of(bundle, graph::TOKENIZER)?;
    base.tokenizer = tokenizer(&weights, base.tokenizer, device)?;
    let weights = Weights::of(bundle, graph::POOL)?;
    base.pooling = pooling(&weights, "pool", base.pooling, device)?;
    let weights = Weights::of(bundle, graph::ENCODER)?;
    base.encoder = encoder(&weights, base.encoder, device)?;
    Ok(BaseNetwork { config, base })
}

/// The staging head; `None` if the bundle has none.
///
/// # Errors
/// [`ReadError`] if a weight is missing or has another size.
pub fn stager<B: Backend>(bundle: &Bundle, device: &B::Device) -> Result<Option<Stager<B>>> {
    let Some(about) = &bundle.manifest().staging else { return Ok(None) };
    let first = Weights::of(bundle, graph::STAGING_POOL)?;
    let config = HeadConfig {
        heads: about.heads,
        pooling_heads: about.pooling_heads,
        layers: about.layers,
        feed_forward: first.size("pool.linear1.bias")?,
        dropout: 0.0,
        max_seq_length: about.max_seq_length,
    };
    let mut stager: Stager<B> = config.stager(bundle.manifest().base.embed_dim).init(device);
    stager.pooling = pooling(&first, "pool", stager.pooling, device)?;
    stager.position = position(&first, stager.position, device)?;
    stager.norm = norm(&first, "norm", stager.norm, device)?;
    let mut layers = Vec::new();
    for (index, layer) in stager.layers.into_iter().enumerate() {
        let mut weights = Weights::of(bundle, &graph::staging_attend(index))?;
        // Both graphs of a layer hold its first norm.
        weights.tensors.extend(Weights::of(bundle, &graph::staging_key_value(index))?.tensors);
        layers.push(transformer_layer(&weights, "", layer, device)?);
    }
    stager.layers = layers;
    let last = Weights::of(bundle, graph::STAGING_RNN)?;
    stager.lstm = lstm(&last, stager.lstm, device)?;
    stager.classifier = linear(&last, "classifier", stager.classifier, device)?;
    Ok(Some(stager))
}

/// The risk head; `None` if the bundle has none.
///
/// # Errors
/// [`ReadError`] if a weight is missing or has another size.
pub fn risk<B: Backend>(bundle: &Bundle, device: &B::Device) -> Result<Option<RiskHead<B>>> {
    let Some(about) = &bundle.manifest().risk else { return Ok(None) };
    let first = Weights::of(bundle, graph::RISK_POOL)?;
    let last = Weights::of(bundle, graph::RISK_RNN)?;
    let config = night_config(&first, &last, about.pooling_heads, about.max_seq_length)?;
    let embed_dim = bundle.manifest().base.embed_dim;
    // A head without demographics has no such weights, whatever the manifest's default says.
    let demographics = last.tensors.contains_key("demographics.weight");
    let mut head: RiskHead<B> = config.risk(embed_dim, about.classes, demographics).init(device);
    head.pooling = pooling(&first, "pool", head.pooling, device)?;
    head.lstm = lstm(&last, head.lstm, device)?;
    head.demographics = match head.demographics {
        Some(layer) => Some(linear(&last, "demographics", layer, device)?),
        None => None,
    };
    head.hazards = linear(&last, "hazards", head.hazards, device)?;
    Ok(Some(head))
}

/// The apnea head; `None` if the bundle has none.
///
/// # Errors
/// [`ReadError`] if a weight is missing or has another size.
pub fn apnea<B: Backend>(bundle: &Bundle, device: &B::Device) -> Result<Option<ApneaHead<B>>> {
    let Some(about) = &bundle.manifest().apnea else { return Ok(None) };
    let first = Weights::of(bundle, graph::APNEA_POOL)?;
    let last = Weights::of(bundle, graph::APNEA_RNN)?;
    let config = night_config(&first, &last, about.pooling_heads, about.max_seq_length)?;
    let mut head: ApneaHead<B> = config.apnea(bundle.manifest().base.embed_dim).init(device);
    head.pooling = pooling(&first, "pool", head.pooling, device)?;
    head.lstm = lstm(&last, head.lstm, device)?;
    head.presence = linear(&last, "presence", head.presence, device)?;
    head.severity = linear(&last, "severity", head.severity, device)?;
    Ok(Some(head))
}

/// The sizes that a manifest states.
fn network_config(manifest: &Manifest) -> NetworkConfig {
    let base = &manifest.base;
    NetworkConfig {
        embed_dim: base.embed_dim,
        heads: base.heads,
        pooling_heads: base.pooling_heads,
        layers: base.layers,
        feed_forward: base.feed_forward,
        dropout: 0.0,
        rate_hz: manifest.preprocessing.rate_hz,
        patch_samples: manifest.preprocessing.patch_samples,
        window_patches: base.window_patches,
        skip_single_channel: base.single_channel == SingleChannel::Skip,
        modalities: base.modalities.clone(),
        max_channels: base.max_channels.clone(),
    }
}

/// What the two graphs of a head over the night tell of its sizes.
fn night_config(
    first: &Weights,
    last: &Weights,
    pooling_heads: usize,
    max_seq_length: usize,
) -> Result<HeadConfig> {
    let layers =
        (0..).take_while(|i| last.tensors.contains_key(&format!("lstm.{i}.input"))).count();
    Ok(HeadConfig {
        heads: pooling_heads,
        pooling_heads,
        layers,
        feed_forward: first.size("pool.linear1.bias")?,
        dropout: 0.0,
        max_seq_length,
    })
}

fn tokenizer<B: Backend>(
    weights: &Weights,
    mut tokenizer: Tokenizer<B>,
    device: &B::Device,
) -> Result<Tokenizer<B>> {
    for (index, block) in tokenizer.blocks.iter_mut().enumerate() {
        let name = |part, tensor| graph::tokenizer_initializer(part, index, tensor);
        let shape = block.conv.weight.dims();
        let [channels, ..] = shape;
        block.conv.weight = param(weights, &name("conv", "weight"), shape, device)?;
        block.conv.bias = Some(param(weights, &name("conv", "bias"), [channels], device)?);
        // The batch's statistics are in the convolution: this one changes nothing.
        let unit = 1.0 - block.batch_norm.epsilon;
        block.batch_norm.gamma = Param::from_tensor(Tensor::ones([channels], device));
        block.batch_norm.beta = Param::from_tensor(Tensor::zeros([channels], device));
        block.batch_norm.running_mean = RunningState::new(Tensor::zeros([channels], device));
        block.batch_norm.running_var = RunningState::new(Tensor::full([channels], unit, device));
        let [size] = block.norm.gamma.dims();
        let flat = |what| {
            let rows: Tensor<B, 2> =
                weights.tensor(&name("norm", what), [channels, size / channels], device)?;
            Ok(Param::from_tensor(rows.reshape([size])))
        };
        block.norm.gamma = flat("weight")?;
        block.norm.beta = Some(flat("bias")?);
    }
    tokenizer.linear = linear(weights, "linear", tokenizer.linear, device)?;
    Ok(tokenizer)
}

fn encoder<B: Backend>(
    weights: &Weights,
    mut encoder: Encoder<B>,
    device: &B::Device,
) -> Result<Encoder<B>> {
    encoder.position = position(weights, encoder.position, device)?;
    encoder.norm = norm(weights, "norm", encoder.norm, device)?;
    encoder.layers = encoder
        .layers
        .into_iter()
        .enumerate()
        .map(|(index, layer)| transformer_layer(weights, &format!("layers.{index}"), layer, device))
        .collect::<Result<_>>()?;
    encoder.pooling = pooling(weights, "pooling", encoder.pooling, device)?;
    Ok(encoder)
}

fn pooling<B: Backend>(
    weights: &Weights,
    name: &str,
    pooling: Pooling<B>,
    device: &B::Device,
) -> Result<Pooling<B>> {
    Ok(Pooling { layer: transformer_layer(weights, name, pooling.layer, device)? })
}

fn transformer_layer<B: Backend>(
    weights: &Weights,
    name: &str,
    mut layer: TransformerLayer<B>,
    device: &B::Device,
) -> Result<TransformerLayer<B>> {
    let [embed_dim, _] = layer.out_proj.weight.dims();
    let within = |part: &str| match name {
        "" => part.to_owned(),
        _ => format!("{name}.{part}"),
    };
    // The attention's scale is in the query's projection.
    let scale = ((embed_dim / layer.heads) as f64).sqrt();
    let (mut columns, mut bias) = (Vec::new(), Vec::new());
    for (part, scale) in [("query", scale), ("key", 1.0), ("value", 1.0)] {
        let square = [embed_dim, embed_dim];
        let rows: Tensor<B, 2> =
            weights.tensor(&within(&format!("{part}.weight")), square, device)?;
        let shift: Tensor<B, 1> =
            weights.tensor(&within(&format!("{part}.bias")), [embed_dim], device)?;
        columns.push(rows * scale);
        bias.push(shift * scale);
    }
    layer.in_proj.weight = Param::from_tensor(Tensor::cat(columns, 1));
    layer.in_proj.bias = Some(Param::from_tensor(Tensor::cat(bias, 0)));
    layer.out_proj = linear(weights, &within("out_proj"), layer.out_proj, device)?;
    // A graph of one layer names its feed-forward `.linear1`.
    let feed_forward = |part: &str| format!("{name}.{part}");
    layer.linear1 = linear(weights, &feed_forward("linear1"), layer.linear1, device)?;
    layer.linear2 = linear(weights, &feed_forward("linear2"), layer.linear2, device)?;
    layer.norm1 = norm(weights, &within("norm1"), layer.norm1, device)?;
    layer.norm2 = norm(weights, &within("norm2"), layer.norm2, device)?;
    Ok(layer)
}

fn lstm<B: Backend>(
    weights: &Weights,
    mut lstm: BiLstm<B>,
    device: &B::Device,
) -> Result<BiLstm<B>> {
    for (index, layer) in lstm.layers.iter_mut().enumerate() {
        let name = |what: &str| format!("lstm.{index}.{what}");
        let [input, gates] = layer.forward.input.weight.dims();
        let hidden = gates / 4;
        let from_input: Tensor<B, 3> = weights.tensor(&name("input"), [2, gates, input], device)?;
        let from_hidden: Tensor<B, 3> =
            weights.tensor(&name("hidden"), [2, gates, hidden], device)?;
        let bias: Tensor<B, 2> = weights.tensor(&name("bias"), [2, 2 * gates], device)?;
        for (number, direction) in [&mut layer.forward, &mut layer.backward].into_iter().enumerate()
        {
            let rows =
                |x: &Tensor<B, 3>| in_module_order(x.clone().narrow(0, number, 1).squeeze_dim(0));
            let part = |from| {
                let part: Tensor<B, 1> =
                    bias.clone().narrow(0, number, 1).narrow(1, from, gates).squeeze_dim(0);
                in_module_order(part.unsqueeze_dim::<2>(1)).squeeze_dim(1)
            };
            *direction = LstmDirection {
                input: linear_of(rows(&from_input).transpose(), part(0), device),
                hidden: linear_of(rows(&from_hidden).transpose(), part(gates), device),
            };
        }
    }
    Ok(lstm)
}

/// ONNX's gates (input, output, forget, cell) to the modules' (input, forget, cell, output).
fn in_module_order<B: Backend>(rows: Tensor<B, 2>) -> Tensor<B, 2> {
    let [gates, _] = rows.dims();
    let part = gates / 4;
    Tensor::cat([0, 2, 3, 1].map(|gate| rows.clone().narrow(0, gate * part, part)).to_vec(), 0)
}

fn linear_of<B: Backend>(
    weight: Tensor<B, 2>,
    bias: Tensor<B, 1>,
    device: &B::Device,
) -> Linear<B> {
    let [inputs, outputs] = weight.dims();
    let mut linear = LinearConfig::new(inputs, outputs).init(device);
    linear.weight = Param::from_tensor(weight);
    linear.bias = Some(Param::from_tensor(bias));
    linear
}

fn linear<B: Backend>(
    weights: &Weights,
    name: &str,
    linear: Linear<B>,
    device: &B::Device,
) -> Result<Linear<B>> {
    let [inputs, outputs] = linear.weight.dims();
    let weight = weights.tensor(&format!("{name}.weight"), [inputs, outputs], device)?;
    Ok(linear_of(weight, weights.tensor(&format!("{name}.bias"), [outputs], device)?, device))
}

fn norm<B: Backend>(
    weights: &Weights,
    name: &str,
    norm: LayerNorm<B>,
    device: &B::Device,
) -> Result<LayerNorm<B>> {
    let [size] = norm.gamma.dims();
    let mut norm = LayerNormConfig::new(size).init(device);
    norm.gamma = param(weights, &format!("{name}.weight"), [size], device)?;
    norm.beta = Some(param(weights, &format!("{name}.bias"), [size], device)?);
    Ok(norm)
}

/// The table as long as it is; [`NetworkConfig::base`] makes one of a window's length.
fn position<B: Backend>(
    weights: &Weights,
    position: PositionalTable<B>,
    device: &B::Device,
) -> Result<PositionalTable<B>> {
    let [_, embed_dim] = position.table.dims();
    let rows = weights.size("position.table")? / embed_dim;
    Ok(PositionalTable::from_table(weights.tensor("position.table", [rows, embed_dim], device)?))
}

fn param<B: Backend, const D: usize>(
    weights: &Weights,
    name: &str,
    shape: [usize; D],
    device: &B::Device,
) -> Result<Param<Tensor<B, D>>> {
    Ok(Param::from_tensor(weights.tensor(name, shape, device)?))
}

/// The float32 weights of one graph by name.
struct Weights {
    graph: String,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Weights {
    fn of(bundle: &Bundle, graph: &str) -> Result<Self> {
        let failed = |reason: String| ReadError { graph: graph.to_owned(), reason };
        let onnx = bundle.graph(graph).ok_or_else(|| failed("is missing".into()))?;
        let model = pb::ModelProto::decode(onnx).map_err(|e| failed(e.to_string()))?;
        let initializers = model.graph.map(|graph| graph.initializer).unwrap_or_default();
        let tensors = initializers.into_iter().map(|tensor| {
            let shape = tensor.dims.iter().map(|&size| size.max(0) as usize).collect();
            let value = |bytes: &[u8]| bytes.try_into().map_or(f32::NAN, f32::from_le_bytes);
            (tensor.name, (shape, tensor.raw_data.chunks_exact(4).map(value).collect()))
        });
        Ok(Self { graph: graph.to_owned(), tensors: tensors.collect() })
    }

    fn tensor<B: Backend, const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        device: &B::Device,
    ) -> Result<Tensor<B, D>> {
        let failed = |reason: String| ReadError { graph: self.graph.clone(), reason };
        let (found, values) =
            self.tensors.get(name).ok_or_else(|| failed(format!("has no weight '{name}'")))?;
        if *found != shape || values.len() != shape.iter().product::<usize>() {
            return Err(failed(format!("'{name}' is {found:?}, not {shape:?}")));
        }
        Ok(Tensor::from_data(TensorData::new(values.clone(), shape), device))
    }

    /// Length of a vector.
    fn size(&self, name: &str) -> Result<usize> {
        let found = self.tensors.get(name).map(|(_, values)| values.len());
        found.ok_or_else(|| ReadError {
            graph: self.graph.clone(),
            reason: format!("has no weight '{name}'"),
        })
    }
}
