//! Multi-head attention from the packed projection to the heads' concatenation. Rows of scores
//! exist for a few queries at a time; backward computes them again, so that no T x T matrix is
//! ever stored.

use burn::nn::Dropout;
use burn::prelude::*;
use burn::tensor::activation::softmax;
use burn_flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::transformer::ABSENT_SCORE;
use super::dropout::Mask;
use super::head::Head;
use super::simd::VECTORS;
use super::{Kernels, Op, flex, primitive, wrap};

/// `projected` [N, T, 3 E] (queries, keys, values) and `present` [N, T] to [N, T, E]. Weights of
/// absent keys are zero; `dropout` acts on weights while training.
pub fn attention<B: Kernels>(
    projected: Tensor<B, 3>,
    present: Tensor<B, 2>,
    heads: usize,
    dropout: &Dropout,
) -> Tensor<B, 3> {
    let train = B::ad_enabled(&projected.device());
    let op = AttentionOp { heads, dropout: if train { dropout.prob } else { 0.0 } };
    B::run(op, [primitive(projected), primitive(present)]).map_or_else(
        |[projected, present]| attention_chain(wrap(projected), wrap(present), heads, dropout),
        wrap,
    )
}

/// [`attention`] by burn's operations.
pub fn attention_chain<B: Backend>(
    projected: Tensor<B, 3>,
    present: Tensor<B, 2>,
    heads: usize,
    dropout: &Dropout,
) -> Tensor<B, 3> {
    let [n, t, width] = projected.dims();
    let e = width / 3;
    let head_dim = e / heads;
    let split = |rows: Tensor<B, 3>| rows.reshape([n, t, heads, head_dim]).swap_dims(1, 2);
    let query = split(projected.clone().narrow(2, 0, e)) / (head_dim as f64).sqrt();
    let key = split(projected.clone().narrow(2, e, e));
    let value = split(projected.narrow(2, 2 * e, e));
    let bias = ((present - 1.0) * ABSENT_SCORE).reshape([n, 1, 1, t]);
    let weights = softmax(query.matmul(key.transpose()) + bias, 3);
    let context = dropout.forward(weights).matmul(value);
    context.swap_dims(1, 2).reshape([n, t, e])
}

#[derive(Debug)]
struct AttentionOp {
    heads: usize,
    dropout: f64,
}

#[derive(Debug)]
struct Tape {
    sizes: Sizes,
    projected: FlexTensor,
    present: FlexTensor,
    mask: Option<Mask>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub tokens: usize,
    pub heads: usize,
    pub head_dim: usize,
}

impl Sizes {
    /// E.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Sequences of a task: several where they are short.
    fn task(&self) -> usize {
        (64 / self.tokens.max(1)).max(1)
    }
}

impl Op<2> for AttentionOp {
    type Tape = Tape;

    fn forward(&self, inputs: [FlexTensor; 2]) -> (FlexTensor, Tape) {
        let [projected, present] = inputs.map(|input| input.to_contiguous());
        let [n, tokens, width] = projected.layout().shape().dims();
        let sizes = Sizes { tokens, heads: self.heads, head_dim: width / 3 / self.heads };
        let mask = Mask::draw(self.dropout);
        let tape = Tape { sizes, projected, present, mask };
        let mut output = vec![0.0; n * tokens * sizes.width()];
        tape.tasks(&mut output, sizes.width(), |sequence, output| Task {
            tape: &tape,
            sequence,
            work: Work::Forward { output },
        });
        (flex(output, [n, tokens, sizes.width()]), tape)
    }

    fn backward(&self, tape: &Tape, output: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let output = output.to_contiguous();
        let [n, tokens, width] = tape.projected.layout().shape().dims();
        let mut gradient = vec![0.0; n * tokens * width];
        let values = output.storage::<f32>();
        let size = tokens * tape.sizes.width();
        tape.tasks(&mut gradient, width, |sequence, gradient| Task {
            tape,
            sequence,
            work: Work::Backward { output: &values[sequence * size..][..size], gradient },
        });
        [Some(flex(gradient, [n, tokens, width])), None]
    }
}

impl Tape {
    /// Runs a task for each sequence of `output`, [N, T, `width`].
    fn tasks<'a>(
        &self,
        output: &'a mut [f32],
        width: usize,
        task: impl Fn(usize, &'a mut [f32]) -> Task<'a> + Sync,
    ) {
        let arch = Arch::new();
        output
            .par_chunks_mut((self.sizes.tokens * width).max(1))
            .enumerate()
            .with_min_len(self.sizes.task())
            .for_each(|(sequence, output)| arch.dispatch(task(sequence, output)));
    }
}

/// One sequence, all heads.
struct Task<'a> {
    tape: &'a Tape,
    sequence: usize,
    work: Work<'a>,
}

enum Work<'a> {
    Forward { output: &'a mut [f32] },
    Backward { output: &'a [f32], gradient: &'a mut [f32] },
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.tape.sizes.tokens.div_ceil(S::F32_LANES) {
            0 | 1 => self.run::<S, 1>(simd),
            2 => self.run::<S, 2>(simd),
            3 => self.run::<S, 3>(simd),
            _ => self.run::<S, VECTORS>(simd),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Self { tape, sequence, mut work } = self;
        let sizes = tape.sizes;
        let size = 3 * sizes.width() * sizes.tokens;
        let projected = &tape.projected.storage::<f32>()[sequence * size..][..size];
        let present = &tape.present.storage::<f32>()[sequence * sizes.tokens..][..sizes.tokens];
        let mut head = Head::new(sizes, V * S::F32_LANES, S::F32_LANES, present);
        for index in 0..sizes.heads {
            head.gather(projected, index);
            let mask =
                tape.mask.map(|mask| (mask, (sequence * sizes.heads + index) * sizes.tokens));
            match &mut work {
                Work::Forward { output } => head.forward::<S, V>(simd, mask, index, output),
                Work::Backward { output, gradient } => {
                    head.backward::<S, V>(simd, mask, index, output, gradient);
                }
            }
        }
    }
}
