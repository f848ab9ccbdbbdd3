//! What becomes of electrodes. Where a recording has a derivation, its electrodes give way to it; where
//! it has only electrodes, derivations are made of them as the AASM manual has them: EEG and EOG against
//! the mastoid of the other side, the electrodes of the chin in pairs. Bundles with the reference's
//! policy take every channel as it was recorded; a derivation that the user names is always made.

use sfm_models::Modality;
use sfm_models::manifest::ChannelPolicy;

use super::electrode::{self, Lead, Reference, Side};
use super::labels::near_labels;
use super::units::in_volts;
use super::{Decision, Derivation, MontageError, normalized};
use crate::signal::SignalInfo;
use crate::text::escaped;

/// What is to be made of electrodes.
#[derive(Debug, Clone, Default)]
pub(super) struct Derive {
    pub policy: ChannelPolicy,
    /// No derivation but those that the user names.
    pub only_wanted: bool,
    pub wanted: Vec<Wanted>,
}

/// `--derive LABEL=PLUS,MINUS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    label: String,
    plus: String,
    /// Their mean is taken away.
    minus: Vec<String>,
}

impl Wanted {
    pub fn parse(entry: &str) -> Result<Self, MontageError> {
        let bad = |reason: &str| MontageError::BadDerivation {
            entry: escaped(entry),
            reason: reason.to_owned(),
        };
        let (label, electrodes) = entry.rsplit_once('=').ok_or_else(|| bad("there is no '='"))?;
        let mut electrodes = electrodes.split(',').map(|label| label.trim().to_owned());
        let (label, plus) = (label.trim().to_owned(), electrodes.next().unwrap_or_default());
        let minus: Vec<String> = electrodes.collect();
        if label.is_empty() || plus.is_empty() || minus.iter().any(String::is_empty) {
            return Err(bad("a label is empty"));
        }
        if minus.is_empty() {
            return Err(bad("it names one channel"));
        }
        if minus.contains(&plus) {
            return Err(bad("it takes a channel away from itself"));
        }
        Ok(Self { label, plus, minus })
    }
}

impl Wanted {
    /// The label of what is to be made.
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// A channel as the derivations see it.
pub(super) struct Input<'a> {
    pub signal: &'a SignalInfo,
    /// What the rules say, whatever the user does with the channel.
    pub by_rule: Option<Modality>,
    /// The user decides about it: it stays as it is.
    pub is_mapped: bool,
    /// The label that its place in a cap stands for, where it is in one.
    pub site: Option<&'a str>,
}

impl Input<'_> {
    fn lead(&self) -> Option<Lead> {
        let is_brain = self.by_rule == Some(Modality::Bas);
        electrode::lead(self.site.unwrap_or(&self.signal.label)).filter(|_| is_brain)
    }

    fn chin(&self) -> Option<char> {
        electrode::chin(&self.signal.label).filter(|_| self.by_rule == Some(Modality::Emg))
    }
}

/// The recording's channels, and what is decided about them so far.
pub(super) struct Electrodes<'a> {
    inputs: &'a [Input<'a>],
    decisions: &'a mut Vec<Decision>,
    derivations: Vec<Derivation>,
    /// Labels of what the user makes, normalized.
    wanted: Vec<String>,
}

impl<'a> Electrodes<'a> {
    pub fn new(inputs: &'a [Input<'a>], decisions: &'a mut Vec<Decision>) -> Self {
        Self { inputs, decisions, derivations: Vec::new(), wanted: Vec::new() }
    }

    /// Decides for all electrodes; returns what is to be derived, whose decisions stand behind those of
    /// the recorded channels.
    pub fn decide(mut self, how: &Derive) -> Vec<Derivation> {
        if how.policy == ChannelPolicy::Aasm {
            self.wanted = how.wanted.iter().map(|wanted| normalized(&wanted.label)).collect();
            self.brain(!how.only_wanted);
            self.chin(!how.only_wanted);
        }
        self.derivations
    }

    /// EEG and EOG.
    fn brain(&mut self, derives: bool) {
        let leads: Vec<Option<Lead>> = self.inputs.iter().map(Input::lead).collect();
        let recorded: Vec<(usize, &Lead)> = (0..)
            .zip(&leads)
            .filter_map(|(channel, lead)| Some((channel, lead.as_ref()?)))
            .filter(|(_, lead)| !lead.against.is_empty() && !lead.is_reference())
            .collect();
        let electrodes: Vec<(usize, &Lead)> = (0..)
            .zip(&leads)
            .filter_map(|(channel, lead)| Some((channel, lead.as_ref()?)))
            .filter(|(_, lead)| lead.is_electrode())
            .collect();
        for &(channel, lead) in &electrodes {
            let has =
                |(_, derivation): &&(usize, &Lead)| derivation.sites().any(|s| s == lead.site);
            if let Some((derivation, _)) = recorded.iter().find(has) {
                let label = self.inputs[*derivation].signal.label.clone();
                self.leave_out(channel, format!("electrode of {}", escaped(&label)));
            }
        }
        if derives {
            for &(channel, lead) in &electrodes {
                let is_pole = electrode::is_reference(&lead.site);
                let is_free = self.decisions[channel].modality == Some(Modality::Bas);
                if is_pole || !is_free || self.inputs[channel].is_mapped {
                    continue;
                }
                if let Some((minus, other)) = self.opposite(channel, lead, &electrodes) {
                    let label =
                        format!("{}-{}", electrode::shown(&lead.site), electrode::shown(other));
                    self.derive(label, channel, minus, Modality::Bas);
                }
            }
        }
        // Whatever the user does with it.
        let is_eeg = |input: &Input<'_>, lead: Option<&Lead>| {
            input.by_rule == Some(Modality::Bas) && lead.is_none_or(|lead| !lead.is_reference())
        };
        let mut pairs = self.inputs.iter().zip(&leads);
        let has_eeg = pairs.any(|(input, lead)| is_eeg(input, lead.as_ref()));
        if !has_eeg {
            return;
        }
        for (channel, lead) in leads.iter().enumerate() {
            let Some(lead) = lead.as_ref().filter(|lead| lead.is_reference()) else { continue };
            if lead.reference == Reference::Derived || self.decisions[channel].modality.is_none() {
                continue;
            }
            let reason = match lead.against.is_empty() {
                true => "reference electrode, which shows little of the brain",
                false => "between two reference electrodes",
            };
            self.leave_out(channel, reason.to_owned());
        }
    }

    /// The electrode that `lead` is derived against, and its name: that of the other side, else of its
    /// own, recorded against the same reference.
    fn opposite<'l>(
        &self,
        channel: usize,
        lead: &Lead,
        electrodes: &[(usize, &'l Lead)],
    ) -> Option<(usize, &'l str)> {
        let [first, second] = match electrode::side(&lead.site) {
            Side::Left => [Side::Right, Side::Left],
            Side::Right => [Side::Left, Side::Right],
            Side::Middle => [Side::Middle; 2],
        };
        let poles = electrode::references(first).iter().chain(electrode::references(second));
        let found = poles.filter(|&&pole| pole != lead.site).find_map(|&pole| {
            let is_it = |(place, other): &&(usize, &Lead)| {
                other.site == pole
                    && other.reference == lead.reference
                    && self.fits(channel, *place)
            };
            electrodes.iter().find(is_it)
        });
        // Electrodes of a cap near the mastoids are none of the mastoids' where those are there.
        found
            .map(|&(place, other)| (place, other.site.as_str()))
            .filter(|_| !self.is_cap_pole(lead))
    }

    /// `TP9` and its like, which serve as references themselves where there are no better ones.
    fn is_cap_pole(&self, lead: &Lead) -> bool {
        let is_cap = |site: &str| matches!(site, "TP9" | "TP10");
        let others = || self.inputs.iter().filter_map(Input::lead);
        is_cap(&lead.site) && !others().any(|other| electrode::is_reference(&other.site))
    }

    /// Whether one channel can be taken away from the other.
    fn fits(&self, plus: usize, minus: usize) -> bool {
        let (plus, minus) = (&self.inputs[plus], &self.inputs[minus]);
        let left_out = minus.is_mapped || minus.by_rule.is_none();
        !left_out && factor(plus.signal, minus.signal).is_some()
    }

    /// The electrodes of the chin, in pairs with the middle one, or with the first.
    fn chin(&mut self, derives: bool) {
        let of_chin = |input: &&Input<'_>| {
            input.by_rule == Some(Modality::Emg)
                && electrode::is_chin_derivation(&input.signal.label)
        };
        let recorded = self.inputs.iter().find(of_chin).map(|input| input.signal.label.clone());
        let usable = |channel: usize| {
            !self.inputs[channel].is_mapped
                && self.decisions[channel].modality == Some(Modality::Emg)
        };
        let mut electrodes: Vec<(char, usize)> = (0..self.inputs.len())
            .filter(|&channel| usable(channel))
            .filter_map(|channel| Some((self.inputs[channel].chin()?, channel)))
            .collect();
        if let Some(derivation) = recorded {
            for (name, channel) in electrodes {
                if electrode::is_of_chin(&derivation, name) {
                    self.leave_out(channel, format!("electrode of {}", escaped(&derivation)));
                }
            }
            return;
        }
        electrodes.sort_unstable();
        electrodes.dedup_by_key(|(name, _)| *name);
        let middle = electrodes.iter().position(|(name, _)| *name == 'c');
        let numbered = electrodes.iter().all(|(name, _)| name.is_ascii_digit());
        let lettered = electrodes.iter().all(|(name, _)| !name.is_ascii_digit());
        if !derives || electrodes.len() < 2 || !(numbered || lettered || middle.is_some()) {
            return;
        }
        // Each against the one above the jaw; without it the first against each other one.
        let is_middle = middle.is_some();
        let (_, pole) = electrodes.remove(middle.unwrap_or(0));
        for (_, other) in electrodes {
            let (plus, pole) = if is_middle { (other, pole) } else { (pole, other) };
            if self.fits(plus, pole) {
                let [a, b] = [plus, pole].map(|c| self.inputs[c].signal.label.trim().to_owned());
                self.derive(format!("{a}-{b}"), plus, pole, Modality::Emg);
            }
        }
    }

    fn leave_out(&mut self, channel: usize, reason: String) {
        if self.inputs[channel].is_mapped || self.decisions[channel].electrode_of.is_some() {
            return;
        }
        let decision = &mut self.decisions[channel];
        if decision.modality.take().is_some() {
            decision.rule = reason;
        }
    }

    fn derive(&mut self, label: String, plus: usize, minus: usize, modality: Modality) {
        let signals: Vec<&SignalInfo> = self.inputs.iter().map(|input| input.signal).collect();
        if self.wanted.contains(&normalized(&label)) {
            return;
        }
        let Some(derivation) = Derivation::new(label, &signals, plus, &[minus]) else { return };
        push(derivation, modality, "derived", &signals, self.decisions, &mut self.derivations);
        for channel in [plus, minus] {
            let decision = &mut self.decisions[channel];
            if decision.electrode_of.is_none() {
                decision.modality = None;
                decision.electrode_of = Some(modality);
                decision.rule = format!(
                    "electrode of {}",
                    escaped(&self.derivations[self.derivations.len() - 1].signal.label)
                );
            }
        }
    }
}

/// Adds a derivation and what is decided about it.
pub(super) fn push(
    derivation: Derivation,
    modality: Modality,
    rule: &str,
    signals: &[&SignalInfo],
    decisions: &mut Vec<Decision>,
    derivations: &mut Vec<Derivation>,
) {
    let name = |&channel: &usize| escaped(&signals[channel].label);
    let minus: Vec<String> = derivation.minus.iter().map(|(channel, _)| name(channel)).collect();
    let rule = format!("{rule}: {} minus {}", name(&derivation.plus), minus.join(" and "));
    decisions.push(Decision {
        channel: decisions.len(),
        label: derivation.signal.label.clone(),
        modality: Some(modality),
        electrode_of: None,
        rule,
    });
    derivations.push(derivation);
}

/// What of `wanted` the channels allow: the derivation, or the first label that no channel has.
pub(super) fn wanted(wanted: &Wanted, signals: &[&SignalInfo]) -> Result<Derivation, MontageError> {
    let place = |label: &String| {
        let exact = signals.iter().position(|signal| signal.label.trim() == label);
        let key = normalized(label);
        let like = || signals.iter().position(|s| !key.is_empty() && normalized(&s.label) == key);
        exact.or_else(like).ok_or_else(|| MontageError::UnknownElectrode {
            derivation: escaped(&wanted.label),
            label: escaped(label),
            near: near_labels(label, signals),
        })
    };
    let plus = place(&wanted.plus)?;
    let minus = wanted.minus.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let derivation = Derivation::new(wanted.label.clone(), signals, plus, &minus);
    derivation.ok_or_else(|| MontageError::BadDerivation {
        entry: escaped(&wanted.label),
        reason: "its channels have other units than each other, or no samples".to_owned(),
    })
}

/// By what the samples of `minus` are multiplied to have the unit of `plus`; `None` if they cannot have.
pub(super) fn factor(plus: &SignalInfo, minus: &SignalInfo) -> Option<f64> {
    if plus.unit.trim() == minus.unit.trim() {
        return Some(1.0);
    }
    Some(in_volts(minus)? / in_volts(plus)?)
}
