//! The samples of a night, epoch after epoch in physical units: all channels of an epoch are in
//! memory, never a whole night.

use std::f32::consts::PI;

use super::brain::{Brain, BrainNight, Electrode, within};
use super::heart::BeatForm;
use super::montage::{Channel, Measures};
use super::muscle::{Muscle, MuscleSignal};
use super::night::{LeadOff, Night};
use super::noise::{LowPass, White, stream};
use sfm_models::EPOCH_S;

/// Renders one night.
#[derive(Debug)]
pub struct Renderer<'a> {
    night: &'a Night,
    brain: Brain,
    muscles: Vec<Option<MuscleSignal>>,
    sensors: Vec<Sensor>,
    ecg: BeatForm,
    pulse: BeatForm,
    /// Samples of each channel in the last rendered epoch.
    pub samples: Vec<Vec<f32>>,
    /// The electrodes' part of `samples` while it is made.
    electrodes: Vec<Vec<f32>>,
}

/// What a sensor other than an electrode adds to what it measures.
#[derive(Debug)]
struct Sensor {
    white: White,
    lag: LowPass,
    drift: LowPass,
}

impl<'a> Renderer<'a> {
    /// A renderer before the night's first epoch.
    pub fn new(night: &'a Night) -> Self {
        let electrodes: Vec<Electrode> = night.channels.iter().filter_map(electrode).collect();
        let brain_hz = night.channels.iter().find(|c| electrode(c).is_some());
        let brain_hz = brain_hz.map_or(1.0, |(c, _)| f64::from(c.rate_hz));
        let brain_rng = stream(night.noise_seed, "brain", 0);
        let numbered = || night.channels.iter().zip(0_u64..);
        Renderer {
            night,
            brain: Brain::new(brain_rng, &night.person, &electrodes, brain_hz),
            muscles: numbered().map(|((c, _), i)| muscle(night, c, i)).collect(),
            sensors: numbered().map(|((c, _), i)| Sensor::new(night.noise_seed, c, i)).collect(),
            ecg: BeatForm::ecg(),
            pulse: BeatForm::pulse(),
            samples: vec![Vec::new(); night.channels.len()],
            electrodes: vec![Vec::new(); electrodes.len()],
        }
    }

    /// Fills `samples` with the next epoch; epochs are rendered in order.
    pub fn render(&mut self, epoch: usize) {
        let night = self.night;
        let brain_night = BrainNight {
            person: &night.person,
            stages: &night.stages,
            eyes_open: &night.eyes_open,
            events: &night.events,
            waves: &night.waves,
        };
        self.brain.render(epoch, &brain_night, &mut self.electrodes);
        let mut electrodes = std::mem::take(&mut self.electrodes);
        let mut samples = std::mem::take(&mut self.samples);
        let mut rendered = electrodes.iter_mut();
        for (index, out) in samples.iter_mut().enumerate() {
            let (channel, lead_off) = &night.channels[index];
            let rate_hz = f64::from(channel.rate_hz);
            out.resize((EPOCH_S * rate_hz) as usize, 0.0);
            match (channel.measures, &mut self.muscles[index]) {
                (Measures::Brain(_), _) => {
                    if let Some(rendered) = rendered.next() {
                        out.copy_from_slice(rendered);
                    }
                }
                (_, Some(muscle)) => muscle.render(epoch, &night.stages, &night.events, out),
                _ => self.sense(epoch, index, out),
            }
            if let Some(lead_off) = lead_off {
                come_off(lead_off, channel, epoch, out);
            }
        }
        self.samples = samples;
        self.electrodes = electrodes;
    }

    fn sense(&mut self, epoch: usize, index: usize, out: &mut [f32]) {
        let night = self.night;
        let (channel, _) = &night.channels[index];
        let sensor = &mut self.sensors[index];
        let rate_hz = f64::from(channel.rate_hz);
        let start_s = epoch as f64 * EPOCH_S;
        let moments = out.iter_mut().enumerate();
        let moments = moments.map(|(i, x)| (start_s + i as f64 / rate_hz, x));
        match channel.measures {
            Measures::Ecg => {
                moments.for_each(|(time_s, x)| *x = sensor.skin(night, time_s));
                self.ecg.add(&night.beats, start_s, rate_hz, out);
            }
            Measures::Pulse => {
                moments.for_each(|(_, x)| *x = 0.03 * sensor.noise() + 0.1 * sensor.wander());
                self.pulse.add(&night.beats, start_s, rate_hz, out);
            }
            Measures::Position => {
                let position = night.positions.get(epoch).copied().unwrap_or(0.0);
                out.fill(position);
            }
            Measures::OximeterStatus => out.fill(0.0),
            Measures::Saturation => {
                moments.for_each(|(time_s, x)| *x = night.breathing.saturation(time_s));
            }
            Measures::HeartRate => {
                let mut rate = 0.0;
                for (i, (time_s, x)) in moments.enumerate() {
                    if i % channel.rate_hz as usize == 0 {
                        rate = night.beats.rate(time_s);
                    }
                    *x = rate;
                }
            }
            measures => moments.for_each(|(time_s, x)| *x = sensor.breath(measures, night, time_s)),
        }
    }
}

fn electrode((channel, _): &(Channel, Option<LeadOff>)) -> Option<Electrode> {
    match channel.measures {
        Measures::Brain(electrode) => Some(electrode),
        _ => None,
    }
}

fn muscle(night: &Night, channel: &Channel, index: u64) -> Option<MuscleSignal> {
    let muscle = match channel.measures {
        Measures::Chin => Muscle::Chin,
        Measures::Leg => Muscle::Leg,
        _ => return None,
    };
    let rate_hz = f64::from(channel.rate_hz);
    Some(MuscleSignal::new(night.noise_seed, muscle, index, night.person.muscle, rate_hz))
}

impl Sensor {
    fn new(seed: u64, channel: &Channel, index: u64) -> Self {
        let rate_hz = channel.rate_hz as f32;
        Sensor {
            white: White::new(&mut stream(seed, "sensor", index)),
            lag: LowPass::new(0.35, rate_hz),
            drift: LowPass::new(0.05, rate_hz),
        }
    }

    fn noise(&mut self) -> f32 {
        self.white.sample()
    }

    /// Slow drift of variance 1.
    fn wander(&mut self) -> f32 {
        let white = self.white.sample();
        self.drift.step(white)
    }

    /// Millivolts of an ECG's baseline.
    fn skin(&mut self, night: &Night, time_s: f64) -> f32 {
        let moving = if within(&night.events.movements, time_s) { 0.15 } else { 0.015 };
        0.04 * self.wander() + moving * self.noise()
    }

    fn breath(&mut self, measures: Measures, night: &Night, time_s: f64) -> f32 {
        let breath = night.breathing.at(time_s);
        let flow = breath.flow * breath.flow_shape();
        let noise = self.noise();
        let moving = if within(&night.events.movements, time_s) { 0.5 } else { 0.0 };
        match measures {
            Measures::NasalPressure => flow * flow.abs() + (0.03 + moving) * noise,
            Measures::Flow => flow + (0.03 + moving) * noise,
            Measures::Thermistor => {
                // Gain of the unit-variance low-pass at 0.25 Hz, so that a breath keeps its height.
                let lagged = self.lag.step(flow) * 0.3;
                lagged + (0.01 + 0.2 * moving) * noise
            }
            Measures::Chest | Measures::Belly => {
                let chest = matches!(measures, Measures::Chest);
                let lag = if chest { 0.0 } else { 0.03 + 0.42 * breath.paradox };
                let height = breath.effort * breath.volume_shape(lag);
                height + 0.08 * self.wander() + (0.015 + 2.0 * moving) * noise
            }
            _ => {
                let inspiring = flow.max(0.0) * breath.snoring;
                (0.01 + 0.3 * moving + 0.6 * inspiring) * noise
            }
        }
    }
}

/// A loose electrode is flat or picks up the mains.
fn come_off(lead_off: &LeadOff, channel: &Channel, epoch: usize, out: &mut [f32]) {
    let height = if lead_off.mains { 0.2 * channel.range.1 as f32 } else { 0.0 };
    for (i, x) in out.iter_mut().enumerate() {
        let time_s = epoch as f64 * EPOCH_S + i as f64 / f64::from(channel.rate_hz);
        if lead_off.span.part(time_s).is_some() {
            *x = height * (2.0 * PI * (60.0 * time_s).fract() as f32).sin();
        }
    }
}
