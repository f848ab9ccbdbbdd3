//! Cox's partial likelihood by label, with its gradient: plain arithmetic in float64 on the log-
//! hazards of the whole risk set, so that no network has to be in memory for all of them at once.
//!
//! Sums of hazards are kept as logarithms, the largest term taken out as it comes: any finite
//! log-hazard gives a finite loss. A label without an event has no loss and no gradient.

use serde::{Deserialize, Serialize};

use crate::data::labels::Outcome;

/// What to do about events at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ties {
    /// Efron (1977): the tied ones leave the risk set one by one, on average.
    #[default]
    Efron,
    /// Breslow (1974): all of them stay in the risk set.
    Breslow,
}

/// The loss of a set of nights, and how it changes with their log-hazards.
#[derive(Debug, Clone, PartialEq)]
pub struct Cox {
    /// Mean over the labels that have events.
    pub loss: f64,
    /// [N, K]: derivative of `loss`; 0 for masked outcomes and labels.
    pub gradient: Vec<f64>,
    /// Negative log partial likelihood per event of each label, `None` without events.
    pub by_label: Vec<Option<f64>>,
}

/// The loss of `log_hazards` [N, K] for `outcomes`, N rows of K, of which `None` is masked.
pub fn cox(log_hazards: &[f64], outcomes: &[&[Option<Outcome>]], ties: Ties) -> Cox {
    let labels = outcomes.first().map_or(0, |row| row.len());
    let mut result =
        Cox { loss: 0.0, gradient: vec![0.0; log_hazards.len()], by_label: vec![None; labels] };
    for label in 0..labels {
        let members: Vec<(usize, Member)> = outcomes
            .iter()
            .enumerate()
            .filter_map(|(row, outcomes)| {
                let outcome = (*outcomes.get(label)?)?;
                let cell = row * labels + label;
                let log_hazard = *log_hazards.get(cell)?;
                let (time, event) = (f64::from(outcome.years), outcome.event);
                Some((cell, Member { time, event, log_hazard }))
            })
            .collect();
        let (cells, members): (Vec<usize>, Vec<Member>) = members.into_iter().unzip();
        let Some((loss, gradient)) = partial_likelihood(&members, ties) else { continue };
        result.by_label[label] = Some(loss);
        for (cell, derivative) in cells.into_iter().zip(gradient) {
            result.gradient[cell] = derivative;
        }
    }
    let with_events = result.by_label.iter().flatten().count().max(1) as f64;
    result.loss = result.by_label.iter().flatten().sum::<f64>() / with_events;
    result.gradient.iter_mut().for_each(|derivative| *derivative /= with_events);
    result
}

/// One night's part in a label's likelihood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// When the event came or observation ended.
    pub time: f64,
    /// Whether the event came.
    pub event: bool,
    /// The log-hazard.
    pub log_hazard: f64,
}

/// Negative log partial likelihood per event, and its derivatives by the members' log-hazards;
/// `None` if there is no event.
pub fn partial_likelihood(members: &[Member], ties: Ties) -> Option<(f64, Vec<f64>)> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&a, &b| members[b].time.total_cmp(&members[a].time));
    let groups: Vec<&[usize]> =
        order.chunk_by(|&a, &b| members[a].time == members[b].time).collect();

    let mut loss = 0.0;
    let mut events = 0_usize;
    let mut at_risk = LogSum::default();
    // By group: what each member at risk, and each tied event, weighs in the denominators.
    let mut weights = Vec::with_capacity(groups.len());
    for group in &groups {
        let mut tied = LogSum::default();
        for &member in *group {
            at_risk.add(members[member].log_hazard);
            if members[member].event {
                tied.add(members[member].log_hazard);
                loss -= members[member].log_hazard;
            }
        }
        let count = group.iter().filter(|&&member| members[member].event).count();
        let (mut all, mut own) = (LogSum::default(), LogSum::default());
        for rank in 0..count {
            let left = match ties {
                Ties::Efron => rank as f64 / count as f64,
                Ties::Breslow => 0.0,
            };
            let share_of_tied = left * (tied.log() - at_risk.log()).exp().min(1.0);
            let denominator = at_risk.log() + (-share_of_tied).ln_1p();
            loss += denominator;
            all.add(-denominator);
            own.add(left.ln() - denominator);
        }
        events += count;
        weights.push((all, own));
    }
    if events == 0 {
        return None;
    }
    let mut gradient = vec![0.0; members.len()];
    let mut so_far = LogSum::default();
    for (group, (all, own)) in groups.iter().zip(&weights).rev() {
        so_far.add(all.log());
        for &index in *group {
            let member = members[index];
            let mut derivative = (member.log_hazard + so_far.log()).exp();
            if member.event {
                derivative -= (member.log_hazard + own.log()).exp() + 1.0;
            }
            gradient[index] = derivative / events as f64;
        }
    }
    Some((loss / events as f64, gradient))
}

/// Logarithm of a sum of exponentials, term by term, relative to the largest term so far.
#[derive(Debug, Clone, Copy)]
struct LogSum {
    largest: f64,
    sum: f64,
}

impl Default for LogSum {
    fn default() -> Self {
        Self { largest: f64::NEG_INFINITY, sum: 0.0 }
    }
}

impl LogSum {
    fn add(&mut self, term: f64) {
        if term == f64::NEG_INFINITY {
            return;
        }
        if term > self.largest {
            self.sum = self.sum * (self.largest - term).exp() + 1.0;
            self.largest = term;
        } else {
            self.sum += (term - self.largest).exp();
        }
    }

    fn log(&self) -> f64 {
        self.largest + self.sum.ln()
    }
}
