//! Channels to modalities: by label, unit, rate, and what else the recording has. Owns the decision for
//! every channel of a recording and the reason for it; labels are untrusted text and are escaped wherever
//! they are shown. Refuses a label that rules of two modalities claim and a `--map` that names no channel.
//! Whether derivations are made of electrodes is the bundle's policy ([`derive`]); what has no room is
//! chosen in `select`.

mod caps;
mod derive;
pub mod derived;
mod electrode;
mod rules;
mod select;
mod table;
mod units;

use std::collections::BTreeMap;

use sfm_models::Modality;
use sfm_models::manifest::ChannelPolicy;

use self::caps::CapElectrode;
use self::derive::{Electrodes, Input};
use self::rules::{Override, Rule, Verdict};
use self::select::Candidate;
use self::units::Quantity;
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

impl ChannelRules {
    /// Decides for every channel: the user's `--map` first, then the rules, then the bundle's policy about
    /// electrodes. Of more channels than the `max_channels` of their modality some are left out: by the
    /// reference's policy those at the end, else as `select` has it. A modality that is missing in
    /// `max_channels` has no limit.
    ///
    /// # Errors
    /// All of [`MontageError`] but those of rules.
    pub fn assign(
        &self,
        signals: &[SignalInfo],
        max_channels: &BTreeMap<Modality, usize>,
    ) -> Result<Montage, MontageError> {
        self.assign_judged(signals, max_channels, &[])
    }

    /// The same where `good` says of channels which part of their first minutes is good, 0 to 1.
    ///
    /// # Errors
    /// As [`ChannelRules::assign`].
    pub fn assign_judged(
        &self,
        signals: &[SignalInfo],
        max_channels: &BTreeMap<Modality, usize>,
        good: &[Option<f32>],
    ) -> Result<Montage, MontageError> {
        let (montage, missing) = self.decide_all(signals, max_channels, good)?;
        match missing.into_iter().next() {
            None => Ok(montage),
            Some(error) => Err(error),
        }
    }

    /// The same where `--map` and `--derive` may name channels that are not there: what is said of them is
    /// returned.
    ///
    /// # Errors
    /// As [`ChannelRules::assign`], but for those.
    pub fn assign_sensors(
        &self,
        signals: &[SignalInfo],
        max_channels: &BTreeMap<Modality, usize>,
    ) -> Result<(Montage, Vec<MontageError>), MontageError> {
        self.decide_all(signals, max_channels, &[])
    }

    fn decide_all(
        &self,
        signals: &[SignalInfo],
        max_channels: &BTreeMap<Modality, usize>,
        good: &[Option<f32>],
    ) -> Result<(Montage, Vec<MontageError>), MontageError> {
        let mut missing = Vec::new();
        let mut mapped = self.mapped(signals, &mut missing)?;
        let caps = caps::recognize(signals);
        let mut found = Vec::with_capacity(signals.len());
        let mut contested = Vec::new();
        for (channel, signal) in signals.iter().enumerate() {
            match self.find(channel, signal, mapped[channel], caps[channel]) {
                Ok(of_channel) => found.push(of_channel),
                Err(error) => contested.push(error),
            }
        }
        match contested.len() {
            0 => {}
            1 => return Err(contested.remove(0)),
            _ => return Err(MontageError::SeveralContested(contested)),
        }
        what_the_others_say(signals, &mut found);
        let mut decisions: Vec<Decision> = found.iter().map(|f| f.decision.clone()).collect();
        let inputs: Vec<Input<'_>> = signals
            .iter()
            .zip(&found)
            .zip(&caps)
            .map(|((signal, found), cap)| Input {
                signal,
                by_rule: found.by_rule,
                is_mapped: found.is_mapped,
                site: cap.and_then(|cap| cap.site),
            })
            .collect();
        let mut derivations = Electrodes::new(&inputs, &mut decisions).decide(&self.derive);
        self.derive_wanted(signals, &mut decisions, &mut derivations, &mut missing)?;
        mapped.resize(decisions.len(), None);
        let mut montage = Montage { decisions, derivations, ..Montage::default() };
        let rules: Vec<Named<'_>> = (0..montage.decisions.len())
            .map(|channel| found.get(channel).map_or(Named::NONE, |found| found.rule))
            .collect();
        self.keep_within(&mut montage, max_channels, |channel| Candidate {
            label: match caps.get(channel).copied().flatten().and_then(|cap| cap.site) {
                Some(site) => site,
                None => signals.get(channel).map_or("", |signal| &signal.label),
            },
            rule: rules[channel].name,
            rank: rules[channel].rank,
            is_mapped: mapped[channel].is_some(),
            good: good.get(channel).copied().flatten(),
        });
        Ok((montage, missing))
    }

    /// The derivations that the user names, with the modality of their labels.
    fn derive_wanted(
        &self,
        signals: &[SignalInfo],
        decisions: &mut Vec<Decision>,
        derivations: &mut Vec<Derivation>,
        missing: &mut Vec<MontageError>,
    ) -> Result<(), MontageError> {
        let signals: Vec<&SignalInfo> = signals.iter().collect();
        for wanted in &self.derive.wanted {
            let derivation = match derive::wanted(wanted, &signals) {
                Err(error @ MontageError::UnknownElectrode { .. }) => {
                    missing.push(error);
                    continue;
                }
                derivation => derivation?,
            };
            let label = &derivation.signal.label;
            let map = self.overrides.iter().rev().find(|o| same_label(&o.label, label));
            let refuse = |reason: &str| MontageError::BadDerivation {
                entry: escaped(label),
                reason: reason.to_owned(),
            };
            if derivations.iter().any(|other| same_label(&other.signal.label, label)) {
                return Err(refuse("it is asked for twice"));
            }
            if signals.iter().any(|signal| same_label(&signal.label, label)) {
                return Err(refuse("the recording has a channel of this label; give another one"));
            }
            let modality = match map {
                Some(entry) => entry.modality,
                None => {
                    let measured = units::quantity(&derivation.signal.unit);
                    let rule = self.claim(label, measured)?;
                    let Some(Rule { verdict: Verdict::Use(modality), also, .. }) = rule else {
                        return Err(MontageError::Unclaimed { label: escaped(label) });
                    };
                    if let Some(why) = units::refused(&derivation.signal, *modality, also) {
                        return Err(refuse(&format!("it would be {why}")));
                    }
                    Some(*modality)
                }
            };
            let Some(modality) = modality else { continue };
            let channels: Vec<usize> = derivation.channels().collect();
            let shown = escaped(label);
            derive::push(derivation, modality, "--derive", &signals, decisions, derivations);
            if self.derive.policy == ChannelPolicy::Aasm {
                for channel in channels {
                    let decision = &mut decisions[channel];
                    decision.electrode_of = Some(modality);
                    (decision.modality, decision.rule) = (None, format!("electrode of {shown}"));
                }
            }
        }
        Ok(())
    }

    /// Leaves out what a modality has no room for.
    fn keep_within<'a>(
        &self,
        montage: &mut Montage,
        max_channels: &BTreeMap<Modality, usize>,
        candidate: impl Fn(usize) -> Candidate<'a>,
    ) {
        let over = |montage: &Montage, modality: Modality, max: usize| {
            montage.channels(modality).count() > max
        };
        montage.is_crowded = max_channels.iter().any(|(&m, &max)| max > 0 && over(montage, m, max));
        let before: Vec<Option<Modality>> = montage.decisions.iter().map(|d| d.modality).collect();
        self.leave_out(montage, max_channels, candidate);
        for (decision, before) in montage.decisions.iter().zip(before) {
            if let Some(modality) = before.filter(|_| decision.modality.is_none()) {
                montage.unplaced.entry(modality).or_default().push(decision.channel);
            }
        }
    }

    fn leave_out<'a>(
        &self,
        montage: &mut Montage,
        max_channels: &BTreeMap<Modality, usize>,
        candidate: impl Fn(usize) -> Candidate<'a>,
    ) {
        if self.derive.policy == ChannelPolicy::Aasm {
            let labels: Vec<String> = montage.decisions.iter().map(|d| d.label.clone()).collect();
            let candidates: Vec<Candidate<'_>> = (0..montage.decisions.len())
                .map(|channel| match candidate(channel) {
                    // What is derived has a label and nothing else.
                    Candidate { label: "", .. } => {
                        Candidate { label: &labels[channel], ..candidate(channel) }
                    }
                    recorded => recorded,
                })
                .collect();
            for (&modality, &max) in max_channels {
                select::choose(modality, max, &candidates, &mut montage.decisions);
            }
            return;
        }
        let mut room = max_channels.clone();
        for by_user in [true, false] {
            for channel in 0..montage.decisions.len() {
                if candidate(channel).is_mapped == by_user {
                    keep_within(&mut montage.decisions[channel], &mut room, max_channels);
                }
            }
        }
    }

    /// The `--map` entry of each channel; the labels of those that no channel has.
    fn mapped(
        &self,
        signals: &[SignalInfo],
        missing: &mut Vec<MontageError>,
    ) -> Result<Vec<Option<&Override>>, MontageError> {
        let mut mapped: Vec<Option<&Override>> = vec![None; signals.len()];
        for entry in &self.overrides {
            let named = channels_named(&entry.label, signals);
            let is_wanted = self.derive.wanted.iter().any(|w| same_label(w.label(), &entry.label));
            if named.is_empty() && !is_wanted {
                missing.push(MontageError::UnknownMap {
                    label: escaped(&entry.label),
                    near: near_labels(&entry.label, &signals.iter().collect::<Vec<_>>()),
                });
            }
            for (slot, signal) in named {
                let earlier = mapped[slot].replace(entry);
                if let Some(earlier) = earlier.filter(|e| e.modality != entry.modality) {
                    let word =
                        |o: &Override| o.modality.map_or("none", Modality::as_str).to_owned();
                    return Err(MontageError::MapTwice {
                        label: escaped(&signal.label),
                        first: word(earlier),
                        second: word(entry),
                    });
                }
            }
        }
        Ok(mapped)
    }

    /// What is decided about a channel by itself.
    fn find(
        &self,
        channel: usize,
        signal: &SignalInfo,
        mapped: Option<&Override>,
        cap: Option<CapElectrode>,
    ) -> Result<Found<'_>, MontageError> {
        let of = |claim: Claim<'_>| Decision {
            channel,
            label: signal.label.clone(),
            modality: claim.modality,
            electrode_of: None,
            rule: claim.reason,
        };
        let is_mapped = mapped.is_some();
        let by_user = mapped.map(|entry| entry.modality);
        if by_user != Some(None)
            && let Some(reason) = too_slow(signal.rate_hz)
        {
            let (decision, rule) = (of(Claim::none(reason)), Named::NONE);
            return Ok(Found { decision, by_rule: None, is_mapped, rule });
        }
        let claim = self.claim_of(signal, cap);
        if let Some(modality) = by_user {
            // What the others are does not depend on what the user does with this one.
            let claim = claim.unwrap_or(Claim::none(String::new()));
            let by_rule = modality.or(claim.modality);
            let reason = if modality.is_some() { "--map" } else { "--map leaves it out" };
            let decision = of(Claim { modality, reason: reason.to_owned(), rule: claim.rule });
            return Ok(Found { decision, by_rule, is_mapped, rule: claim.rule });
        }
        let claim = claim?;
        let (by_rule, rule) = (claim.modality, claim.rule);
        Ok(Found { decision: of(claim), by_rule, is_mapped, rule })
    }

    /// What the rules and the channel's place in a cap say.
    fn claim_of(
        &self,
        signal: &SignalInfo,
        cap: Option<CapElectrode>,
    ) -> Result<Claim<'_>, MontageError> {
        let checked = |modality, reason: String, also: &[Quantity], rule| match units::refused(
            signal, modality, also,
        ) {
            None => Claim { modality: Some(modality), reason, rule },
            Some(why) => Claim::none(format!("{reason}: {}", escaped(&why))),
        };
        if let Some(cap) = cap.filter(|_| !self.is_list) {
            return Ok(match cap.site {
                Some(site) => {
                    checked(Modality::Bas, format!("{}: {site}", cap.cap), &[], Named::NONE)
                }
                None => Claim::none(cap.left_out()),
            });
        }
        if electrode::is_in_depth(&signal.label) && !self.is_list {
            let reason = "depth electrode, which is not on the scalp; --map uses it";
            return Ok(Claim::none(reason.to_owned()));
        }
        Ok(match self.claim(&signal.label, units::quantity(&signal.unit))? {
            None => Claim::none("no rule matches; --map uses it".to_owned()),
            Some(Rule { name, verdict: Verdict::LeaveOut(reason), .. }) => {
                Claim::none(format!("{name}: {reason}"))
            }
            Some(Rule { name, verdict: Verdict::Use(modality), also, rank, .. }) => {
                checked(*modality, name.clone(), also, Named { name, rank: *rank })
            }
        })
    }
}

/// Why a channel's rate is none that the network can use.
fn too_slow(rate_hz: f64) -> Option<String> {
    if !rate_hz.is_finite() || rate_hz <= 0.0 {
        return Some("it has no samples".to_owned());
    }
    (rate_hz < MIN_RATE_HZ).then(|| format!("sampled at less than {MIN_RATE_HZ} Hz"))
}

/// A rule's name and rank.
#[derive(Debug, Clone, Copy)]
struct Named<'a> {
    name: &'a str,
    rank: usize,
}

impl Named<'_> {
    /// Of what no rule of a modality claims.
    const NONE: Named<'static> = Named { name: "", rank: usize::MAX };
}

/// What the rules say of a channel.
struct Claim<'a> {
    modality: Option<Modality>,
    /// The rule, or why it is left out.
    reason: String,
    rule: Named<'a>,
}

impl Claim<'_> {
    fn none(reason: String) -> Self {
        Claim { modality: None, reason, rule: Named::NONE }
    }
}

/// What is decided about a channel by itself.
struct Found<'a> {
    decision: Decision,
    /// What the rules say, or the user instead; what the user leaves out is there all the same.
    by_rule: Option<Modality>,
    is_mapped: bool,
    /// The rule that claims it.
    rule: Named<'a>,
}

/// What only the other channels tell: the snoring that a recorder makes of its nasal pressure, and the
/// chin of a Nox recorder, whose electrodes are called 1, 2 and F.
fn what_the_others_say(signals: &[SignalInfo], found: &mut [Found<'_>]) {
    let is_pressure =
        |signal: &SignalInfo| units::quantity(&signal.unit) == Some(Quantity::Pressure);
    let has_cannula = (signals.iter().zip(&*found))
        .any(|(signal, found)| found.rule.name == "nasal pressure" && is_pressure(signal));
    const CHIN: [&str; 3] = ["1-2", "1-F", "2-F"];
    let in_volts = |signal: &&SignalInfo| units::quantity(&signal.unit) == Some(Quantity::Voltage);
    let chin = |signal: &SignalInfo| CHIN.contains(&signal.label.trim());
    let has_chin = CHIN
        .iter()
        .all(|label| signals.iter().filter(in_volts).any(|signal| signal.label.trim() == *label));
    for (signal, found) in signals.iter().zip(found) {
        if found.is_mapped {
            continue;
        }
        if has_cannula && found.rule.name == "snoring" && is_pressure(signal) {
            found.decision.modality = None;
            found.decision.rule = "snoring: computed from the nasal pressure".to_owned();
        }
        if has_chin && chin(signal) && found.decision.modality.is_none() && in_volts(&signal) {
            found.decision.modality = Some(Modality::Emg);
            found.decision.rule = "chin, as Nox recorders call it".to_owned();
            found.by_rule = Some(Modality::Emg);
        }
    }
}

/// Leaves a channel out for which its modality has no room any more.
fn keep_within(
    decision: &mut Decision,
    room: &mut BTreeMap<Modality, usize>,
    max_channels: &BTreeMap<Modality, usize>,
) {
    let Some(modality) = decision.modality else { return };
    let Some(left) = room.get_mut(&modality) else { return };
    if let Some(less) = left.checked_sub(1) {
        *left = less;
        return;
    }
    let max = max_channels.get(&modality).copied().unwrap_or_default();
    decision.modality = None;
    decision.rule = format!("{}: {modality} already has its {max} channels", decision.rule);
}

/// The channels a `--map` label names: those with exactly this label, else those that differ from
/// it only in case and separators.
fn channels_named<'a>(label: &str, signals: &'a [SignalInfo]) -> Vec<(usize, &'a SignalInfo)> {
    let with = |same: &dyn Fn(&str) -> bool| -> Vec<(usize, &'a SignalInfo)> {
        signals.iter().enumerate().filter(|(_, s)| same(s.label.trim())).collect()
    };
    let exact = with(&|other| other == label);
    if !exact.is_empty() {
        return exact;
    }
    let key = normalized(label);
    if key.is_empty() { Vec::new() } else { with(&|other| normalized(other) == key) }
}

fn same_label(a: &str, b: &str) -> bool {
    a.trim() == b.trim() || normalized(a) == normalized(b)
}

/// The three labels that are most like `label`, as half a sentence.
fn near_labels(label: &str, signals: &[&SignalInfo]) -> String {
    let key = normalized(label);
    let mut near: Vec<(usize, String)> =
        signals.iter().map(|s| (edits(&key, &normalized(&s.label)), escaped(&s.label))).collect();
    near.sort();
    near.dedup();
    near.truncate(3);
    let near: Vec<String> = near.into_iter().map(|(_, label)| format!("'{label}'")).collect();
    match near.as_slice() {
        [] => "the recording has no channels".to_owned(),
        _ => format!("the nearest are {}", near.join(", ")),
    }
}

/// Levenshtein distance of the first 64 letters.
fn edits(a: &str, b: &str) -> usize {
    const MOST: usize = 64;
    let b: Vec<char> = b.chars().take(MOST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(MOST).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        row[0] = left;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = *cell;
            left = substituted.min(left + 1).min(*cell + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}
