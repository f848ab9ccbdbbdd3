//! Channels to modalities: by label, unit, rate, and what else the recording has. Owns the decision for
//! every channel of a recording and the reason for it; labels are untrusted text and are escaped wherever
//! they are shown. Refuses a label that rules of two modalities claim and a `--map` that names no channel.
//! Whether derivations are made of electrodes is the bundle's policy ([`derive`]); what has no room is
//! chosen in `select`.

mod assign;
mod caps;
mod derive;
pub mod derived;
mod electrode;
mod labels;
mod rules;
mod select;
mod table;
mod units;

use std::collections::BTreeMap;

use sfm_models::Modality;

pub use rules::{ChannelRules, normalized};
pub use table::{ChannelRow, rows, table};

use crate::signal::{SignalInfo, StreamInfo};
use crate::text::escaped;
pub(crate) use units::unit_uv;

/// A slower channel says too little about 5 s of sleep to be interpolated, Hz. The reference
/// keeps channels of 1 Hz.
pub const MIN_RATE_HZ: f64 = 0.5;

/// Why no montage can be made: one line, for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MontageError {
    /// Channel rules that cannot be used.
    #[error("{origin}: {reason}; see configs/README.md for the format")]
    Rules {
        /// The file, or what it is.
        origin: String,
        /// What is wrong, with the line where it is known.
        reason: String,
    },
    /// A `--map` entry of the wrong form.
    #[error("--map '{entry}': {reason}; write LABEL=MODALITY or LABEL=none")]
    BadMap {
        /// The entry as given.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A `--map` entry whose label no channel has.
    #[error("--map '{label}': no channel has this label; {near}")]
    UnknownMap {
        /// The label as given.
        label: String,
        /// The labels that are like it.
        near: String,
    },
    /// Two `--map` entries that say different things of one channel.
    #[error("--map gives channel '{label}' to both {first} and {second}; keep one of the two")]
    MapTwice {
        /// The channel's label.
        label: String,
        /// One of the modalities, or `none`.
        first: String,
        /// The other.
        second: String,
    },
    /// A `--derive` entry that cannot be carried out.
    #[error(
        "--derive '{entry}': {reason}; write LABEL=PLUS,MINUS with labels of channels, as C3-M2=C3,M2"
    )]
    BadDerivation {
        /// The entry as given, or its label.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A `--derive` entry that names a channel which is not there.
    #[error("--derive '{derivation}': no channel has the label '{label}'; {near}")]
    UnknownElectrode {
        /// The derivation's label.
        derivation: String,
        /// The label that no channel has.
        label: String,
        /// The labels that are like it.
        near: String,
    },
    /// A `--derive` entry whose label says no modality.
    #[error(
        "--derive '{label}': no rule says of which modality it is; decide with --map '{label}=BAS' or another modality"
    )]
    Unclaimed {
        /// The derivation's label.
        label: String,
    },
    /// A label that two rules of different modalities claim.
    #[error(
        "channel '{label}' is claimed by two rules, '{first}' ({first_modality}) and '{second}' \
         ({second_modality}); decide with --map '{label}={first_modality}', \
         '{label}={second_modality}' or '{label}=none'"
    )]
    Contested {
        /// The channel's label.
        label: String,
        /// Name of the first rule.
        first: String,
        /// Its modality.
        first_modality: Modality,
        /// Name of the other rule.
        second: String,
        /// Its modality.
        second_modality: Modality,
    },
    /// The same of several channels.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    SeveralContested(Vec<MontageError>),
}

/// What becomes of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Index into [`crate::signal::StreamInfo::signals`]; of what is derived, behind those.
    pub channel: usize,
    /// The channel's label as written: escape it before showing it.
    pub label: String,
    /// The modality it is part of; `None` if it is left out.
    pub modality: Option<Modality>,
    /// The modality of a derivation that it goes into instead.
    pub electrode_of: Option<Modality>,
    /// The name of the rule that matched, or why the channel is left out.
    pub rule: String,
}

/// The decisions for all channels of a recording, in its order, and behind them for what is derived.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Montage {
    /// One per channel.
    pub decisions: Vec<Decision>,
    /// The channels to be made of others; their decisions come last, in this order.
    pub derivations: Vec<Derivation>,
    /// A modality has more channels than the network takes.
    pub is_crowded: bool,
    /// The channels that were left out for it, by modality.
    pub unplaced: BTreeMap<Modality, Vec<usize>>,
}

/// A channel that is made of others, sample by sample: one minus the weighted sum of some.
#[derive(Debug, Clone, PartialEq)]
pub struct Derivation {
    /// The channel as others see it: at the highest rate of its channels, in the unit of the first.
    pub signal: SignalInfo,
    /// The channel that the others are taken from.
    pub plus: usize,
    /// The others, and by what their samples are multiplied.
    pub minus: Vec<(usize, f32)>,
}

impl Derivation {
    /// `plus` minus the mean of `minus`; `None` if units or rates do not allow it.
    fn new(label: String, signals: &[&SignalInfo], plus: usize, minus: &[usize]) -> Option<Self> {
        let first = *signals.get(plus)?;
        let weight = |&channel: &usize| {
            let factor = derive::factor(first, signals.get(channel)?)?;
            Some((channel, (factor / minus.len() as f64) as f32))
        };
        let minus: Vec<(usize, f32)> = minus.iter().map(weight).collect::<Option<_>>()?;
        let mut signal = SignalInfo { label, ..first.clone() };
        for &(channel, weight) in &minus {
            let (other, weight) = (signals[channel], f64::from(weight));
            signal.rate_hz = signal.rate_hz.max(other.rate_hz);
            let limits = (other.physical_min * weight, other.physical_max * weight);
            (signal.physical_min, signal.physical_max) =
                (signal.physical_min - limits.1, signal.physical_max - limits.0);
        }
        let all = minus.iter().map(|(channel, _)| signals[*channel]).chain([first]);
        let has_rates = all.into_iter().all(|s| s.rate_hz.is_finite() && s.rate_hz > 0.0);
        has_rates.then_some(Self { signal, plus, minus })
    }

    /// The channels it is made of.
    pub fn channels(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::once(self.plus).chain(self.minus.iter().map(|(channel, _)| *channel))
    }
}

impl Montage {
    /// Indices of the channels of `modality`, in the recording's order.
    pub fn channels(&self, modality: Modality) -> impl Iterator<Item = usize> + '_ {
        self.decisions.iter().filter(move |d| d.modality == Some(modality)).map(|d| d.channel)
    }

    /// The modalities that no channel is part of.
    pub fn absent(&self) -> Vec<Modality> {
        Modality::ALL.into_iter().filter(|&m| self.channels(m).next().is_none()).collect()
    }

    /// Number of channels in use.
    pub fn used(&self) -> usize {
        self.decisions.iter().filter(|d| d.modality.is_some()).count()
    }

    /// Channels of the recording.
    pub fn recorded(&self) -> usize {
        self.decisions.len() - self.derivations.len()
    }

    /// The recording's channels that have to be read: those in use, and what derivations in use are
    /// made of.
    pub fn to_read(&self) -> Vec<usize> {
        let used = |channel: &usize| self.decisions[*channel].modality.is_some();
        let recorded = (0..self.recorded()).filter(used);
        let derived = self.derivations.iter().enumerate();
        let derived = derived.filter(|(k, _)| used(&(self.recorded() + k)));
        let mut read: Vec<usize> =
            recorded.chain(derived.flat_map(|(_, derivation)| derivation.channels())).collect();
        read.sort_unstable();
        read.dedup();
        read
    }

    /// The same with no channels in use but `channels`; those are in use whatever was decided.
    #[must_use]
    pub fn only(&self, channels: &[usize]) -> Self {
        let mut montage = self.clone();
        for decision in &mut montage.decisions {
            let is_wanted = channels.contains(&decision.channel);
            // Of which modality it is makes no difference to who only reads it.
            decision.modality = is_wanted.then(|| decision.modality.unwrap_or(Modality::Bas));
        }
        montage
    }

    /// What a source describes, with the derived channels behind its own.
    #[must_use]
    pub fn extended(&self, info: &StreamInfo) -> StreamInfo {
        let mut info = info.clone();
        info.signals.extend(self.derivations.iter().map(|derivation| derivation.signal.clone()));
        info
    }

    /// What has no room in its modality and why, a line a modality.
    pub fn no_room(&self) -> Vec<String> {
        self.unplaced
            .iter()
            .map(|(modality, channels)| {
                let of = |&channel: &usize| {
                    let Decision { label, rule, .. } = &self.decisions[channel];
                    format!("{} ({})", escaped(label), escaped(rule))
                };
                let channels: Vec<String> = channels.iter().map(of).collect();
                format!("no room in {modality}: {}", channels.join("; "))
            })
            .collect()
    }

    /// One line, e.g. `BAS 5, RESP 6, EKG 1, EMG none; 3 of 15 channels left out`.
    pub fn summary(&self) -> String {
        let counts = Modality::ALL.map(|m| match self.channels(m).count() {
            0 => format!("{m} none"),
            n => format!("{m} {n}"),
        });
        let total = self.recorded();
        let counts = counts.join(", ");
        let recorded = &self.decisions[..total];
        let is_out = |d: &&Decision| d.modality.is_none() && d.electrode_of.is_none();
        let out = match recorded.iter().filter(is_out).count() {
            0 => "no channel left out".to_owned(),
            out => format!("{out} of {total} channels left out"),
        };
        match self.derivations.iter().map(|d| escaped(&d.signal.label)).collect::<Vec<_>>() {
            labels if labels.is_empty() => format!("{counts}; {out}"),
            labels => format!("{counts}; {out}; derived: {}", labels.join(", ")),
        }
    }
}
