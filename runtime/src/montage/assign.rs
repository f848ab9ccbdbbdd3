//! What becomes of every channel of a recording: by the user's word, its place in a cap, its label and
//! unit, what the other channels are, and the room that the network has.

use std::collections::BTreeMap;

use sfm_models::Modality;
use sfm_models::manifest::ChannelPolicy;

use super::caps::{self, CapElectrode};
use super::derive::{self, Electrodes, Input};
use super::labels::{channels_named, near_labels, same_label};
use super::rules::{Override, Rule, Verdict};
use super::select::{self, Candidate};
use super::units::{self, Quantity};
use super::{ChannelRules, Decision, Derivation, MIN_RATE_HZ, Montage, MontageError, electrode};
use crate::signal::SignalInfo;
use crate::text::escaped;

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
