//! The channels of the two simulated sleep laboratories: labels, units, rates and ranges, and how
//! each electrode sees brain and eyes. The Stanford-like one loses channels at random.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::brain::Electrode;

/// A laboratory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Laboratory {
    /// Labels and rates as in MESA (National Sleep Research Resource).
    Mesa,
    /// Labels and rates as in clinical recordings at Stanford.
    Stanford,
}

impl Laboratory {
    /// The folder of its recordings.
    pub fn as_str(self) -> &'static str {
        match self {
            Laboratory::Mesa => "mesa",
            Laboratory::Stanford => "stanford",
        }
    }
}

/// What a channel records.
#[derive(Debug, Clone, Copy)]
pub enum Measures {
    /// Brain and eyes.
    Brain(Electrode),
    /// Chin muscles.
    Chin,
    /// A leg's muscle; legs differ.
    Leg,
    /// Electrocardiogram.
    Ecg,
    /// Pulse wave at the finger.
    Pulse,
    /// Pressure at the nose: the square of the flow with its sign.
    NasalPressure,
    /// Air flow.
    Flow,
    /// Temperature of the breath, which lags behind the flow.
    Thermistor,
    /// Belt around the chest.
    Chest,
    /// Belt around the belly.
    Belly,
    /// Microphone at the neck.
    Snoring,
    /// Body position: a number for each side.
    Position,
    /// Flag of the oximeter.
    OximeterStatus,
    /// Oxygen saturation.
    Saturation,
    /// Heart rate.
    HeartRate,
}

/// A channel.
#[derive(Debug, Clone, Copy)]
pub struct Channel {
    /// Label in the EDF header.
    pub label: &'static str,
    /// Physical dimension.
    pub unit: &'static str,
    /// Samples per second.
    pub rate_hz: u32,
    /// Physical minimum and maximum.
    pub range: (f64, f64),
    /// What it records.
    pub measures: Measures,
}

const fn channel(
    label: &'static str,
    unit: &'static str,
    rate_hz: u32,
    range: (f64, f64),
    measures: Measures,
) -> Channel {
    Channel { label, unit, rate_hz, range, measures }
}

/// Weights of slow waves, theta, alpha, sigma, beta, rolling eyes; of spindles, K-complexes,
/// vertex and sawtooth waves, saccades, blinks.
const fn electrode(background: f32, rhythms: [f32; 6], waves: [f32; 6]) -> Measures {
    Measures::Brain(Electrode { background, rhythms, waves })
}

const FRONTAL: Measures =
    electrode(1.05, [1.1, 0.9, 0.5, 0.8, 1.0, 0.05], [0.8, 1.0, 0.7, 0.8, 0.1, 0.2]);
const CENTRAL: Measures =
    electrode(1.0, [0.95, 1.0, 0.75, 1.0, 1.0, 0.0], [1.0, 0.8, 0.9, 1.0, 0.05, 0.08]);
const OCCIPITAL: Measures =
    electrode(0.95, [0.7, 0.8, 1.4, 0.6, 0.9, 0.0], [0.5, 0.5, 0.5, 0.5, 0.02, 0.03]);
const FRONTO_CENTRAL: Measures =
    electrode(0.6, [0.5, 0.35, 0.3, 0.45, 0.6, 0.0], [0.5, 0.4, 0.4, 0.4, 0.05, 0.1]);
const CENTRO_OCCIPITAL: Measures =
    electrode(0.7, [0.45, 0.5, -0.9, 0.6, 0.6, 0.0], [0.6, 0.45, 0.5, 0.5, 0.02, 0.03]);
const LEFT_EYE: Measures =
    electrode(0.7, [0.5, 0.5, 0.3, 0.3, 0.6, 1.0], [0.2, 0.5, 0.4, 0.4, 1.0, 0.7]);
const RIGHT_EYE: Measures =
    electrode(0.7, [0.5, 0.5, 0.3, 0.3, 0.6, -1.0], [0.2, 0.5, 0.4, 0.4, -1.0, 0.7]);

const EEG_UV: (f64, f64) = (-500.0, 500.0);
const BELT: (f64, f64) = (-5.0, 5.0);

const MESA: [Channel; 19] = [
    channel("EKG", "mV", 256, (-5.0, 5.0), Measures::Ecg),
    channel("EOG-L", "uV", 256, EEG_UV, LEFT_EYE),
    channel("EOG-R", "uV", 256, EEG_UV, RIGHT_EYE),
    channel("EMG", "uV", 256, EEG_UV, Measures::Chin),
    channel("EEG1", "uV", 256, EEG_UV, FRONTO_CENTRAL),
    channel("EEG2", "uV", 256, EEG_UV, CENTRO_OCCIPITAL),
    channel("EEG3", "uV", 256, EEG_UV, CENTRAL),
    channel("Pres", "cmH2O", 32, BELT, Measures::NasalPressure),
    channel("Flow", "V", 32, BELT, Measures::Flow),
    channel("Snore", "V", 32, BELT, Measures::Snoring),
    channel("Thor", "V", 32, BELT, Measures::Chest),
    channel("Abdo", "V", 32, BELT, Measures::Belly),
    channel("Leg", "uV", 32, EEG_UV, Measures::Leg),
    channel("Therm", "V", 32, BELT, Measures::Thermistor),
    channel("Pos", "", 32, (0.0, 10.0), Measures::Position),
    channel("OxStatus", "", 1, (0.0, 10.0), Measures::OximeterStatus),
    channel("SpO2", "%", 1, (0.0, 200.0), Measures::Saturation),
    channel("HR", "bpm", 1, (0.0, 250.0), Measures::HeartRate),
    channel("Pleth", "", 256, BELT, Measures::Pulse),
];

/// Probability that a channel is missing, and the channel.
const STANFORD: [(f64, Channel); 20] = [
    (0.1, channel("F3-M2", "uV", 200, EEG_UV, FRONTAL)),
    (0.1, channel("F4-M1", "uV", 200, EEG_UV, FRONTAL)),
    (0.1, channel("C3-M2", "uV", 200, EEG_UV, CENTRAL)),
    (0.0, channel("C4-M1", "uV", 200, EEG_UV, CENTRAL)),
    (0.1, channel("O1-M2", "uV", 200, EEG_UV, OCCIPITAL)),
    (0.1, channel("O2-M1", "uV", 200, EEG_UV, OCCIPITAL)),
    (0.0, channel("LEOG", "uV", 200, EEG_UV, LEFT_EYE)),
    (0.1, channel("REOG", "uV", 200, EEG_UV, RIGHT_EYE)),
    (0.0, channel("Chin", "uV", 200, EEG_UV, Measures::Chin)),
    (0.15, channel("LLEG", "uV", 100, EEG_UV, Measures::Leg)),
    (0.15, channel("RLEG", "uV", 100, EEG_UV, Measures::Leg)),
    (0.05, channel("ECG", "mV", 200, (-5.0, 5.0), Measures::Ecg)),
    (0.1, channel("Nasal Pressure", "V", 25, BELT, Measures::NasalPressure)),
    (0.15, channel("Airflow", "V", 25, BELT, Measures::Thermistor)),
    (0.1, channel("Chest", "V", 25, BELT, Measures::Chest)),
    (0.05, channel("Abdomen", "V", 25, BELT, Measures::Belly)),
    (0.2, channel("Snore", "V", 100, BELT, Measures::Snoring)),
    (0.05, channel("SpO2", "%", 25, (0.0, 200.0), Measures::Saturation)),
    (0.15, channel("Pulse", "bpm", 25, (0.0, 250.0), Measures::HeartRate)),
    (0.3, channel("Position", "", 1, (0.0, 10.0), Measures::Position)),
];

/// The channels of one night.
pub fn channels(rng: &mut ChaCha8Rng, laboratory: Laboratory) -> Vec<Channel> {
    match laboratory {
        Laboratory::Mesa => MESA.to_vec(),
        Laboratory::Stanford => {
            let there = STANFORD.iter().filter(|(missing, _)| !rng.random_bool(*missing));
            there.map(|&(_, channel)| channel).collect()
        }
    }
}
