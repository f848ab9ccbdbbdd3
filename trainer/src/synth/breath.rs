//! Breathing: a phase that runs at the sleeper's rate, a depth that apneas take away, and the
//! oxygen saturation that follows with a delay. Known for the whole night at 8 Hz, because heart
//! and belts both need it.

use std::f32::consts::PI;

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use sfm_models::SleepStage;
use sfm_models::SleepStage::{N1, N2, N3, Rem, Wake};

use super::events::{Apnea, Events, Failing, stage_at};
use super::person::Person;
use sfm_models::EPOCH_S;

/// Rate of the course, Hz.
const COURSE_HZ: f64 = 8.0;
/// Share of a breath that is inspiration.
const INSPIRATION: f32 = 0.4;
/// The saturation falls this long after the flow: blood on its way from lung to finger, seconds.
const DELAY_S: f64 = 12.0;
/// Deep breaths after an apnea last this long, seconds.
const RECOVERY_S: f64 = 14.0;

/// One moment of breathing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Breath {
    /// Breaths since the start; the fraction is the place in the breath.
    pub phase: f64,
    /// Strength of the air flow, 1 in quiet sleep.
    pub flow: f32,
    /// Strength of the effort of chest and belly.
    pub effort: f32,
    /// 0 when chest and belly move together, 1 when against one another.
    pub paradox: f32,
    /// Strength of snoring, 0 to 1.
    pub snoring: f32,
}

impl Breath {
    /// Air flow: in positive, out negative and longer.
    pub fn flow_shape(&self) -> f32 {
        let part = self.phase.fract() as f32;
        if part < INSPIRATION {
            (PI * part / INSPIRATION).sin()
        } else {
            -0.67 * (PI * (part - INSPIRATION) / (1.0 - INSPIRATION)).sin()
        }
    }

    /// Air in the lung, -1 to 1; `lag` in breaths.
    pub fn volume_shape(&self, lag: f32) -> f32 {
        let part = (self.phase - f64::from(lag)).rem_euclid(1.0) as f32;
        if part < INSPIRATION {
            -(PI * part / INSPIRATION).cos()
        } else {
            (PI * (part - INSPIRATION) / (1.0 - INSPIRATION)).cos()
        }
    }
}

/// Breathing and saturation of a night.
#[derive(Debug)]
pub struct Breathing {
    course: Vec<Breath>,
    saturation: Vec<f32>,
}

impl Breathing {
    /// The breathing of a night.
    pub fn new(
        rng: &mut ChaCha8Rng,
        person: &Person,
        stages: &[SleepStage],
        events: &Events,
    ) -> Self {
        let seconds = stages.len() as f64 * EPOCH_S;
        let samples = (seconds * COURSE_HZ) as usize;
        let snorer = ((person.traits[1] as f32 + 1.0) / 2.5).clamp(0.05, 1.0);
        let mut course: Vec<Breath> = Vec::with_capacity(samples);
        let mut now = Breath { flow: 1.0, effort: 1.0, ..Breath::default() };
        let (mut wander, mut depth) = (0.0_f64, 0.0_f64);
        for i in 0..samples {
            let time_s = i as f64 / COURSE_HZ;
            let stage = stage_at(stages, time_s);
            let (rate, irregular) = match stage {
                Wake => (1.1, 0.16),
                N1 => (1.03, 0.09),
                N2 => (1.0, 0.05),
                N3 => (0.97, 0.025),
                Rem => (1.06, 0.15),
            };
            let mut z = || -> f64 { StandardNormal.sample(&mut *rng) };
            wander = 0.985 * wander + 0.17 * irregular * z();
            depth = 0.985 * depth + 0.17 * irregular * z();
            now.phase += person.breath_rate / 60.0 * rate * (1.0 + wander).max(0.4) / COURSE_HZ;
            let mut target = breath_at(&events.apneas, time_s);
            let size = (1.0 + 1.5 * depth).clamp(0.4, 1.8) as f32;
            target.snoring = match stage {
                Wake => 0.0,
                Rem => 0.5 * snorer,
                _ => snorer * (0.6 + 0.4 * target.flow),
            };
            now.flow += 0.12 * (target.flow * size - now.flow);
            now.effort += 0.12 * (target.effort * size - now.effort);
            now.paradox += 0.12 * (target.paradox - now.paradox);
            now.snoring += 0.12 * (target.snoring - now.snoring);
            course.push(now);
        }
        let saturation = saturation(rng, person, seconds as usize, events);
        Breathing { course, saturation }
    }

    /// Breathing at a time, between two points of the course.
    pub fn at(&self, time_s: f64) -> Breath {
        let place = (time_s * COURSE_HZ).max(0.0);
        let index = place as usize;
        let (Some(a), Some(b)) = (self.course.get(index), self.course.get(index + 1)) else {
            return self.course.last().copied().unwrap_or_default();
        };
        Breath { phase: a.phase + (b.phase - a.phase) * place.fract(), ..*a }
    }

    /// Oxygen saturation in %, as an oximeter shows it: whole numbers, once a second.
    pub fn saturation(&self, time_s: f64) -> f32 {
        let index = (time_s as usize).min(self.saturation.len().saturating_sub(1));
        self.saturation.get(index).copied().unwrap_or(f32::NAN).round()
    }
}

fn breath_at(apneas: &[Apnea], time_s: f64) -> Breath {
    let next = apneas.partition_point(|a| a.span.start_s <= time_s);
    let quiet = Breath { flow: 1.0, effort: 1.0, ..Breath::default() };
    let Some(apnea) = next.checked_sub(1).and_then(|last| apneas.get(last)) else { return quiet };
    if apnea.span.part(time_s).is_some() {
        let (flow, effort, paradox) = match apnea.failing {
            Failing::Obstructive => (0.02, 0.7, 1.0),
            Failing::Central => (0.02, 0.03, 0.0),
            Failing::Hypopnea => (0.42, 0.6, 0.4),
        };
        return Breath { flow, effort, paradox, ..quiet };
    }
    if time_s < apnea.span.end_s() + RECOVERY_S {
        return Breath { flow: 1.5, effort: 1.4, ..quiet };
    }
    quiet
}

/// Falls from [`DELAY_S`] after an apnea's onset to as long after its end, rises twice as fast.
fn saturation(rng: &mut ChaCha8Rng, person: &Person, seconds: usize, events: &Events) -> Vec<f32> {
    let mut wander = 0.0;
    let mut course: Vec<f32> = (0..seconds)
        .map(|_| {
            let z: f64 = StandardNormal.sample(rng);
            wander = 0.995 * wander + 0.04 * z;
            (person.saturation + wander) as f32
        })
        .collect();
    for apnea in &events.apneas {
        let fall_s = apnea.span.start_s + DELAY_S;
        let nadir_s = apnea.span.end_s() + DELAY_S;
        let rise_s = (0.5 * apnea.span.duration_s).max(8.0);
        for (second, value) in course.iter_mut().enumerate().skip(fall_s as usize) {
            let time_s = second as f64;
            let share = if time_s < nadir_s {
                (time_s - fall_s) / (nadir_s - fall_s)
            } else {
                1.0 - (time_s - nadir_s) / rise_s
            };
            if time_s >= nadir_s && share <= 0.0 {
                break;
            }
            *value -= (apnea.desaturation * share.clamp(0.0, 1.0)) as f32;
        }
    }
    course.iter_mut().for_each(|v| *v = v.clamp(60.0, 100.0));
    course
}
