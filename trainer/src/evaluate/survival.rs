//! Figures of hazards: Harrell's C-index as lifelines counts it, its bootstrap interval by subject,
//! the cumulative/dynamic AUROC at a horizon as scikit-survival weighs it, the calibration slope.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::classification::quantile;
use crate::data::labels::Outcome;
use crate::loss::cox::{Member, Ties, partial_likelihood};

/// Steepest calibration that is looked for; a label whose hazards order all events perfectly has
/// none.
const STEEPEST: f64 = 1e3;

/// The members of label `label` among log-hazards [N, K] and outcomes (N rows of K), and the rows
/// that they are; masked ones are left out.
pub fn members(
    log_hazards: &[f64],
    outcomes: &[&[Option<Outcome>]],
    label: usize,
) -> (Vec<usize>, Vec<Member>) {
    let member = |(row, outcomes): (usize, &&[Option<Outcome>])| {
        let outcome = (*outcomes.get(label)?)?;
        let log_hazard = *log_hazards.get(row * outcomes.len() + label)?;
        Some((row, Member { time: f64::from(outcome.years), event: outcome.event, log_hazard }))
    };
    outcomes.iter().enumerate().filter_map(member).unzip()
}

/// The C-index of each label.
pub fn c_indices(log_hazards: &[f64], outcomes: &[&[Option<Outcome>]]) -> Vec<Option<f64>> {
    let labels = outcomes.first().map_or(0, |row| row.len());
    (0..labels).map(|label| c_index(&members(log_hazards, outcomes, label).1)).collect()
}

/// Harrell's C-index: of the pairs of which it is known who had the event first, the share in which
/// that one had the higher hazard; equal hazards count half. Who was censored when another had the
/// event had it later. `None` without such a pair.
pub fn c_index(members: &[Member]) -> Option<f64> {
    let mut order: Vec<&Member> = members.iter().collect();
    order.sort_by(|a, b| b.time.total_cmp(&a.time));
    let mut hazards: Vec<f64> = members.iter().map(|m| m.log_hazard).collect();
    hazards.sort_by(f64::total_cmp);
    hazards.dedup();
    let rank = |member: &Member| hazards.partition_point(|&h| h < member.log_hazard);
    // Those known to have it later, counted by the rank of their hazard.
    let mut later = Counts::new(hazards.len());
    let (mut pairs, mut right) = (0_u64, 0.0);
    for same_time in order.chunk_by(|a, b| a.time == b.time) {
        same_time.iter().filter(|m| !m.event).for_each(|m| later.add(rank(m)));
        for member in same_time.iter().filter(|m| m.event) {
            let rank = rank(member);
            let (below, up_to) = (later.below(rank), later.below(rank + 1));
            pairs += later.total;
            right += below as f64 + 0.5 * (up_to - below) as f64;
        }
        same_time.iter().filter(|m| m.event).for_each(|m| later.add(rank(m)));
    }
    (pairs > 0).then(|| right / pairs as f64)
}

/// Counts by rank with sums of the lower ones (Fenwick tree).
struct Counts {
    tree: Vec<u64>,
    total: u64,
}

impl Counts {
    fn new(ranks: usize) -> Self {
        Self { tree: vec![0; ranks + 1], total: 0 }
    }

    fn add(&mut self, rank: usize) {
        self.total += 1;
        let mut node = rank + 1;
        while let Some(count) = self.tree.get_mut(node) {
            *count += 1;
            node += node & node.wrapping_neg();
        }
    }

    fn below(&self, rank: usize) -> u64 {
        let (mut node, mut sum) = (rank, 0);
        while node > 0 {
            sum += self.tree[node];
            node &= node - 1;
        }
        sum
    }
}

/// The 95 % interval (percentiles) of the C-index over `draws` bootstrap samples of subjects, all
/// recordings of a subject together. `None` with fewer than two subjects, or where most samples
/// have no pair.
pub fn bootstrap(
    members: &[Member],
    subjects: &[&str],
    draws: usize,
    rng: &mut ChaCha8Rng,
) -> Option<(f64, f64)> {
    let mut by_subject: BTreeMap<&str, Vec<Member>> = BTreeMap::new();
    for (member, subject) in members.iter().zip(subjects) {
        by_subject.entry(subject).or_default().push(*member);
    }
    let groups: Vec<Vec<Member>> = by_subject.into_values().collect();
    if groups.len() < 2 {
        return None;
    }
    let mut indices: Vec<f64> = (0..draws)
        .filter_map(|_| {
            let sample: Vec<Member> = (0..groups.len())
                .flat_map(|_| groups[rng.random_range(0..groups.len())].iter().copied())
                .collect();
            c_index(&sample)
        })
        .collect();
    indices.sort_by(f64::total_cmp);
    if 2 * indices.len() < draws {
        return None;
    }
    Some((quantile(&indices, 0.025)?, quantile(&indices, 0.975)?))
}

/// Cumulative/dynamic AUROC at `horizon`: whether those with the event up to then had higher
/// hazards than those still without, events weighed by the inverse probability of not being
/// censored before them (Kaplan-Meier on the same members; Uno 2007, Hung and Chiang 2010). `None`
/// without both kinds.
pub fn auroc_at(members: &[Member], horizon: f64) -> Option<f64> {
    let uncensored = uncensored(members);
    let mut controls: Vec<f64> =
        members.iter().filter(|m| m.time > horizon).map(|m| m.log_hazard).collect();
    controls.sort_by(f64::total_cmp);
    let (mut wins, mut weights) = (0.0, 0.0);
    for case in members.iter().filter(|m| m.event && m.time <= horizon) {
        let weight = 1.0 / uncensored.at(case.time);
        let below = controls.partition_point(|&h| h < case.log_hazard);
        let up_to = controls.partition_point(|&h| h <= case.log_hazard);
        wins += weight * (below as f64 + 0.5 * (up_to - below) as f64);
        weights += weight;
    }
    (weights > 0.0 && !controls.is_empty()).then(|| wins / (weights * controls.len() as f64))
}

/// Kaplan-Meier estimate of not being censored: times, ascending, and the probability from each on.
struct Uncensored(Vec<(f64, f64)>);

impl Uncensored {
    fn at(&self, time: f64) -> f64 {
        let place = self.0.partition_point(|&(t, _)| t <= time);
        place.checked_sub(1).and_then(|i| self.0.get(i)).map_or(1.0, |&(_, p)| p)
    }
}

/// Events at a time leave the risk set before those censored then.
fn uncensored(members: &[Member]) -> Uncensored {
    let mut order: Vec<&Member> = members.iter().collect();
    order.sort_by(|a, b| a.time.total_cmp(&b.time));
    let (mut at_risk, mut probability) = (members.len(), 1.0);
    let mut steps = Vec::new();
    for same_time in order.chunk_by(|a, b| a.time == b.time) {
        let censored = same_time.iter().filter(|m| !m.event).count();
        let events = same_time.len() - censored;
        if censored > 0 {
            probability *= 1.0 - censored as f64 / (at_risk - events) as f64;
        }
        steps.push((same_time[0].time, probability));
        at_risk -= same_time.len();
    }
    Uncensored(steps)
}

/// The calibration slope: the coefficient of the log-hazard in a Cox regression of the outcome on
/// it (Efron's ties). 1 is calibrated, less is overconfident. `None` where there is none: no
/// events, one hazard for all, or events in perfect order.
pub fn calibration_slope(members: &[Member]) -> Option<f64> {
    // The likelihood is concave in the slope: its derivative has one zero at most.
    let derivative = |slope: f64| {
        let scaled: Vec<Member> =
            members.iter().map(|m| Member { log_hazard: slope * m.log_hazard, ..*m }).collect();
        let (_, gradient) = partial_likelihood(&scaled, Ties::Efron)?;
        Some(gradient.iter().zip(members).map(|(g, m)| g * m.log_hazard).sum::<f64>())
    };
    let (mut low, mut high) = (-1.0, 1.0);
    while derivative(low)? >= 0.0 {
        low *= 2.0;
        if low < -STEEPEST {
            return None;
        }
    }
    while derivative(high)? <= 0.0 {
        high *= 2.0;
        if high > STEEPEST {
            return None;
        }
    }
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if derivative(middle)? < 0.0 { low = middle } else { high = middle }
    }
    Some(0.5 * (low + high))
}
