//! The course of a night: cycles of 80 to 110 min in which N3 shrinks and REM grows, awakenings
//! after which sleep returns through N1, wakefulness before and after. Epochs of 30 s.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};
use sfm_models::SleepStage;
use sfm_models::SleepStage::{N1, N2, N3, Rem, Wake};

use super::person::Person;

/// Epochs in an hour.
pub const EPOCHS_PER_H: usize = 120;
/// Minutes of N3 and of REM in each cycle (Carskadon & Dement, Normal human sleep).
const N3_MIN: [f64; 6] = [32.0, 24.0, 13.0, 6.0, 0.0, 0.0];
const REM_MIN: [f64; 6] = [8.0, 17.0, 24.0, 30.0, 34.0, 34.0];
/// A recording shorter than this gets the whole night in small, minutes.
const FULL_NIGHT_MIN: f64 = 420.0;

/// A night of `epochs` epochs.
pub fn hypnogram(rng: &mut ChaCha8Rng, epochs: usize, person: &Person) -> Vec<SleepStage> {
    let scale = (epochs as f64 / 2.0 / FULL_NIGHT_MIN).min(1.0);
    let last_wake = rounded(between(rng, 6.0, 30.0) * scale).min(epochs / 4);
    let mut night = Night { stages: Vec::with_capacity(epochs), scale };
    let latency = lognormal(rng, 16.0, 0.45).clamp(6.0, 45.0);
    night.push(Wake, latency);
    let n3_factor = (1.0 - 0.18 * person.traits[0]) * between(rng, 0.8, 1.2);
    for cycle in 0.. {
        if night.stages.len() + last_wake >= epochs {
            break;
        }
        night.push_cycle(rng, cycle, n3_factor);
    }
    let mut stages = night.stages;
    stages.truncate(epochs - last_wake);
    wake_up(rng, &mut stages, person, scale);
    stages.resize(epochs, Wake);
    stages
}

struct Night {
    stages: Vec<SleepStage>,
    scale: f64,
}

impl Night {
    fn push(&mut self, stage: SleepStage, minutes: f64) {
        if minutes > 0.0 {
            let epochs = rounded(minutes * self.scale).max(2);
            self.stages.extend(std::iter::repeat_n(stage, epochs));
        }
    }

    fn push_cycle(&mut self, rng: &mut ChaCha8Rng, cycle: usize, n3_factor: f64) {
        let place = cycle.min(N3_MIN.len() - 1);
        let n3 = N3_MIN[place] * n3_factor * between(rng, 0.75, 1.25);
        let rem = REM_MIN[place] * between(rng, 0.75, 1.25);
        let n1 = if cycle == 0 { between(rng, 4.0, 8.0) } else { between(rng, 2.0, 5.0) };
        let n2 = (between(rng, 80.0, 100.0) - n1 - n3 - rem).max(20.0);
        let early = between(rng, 0.35, 0.65);
        self.push(N1, n1);
        self.push(N2, n2 * early);
        self.push(N3, n3);
        self.push(N2, n2 * (1.0 - early));
        self.push(Rem, rem);
        if rng.random_bool(0.5) {
            self.push(Wake, between(rng, 1.0, 5.0));
        }
    }
}

/// Overwrites sleep with awakenings, more of them in a fragmented sleeper, each with a way back.
fn wake_up(rng: &mut ChaCha8Rng, stages: &mut [SleepStage], person: &Person, scale: f64) {
    let per_h = 1.6 * (0.45 * person.traits[2]).exp();
    let mut epoch = 0;
    while epoch < stages.len() {
        let resist = match stages[epoch] {
            Wake => 0.0,
            N3 => 0.3,
            _ => 1.0,
        };
        if !rng.random_bool((resist * per_h / EPOCHS_PER_H as f64).min(1.0)) {
            epoch += 1;
            continue;
        }
        let long = if rng.random_bool(0.25) { between(rng, 5.0, 15.0) } else { 0.0 };
        let wake = rounded((between(rng, 0.5, 3.0) + long) * scale);
        let drowsy = rounded(between(rng, 1.5, 4.5) * scale).max(2);
        let end = (epoch + wake + drowsy).min(stages.len());
        for (i, stage) in stages[epoch..end].iter_mut().enumerate() {
            *stage = if i < wake { Wake } else { N1 };
        }
        epoch = end + 4;
    }
}

fn rounded(minutes: f64) -> usize {
    (minutes * 2.0).round() as usize
}

fn between(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    rng.random_range(low..high)
}

fn lognormal(rng: &mut ChaCha8Rng, median: f64, sigma: f64) -> f64 {
    LogNormal::new(median.ln(), sigma).map_or(median, |d| d.sample(rng))
}
