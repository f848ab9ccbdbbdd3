//! Signals to a few figures an epoch: spectrum of one EEG channel, oxygen saturation, heart rate,
//! muscle activity. Holds one epoch of four channels and the figures, never the night's signals. An
//! epoch is looked at once: the second pass over a recording adds only what the first did not have.
//! Runs on the sinks' thread.

use sfm_models::Modality;

use super::heart;
use super::record::MAX_EPOCHS;
use super::spectrum::Welch;
use crate::event::{ChannelUse, SignalPatch, Started};
use crate::montage::{normalized, unit_uv};
use crate::quality::{is_pulse_label, is_spo2_label};
use sfm_models::EPOCH_S;

/// Saturations that living people have, percent.
const SPO2_PCT: std::ops::RangeInclusive<f32> = 50.0..=100.0;
/// Saturation changes by less within a second; what changes faster is a sensor that slips.
const MAX_SPO2_STEP_PCT: f32 = 4.0;
/// Pulse rates that living people have, beats per minute.
const PULSE_BPM: std::ops::RangeInclusive<f32> = 24.0..=240.0;
/// Fewer seconds of an epoch say nothing about it.
const MIN_SECONDS: usize = 10;
/// Where the waves of all stages are seen, best first.
const EEG_BY_PREFERENCE: [&str; 6] = ["c4", "c3", "cz", "f4", "f3", "fz"];

/// What a channel is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Spectrum.
    Eeg,
    /// Oxygen saturation.
    Spo2,
    /// Heart rate.
    Ecg,
    /// Heart rate where the ECG gives none: an oximeter's pulse.
    Pulse,
    /// Muscle activity.
    Muscle,
}

impl Role {
    const COUNT: usize = 5;
}

/// The figures of one epoch; `None` where the signal does not give them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct EpochTrend {
    /// All of its patches were looked at.
    pub is_whole: bool,
    /// dB re 1 uV²/Hz (re 1 of the unit where that is unknown), as [`Welch::density`] has it.
    pub spectrum_db: Option<Vec<f32>>,
    /// Mean and lowest oxygen saturation, percent.
    pub spo2_pct: Option<(f32, f32)>,
    /// Heart rate by the ECG, beats per minute.
    pub heart_bpm: Option<f32>,
    /// The same by the oximeter.
    pub pulse_bpm: Option<f32>,
    /// Root mean square of muscle activity without what is slower than a second, in the channel's unit.
    pub muscle_rms: Option<f32>,
}

/// A channel that is looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Watched {
    /// Index in the source.
    channel: usize,
    /// Label as written: untrusted text.
    pub label: String,
    /// Unit as written: untrusted text.
    pub unit: String,
}

/// The night's figures.
#[derive(Default)]
pub(super) struct Trends {
    /// By role.
    watched: [Option<Watched>; Role::COUNT],
    /// By epoch.
    pub epochs: Vec<EpochTrend>,
    open: Option<OpenEpoch>,
    welch: Option<Welch>,
}

/// The epoch whose signals are coming in.
struct OpenEpoch {
    index: usize,
    rate_hz: f64,
    seconds: f64,
    signals: [Vec<f32>; Role::COUNT],
}

impl Trends {
    /// A pass begins: chooses the channels.
    pub fn begin(&mut self, started: &Started) {
        self.close();
        self.watched = choose(&started.channels);
    }

    /// Whether the ECG gives a rate in any epoch.
    pub fn has_ecg_rate(&self) -> bool {
        self.epochs.iter().any(|epoch| epoch.heart_bpm.is_some())
    }

    /// The channel of a role.
    pub fn watched(&self, role: Role) -> Option<&Watched> {
        self.watched[role as usize].as_ref()
    }

    /// Takes 5 s of signals.
    pub fn take(&mut self, patch: &SignalPatch) {
        let index = (patch.onset_s / EPOCH_S) as usize;
        if index >= MAX_EPOCHS || self.epochs.get(index).is_some_and(|epoch| epoch.is_whole) {
            return;
        }
        if self.open.as_ref().is_some_and(|open| open.index != index) {
            self.close();
        }
        let open = self.open.get_or_insert_with(|| OpenEpoch::new(index, patch.rate_hz));
        let offset = ((patch.onset_s - index as f64 * EPOCH_S) * patch.rate_hz).round() as usize;
        let mut longest = 0;
        for (watched, signal) in self.watched.iter().zip(&mut open.signals) {
            let Some(watched) = watched else { continue };
            let channel = patch.channels.iter().find(|c| c.channel == watched.channel);
            let samples = channel.map_or(&[][..], |c| &c.samples);
            for (place, sample) in signal.iter_mut().skip(offset).zip(samples) {
                *place = *sample;
            }
        }
        for channel in &patch.channels {
            longest = longest.max(channel.samples.len());
        }
        // A patch of which nothing is there was looked at nevertheless.
        open.seconds += if longest == 0 { 5.0 } else { longest as f64 / patch.rate_hz };
        if open.seconds >= EPOCH_S {
            self.close();
        }
    }

    /// Computes what is open with what there is.
    pub fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let welch = self.welch.get_or_insert_with(|| Welch::new(open.rate_hz));
        let trend = open.figures(welch, self.watched[Role::Eeg as usize].as_ref());
        if self.epochs.len() <= open.index {
            self.epochs.resize(open.index + 1, EpochTrend::default());
        }
        self.epochs[open.index] = trend;
    }
}

impl OpenEpoch {
    fn new(index: usize, rate_hz: f64) -> Self {
        let samples = (EPOCH_S * rate_hz).round() as usize;
        let signals = std::array::from_fn(|_| vec![f32::NAN; samples]);
        OpenEpoch { index, rate_hz, seconds: 0.0, signals }
    }

    fn figures(&self, welch: &mut Welch, eeg: Option<&Watched>) -> EpochTrend {
        let signal = |role: Role| &self.signals[role as usize][..];
        let uv = eeg.and_then(|eeg| unit_uv(&eeg.unit)).unwrap_or(1.0);
        let decibel = |density: f32| 10.0 * (density * uv * uv).max(1e-12).log10();
        let second = (self.rate_hz.round() as usize).max(1);
        EpochTrend {
            is_whole: self.seconds >= EPOCH_S,
            spectrum_db: welch
                .density(signal(Role::Eeg))
                .map(|density| density.into_iter().map(decibel).collect()),
            spo2_pct: saturation(signal(Role::Spo2), second),
            heart_bpm: heart::rate_bpm(signal(Role::Ecg), self.rate_hz),
            pulse_bpm: pulse(signal(Role::Pulse), second),
            muscle_rms: rms(signal(Role::Muscle), second),
        }
    }
}

/// Mean and lowest saturation over the seconds that hold one.
fn saturation(spo2: &[f32], second: usize) -> Option<(f32, f32)> {
    let seconds: Vec<f32> = spo2.chunks_exact(second).filter_map(steady_mean).collect();
    let mean = seconds.iter().sum::<f32>() / seconds.len() as f32;
    let lowest = seconds.iter().copied().fold(f32::INFINITY, f32::min);
    (seconds.len() >= MIN_SECONDS).then_some((mean, lowest))
}

/// Mean pulse over the seconds that hold one.
fn pulse(pulse: &[f32], second: usize) -> Option<f32> {
    let is_plausible = |second: &&[f32]| second.iter().all(|x| PULSE_BPM.contains(x));
    let mean = |second: &[f32]| second.iter().sum::<f32>() / second.len() as f32;
    let seconds: Vec<f32> = pulse.chunks_exact(second).filter(is_plausible).map(mean).collect();
    (seconds.len() >= MIN_SECONDS).then(|| seconds.iter().sum::<f32>() / seconds.len() as f32)
}

/// Mean of a second of saturation, unless a dropped sensor's slope runs through it.
fn steady_mean(second: &[f32]) -> Option<f32> {
    let (least, most) =
        second.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)));
    let is_plausible = second.iter().all(|x| SPO2_PCT.contains(x));
    let mean = second.iter().sum::<f32>() / second.len() as f32;
    (is_plausible && most - least <= MAX_SPO2_STEP_PCT).then_some(mean)
}

/// Root mean square about the mean of each second.
fn rms(signal: &[f32], second: usize) -> Option<f32> {
    let variance = |second: &[f32]| {
        let count = second.len() as f32;
        let mean = second.iter().sum::<f32>() / count;
        second.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count
    };
    let seconds: Vec<f32> =
        signal.chunks_exact(second).map(variance).filter(|v| v.is_finite()).collect();
    let mean = seconds.iter().sum::<f32>() / seconds.len() as f32;
    (seconds.len() >= MIN_SECONDS).then(|| mean.sqrt())
}

/// The channel of each role among those that are mapped: only their signals come.
fn choose(channels: &[ChannelUse]) -> [Option<Watched>; Role::COUNT] {
    let of = |modality| channels.iter().filter(move |c| c.modality == Some(modality));
    let name = |channel: &ChannelUse| normalized(&channel.label);
    let is_any = |name: &str, parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let eeg: Vec<&ChannelUse> = of(Modality::Bas)
        .filter(|c| !is_any(&name(c), &["eog", "loc", "roc", "e1", "e2"]))
        .collect();
    let preferred =
        EEG_BY_PREFERENCE.iter().find_map(|wanted| eeg.iter().find(|c| name(c).contains(wanted)));
    let muscles: Vec<&ChannelUse> =
        of(Modality::Emg).filter(|c| !name(c).contains("pleth")).collect();
    let leg = muscles.iter().find(|c| is_any(&name(c), &["leg", "tib", "plm", "lat", "rat"]));
    let watched = |channel: &ChannelUse| Watched {
        channel: channel.channel,
        label: channel.label.clone(),
        unit: channel.unit.trim().to_owned(),
    };
    [
        preferred.or(eeg.first()).map(|c| watched(c)),
        of(Modality::Resp).find(|c| is_spo2_label(&c.label)).map(watched),
        of(Modality::Ekg).next().map(watched),
        of(Modality::Resp).find(|c| is_pulse_label(&c.label)).map(watched),
        leg.or(muscles.first()).map(|c| watched(c)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{channel, started};
    use super::*;
    use crate::event::{ChannelPatch, Pass};

    fn labels(channels: &[ChannelUse]) -> [Option<String>; Role::COUNT] {
        choose(channels).map(|watched| watched.map(|watched| watched.label))
    }

    #[test]
    fn the_channels_that_tell_most_are_chosen() {
        let some = |label: &str| Some(label.to_owned());
        let mesa = started(Pass::Live).channels;
        assert_eq!(labels(&mesa), [some("C4-M1"), some("SpO2"), some("ECG"), None, some("LLEG")]);
        let few = [
            channel(0, "E1-M2", "uV", Some(Modality::Bas)),
            channel(1, "Chin", "uV", Some(Modality::Emg)),
            channel(2, "SpO2", "%", None),
        ];
        assert_eq!(labels(&few), [None, None, None, None, some("Chin")]);
        let pulse = [channel(3, "HR", "bpm", Some(Modality::Resp))];
        assert_eq!(labels(&pulse)[Role::Pulse as usize], some("HR"));
    }

    #[test]
    fn a_pulse_is_a_mean_of_what_living_people_have() {
        let rates: Vec<f32> = (0..30).map(|second| if second < 15 { 60.0 } else { 70.0 }).collect();
        assert_eq!(pulse(&rates, 1), Some(65.0));
        let mut slipped = rates.clone();
        slipped[..15].fill(0.0);
        slipped[29] = f32::NAN;
        assert_eq!(pulse(&slipped, 1), Some(70.0));
        slipped[..25].fill(511.0);
        assert_eq!(pulse(&slipped, 1), None);
    }

    /// Patch `patch` of a night with constant saturation, no ECG, and a tone of 10 uV in the EEG.
    fn patch(patch: u32) -> SignalPatch {
        let samples = |value: &dyn Fn(f64) -> f64| -> Vec<f32> {
            (0..640).map(|n| value(f64::from(patch) * 5.0 + f64::from(n) / 128.0) as f32).collect()
        };
        let tone = |t: f64| 10.0 * 2.0_f64.sqrt() * (std::f64::consts::TAU * 12.0 * t).sin();
        let channels = [samples(&tone), Vec::new(), samples(&|_| 96.0), Vec::new(), samples(&tone)];
        SignalPatch {
            pass: Pass::Live,
            patch,
            onset_s: f64::from(patch) * 5.0,
            rate_hz: 128.0,
            channels: channels
                .into_iter()
                .enumerate()
                .map(|(channel, samples)| ChannelPatch { channel, samples })
                .collect(),
        }
    }

    #[test]
    fn known_signals_give_their_figures() {
        let mut trends = Trends::default();
        trends.begin(&started(Pass::Live));
        (0..7).for_each(|n| trends.take(&patch(n)));
        let [epoch] = &trends.epochs[..] else { panic!("one epoch is whole") };
        assert!(epoch.is_whole);
        assert_eq!((epoch.spo2_pct, epoch.heart_bpm), (Some((96.0, 96.0)), None));
        let rms = epoch.muscle_rms.expect("there");
        assert!((rms - 10.0).abs() < 0.01, "{rms}");
        // 100 uV² at 12 Hz in Hann's 1.5 bins of 0.25 Hz.
        let peak = epoch.spectrum_db.as_ref().expect("there")[46];
        assert!((peak - 10.0 * (100.0_f32 / 0.375).log10()).abs() < 0.05, "{peak}");
        trends.close();
        assert_eq!(trends.epochs.len(), 2);
        assert!(!trends.epochs[1].is_whole && trends.epochs[1].spo2_pct.is_none());
    }

    #[test]
    fn the_second_pass_adds_what_the_first_lacked() {
        let mut trends = Trends::default();
        trends.begin(&started(Pass::Live));
        (0..6).chain([7, 8]).for_each(|n| trends.take(&patch(n)));
        trends.begin(&started(Pass::Final));
        trends.epochs[0].heart_bpm = Some(1.0);
        (0..12).for_each(|n| trends.take(&patch(n)));
        assert_eq!(trends.epochs[0].heart_bpm, Some(1.0), "it was not looked at again");
        assert!(trends.epochs[1].is_whole && trends.epochs[1].muscle_rms.is_some());
    }

    #[test]
    fn a_sensor_that_slips_is_no_desaturation() {
        let mut spo2 = vec![97.0; 3840];
        spo2[1280..1408].iter_mut().enumerate().for_each(|(n, x)| *x = 97.0 - 0.76 * n as f32);
        spo2[1408..1536].fill(0.0);
        spo2[2560..2688].fill(88.0);
        assert_eq!(saturation(&spo2, 128).map(|(_, lowest)| lowest), Some(88.0));
        assert_eq!(saturation(&[f32::NAN; 3840], 128), None);
        assert_eq!(saturation(&[0.97; 3840], 128), None, "a fraction is no percentage");
    }
}
