//! Which channels a modality keeps that has more than the network takes. One of each place comes before
//! the second of any, derivations before electrodes, the sites of the AASM manual before others, and of
//! equals the one with the better signal. What the user mapped comes first of all.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use sfm_models::Modality;

use super::electrode::Side;
use super::{Decision, electrode, normalized};
use crate::text::escaped;

/// EEG and EOG in the order in which the AASM manual asks for them; both eyes before more of the brain.
const SITES: [&str; 8] = ["C4", "C3", "E1", "E2", "F4", "F3", "O2", "O1"];
/// The place of what is in no such order.
const LAST: usize = usize::MAX;

/// A channel as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// The label, or that which its place in a cap stands for.
    pub label: &'a str,
    /// The rule that claims it, and the rule's place among its modality's.
    pub rule: &'a str,
    pub rank: usize,
    pub is_mapped: bool,
    /// The part of its first minutes that is good, 0 to 1, where it was looked at.
    pub good: Option<f32>,
}

/// What decides, in this order.
#[derive(Debug, Clone, PartialEq)]
struct Standing {
    is_unmapped: bool,
    /// How many of its place come before it.
    behind: usize,
    is_electrode: bool,
    order: usize,
    is_ipsilateral: bool,
    bad: f32,
    channel: usize,
}

impl Standing {
    fn compare(&self, other: &Self) -> Ordering {
        let key = |s: &Self| (s.is_unmapped, s.behind, s.is_electrode, s.order, s.is_ipsilateral);
        let by_signal = self.bad.total_cmp(&other.bad);
        key(self).cmp(&key(other)).then(by_signal).then(self.channel.cmp(&other.channel))
    }
}

/// Leaves out what `modality` has beyond `max` channels, with the reason.
pub(super) fn choose(
    modality: Modality,
    max: usize,
    candidates: &[Candidate<'_>],
    decisions: &mut [Decision],
) {
    let channels: Vec<usize> =
        (0..decisions.len()).filter(|&c| decisions[c].modality == Some(modality)).collect();
    if channels.len() <= max {
        return;
    }
    let mut places: BTreeMap<String, Vec<Standing>> = BTreeMap::new();
    for &channel in &channels {
        let (place, standing) = standing(modality, channel, &candidates[channel]);
        places.entry(place).or_default().push(standing);
    }
    let mut all = Vec::new();
    for (place, mut standings) in places {
        standings.sort_by(Standing::compare);
        let first = standings[0].clone();
        for (behind, standing) in standings.into_iter().enumerate() {
            all.push((Standing { behind, ..standing }, place.clone(), first.clone()));
        }
    }
    all.sort_by(|(a, ..), (b, ..)| a.compare(b));
    for (standing, place, first) in all.into_iter().skip(max) {
        let decision = &decisions[standing.channel];
        let better = if standing.bad > first.bad { ", which has the better signal" } else { "" };
        let why = match standing.behind {
            0 => "others come first in the AASM manual's order".to_owned(),
            _ => {
                let label = escaped(&decisions[first.channel].label);
                format!("'{label}' is of the same place ({place}){better}")
            }
        };
        let rule =
            format!("{}: {modality} takes {max} of {}; {why}", decision.rule, channels.len());
        (decisions[standing.channel].modality, decisions[standing.channel].rule) = (None, rule);
    }
}

/// What muscles of legs are called, the longest first.
const LEG: [&str; 19] = [
    "gastrocnemius",
    "tibialis",
    "tibiale",
    "anterior",
    "tibial",
    "gamba",
    "gambe",
    "jambes",
    "jambe",
    "pierna",
    "perna",
    "beine",
    "been",
    "bein",
    "legs",
    "leg",
    "plms",
    "plm",
    "tib",
];

fn is_leg(key: &str) -> bool {
    LEG.iter().any(|name| key.contains(name) && *name != "anterior")
        || matches!(key, "lat" | "rat" | "emglat" | "emgrat")
}

/// The side that a leg's label names, in the languages of the rules.
fn leg_side(key: &str) -> Option<Side> {
    let key = key.strip_prefix("eeg").unwrap_or(key).replace("emg", "");
    let mut side = key.strip_suffix("ref").unwrap_or(&key).trim_end_matches(char::is_numeric);
    let kept: String;
    if let "lat" | "rat" = side {
        side = &side[..1];
    } else {
        kept = LEG.iter().fold(side.to_owned(), |rest, name| rest.replacen(name, "", 1));
        side = kept.strip_prefix("ant").or(kept.strip_suffix("ant")).unwrap_or(&kept);
    }
    match side.trim_matches(char::is_numeric) {
        "l" | "left" | "links" | "linke" | "linker" | "linkes" | "li" | "gauche" | "g" | "izq"
        | "izquierda" | "izquierdo" | "izda" | "sx" | "sin" | "sn" | "sinistra" | "sinistro"
        | "esq" | "esquerda" | "esquerdo" | "e" | "s" => Some(Side::Left),
        "r" | "right" | "rechts" | "rechte" | "rechter" | "rechtes" | "re" | "droite" | "droit"
        | "der" | "derecha" | "derecho" | "dcha" | "dx" | "destra" | "destro" | "dir"
        | "direita" | "direito" | "d" => Some(Side::Right),
        _ => None,
    }
}

/// The place that a channel is of, and how it stands there.
fn standing(modality: Modality, channel: usize, candidate: &Candidate<'_>) -> (String, Standing) {
    let key = normalized(candidate.label);
    let lead = electrode::lead(candidate.label).filter(|_| modality == Modality::Bas);
    let has = |words: &[&str]| words.iter().any(|word| key.contains(word));
    let (place, order) = match (modality, &lead) {
        (Modality::Bas, Some(lead)) => {
            let order = SITES.iter().position(|site| *site == lead.site);
            (electrode::shown(&lead.site), order.unwrap_or(LAST))
        }
        (Modality::Bas, None) if has(&["eog", "eye"]) => (key, 2),
        (Modality::Emg, _) if has(&["chin", "kin", "ment"]) => ("chin".to_owned(), 0),
        (Modality::Emg, _) if is_leg(&key) => match leg_side(&key) {
            Some(Side::Left) => ("left leg".to_owned(), 1),
            Some(_) => ("right leg".to_owned(), 2),
            None => (key, 1),
        },
        (Modality::Resp, _) if candidate.rule == "effort belt" => {
            let is_low = has(&["abd", "add", "bauch", "buik", "vab"]);
            (if is_low { "abdomen" } else { "thorax" }.to_owned(), candidate.rank)
        }
        (Modality::Resp, _) => (candidate.rule.to_owned(), candidate.rank),
        _ => (key, LAST),
    };
    let is_opposite = |site: &String| {
        let own = lead.as_ref().map(|lead| electrode::side(&lead.site));
        electrode::is_reference(site) && own != Some(electrode::side(site))
    };
    let is_ipsilateral = lead.as_ref().is_some_and(|lead| !lead.against.iter().any(is_opposite));
    let standing = Standing {
        is_unmapped: !candidate.is_mapped,
        behind: 0,
        is_electrode: lead.as_ref().is_some_and(electrode::Lead::is_electrode),
        order,
        is_ipsilateral,
        bad: candidate.good.map_or(0.0, |good| 1.0 - good),
        channel,
    };
    (place, standing)
}
