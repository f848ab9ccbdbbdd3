//! Channel labels to modalities. Owns the decision for every channel of a recording and the
//! reason for it; labels are untrusted text and are escaped wherever they are shown. Refuses a
//! label that rules of two modalities claim and a `--map` that names no channel. Signals are
//! taken as they were recorded: nothing is re-referenced, as in the reference.

mod rules;
mod table;

use std::collections::BTreeMap;

use sfm_models::Modality;

use crate::signal::SignalInfo;
pub use rules::{ChannelRules, normalized};
use rules::{Override, Verdict};
pub use table::{escaped, is_hidden, table};

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
    /// A label that two rules of different modalities claim.
    #[error(
        "channel '{label}' is claimed by two rules, '{first}' ({first_modality}) and '{second}' \
         ({second_modality}); decide with --map '{label}={first_modality}' or '{label}=none'"
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
}

/// What becomes of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Index into [`crate::signal::StreamInfo::signals`].
    pub channel: usize,
    /// The channel's label as written: escape it before showing it.
    pub label: String,
    /// The modality it is part of; `None` if it is left out.
    pub modality: Option<Modality>,
    /// The name of the rule that matched, or why the channel is left out.
    pub rule: String,
}

/// The decisions for all channels of a recording, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Montage {
    /// One per channel.
    pub decisions: Vec<Decision>,
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

    /// One line, e.g. `BAS 5, RESP 6, EKG 1, EMG none; 3 of 15 channels left out`.
    pub fn summary(&self) -> String {
        let counts = Modality::ALL.map(|m| match self.channels(m).count() {
            0 => format!("{m} none"),
            n => format!("{m} {n}"),
        });
        let total = self.decisions.len();
        let counts = counts.join(", ");
        match total - self.used() {
            0 => format!("{counts}; no channel left out"),
            out => format!("{counts}; {out} of {total} channels left out"),
        }
    }
}

impl ChannelRules {
    /// Decides for every channel: the user's `--map` first, then the rules. A channel beyond the
    /// `max_channels` of its modality is left out; those the user mapped are counted first, then
    /// the others in the recording's order. A modality that is missing in `max_channels` has no
    /// limit.
    ///
    /// # Errors
    /// [`MontageError::UnknownMap`], [`MontageError::MapTwice`] and [`MontageError::Contested`].
    pub fn assign(
        &self,
        signals: &[SignalInfo],
        max_channels: &BTreeMap<Modality, usize>,
    ) -> Result<Montage, MontageError> {
        let mapped = self.mapped(signals)?;
        let mut decisions = Vec::with_capacity(signals.len());
        for ((channel, signal), mapped) in signals.iter().enumerate().zip(&mapped) {
            let (modality, rule) = self.decide(signal, *mapped)?;
            decisions.push(Decision { channel, label: signal.label.clone(), modality, rule });
        }
        let mut room = max_channels.clone();
        for by_user in [true, false] {
            let turn = decisions.iter_mut().zip(&mapped).filter(|(_, m)| m.is_some() == by_user);
            for (decision, _) in turn {
                keep_within(decision, &mut room, max_channels);
            }
        }
        Ok(Montage { decisions })
    }

    /// The `--map` entry of each channel.
    fn mapped(&self, signals: &[SignalInfo]) -> Result<Vec<Option<&Override>>, MontageError> {
        let mut mapped: Vec<Option<&Override>> = vec![None; signals.len()];
        for entry in &self.overrides {
            let named = channels_named(&entry.label, signals);
            if named.is_empty() {
                return Err(MontageError::UnknownMap {
                    label: escaped(&entry.label),
                    near: near_labels(&entry.label, signals),
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

    fn decide(
        &self,
        signal: &SignalInfo,
        mapped: Option<&Override>,
    ) -> Result<(Option<Modality>, String), MontageError> {
        if let Some(Override { modality: None, .. }) = mapped {
            return Ok((None, "--map leaves it out".to_owned()));
        }
        if !signal.rate_hz.is_finite() || signal.rate_hz <= 0.0 {
            return Ok((None, "it has no samples".to_owned()));
        }
        if signal.rate_hz < MIN_RATE_HZ {
            return Ok((None, format!("sampled at less than {MIN_RATE_HZ} Hz")));
        }
        if let Some(Override { modality: Some(modality), .. }) = mapped {
            return Ok((Some(*modality), "--map".to_owned()));
        }
        Ok(match self.claim(&signal.label)? {
            None => (None, "no rule matches; --map uses it".to_owned()),
            Some(rule) => match &rule.verdict {
                Verdict::Use(modality) => (Some(*modality), rule.name.clone()),
                Verdict::LeaveOut(reason) => (None, format!("{}: {reason}", rule.name)),
            },
        })
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

/// The three labels that are most like `label`, as half a sentence.
fn near_labels(label: &str, signals: &[SignalInfo]) -> String {
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
