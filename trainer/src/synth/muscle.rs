//! Muscle activity: broad-band noise whose strength is the tone, with bursts. The chin's tone
//! falls from wake to REM, where only twitches remain; legs are silent but for their movements.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use sfm_models::SleepStage;

use super::brain::within;
use super::events::{Events, stage_at};
use super::noise::{HighPass, White, stream};
use sfm_models::EPOCH_S;

const STEP_S: f64 = 0.125;
/// Chin tone by stage, microvolts root mean square.
const CHIN_UV: [f32; SleepStage::COUNT] = [18.0, 7.5, 6.0, 5.0, 1.8];
const LEG_UV: [f32; SleepStage::COUNT] = [6.0, 3.0, 2.5, 2.2, 1.5];

/// Which muscle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Muscle {
    /// Chin.
    Chin,
    /// Tibialis anterior.
    Leg,
}

/// Generator of one muscle's electrode pair.
#[derive(Debug)]
pub struct MuscleSignal {
    muscle: Muscle,
    rate_hz: f64,
    factor: f32,
    tone: f32,
    white: White,
    coupling: HighPass,
    twitches: ChaCha8Rng,
}

impl MuscleSignal {
    /// `factor` is the sleeper's.
    pub fn new(seed: u64, muscle: Muscle, index: u64, factor: f32, rate_hz: f64) -> Self {
        let mut rng = stream(seed, "muscle", index);
        MuscleSignal {
            muscle,
            rate_hz,
            factor,
            tone: 0.0,
            white: White::new(&mut rng),
            coupling: HighPass::new(10.0, rate_hz as f32),
            twitches: rng,
        }
    }

    /// Renders an epoch in microvolts.
    pub fn render(
        &mut self,
        epoch: usize,
        stages: &[SleepStage],
        events: &Events,
        out: &mut Vec<f32>,
    ) {
        let samples = (EPOCH_S * self.rate_hz) as usize;
        let step = ((STEP_S * self.rate_hz) as usize).max(1);
        out.resize(samples, 0.0);
        for start in (0..samples).step_by(step) {
            let time_s = epoch as f64 * EPOCH_S + start as f64 / self.rate_hz;
            let target = self.target(time_s, stages, events) * self.factor;
            self.tone += if target > self.tone { 0.5 } else { 0.12 } * (target - self.tone);
            for x in &mut out[start..(start + step).min(samples)] {
                *x = self.coupling.step(self.tone * self.white.sample());
            }
        }
    }

    fn target(&mut self, time_s: f64, stages: &[SleepStage], events: &Events) -> f32 {
        let stage = stage_at(stages, time_s);
        let moving = within(&events.movements, time_s);
        let twitch = stage == SleepStage::Rem && self.twitches.random_bool(0.002);
        match self.muscle {
            Muscle::Chin => {
                let tone = CHIN_UV[stage.index()];
                let aroused = within(&events.arousals, time_s);
                tone + if moving { 40.0 } else { 0.0 }
                    + if aroused { 9.0 } else { 0.0 }
                    + if twitch { 15.0 } else { 0.0 }
            }
            Muscle::Leg => {
                let tone = LEG_UV[stage.index()];
                let kick = within(&events.legs, time_s);
                tone + if kick || moving { 70.0 } else { 0.0 } + if twitch { 20.0 } else { 0.0 }
            }
        }
    }
}
