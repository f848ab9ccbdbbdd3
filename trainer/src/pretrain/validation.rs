//! Validation: the loss with BatchNorm's running statistics and nothing left out, and how often a
//! window's embedding by one modality finds the same window's by another, within a batch.

use std::sync::Arc;

use burn::prelude::*;

use super::{PretrainConfig, PretrainError, Pretrainer};
use crate::data::windows::{Loader, WindowIndex};
use crate::loss::contrastive::{Contrast, Objective, Retrieval, normalized, pairs};
use crate::nn::Kernels;
use crate::optim::in_f32;

/// What a validation measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// Mean loss of the batches.
    pub loss: f64,
    /// Named shares, see [`named_shares`]; the objective's own and those of every pair.
    pub shares: Vec<(String, f64)>,
    /// Mean share over the objective's own comparisons.
    pub accuracy: f64,
}

/// Validates `module` on `index`; as many windows are compared at once as in training.
pub fn validate<B: Kernels>(
    module: &Pretrainer<B>,
    index: &Arc<WindowIndex>,
    config: &PretrainConfig,
    device: &B::Device,
) -> Result<Validated, PretrainError> {
    let order = config.order();
    let batches = order.batches(index);
    let loader = Loader::start(index, order, None, (0, batches), config.worker_count());
    let (mut sum, mut count) = (0.0, 0_u64);
    let mut own: Vec<Retrieval> = Vec::new();
    let mut paired: Vec<Retrieval> = Vec::new();
    for batch in loader {
        let Some(embedded) = module.forward(&batch?, index.shape(), device) else { continue };
        let embeddings = normalized(embedded.embeddings);
        let temperature = module.temperature.val();
        let contrast = |objective| {
            let (embeddings, present) = (embeddings.clone(), embedded.present.clone());
            Contrast::new(objective, embeddings, present, temperature.clone())
        };
        let objective = contrast(config.objective);
        sum += f64::from(scalar(objective.loss()));
        count += 1;
        add(&mut own, objective.retrieval());
        add(&mut paired, contrast(Objective::Pairwise).retrieval());
    }
    let names = module_names(index);
    let own_shares = named_shares(config.objective, &names, &own);
    let accuracy = mean(own_shares.iter().map(|(_, share)| *share));
    let mut shares = own_shares;
    if config.objective != Objective::Pairwise {
        shares.extend(named_shares(Objective::Pairwise, &names, &paired));
    }
    Ok(Validated { loss: sum / count.max(1) as f64, shares, accuracy })
}

/// The names of the modality axis.
pub fn module_names(index: &WindowIndex) -> Vec<&'static str> {
    index.shape().modalities.iter().map(|modality| modality.as_str()).collect()
}

/// Names each comparison's shares, `A_B` for windows of B searched with A; those in which nothing
/// was searched are left out.
pub fn named_shares(
    objective: Objective,
    names: &[&str],
    retrieval: &[Retrieval],
) -> Vec<(String, f64)> {
    let sides: Vec<(&str, &str)> = match objective {
        Objective::LeaveOneOut => names.iter().map(|&name| (name, "others")).collect(),
        Objective::Pairwise => pairs(names.len()).map(|(i, j)| (names[i], names[j])).collect(),
    };
    let named = |((left, right), retrieval): (&(&str, &str), &Retrieval)| {
        let (rows, columns) = retrieval.shares()?;
        Some([(format!("{left}_{right}"), rows), (format!("{right}_{left}"), columns)])
    };
    sides.iter().zip(retrieval).filter_map(named).flatten().collect()
}

/// The mean; not a number without values.
pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), v| (sum + v, count + 1));
    sum / count as f64
}

/// A tensor's one value, on the host.
pub fn scalar<B: Backend>(tensor: Tensor<B, 1>) -> f32 {
    let data = in_f32(tensor).into_data();
    data.as_slice::<f32>().ok().and_then(|values| values.first().copied()).unwrap_or(f32::NAN)
}

fn add(totals: &mut Vec<Retrieval>, counts: Vec<Retrieval>) {
    totals.resize(counts.len(), Retrieval::default());
    totals.iter_mut().zip(counts).for_each(|(total, count)| total.add(count));
}
