//! The tokenizer's convolution blocks as one operation. BatchNorm couples all patches, so each
//! block is a sweep over the batch; between two sweeps only its sums are exchanged. Kept for
//! backward are what enters and what leaves each convolution; the rest is computed again.

use std::sync::{Arc, OnceLock};

use burn::prelude::*;
use burn::tensor::ops::FloatTensor;
use burn_flex::FlexTensor;
use pulp::Arch;
use rayon::prelude::*;

use super::super::tokenizer::{CHANNELS, ConvBlock, KERNEL};
use super::block_norm::{BatchNorm, BlockNorm, Moments, NormSums};
use super::conv::Convolution;
use super::simd::Aligned;
use super::sweeps::{
    Back, ConvolutionSums, Features, First, Following, GROUP, KeptPart, Lanes, Next, Top,
};
use super::{Kernels, NORM_EPSILON, Op, flex, primitive, wrap};

/// Convolution blocks.
const BLOCKS: usize = CHANNELS.len() - 1;
/// Inputs of one of them: see [`inputs`].
const BLOCK_INPUTS: usize = 8;
const INPUTS: usize = 1 + BLOCKS * BLOCK_INPUTS;
/// Parts into which a batch is cut for sums: their number must not depend on the threads'.
const PARTS: usize = 16;

/// The convolution blocks: `patches` [N, patch_samples] to features [N, 128], the mean over the
/// remaining length. Training updates the running statistics as PyTorch does.
pub fn convolutions<B: Kernels>(patches: Tensor<B, 2>, blocks: &[ConvBlock<B>]) -> Tensor<B, 2> {
    let train = B::ad_enabled(&patches.device());
    let inputs: Vec<_> =
        std::iter::once(primitive(patches.clone())).chain(blocks.iter().flat_map(inputs)).collect();
    let Ok(inputs) = <[_; INPUTS]>::try_from(inputs) else {
        return convolutions_chain(patches, blocks);
    };
    let op = ConvolutionsOp {
        train,
        epsilons: blocks.iter().map(|b| b.batch_norm.epsilon as f32).collect(),
        batch: Arc::default(),
    };
    let batch = Arc::clone(&op.batch);
    let Ok(features) = B::run(op, inputs) else {
        return convolutions_chain(patches, blocks);
    };
    for (block, moments) in blocks.iter().zip(batch.get().into_iter().flatten()) {
        update_running(block, moments);
    }
    wrap(features)
}

/// [`convolutions`] by burn's operations.
pub fn convolutions_chain<B: Kernels>(
    patches: Tensor<B, 2>,
    blocks: &[ConvBlock<B>],
) -> Tensor<B, 2> {
    let mut x = patches.unsqueeze_dim(2);
    for block in blocks {
        x = block.forward(x);
    }
    x.mean_dim(1).squeeze_dim(1)
}

/// Convolution, BatchNorm with its running statistics, LayerNorm.
fn inputs<B: Backend>(block: &ConvBlock<B>) -> Vec<FloatTensor<B>> {
    let ConvBlock { conv, batch_norm, norm } = block;
    let vectors = [
        conv.bias.as_ref().map(|bias| bias.val()),
        Some(batch_norm.gamma.val()),
        Some(batch_norm.beta.val()),
        // Read from a record they ask for gradients, which an operation has none of for them.
        Some(batch_norm.running_mean.value_sync().detach()),
        Some(batch_norm.running_var.value_sync().detach()),
        Some(norm.gamma.val()),
        norm.beta.as_ref().map(|beta| beta.val()),
    ];
    std::iter::once(primitive(conv.weight.val()))
        .chain(vectors.into_iter().flatten().map(primitive))
        .collect()
}

/// Moves the running statistics towards the batch's; the variance is the unbiased one.
fn update_running<B: Backend>(block: &ConvBlock<B>, moments: &[Moments]) {
    let norm = &block.batch_norm;
    let device = norm.gamma.device();
    let update = |old: Tensor<B, 1>, values: Vec<f32>| {
        let new = Tensor::from_data(TensorData::new(values, [moments.len()]), &device);
        (old * (1.0 - norm.momentum) + new * norm.momentum).detach()
    };
    let means = moments.iter().map(|m| m.mean as f32).collect();
    let variances = moments.iter().map(|m| (m.squares / (m.count - 1.0).max(1.0)) as f32);
    let variances = variances.collect();
    norm.running_mean.update(update(norm.running_mean.value_sync(), means));
    norm.running_var.update(update(norm.running_var.value_sync(), variances));
}

/// The blocks; [`inputs`] of each behind the patches.
#[derive(Debug)]
struct ConvolutionsOp {
    /// Normalizes by the batch's statistics instead of the running ones.
    train: bool,
    /// BatchNorm's.
    epsilons: Vec<f32>,
    /// The batch's statistics by block and channel, when `train`.
    batch: Arc<OnceLock<Vec<Vec<Moments>>>>,
}

/// Convolution and what follows it.
#[derive(Debug)]
pub(super) struct Layer {
    pub convolution: Convolution,
    pub norm: BlockNorm,
}

/// Of each vector of patches what the convolution reads, what it gives, and LayerNorm's mean and
/// scale.
#[derive(Debug)]
struct Kept {
    input: Aligned,
    output: Aligned,
    norm: Aligned,
}

#[derive(Debug)]
struct Tape {
    patches: usize,
    patch_samples: usize,
    lanes: usize,
    layers: Vec<Layer>,
    kept: Vec<Kept>,
}

/// The gradients of one block's weights.
struct BlockGradients {
    weight: Vec<f32>,
    bias: Vec<f32>,
    batch_gamma: Vec<f32>,
    batch_beta: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl Op<INPUTS> for ConvolutionsOp {
    type Tape = Tape;

    fn forward(&self, inputs: [FlexTensor; INPUTS]) -> (FlexTensor, Tape) {
        let [patches, blocks @ ..] = inputs.map(|input| input.to_contiguous());
        let [count, patch_samples] = patches.layout().shape().dims();
        let layers = blocks
            .chunks_exact(BLOCK_INPUTS)
            .zip(&self.epsilons)
            .enumerate()
            .map(|(i, (block, &epsilon))| Layer::new(block, patch_samples >> (i + 1), epsilon))
            .collect();
        let lanes = Arch::new().dispatch(Lanes);
        let kept = Vec::new();
        let mut tape = Tape { patches: count, patch_samples, lanes, layers, kept };
        let statistics: Vec<_> =
            (0..BLOCKS).map(|index| tape.sweep(index, patches.storage(), self.train)).collect();
        if self.train {
            // The cell is this call's own, so nothing is in it yet.
            let _ = self.batch.set(statistics);
        }
        (flex(tape.features(), [count, CHANNELS[BLOCKS]]), tape)
    }

    fn backward(
        &self,
        tape: &Tape,
        output: FlexTensor,
        needed: [bool; INPUTS],
    ) -> [Option<FlexTensor>; INPUTS] {
        let (patches, blocks) = tape.backward(output.to_contiguous().storage(), needed[0]);
        let mut found = [const { None }; INPUTS];
        found[0] = patches.map(|values| flex(values, [tape.patches, tape.patch_samples]));
        let places = found[1..].chunks_exact_mut(BLOCK_INPUTS);
        for ((places, layer), gradients) in places.zip(&tape.layers).zip(blocks) {
            let Convolution { inputs, outputs, .. } = layer.convolution;
            let BlockGradients { weight, bias, batch_gamma, batch_beta, gamma, beta } = gradients;
            let vector = |values: Vec<f32>| {
                let length = values.len();
                Some(flex(values, [length]))
            };
            places[0] = Some(flex(weight, [outputs, inputs, KERNEL]));
            places[1] = vector(bias);
            places[2] = vector(batch_gamma);
            places[3] = vector(batch_beta);
            places[6] = vector(gamma);
            places[7] = vector(beta);
        }
        found
    }
}

impl Layer {
    fn new(block: &[FlexTensor], length: usize, epsilon: f32) -> Self {
        let [_, inputs, _] = block[0].layout().shape().dims();
        let values = |i: usize| block[i].storage::<f32>();
        let convolution = Convolution::new(values(0), values(1), inputs, length);
        let mut batch = BatchNorm {
            gamma: values(2).to_vec(),
            beta: values(3).to_vec(),
            epsilon,
            ..BatchNorm::default()
        };
        batch.set(values(4).iter().copied().zip(values(5).iter().copied()));
        let norm = BlockNorm {
            channels: convolution.outputs,
            length,
            gamma: values(6).to_vec(),
            beta: values(7).to_vec(),
            epsilon: NORM_EPSILON as f32,
            batch,
        };
        Self { convolution, norm }
    }
}

impl Tape {
    /// Vectors of patches.
    fn blocks(&self) -> usize {
        self.patches.div_ceil(self.lanes)
    }

    /// Convolves block `index`, from the patches or from the block below, which it normalizes
    /// first. Returns the statistics of the output's channels, and normalizes by them if `train`.
    fn sweep(&mut self, index: usize, patches: &[f32], train: bool) -> Vec<Moments> {
        let (arch, lanes, count, blocks) = (Arch::new(), self.lanes, self.patches, self.blocks());
        let (below, rest) = self.layers.split_at_mut(index);
        let layer = &mut rest[0];
        let convolution = &layer.convolution;
        let (input_size, output_size) =
            (lanes * convolution.input_block(), lanes * convolution.output_block());
        let mut kept = Kept {
            input: Aligned::zeros(blocks * input_size),
            output: Aligned::zeros(blocks * output_size),
            norm: Aligned::zeros(blocks * 2 * lanes),
        };
        let mut moments = vec![Moments::default(); blocks * convolution.outputs];
        let sweep = kept
            .input
            .values_mut()
            .par_chunks_mut(input_size)
            .zip(kept.output.values_mut().par_chunks_mut(output_size))
            .zip(moments.par_chunks_mut(convolution.outputs))
            .enumerate();
        match below.last().zip(self.kept.last_mut()) {
            None => sweep.zip(patches.par_chunks(self.patch_samples * lanes)).for_each(
                |((block, ((input, output), moments)), patches)| {
                    let next = Next { convolution, count, block, input, output, moments };
                    arch.dispatch(First { patches, next });
                },
            ),
            Some((below, kept)) => {
                let convolved =
                    kept.output.values().par_chunks(lanes * below.convolution.output_block());
                let norms = kept.norm.values_mut().par_chunks_mut(2 * lanes);
                sweep.zip(convolved).zip(norms).for_each(
                    |(((block, ((input, output), moments)), convolved), kept)| {
                        let next = Next { convolution, count, block, input, output, moments };
                        arch.dispatch(Following { norm: &below.norm, convolved, kept, next });
                    },
                );
            }
        }
        let moments = moments
            .chunks(convolution.outputs)
            .fold(vec![Moments::default(); convolution.outputs], |all, block| {
                all.iter().zip(block).map(|(&a, &b)| a.merge(b)).collect()
            });
        if train {
            let statistics = moments.iter().map(|m| (m.mean as f32, (m.squares / m.count) as f32));
            layer.norm.batch.set(statistics);
        }
        self.kept.push(kept);
        moments
    }

    /// The last block normalized, and its mean over positions, [N, 128].
    fn features(&mut self) -> Vec<f32> {
        let (arch, lanes) = (Arch::new(), self.lanes);
        let (Some(layer), Some(kept)) = (self.layers.last(), self.kept.last_mut()) else {
            return Vec::new();
        };
        let mut features = vec![0.0; self.patches * layer.convolution.outputs];
        let size = lanes * layer.convolution.output_block();
        features
            .par_chunks_mut(lanes * layer.convolution.outputs)
            .zip(kept.output.values().par_chunks(size))
            .zip(kept.norm.values_mut().par_chunks_mut(2 * lanes))
            .for_each(|((features, convolved), kept)| {
                arch.dispatch(Features { norm: &layer.norm, convolved, kept, features });
            });
        features
    }

    /// From the features' gradient [N, 128] to that of the patches, if wanted, and of the blocks'
    /// weights.
    fn backward(&self, features: &[f32], wanted: bool) -> (Option<Vec<f32>>, Vec<BlockGradients>) {
        let (arch, lanes, blocks) = (Arch::new(), self.lanes, self.blocks());
        let part = blocks.div_ceil(PARTS).next_multiple_of(GROUP).max(1);
        let size = self.layers.iter().map(|layer| layer.convolution.input_block());
        let top = &self.layers[BLOCKS - 1];
        let size = lanes * size.fold(top.convolution.output_block(), usize::max);
        // One block's gradient at a time: that before ELU, then in the same place the next.
        let mut gradient = Aligned::zeros(blocks * size);
        let mut patches = vec![0.0; if wanted { self.patches * self.patch_samples } else { 0 }];

        let mut norms: Vec<NormSums> = gradient
            .values_mut()
            .par_chunks_mut(part * size)
            .zip(features.par_chunks(part * lanes * CHANNELS[BLOCKS]))
            .enumerate()
            .map(|(index, (gradient, features))| {
                let kept = self.kept[BLOCKS - 1].from(index * part, blocks);
                arch.dispatch(Top { norm: &top.norm, kept, size, gradient, features })
            })
            .collect();
        let mut gradients = Vec::with_capacity(BLOCKS);
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let (gamma, beta, batch) = NormSums::merge(&norms, lanes);
            let count = (self.patches * layer.convolution.length) as f64;
            let means: Vec<_> =
                batch.iter().map(|sums| sums.map(|sum| (sum / count) as f32)).collect();
            let part_patches = part * lanes * self.patch_samples;
            let mut rows: Vec<&mut [f32]> = patches.chunks_mut(part_patches).collect();
            if index > 0 || !wanted {
                rows = (0..blocks.div_ceil(part)).map(|_| &mut [][..]).collect();
            }
            let (sums, below): (Vec<ConvolutionSums>, Vec<NormSums>) = gradient
                .values_mut()
                .par_chunks_mut(part * size)
                .zip(rows)
                .enumerate()
                .map(|(part_index, (gradient, patches))| {
                    let first = part_index * part;
                    let below = index.checked_sub(1);
                    arch.dispatch(Back {
                        layer,
                        means: &means,
                        count: self.patches,
                        first,
                        kept: self.kept[index].from(first, blocks),
                        below: below
                            .map(|i| (&self.layers[i].norm, self.kept[i].from(first, blocks))),
                        size,
                        gradient,
                        patches,
                    })
                })
                .unzip();
            norms = below;
            let (weight, bias) = ConvolutionSums::merge(&sums);
            let [batch_beta, batch_gamma] =
                [0, 1].map(|i| batch.iter().map(|sums| sums[i] as f32).collect());
            gradients.push(BlockGradients { weight, bias, batch_gamma, batch_beta, gamma, beta });
        }
        gradients.reverse();
        (wanted.then_some(patches), gradients)
    }
}

impl Kept {
    /// From vector of patches `first` on, of `all`.
    fn from(&self, first: usize, all: usize) -> KeptPart<'_> {
        let from = |buffer: &'_ Aligned| first * (buffer.values().len() / all.max(1));
        KeptPart {
            input: &self.input.values()[from(&self.input)..],
            output: &self.output.values()[from(&self.output)..],
            norm: &self.norm.values()[from(&self.norm)..],
        }
    }
}
