//! What happens to a sleeper at points of time: apneas and hypopneas with their desaturations,
//! arousals, leg movements, gross body movements. Times in seconds from the recording's start.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use sfm_models::SleepStage;
use sfm_models::SleepStage::{N1, N2, N3, Rem, Wake};

use super::person::Person;
use sfm_models::EPOCH_S;

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Onset, seconds.
    pub start_s: f64,
    /// Duration, seconds.
    pub duration_s: f64,
}

impl Span {
    /// End, seconds.
    pub fn end_s(self) -> f64 {
        self.start_s + self.duration_s
    }

    /// Position of a time in the span as 0 to 1; `None` outside.
    pub fn part(self, time_s: f64) -> Option<f32> {
        let part = (time_s - self.start_s) / self.duration_s;
        (0.0..1.0).contains(&part).then_some(part as f32)
    }
}

/// How breathing fails (AASM: an apnea is a fall of airflow by 90 %, a hypopnea by 30 %).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// No flow against an effort.
    Obstructive,
    /// Neither flow nor effort.
    Central,
    /// Shallow flow.
    Hypopnea,
}

/// An apnea or hypopnea.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Apnea {
    /// When.
    pub span: Span,
    /// How.
    pub failing: Failing,
    /// Fall of oxygen saturation that follows, percentage points.
    pub desaturation: f64,
}

/// All events of a night, each list in order of time.
#[derive(Debug, Clone, Default)]
pub struct Events {
    /// Apneas and hypopneas.
    pub apneas: Vec<Apnea>,
    /// Arousals, spontaneous and those that end an apnea.
    pub arousals: Vec<Span>,
    /// Leg movements.
    pub legs: Vec<Span>,
    /// Gross body movements: artifacts everywhere.
    pub movements: Vec<Span>,
}

/// The stage at a time; wake outside of the night.
pub fn stage_at(stages: &[SleepStage], time_s: f64) -> SleepStage {
    stages.get((time_s / EPOCH_S) as usize).copied().unwrap_or(Wake)
}

impl Events {
    /// The events of a night.
    pub fn new(rng: &mut ChaCha8Rng, stages: &[SleepStage], person: &Person) -> Events {
        let mut events = Events { apneas: apneas(rng, stages, person), ..Events::default() };
        for apnea in &events.apneas {
            if rng.random_bool(0.6) {
                let start_s = apnea.span.end_s() - 1.0;
                let span = Span { start_s, duration_s: rng.random_range(3.0..7.0) };
                events.arousals.push(span);
            }
        }
        let rate = |stage| match stage {
            Wake => 0.0,
            N3 => 0.3 * person.arousals_per_h,
            _ => person.arousals_per_h,
        };
        events.arousals.extend(at_random(rng, stages, rate, 3.0..9.0));
        in_order(&mut events.arousals);
        events.legs = leg_movements(rng, stages, person);
        let rate = |stage| if stage == Wake { 25.0 } else { 0.6 };
        events.movements = at_random(rng, stages, rate, 2.0..8.0);
        for epoch in 1..stages.len() {
            if stages[epoch] == Wake && stages[epoch - 1] != Wake {
                let start_s = epoch as f64 * EPOCH_S + rng.random_range(0.0..4.0);
                events.movements.push(Span { start_s, duration_s: rng.random_range(3.0..9.0) });
            }
        }
        in_order(&mut events.movements);
        events
    }

    /// Apneas and hypopneas per hour of sleep.
    pub fn ahi(&self, stages: &[SleepStage]) -> f64 {
        let asleep = stages.iter().filter(|&&s| s != Wake).count();
        if asleep == 0 { 0.0 } else { self.apneas.len() as f64 * 120.0 / asleep as f64 }
    }
}

fn in_order(spans: &mut [Span]) {
    spans.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
}

/// Exponential waiting time of a rate per hour, seconds.
fn wait_s(rng: &mut ChaCha8Rng, per_h: f64) -> f64 {
    -3600.0 / per_h * (1.0 - rng.random::<f64>()).ln()
}

/// Events of a rate per hour that depends on the stage; none over the end of the night.
pub fn at_random(
    rng: &mut ChaCha8Rng,
    stages: &[SleepStage],
    per_h: impl Fn(SleepStage) -> f64,
    duration_s: std::ops::Range<f64>,
) -> Vec<Span> {
    let mut spans = Vec::new();
    // Thinning: waits of the highest rate, kept with the stage's share of it.
    let highest = SleepStage::ALL.map(&per_h).into_iter().fold(1e-6, f64::max);
    let end_s = stages.len() as f64 * EPOCH_S;
    let mut time_s = wait_s(rng, highest);
    while time_s < end_s {
        let span = Span { start_s: time_s, duration_s: rng.random_range(duration_s.clone()) };
        if rng.random_bool(per_h(stage_at(stages, time_s)) / highest) && span.end_s() < end_s {
            spans.push(span);
            time_s = span.end_s();
        }
        time_s += wait_s(rng, highest);
    }
    spans
}

/// More of them in REM and fewer in N3; each needs its breaths before and behind it.
fn apneas(rng: &mut ChaCha8Rng, stages: &[SleepStage], person: &Person) -> Vec<Apnea> {
    let end_s = stages.len() as f64 * EPOCH_S;
    let mut apneas = Vec::new();
    let mut time_s = 0.0;
    while time_s < end_s - 45.0 {
        let stage = stage_at(stages, time_s);
        let share = match stage {
            Wake => {
                time_s += 5.0;
                continue;
            }
            N3 => 0.5,
            Rem => 1.5,
            N1 | N2 => 1.05,
        };
        let duration_s = rng.random_range(12.0..if stage == Rem { 36.0 } else { 28.0 });
        let mean_wait_s = (3600.0 / (person.ahi * share) - 32.0).max(3.0);
        let wait_s = wait_s(rng, 3600.0 / mean_wait_s);
        // A long wait may cross into another stage: look again there.
        if wait_s > EPOCH_S {
            time_s += EPOCH_S;
            continue;
        }
        let span = Span { start_s: time_s + wait_s, duration_s };
        time_s = span.end_s() + 12.0;
        if stage_at(stages, span.start_s) == Wake || stage_at(stages, span.end_s()) == Wake {
            continue;
        }
        let (failing, depth) = match rng.random_range(0..100) {
            0..35 => (Failing::Obstructive, 1.3),
            35..45 => (Failing::Central, 1.1),
            _ => (Failing::Hypopnea, 0.85),
        };
        let desaturation = depth * duration_s * rng.random_range(0.17..0.33);
        apneas.push(Apnea { span, failing, desaturation: desaturation.clamp(2.0, 16.0) });
    }
    apneas
}

/// Trains of movements every 20 to 40 s (AASM: at least four of 0.5 to 10 s make a series).
fn leg_movements(rng: &mut ChaCha8Rng, stages: &[SleepStage], person: &Person) -> Vec<Span> {
    let per_h = person.legs_per_h / 7.0;
    let rate = |stage| match stage {
        N1 | N2 => per_h * 1.5,
        N3 => per_h * 0.5,
        Wake | Rem => 0.0,
    };
    let mut legs = Vec::new();
    for train in at_random(rng, stages, rate, 120.0..300.0) {
        let mut start_s = train.start_s;
        while start_s < train.end_s() {
            legs.push(Span { start_s, duration_s: rng.random_range(0.6..4.0) });
            start_s += rng.random_range(20.0..40.0);
        }
    }
    in_order(&mut legs);
    legs
}
