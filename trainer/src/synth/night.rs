//! One night as it will be recorded, before there is any sample: who sleeps, which stage when, all
//! events, breath, beats, channels and loose electrodes. Depends on the seed and the night's number.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use sfm_models::SleepStage;
use sfm_runtime::edf::DateTime;

use super::breath::Breathing;
use super::events::{Events, Span};
use super::heart::Beats;
use super::hypnogram::{EPOCHS_PER_H, hypnogram};
use super::montage::{Channel, Laboratory, channels};
use super::noise::stream;
use super::person::Person;
use super::waves::{Wave, waves};
use sfm_models::EPOCH_S;

/// Of so many nights in a row the last two are of one subject.
const NIGHTS_OF_TEN_SUBJECTS: u64 = 11;
/// Probability that a channel comes off once in a night.
const LOOSE: f64 = 0.1;

/// A loose electrode.
#[derive(Debug, Clone, Copy)]
pub struct LeadOff {
    /// When.
    pub span: Span,
    /// The input picks up the mains; else it is flat.
    pub mains: bool,
}

/// A night.
#[derive(Debug)]
pub struct Night {
    /// Number of the night in the cohort.
    pub index: u64,
    /// Where it is recorded.
    pub laboratory: Laboratory,
    /// Who sleeps.
    pub person: Person,
    /// Stages by epoch.
    pub stages: Vec<SleepStage>,
    /// Whether the eyes are open, by epoch.
    pub eyes_open: Vec<bool>,
    /// Body position by epoch, a number.
    pub positions: Vec<f32>,
    /// Apneas, arousals, movements.
    pub events: Events,
    /// Single waves of EEG and EOG.
    pub waves: Vec<Wave>,
    /// Breathing and oxygen saturation.
    pub breathing: Breathing,
    /// Heart beats.
    pub beats: Beats,
    /// The channels and when each was loose.
    pub channels: Vec<(Channel, Option<LeadOff>)>,
    /// Seed of the signals' noise.
    pub noise_seed: u64,
}

/// The subject of a night: one in ten has two.
pub fn subject(index: u64) -> u64 {
    index / NIGHTS_OF_TEN_SUBJECTS * 10 + (index % NIGHTS_OF_TEN_SUBJECTS).min(9)
}

impl Night {
    /// The night of this seed and number, `hours` long; `None` of a laboratory takes both by turns.
    pub fn new(seed: u64, index: u64, hours: f64, laboratory: Option<Laboratory>) -> Night {
        let subject = subject(index);
        let person = Person::new(seed, subject);
        let by_turns = [Laboratory::Mesa, Laboratory::Stanford][(subject % 2) as usize];
        let laboratory = laboratory.unwrap_or(by_turns);
        let rng = &mut stream(seed, "night", index);
        let epochs = (hours * EPOCHS_PER_H as f64).round() as usize;
        let stages = hypnogram(rng, epochs, &person);
        let eyes_open = eyes_open(rng, &stages);
        let events = Events::new(rng, &stages, &person);
        let waves = waves(rng, &stages, &eyes_open, &person);
        let breathing = Breathing::new(rng, &person, &stages, &events);
        let beats = Beats::new(rng, &person, &stages, &events, &breathing);
        let positions = positions(rng, &events, epochs);
        let seconds = epochs as f64 * EPOCH_S;
        let channels = channels(rng, laboratory).into_iter();
        let channels = channels.map(|c| (c, lead_off(rng, seconds))).collect();
        Night {
            index,
            laboratory,
            person,
            stages,
            eyes_open,
            positions,
            events,
            waves,
            breathing,
            beats,
            channels,
            noise_seed: rng.random(),
        }
    }

    /// Name of its files and its `Study ID`.
    pub fn id(&self) -> String {
        format!("{}-sim-{:04}", self.laboratory.as_str(), self.index)
    }

    /// Lights out.
    pub fn start(&self) -> Option<DateTime> {
        let evening = DateTime::new((2020, 1, 1), (21, 45, 0))?;
        let day_s = 86_400.0 * (self.index % 10_000) as f64;
        Some(evening.plus_seconds(day_s + 60.0 * (self.index * 7 % 90) as f64))
    }
}

fn eyes_open(rng: &mut ChaCha8Rng, stages: &[SleepStage]) -> Vec<bool> {
    let mut open = false;
    let mut look = |&stage: &SleepStage| {
        if rng.random_bool(0.2) {
            open = rng.random_bool(0.45);
        }
        open && stage == SleepStage::Wake
    };
    stages.iter().map(&mut look).collect()
}

/// Sleepers turn over with one in five of their movements.
fn positions(rng: &mut ChaCha8Rng, events: &Events, epochs: usize) -> Vec<f32> {
    let mut positions = vec![1.0; epochs];
    for movement in &events.movements {
        if rng.random_bool(0.2) {
            let position = f32::from(rng.random_range(0_u8..4));
            let epoch = (movement.end_s() / EPOCH_S) as usize;
            positions.iter_mut().skip(epoch).for_each(|p| *p = position);
        }
    }
    positions
}

fn lead_off(rng: &mut ChaCha8Rng, seconds: f64) -> Option<LeadOff> {
    rng.random_bool(LOOSE).then(|| {
        let duration_s = rng.random_range(20.0..150.0_f64).min(0.05 * seconds);
        let start_s = rng.random_range(0.0..seconds - duration_s);
        LeadOff { span: Span { start_s, duration_s }, mains: rng.random_bool(0.5) }
    })
}
