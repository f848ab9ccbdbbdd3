//! The last layer of a risk head, fitted to whole nights: Cox's likelihood with ridge penalties on
//! weights of standardized features, which has one minimum. What the layers below it show of a night
//! is thereby used as well as it can be, which steps on a few minutes of each night do not get to.
//!
//! First weights that all labels share, then each label's own, drawn towards the shared ones: what
//! makes one disease likelier mostly does so for others, and a label alone has few events.
//! Plain arithmetic in float64 on one thread; the network is only asked for its features.

use crate::data::labels::Outcome;
use crate::loss::cox::{Member, Ties, partial_likelihood};

/// Penalties that are tried, strongest first.
pub const RIDGES: [f64; 8] = [10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003];
/// Most steps of a minimization; it ends earlier where nothing moves any more.
const MOST_STEPS: usize = 400;
/// Shortest gradient that is followed, the norm over standardized weights.
const FLAT: f64 = 1e-5;

/// Features of nights in rows, [N, F].
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// F.
    pub width: usize,
    /// [N, F].
    pub values: Vec<f64>,
}

/// Weights `[F, K]` and biases `[K]` of a last layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// [F, K].
    pub weights: Vec<f64>,
    /// `[K]`; the mean night's log-hazards are 0.
    pub bias: Vec<f64>,
}

impl Features {
    /// Mean and standard deviation of each; those that do not vary get 1.
    fn scales(&self) -> (Vec<f64>, Vec<f64>) {
        let rows = (self.values.len() / self.width.max(1)).max(1) as f64;
        let column = |f: usize| self.values.iter().skip(f).step_by(self.width);
        let means: Vec<f64> = (0..self.width).map(|f| column(f).sum::<f64>() / rows).collect();
        let deviation = |f: usize| {
            let squares: f64 = column(f).map(|x| (x - means[f]).powi(2)).sum();
            let deviation = (squares / rows).sqrt();
            if deviation > 1e-9 { deviation } else { 1.0 }
        };
        let deviations = (0..self.width).map(deviation).collect();
        (means, deviations)
    }
}

/// Nights to fit a layer to: standardized features, and what became of the people.
#[derive(Debug)]
pub struct Fitting<'a> {
    outcomes: &'a [&'a [Option<Outcome>]],
    ties: Ties,
    means: Vec<f64>,
    deviations: Vec<f64>,
    standard: Vec<Vec<f64>>,
}

impl<'a> Fitting<'a> {
    /// `features` of nights with `outcomes`, N rows of K.
    pub fn new(features: &Features, outcomes: &'a [&'a [Option<Outcome>]], ties: Ties) -> Self {
        let (means, deviations) = features.scales();
        let standard = features
            .values
            .chunks_exact(features.width.max(1))
            .map(|row| (0..row.len()).map(|f| (row[f] - means[f]) / deviations[f]).collect())
            .collect();
        Self { outcomes, ties, means, deviations, standard }
    }

    /// K.
    fn labels(&self) -> usize {
        self.outcomes.first().map_or(0, |row| row.len())
    }

    /// The layer in which all labels have the same weights, those of the least mean loss plus
    /// `ridge` / 2 times the square of each.
    pub fn shared(&self, ridge: f64) -> Layer {
        let center = vec![0.0; self.means.len()];
        let labels: Vec<usize> = (0..self.labels()).collect();
        let weights = self.minimum(&labels, &center, ridge);
        self.layer(&vec![weights; labels.len()])
    }

    /// The layer of each label's least loss plus `ridge` / 2 times the square of each weight's
    /// distance from `shared`. Labels without an event keep the shared weights.
    pub fn own(&self, shared: &Layer, ridge: f64) -> Layer {
        let labels = self.labels();
        let center = |label: usize| -> Vec<f64> {
            let weight = |f: usize| shared.weights[f * labels + label] * self.deviations[f];
            (0..self.means.len()).map(weight).collect()
        };
        let weights: Vec<Vec<f64>> =
            (0..labels).map(|label| self.minimum(&[label], &center(label), ridge)).collect();
        self.layer(&weights)
    }

    /// The layer of standardized weights, K rows of F.
    fn layer(&self, standard: &[Vec<f64>]) -> Layer {
        let (width, labels) = (self.means.len(), standard.len());
        let mut layer = Layer { weights: vec![0.0; width * labels], bias: vec![0.0; labels] };
        for (label, weights) in standard.iter().enumerate() {
            for (f, weight) in weights.iter().enumerate() {
                let weight = weight / self.deviations[f];
                layer.weights[f * labels + label] = weight;
                layer.bias[label] -= weight * self.means[f];
            }
        }
        layer
    }

    /// Penalized mean loss of `labels` that have events, and its gradient; `None` if none has.
    fn loss(
        &self,
        labels: &[usize],
        weights: &[f64],
        (center, ridge): (&[f64], f64),
    ) -> Option<(f64, Vec<f64>)> {
        let hazards: Vec<f64> = self.standard.iter().map(|row| dot(row, weights)).collect();
        let away: Vec<f64> = weights.iter().zip(center).map(|(w, c)| w - c).collect();
        let (mut sum, mut with_events) = (0.0, 0.0);
        let mut by_night = vec![0.0; hazards.len()];
        for &label in labels {
            let known: Vec<(usize, Outcome)> = self
                .outcomes
                .iter()
                .enumerate()
                .filter_map(|(night, row)| Some((night, (*row.get(label)?)?)))
                .collect();
            let members: Vec<Member> = known
                .iter()
                .map(|&(night, Outcome { event, years })| Member {
                    time: f64::from(years),
                    event,
                    log_hazard: hazards[night],
                })
                .collect();
            let Some((loss, derivatives)) = partial_likelihood(&members, self.ties) else {
                continue;
            };
            sum += loss;
            with_events += 1.0;
            for ((night, _), derivative) in known.iter().zip(derivatives) {
                by_night[*night] += derivative;
            }
        }
        if with_events == 0.0 {
            return None;
        }
        let mut gradient: Vec<f64> = away.iter().map(|a| ridge * a).collect();
        for (row, derivative) in self.standard.iter().zip(by_night) {
            let derivative = derivative / with_events;
            gradient.iter_mut().zip(row).for_each(|(g, x)| *g += derivative * x);
        }
        Some((sum / with_events + 0.5 * ridge * dot(&away, &away), gradient))
    }

    /// Weights of the least penalized loss, from `center` by steps along the gradient of the length
    /// that the last one suggests (Barzilai and Borwein 1988), halved until the loss falls.
    fn minimum(&self, labels: &[usize], center: &[f64], ridge: f64) -> Vec<f64> {
        let at = |weights: &[f64]| self.loss(labels, weights, (center, ridge));
        let mut weights = center.to_vec();
        let Some((mut loss, mut gradient)) = at(&weights) else { return weights };
        let mut rate = 0.1;
        for _ in 0..MOST_STEPS {
            let steepness = dot(&gradient, &gradient);
            if steepness.sqrt() < FLAT {
                break;
            }
            let mut next = None;
            while rate > 1e-12 {
                let tried: Vec<f64> =
                    weights.iter().zip(&gradient).map(|(w, g)| w - rate * g).collect();
                match at(&tried) {
                    Some((lower, slope)) if lower <= loss - 1e-4 * rate * steepness => {
                        next = Some((tried, lower, slope));
                        break;
                    }
                    _ => rate *= 0.5,
                }
            }
            let Some((tried, lower, slope)) = next else { break };
            let step: Vec<f64> = tried.iter().zip(&weights).map(|(a, b)| a - b).collect();
            let bend: Vec<f64> = slope.iter().zip(&gradient).map(|(a, b)| a - b).collect();
            let curvature = dot(&step, &bend);
            rate = if curvature > 0.0 { dot(&step, &step) / curvature } else { 2.0 * rate };
            (weights, loss, gradient) = (tried, lower, slope);
        }
        weights
    }
}

impl Layer {
    /// Log-hazards [N, K].
    pub fn log_hazards(&self, features: &Features) -> Vec<f64> {
        let labels = self.bias.len();
        let hazard = |row: &[f64], label: usize| {
            let terms = row.iter().enumerate().map(|(f, x)| x * self.weights[f * labels + label]);
            self.bias[label] + terms.sum::<f64>()
        };
        let rows = features.values.chunks_exact(features.width.max(1));
        rows.flat_map(|row| (0..labels).map(move |label| hazard(row, label))).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
