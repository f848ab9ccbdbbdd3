//! The step both heads begin with: the tokens of all modalities at one 5-s position to one row.
//! Rows are independent, so they run in blocks of one shape on all threads.

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;
use sfm_models::Modality;

use crate::infer::{InferError, Input, Session};
use crate::timing::{Step, Timings};

/// A head's modality pooling on an engine.
pub(crate) struct ModalityPool {
    session: Arc<dyn Session>,
    embed_dim: usize,
    step: Step,
    timings: Arc<Timings>,
}

impl ModalityPool {
    /// The pooling graph `session` of the head that is timed as `step`.
    pub(crate) fn new(
        session: Arc<dyn Session>,
        embed_dim: usize,
        step: Step,
        timings: Arc<Timings>,
    ) -> Self {
        Self { session, embed_dim, step, timings }
    }

    /// `tokens` [n, M, E] with `present` [n, M] and, for a graph that takes them, `positions` [n],
    /// `block` rows a call: [n, E].
    pub(crate) fn rows(
        &self,
        (tokens, present): (&[f32], &[f32]),
        positions: Option<&[i64]>,
        block: usize,
    ) -> Result<Vec<f32>, InferError> {
        let (cells, embed_dim) = (Modality::COUNT, self.embed_dim);
        let width = cells * embed_dim;
        let mut x = vec![0.0; present.len() / cells * embed_dim];
        x.par_chunks_mut(block * embed_dim).enumerate().try_for_each(|(index, out)| {
            let (first, rows) = (index * block, out.len() / embed_dim);
            let tokens = padded(&tokens[first * width..][..rows * width], block * width);
            let present = padded(&present[first * cells..][..rows * cells], block * cells);
            let positions = positions.map(|p| padded(&p[first..][..rows], block));
            let (tokens_shape, present_shape) = ([block, cells, embed_dim], [block, cells]);
            let mut inputs =
                vec![Input::F32(&tokens_shape, &tokens), Input::F32(&present_shape, &present)];
            let positions_shape = [block];
            if let Some(positions) = &positions {
                inputs.push(Input::I64(&positions_shape, positions));
            }
            let mut pooled = vec![0.0; block * embed_dim];
            self.timings.measure(self.step, || self.session.run(&inputs, &mut [&mut pooled]))?;
            out.copy_from_slice(&pooled[..rows * embed_dim]);
            Ok(())
        })?;
        Ok(x)
    }
}

/// `rows`, followed by zeros up to `len` values.
pub(crate) fn padded<T: Copy + Default>(rows: &[T], len: usize) -> Cow<'_, [T]> {
    if rows.len() == len {
        return rows.into();
    }
    let mut whole = rows.to_vec();
    whole.resize(len, T::default());
    whole.into()
}
