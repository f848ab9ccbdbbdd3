//! The bundle's ONNX graphs from the modules' parameters; [`sfm_models::graph`] is the contract.
//!
//! Tokens are kept as rows [rows, E], so that the large products are plain matrix products in
//! any engine. BatchNorm is folded into the convolutions, the attention's scale into the query
//! projection. Absent keys get -1e9 on their scores, so rows with no key at all stay finite.

use burn::module::Param;
use burn::nn::{LayerNorm, Linear};
use burn::prelude::*;
use sfm_models::graph;

use super::onnx::Attribute::{Float, Int, Ints, Text};
use super::onnx::Axis::{self, Fixed, Free};
use super::onnx::{GraphBuilder, Value};
use crate::nn::lstm::LstmDirection;
use crate::nn::risk::DEMOGRAPHICS;
use crate::nn::tokenizer::ConvBlock;
use crate::nn::transformer::ABSENT_SCORE;
use crate::nn::{
    ApneaHead, Base, BiLstm, Encoder, Pooling, RiskHead, Stager, Tokenizer, TransformerLayer,
};

/// A graph's name and the bytes of its ONNX file.
pub type NamedGraph = (String, Vec<u8>);

/// Epsilon of every LayerNorm, PyTorch's and burn's default.
const LAYER_NORM_EPSILON: f32 = 1e-5;

/// The graphs of the base network.
pub fn base_graphs<B: Backend>(base: &Base<B>) -> Vec<NamedGraph> {
    vec![
        (graph::TOKENIZER.into(), tokenizer(&base.tokenizer)),
        (graph::POOL.into(), pool(graph::POOL, &base.pooling, Free("C"), "pooled")),
        (graph::ENCODER.into(), encoder(&base.encoder)),
    ]
}

/// The graphs of the staging head.
pub fn staging_graphs<B: Backend>(stager: &Stager<B>) -> Vec<NamedGraph> {
    let mut graphs = vec![(graph::STAGING_POOL.into(), staging_pool(stager))];
    for (index, layer) in stager.layers.iter().enumerate() {
        let name = graph::staging_key_value(index);
        let onnx = key_value(&name, layer);
        graphs.push((name, onnx));
        let name = graph::staging_attend(index);
        let onnx = attend(&name, layer);
        graphs.push((name, onnx));
    }
    graphs.push((graph::STAGING_RNN.into(), staging_rnn(stager)));
    graphs
}

/// The graphs of the risk head.
pub fn risk_graphs<B: Backend>(head: &RiskHead<B>) -> Vec<NamedGraph> {
    vec![
        (graph::RISK_POOL.into(), pool(graph::RISK_POOL, &head.pooling, Free("M"), "x")),
        (graph::RISK_RNN.into(), risk_rnn(head)),
    ]
}

/// The graphs of the apnea head.
pub fn apnea_graphs<B: Backend>(head: &ApneaHead<B>) -> Vec<NamedGraph> {
    vec![
        (graph::APNEA_POOL.into(), pool(graph::APNEA_POOL, &head.pooling, Free("M"), "x")),
        (graph::APNEA_RNN.into(), apnea_rnn(head)),
    ]
}

fn tokenizer<B: Backend>(tokenizer: &Tokenizer<B>) -> Vec<u8> {
    let mut g = GraphBuilder::new(graph::TOKENIZER);
    let samples = tokenizer.patch_samples();
    let patches = g.input("patches", &[Free("N"), Fixed(samples)]);
    let channel_axis = g.integers(&[1]);
    let mut x = g.node("Unsqueeze", &[&patches, &channel_axis], &[]);
    for (index, block) in tokenizer.blocks.iter().enumerate() {
        x = conv_block(&mut g, index, block, &x);
    }
    let mean = g.node("ReduceMean", &[&x], &[Ints("axes", &[2]), Int("keepdims", 0)]);
    let tokens = linear(&mut g, "linear", &tokenizer.linear, &mean);
    let [_, embed_dim] = tokenizer.linear.weight.dims();
    g.output(&tokens, "tokens", &[Free("N"), Fixed(embed_dim)]);
    g.finish()
}

fn conv_block<B: Backend>(
    g: &mut GraphBuilder,
    index: usize,
    block: &ConvBlock<B>,
    x: &str,
) -> Value {
    let [output, input, kernel] = block.conv.weight.dims();
    let (weight, bias) = fold_batch_norm(block);
    let part = |part, tensor| graph::tokenizer_initializer(part, index, tensor);
    let weight = g.weight(&part("conv", "weight"), &[output, input, kernel], &weight);
    let bias = g.weight(&part("conv", "bias"), &[output], &bias);
    let pad = (kernel / 2) as i64;
    let attributes = [
        Ints("kernel_shape", &[kernel as i64]),
        Ints("strides", &[block.conv.stride as i64]),
        Ints("pads", &[pad, pad]),
    ];
    let x = g.node("Conv", &[x, &weight, &bias], &attributes);
    let x = g.node("Elu", &[&x], &[Float("alpha", 1.0)]);
    let gamma = values(block.norm.gamma.val());
    let shape = [output, gamma.len() / output];
    let scale = g.weight(&part("norm", "weight"), &shape, &gamma);
    let shift =
        g.weight(&part("norm", "bias"), &shape, &bias_values(&block.norm.beta, gamma.len()));
    let attributes = [Int("axis", 1), Float("epsilon", LAYER_NORM_EPSILON)];
    g.node("LayerNormalization", &[&x, &scale, &shift], &attributes)
}

/// The convolution's weight and bias with its BatchNorm's running statistics folded in.
fn fold_batch_norm<B: Backend>(block: &ConvBlock<B>) -> (Vec<f32>, Vec<f32>) {
    let norm = &block.batch_norm;
    let [channels, input, kernel] = block.conv.weight.dims();
    let gamma = values(norm.gamma.val());
    let variance = values(norm.running_var.value());
    let scale: Vec<f64> = gamma
        .iter()
        .zip(&variance)
        .map(|(&gamma, &variance)| f64::from(gamma) / (f64::from(variance) + norm.epsilon).sqrt())
        .collect();
    let weight = values(block.conv.weight.val())
        .chunks(input * kernel)
        .zip(&scale)
        .flat_map(|(row, scale)| row.iter().map(move |&w| (f64::from(w) * scale) as f32))
        .collect();
    let bias = bias_values(&block.conv.bias, channels);
    let mean = values(norm.running_mean.value());
    let shift = values(norm.beta.val());
    let bias = bias
        .iter()
        .zip(&mean)
        .zip(scale.iter().zip(&shift))
        .map(|((&bias, &mean), (&scale, &shift))| {
            ((f64::from(bias) - f64::from(mean)) * scale + f64::from(shift)) as f32
        })
        .collect();
    (weight, bias)
}

/// A pooling as a graph of its own: channels or modalities of a token to one.
fn pool<B: Backend>(name: &str, pooling: &Pooling<B>, members: Axis, output: &str) -> Vec<u8> {
    let mut g = GraphBuilder::new(name);
    let embed_dim = embed_dim(&pooling.layer);
    let tokens = g.input("tokens", &[Free("N"), members, Fixed(embed_dim)]);
    let present = g.input("present", &[Free("N"), members]);
    let rows = to_rows(&mut g, &tokens, embed_dim);
    let set = Set::new(&mut g, &present);
    let pooled = pool_rows(&mut g, "pool", pooling, &rows, &set);
    g.output(&pooled, output, &[Free("N"), Fixed(embed_dim)]);
    g.finish()
}

fn encoder<B: Backend>(encoder: &Encoder<B>) -> Vec<u8> {
    let mut g = GraphBuilder::new(graph::ENCODER);
    let [length, embed_dim] = encoder.position.table.dims();
    let tokens = g.input("tokens", &[Free("B"), Free("T"), Fixed(embed_dim)]);
    let present = g.input("present", &[Free("B"), Free("T")]);
    let set = Set::new(&mut g, &present);
    let table = values(encoder.position.table.val());
    let table = g.weight("position.table", &[length, embed_dim], &table);
    let (zero, one, two) = (g.integers(&[0]), g.integers(&[1]), g.integers(&[2]));
    let count = g.node("Slice", &[&set.shape, &one, &two], &[]);
    let positions = g.node("Slice", &[&table, &zero, &count, &zero], &[]);
    let x = g.node("Add", &[&tokens, &positions], &[]);
    let x = to_rows(&mut g, &x, embed_dim);
    let mut x = layer_norm(&mut g, "norm", &encoder.norm, &x);
    for (index, layer) in encoder.layers.iter().enumerate() {
        x = transformer_layer(&mut g, &format!("layers.{index}"), layer, &x, &set);
    }
    let window = pool_rows(&mut g, "pooling", &encoder.pooling, &x, &set);
    let embeddings = from_rows(&mut g, &x, &set, embed_dim);
    g.output(&embeddings, "embeddings", &[Free("B"), Free("T"), Fixed(embed_dim)]);
    g.output(&window, "window", &[Free("B"), Fixed(embed_dim)]);
    g.finish()
}

fn staging_pool<B: Backend>(stager: &Stager<B>) -> Vec<u8> {
    let mut g = GraphBuilder::new(graph::STAGING_POOL);
    let [length, embed_dim] = stager.position.table.dims();
    let tokens = g.input("tokens", &[Free("N"), Free("M"), Fixed(embed_dim)]);
    let present = g.input("present", &[Free("N"), Free("M")]);
    let position = g.input_i64("position", &[Free("N")]);
    let rows = to_rows(&mut g, &tokens, embed_dim);
    let set = Set::new(&mut g, &present);
    let pooled = pool_rows(&mut g, "pool", &stager.pooling, &rows, &set);
    let table = values(stager.position.table.val());
    let table = g.weight("position.table", &[length, embed_dim], &table);
    let offset = g.node("Gather", &[&table, &position], &[Int("axis", 0)]);
    let x = g.node("Add", &[&pooled, &offset], &[]);
    let x = layer_norm(&mut g, "norm", &stager.norm, &x);
    g.output(&x, "x", &[Free("N"), Fixed(embed_dim)]);
    g.finish()
}

fn key_value<B: Backend>(name: &str, layer: &TransformerLayer<B>) -> Vec<u8> {
    let mut g = GraphBuilder::new(name);
    let axes = [Free("T"), Fixed(embed_dim(layer))];
    let x = g.input("x", &axes);
    let x = layer_norm(&mut g, "norm1", &layer.norm1, &x);
    let [_, key, value] = Projection::of(layer);
    let key = key.wire(&mut g, "key", &x);
    let value = value.wire(&mut g, "value", &x);
    g.output(&key, "key", &axes);
    g.output(&value, "value", &axes);
    g.finish()
}

fn attend<B: Backend>(name: &str, layer: &TransformerLayer<B>) -> Vec<u8> {
    let mut g = GraphBuilder::new(name);
    let embed_dim = embed_dim(layer);
    let heads = [0, layer.heads as i64, (embed_dim / layer.heads) as i64];
    let x = g.input("x", &[Free("Q"), Fixed(embed_dim)]);
    let key = g.input("key", &[Free("T"), Fixed(embed_dim)]);
    let value = g.input("value", &[Free("T"), Fixed(embed_dim)]);
    let present = g.input("present", &[Free("T")]);
    let bias = absent_bias(&mut g, &present);

    let normed = layer_norm(&mut g, "norm1", &layer.norm1, &x);
    let [query, ..] = Projection::of(layer);
    let query = query.wire(&mut g, "query", &normed);
    let heads = g.integers(&heads);
    let split = |g: &mut GraphBuilder, rows: &str, order: &[i64]| {
        let split = g.node("Reshape", &[rows, &heads], &[]);
        g.node("Transpose", &[&split], &[Ints("perm", order)])
    };
    let query = split(&mut g, &query, &[1, 0, 2]);
    let key = split(&mut g, &key, &[1, 2, 0]);
    let value = split(&mut g, &value, &[1, 0, 2]);
    let context = weigh(&mut g, &query, &key, &bias, &value);
    let context = g.node("Transpose", &[&context], &[Ints("perm", &[1, 0, 2])]);
    let context = to_rows(&mut g, &context, embed_dim);
    let attended = linear(&mut g, "out_proj", &layer.out_proj, &context);
    let x = g.node("Add", &[&x, &attended], &[]);

    let normed = layer_norm(&mut g, "norm2", &layer.norm2, &x);
    let fed = feed_forward(&mut g, "", layer, &normed);
    let y = g.node("Add", &[&x, &fed], &[]);
    g.output(&y, "y", &[Free("Q"), Fixed(embed_dim)]);
    g.finish()
}

fn staging_rnn<B: Backend>(stager: &Stager<B>) -> Vec<u8> {
    let mut g = GraphBuilder::new(graph::STAGING_RNN);
    let [embed_dim, classes] = stager.classifier.weight.dims();
    let x = g.input("x", &[Free("T"), Fixed(embed_dim)]);
    let x = lstm(&mut g, &stager.lstm, &x);
    let logits = linear(&mut g, "classifier", &stager.classifier, &x);
    g.output(&logits, "logits", &[Free("T"), Fixed(classes)]);
    g.finish()
}

fn risk_rnn<B: Backend>(head: &RiskHead<B>) -> Vec<u8> {
    let mut g = GraphBuilder::new(graph::RISK_RNN);
    let embed_dim = embed_dim(&head.pooling.layer);
    let x = g.input("x", &[Free("T"), Fixed(embed_dim)]);
    let demographics = g.input("demographics", &[Fixed(1), Fixed(DEMOGRAPHICS)]);
    let x = lstm(&mut g, &head.lstm, &x);
    let embedding = g.node("ReduceMean", &[&x], &[Ints("axes", &[0]), Int("keepdims", 1)]);
    let features = match &head.demographics {
        Some(layer) => {
            let extra = linear(&mut g, "demographics", layer, &demographics);
            let extra = g.node("Relu", &[&extra], &[]);
            g.node("Concat", &[&embedding, &extra], &[Int("axis", 1)])
        }
        None => embedding.clone(),
    };
    let hazards = linear(&mut g, "hazards", &head.hazards, &features);
    let [_, classes] = head.hazards.weight.dims();
    g.output(&embedding, "embedding", &[Fixed(1), Fixed(embed_dim)]);
    g.output(&hazards, "log_hazard", &[Fixed(1), Fixed(classes)]);
    g.finish()
}

fn apnea_rnn<B: Backend>(head: &ApneaHead<B>) -> Vec<u8> {
    let mut g = GraphBuilder::new(graph::APNEA_RNN);
    let [embed_dim, presences] = head.presence.weight.dims();
    let [_, severities] = head.severity.weight.dims();
    let x = g.input("x", &[Free("T"), Fixed(embed_dim)]);
    let x = lstm(&mut g, &head.lstm, &x);
    let embedding = g.node("ReduceMean", &[&x], &[Ints("axes", &[0]), Int("keepdims", 1)]);
    let presence = linear(&mut g, "presence", &head.presence, &embedding);
    let severity = linear(&mut g, "severity", &head.severity, &embedding);
    g.output(&presence, "presence", &[Fixed(1), Fixed(presences)]);
    g.output(&severity, "severity", &[Fixed(1), Fixed(severities)]);
    g.finish()
}

/// Sets of tokens kept as rows: which are present, and how to find the sets again.
struct Set {
    /// [sets, members], 1 = present.
    present: Value,
    /// The shape of `present`.
    shape: Value,
    /// [sets, 1, 1, members], to be added to attention scores.
    bias: Value,
}

impl Set {
    fn new(g: &mut GraphBuilder, present: &str) -> Self {
        let bias = absent_bias(g, present);
        let axes = g.integers(&[1, 2]);
        Set {
            present: present.to_owned(),
            shape: g.node("Shape", &[present], &[]),
            bias: g.node("Unsqueeze", &[&bias, &axes], &[]),
        }
    }
}

/// 0 where present, -1e9 where absent.
fn absent_bias(g: &mut GraphBuilder, present: &str) -> Value {
    let one = g.scalar("one", 1.0);
    let scale = g.scalar("absent_score", ABSENT_SCORE as f32);
    let below = g.node("Sub", &[present, &one], &[]);
    g.node("Mul", &[&below, &scale], &[])
}

fn to_rows(g: &mut GraphBuilder, x: &str, embed_dim: usize) -> Value {
    let shape = g.integers(&[-1, embed_dim as i64]);
    g.node("Reshape", &[x, &shape], &[])
}

fn from_rows(g: &mut GraphBuilder, rows: &str, set: &Set, embed_dim: usize) -> Value {
    let last = g.integers(&[embed_dim as i64]);
    let shape = g.node("Concat", &[&set.shape, &last], &[Int("axis", 0)]);
    g.node("Reshape", &[rows, &shape], &[])
}

/// [`Pooling`] of rows: the layer, then the mean of what is present. [sets, E].
fn pool_rows<B: Backend>(
    g: &mut GraphBuilder,
    name: &str,
    pooling: &Pooling<B>,
    rows: &str,
    set: &Set,
) -> Value {
    let y = transformer_layer(g, name, &pooling.layer, rows, set);
    let y = from_rows(g, &y, set, embed_dim(&pooling.layer));
    let (one, two) = (g.integers(&[1]), g.integers(&[2]));
    let weight = g.node("Unsqueeze", &[&set.present, &two], &[]);
    let weighted = g.node("Mul", &[&y, &weight], &[]);
    let sum = g.node("ReduceSum", &[&weighted, &one], &[Int("keepdims", 0)]);
    let count = g.node("ReduceSum", &[&set.present, &one], &[Int("keepdims", 1)]);
    let at_least_one = g.scalar("one", 1.0);
    let count = g.node("Max", &[&count, &at_least_one], &[]);
    g.node("Div", &[&sum, &count], &[])
}

fn transformer_layer<B: Backend>(
    g: &mut GraphBuilder,
    name: &str,
    layer: &TransformerLayer<B>,
    rows: &str,
    set: &Set,
) -> Value {
    let norm = |g: &mut GraphBuilder, which: &str, norm, x: &str| {
        layer_norm(g, &format!("{name}.{which}"), norm, x)
    };
    if layer.norm_first {
        let normed = norm(g, "norm1", &layer.norm1, rows);
        let attended = self_attention(g, name, layer, &normed, set);
        let x = g.node("Add", &[rows, &attended], &[]);
        let normed = norm(g, "norm2", &layer.norm2, &x);
        let fed = feed_forward(g, name, layer, &normed);
        g.node("Add", &[&x, &fed], &[])
    } else {
        let attended = self_attention(g, name, layer, rows, set);
        let x = g.node("Add", &[rows, &attended], &[]);
        let x = norm(g, "norm1", &layer.norm1, &x);
        let fed = feed_forward(g, name, layer, &x);
        let x = g.node("Add", &[&x, &fed], &[]);
        norm(g, "norm2", &layer.norm2, &x)
    }
}

fn self_attention<B: Backend>(
    g: &mut GraphBuilder,
    name: &str,
    layer: &TransformerLayer<B>,
    rows: &str,
    set: &Set,
) -> Value {
    let embed_dim = embed_dim(layer);
    let heads = g.integers(&[layer.heads as i64, (embed_dim / layer.heads) as i64]);
    let shape = g.node("Concat", &[&set.shape, &heads], &[Int("axis", 0)]);
    let [query, key, value] = Projection::of(layer);
    let split = |g: &mut GraphBuilder, part: &str, projection: &Projection, order: &[i64]| {
        let projected = projection.wire(g, &format!("{name}.{part}"), rows);
        let split = g.node("Reshape", &[&projected, &shape], &[]);
        g.node("Transpose", &[&split], &[Ints("perm", order)])
    };
    let query = split(g, "query", &query, &[0, 2, 1, 3]);
    let key = split(g, "key", &key, &[0, 2, 3, 1]);
    let value = split(g, "value", &value, &[0, 2, 1, 3]);
    let context = weigh(g, &query, &key, &set.bias, &value);
    let context = g.node("Transpose", &[&context], &[Ints("perm", &[0, 2, 1, 3])]);
    let context = to_rows(g, &context, embed_dim);
    linear(g, &format!("{name}.out_proj"), &layer.out_proj, &context)
}

/// softmax(`query` x `key` + `bias`) x `value`; `query` is scaled, `key` transposed already.
fn weigh(g: &mut GraphBuilder, query: &str, key: &str, bias: &str, value: &str) -> Value {
    let scores = g.node("MatMul", &[query, key], &[]);
    let scores = g.node("Add", &[&scores, bias], &[]);
    let weights = g.node("Softmax", &[&scores], &[Int("axis", -1)]);
    g.node("MatMul", &[&weights, value], &[])
}

fn feed_forward<B: Backend>(
    g: &mut GraphBuilder,
    name: &str,
    layer: &TransformerLayer<B>,
    rows: &str,
) -> Value {
    let inner = linear(g, &format!("{name}.linear1"), &layer.linear1, rows);
    let inner = g.node("Relu", &[&inner], &[]);
    linear(g, &format!("{name}.linear2"), &layer.linear2, &inner)
}

/// One third of a layer's packed input projection.
struct Projection {
    embed_dim: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Projection {
    /// Query, scaled by 1 / sqrt(E / heads), key and value.
    fn of<B: Backend>(layer: &TransformerLayer<B>) -> [Projection; 3] {
        let embed_dim = embed_dim(layer);
        let weight = values(layer.in_proj.weight.val());
        let bias = bias_values(&layer.in_proj.bias, 3 * embed_dim);
        let scale = 1.0 / ((embed_dim / layer.heads) as f32).sqrt();
        [(0, scale), (1, 1.0), (2, 1.0)].map(|(third, scale)| {
            let columns = |row: &[f32]| -> Vec<f32> {
                row.iter().skip(third * embed_dim).take(embed_dim).map(|v| v * scale).collect()
            };
            let weight = weight.chunks(3 * embed_dim).flat_map(columns).collect();
            Projection { embed_dim, weight, bias: columns(&bias) }
        })
    }

    fn wire(&self, g: &mut GraphBuilder, name: &str, rows: &str) -> Value {
        let shape = [self.embed_dim, self.embed_dim];
        let weight = g.weight(&format!("{name}.weight"), &shape, &self.weight);
        let bias = g.weight(&format!("{name}.bias"), &[self.embed_dim], &self.bias);
        g.node("Gemm", &[rows, &weight, &bias], &[])
    }
}

/// Rows [rows, in] to [rows, out].
fn linear<B: Backend>(g: &mut GraphBuilder, name: &str, linear: &Linear<B>, rows: &str) -> Value {
    let [inputs, outputs] = linear.weight.dims();
    let weight =
        g.weight(&format!("{name}.weight"), &[inputs, outputs], &values(linear.weight.val()));
    let bias = g.weight(&format!("{name}.bias"), &[outputs], &bias_values(&linear.bias, outputs));
    g.node("Gemm", &[rows, &weight, &bias], &[])
}

fn layer_norm<B: Backend>(g: &mut GraphBuilder, name: &str, norm: &LayerNorm<B>, x: &str) -> Value {
    let gamma = values(norm.gamma.val());
    let beta = bias_values(&norm.beta, gamma.len());
    let scale = g.weight(&format!("{name}.weight"), &[gamma.len()], &gamma);
    let shift = g.weight(&format!("{name}.bias"), &[beta.len()], &beta);
    let attributes = [Int("axis", -1), Float("epsilon", LAYER_NORM_EPSILON)];
    g.node("LayerNormalization", &[x, &scale, &shift], &attributes)
}

/// Rows [T, input] of one sequence to [T, 2 * hidden].
fn lstm<B: Backend>(g: &mut GraphBuilder, lstm: &BiLstm<B>, rows: &str) -> Value {
    let batch_axis = g.integers(&[1]);
    let mut x = g.node("Unsqueeze", &[rows, &batch_axis], &[]);
    let mut width = 0;
    for (index, layer) in lstm.layers.iter().enumerate() {
        let directions = [&layer.forward, &layer.backward];
        let [input, gates] = layer.forward.input.weight.dims();
        let hidden = gates / 4;
        let both = |part: fn(&LstmDirection<B>) -> Vec<f32>| directions.map(part).concat();
        let name = |what: &str| format!("lstm.{index}.{what}");
        let from_input = both(|d| gate_rows(&values(d.input.weight.val().transpose())));
        let from_input = g.weight(&name("input"), &[2, gates, input], &from_input);
        let from_hidden = both(|d| gate_rows(&values(d.hidden.weight.val().transpose())));
        let from_hidden = g.weight(&name("hidden"), &[2, gates, hidden], &from_hidden);
        let bias = both(|d| {
            let [_, gates] = d.input.weight.dims();
            let part = |linear: &Linear<B>| gate_rows(&bias_values(&linear.bias, gates));
            [part(&d.input), part(&d.hidden)].concat()
        });
        let bias = g.weight(&name("bias"), &[2, 2 * gates], &bias);
        let attributes = [Text("direction", "bidirectional"), Int("hidden_size", hidden as i64)];
        // [T, direction, 1, hidden], which is [T, 1, 2 * hidden] in memory.
        let y = g.node("LSTM", &[&x, &from_input, &from_hidden, &bias], &attributes);
        width = 2 * hidden;
        let shape = g.integers(&[0, 1, width as i64]);
        x = g.node("Reshape", &[&y, &shape], &[]);
    }
    to_rows(g, &x, width)
}

/// Four equal parts in the modules' order (input, forget, cell, output) to ONNX's (input,
/// output, forget, cell).
fn gate_rows(values: &[f32]) -> Vec<f32> {
    let part = values.len() / 4;
    [0, 3, 1, 2]
        .into_iter()
        .flat_map(|gate| values.iter().skip(gate * part).take(part).copied())
        .collect()
}

fn embed_dim<B: Backend>(layer: &TransformerLayer<B>) -> usize {
    let [embed_dim, _] = layer.out_proj.weight.dims();
    embed_dim
}

fn bias_values<B: Backend>(bias: &Option<Param<Tensor<B, 1>>>, length: usize) -> Vec<f32> {
    bias.as_ref().map_or_else(|| vec![0.0; length], |bias| values(bias.val()))
}

/// The tensor's values as float32, row-major.
fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().iter::<f32>().collect()
}
