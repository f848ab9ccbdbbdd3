//! Caps whose electrodes are numbered: `A1` of a BioSemi cap is no earlobe, `E1` of an EGI net no eye.
//! They are known by their number, of which a few may be missing: no other recording has `A1` to `A32` or
//! `E1` to `E32`. Where the
//! layout is that of the makers' standard caps, numbers stand for sites of the 10-20 system; other
//! electrodes are left out.

use std::collections::BTreeSet;

use super::normalized;
use crate::signal::SignalInfo;

/// BioSemi, 32 electrodes: A1 to A32.
const BIOSEMI_32: &str = "Fp1 AF3 F7 F3 FC1 FC5 T7 C3 CP1 CP5 P7 P3 Pz PO3 O1 Oz O2 PO4 P4 P8 CP6 CP2 C4 T8 FC6 FC2 F4 F8 AF4 Fp2 Fz Cz";
/// 64 electrodes: A1 to A32, B1 to B32.
const BIOSEMI_64: &str = "Fp1 AF7 AF3 F1 F3 F5 F7 FT7 FC5 FC3 FC1 C1 C3 C5 T7 TP7 CP5 CP3 CP1 P1 P3 P5 P7 P9 PO7 PO3 O1 Iz Oz POz Pz CPz Fpz Fp2 AF8 AF4 AFz Fz F2 F4 F6 F8 FT8 FC6 FC4 FC2 FCz Cz C2 C4 C6 T8 TP8 CP6 CP4 CP2 P2 P4 P6 P8 P10 PO8 PO4 O2";
/// EGI HydroCel, 128 and 256 electrodes: the sites of the 10-20 system and the mastoids, by number.
const EGI_128: [(u32, &str); 21] = [
    (22, "Fp1"),
    (9, "Fp2"),
    (11, "Fz"),
    (24, "F3"),
    (124, "F4"),
    (33, "F7"),
    (122, "F8"),
    (36, "C3"),
    (104, "C4"),
    (45, "T7"),
    (108, "T8"),
    (52, "P3"),
    (92, "P4"),
    (58, "P7"),
    (96, "P8"),
    (62, "Pz"),
    (70, "O1"),
    (83, "O2"),
    (75, "Oz"),
    (57, "M1"),
    (100, "M2"),
];
const EGI_256: [(u32, &str); 12] = [
    (37, "Fp1"),
    (18, "Fp2"),
    (21, "Fz"),
    (36, "F3"),
    (224, "F4"),
    (59, "C3"),
    (183, "C4"),
    (101, "Pz"),
    (116, "O1"),
    (150, "O2"),
    (94, "M1"),
    (190, "M2"),
];
/// Electrodes of one letter.
const BIOSEMI: u32 = 32;
/// BioSemi's smallest cap.
const SMALLEST_BIOSEMI: u32 = 16;
/// The highest number of a smaller net is no net's.
const SMALLEST_EGI: u32 = 30;
/// So much of a cap is there: files are published without the electrodes that were bad.
const SHARE: f64 = 0.8;

/// An electrode of a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CapElectrode {
    /// The cap, in words.
    pub cap: &'static str,
    /// Its place in the 10-20 system; `None` where it has none that is known.
    pub site: Option<&'static str>,
    /// What a user may map instead, labels near C3 and C4; empty if that is not known.
    pub near: &'static [&'static str],
}

/// The caps' electrodes among the channels; `None` for all others.
pub(super) fn recognize(signals: &[SignalInfo]) -> Vec<Option<CapElectrode>> {
    let named: Vec<Option<(char, u32)>> = signals.iter().map(|s| number(&s.label)).collect();
    let numbers = |letter: char| -> BTreeSet<u32> {
        named.iter().flatten().filter(|(l, _)| *l == letter).map(|(_, n)| *n).collect()
    };
    // Most of 1 to `count` is there.
    let has = |letter: char, count: u32| {
        let there = numbers(letter).range(1..=count).count();
        there as f64 >= SHARE * f64::from(count)
    };
    let highest = |letter: char| numbers(letter).last().copied().unwrap_or_default();
    let letters = ('a'..='h').take_while(|&letter| has(letter, BIOSEMI)).count();
    let is_small = highest('a') <= SMALLEST_BIOSEMI && has('a', SMALLEST_BIOSEMI);
    let net = highest('e');
    let is_net = net >= SMALLEST_EGI && has('e', net);
    let of = |(letter, number): (char, u32)| match letter {
        'a'..='h' if letters > 0 && number <= BIOSEMI => Some(biosemi(letter, number, letters)),
        'a' if is_small => Some(CapElectrode { cap: "BioSemi cap of 16", site: None, near: &[] }),
        'e' if is_net => Some(egi(number, net)),
        _ => None,
    };
    named.into_iter().map(|named| of(named?)).collect()
}

/// Letter and number of `A12`, `EEG A12` or `E117`.
fn number(label: &str) -> Option<(char, u32)> {
    let key = normalized(label);
    let key = key.strip_prefix("eeg").unwrap_or(&key);
    let letter = key.chars().next().filter(|c| ('a'..='h').contains(c))?;
    let number = key[1..].parse().ok().filter(|&n: &u32| n > 0 && !key[1..].starts_with('0'))?;
    Some((letter, number))
}

/// An electrode of a cap with so many letters. What lies near C3 and C4 is by MNE's montages.
fn biosemi(letter: char, number: u32, letters: usize) -> CapElectrode {
    let place = (letter as u32 - 'a' as u32) * BIOSEMI + number - 1;
    let of = |layout: &'static str| layout.split(' ').nth(place as usize);
    let large = |cap, near| CapElectrode { cap, site: None, near };
    match letters {
        1 => CapElectrode { cap: "BioSemi cap of 32", site: of(BIOSEMI_32), near: &[] },
        2 => CapElectrode { cap: "BioSemi cap of 64", site: of(BIOSEMI_64), near: &[] },
        4 => large("BioSemi cap of 128", &["D19", "B22"]),
        5 => large("BioSemi cap of 160", &["E4", "C7"]),
        8 => large("BioSemi cap of 256", &["G16", "C23"]),
        _ => large("BioSemi cap", &[]),
    }
}

/// An electrode of a net with this highest number.
fn egi(number: u32, highest: u32) -> CapElectrode {
    let of = |sites: &[(u32, &'static str)]| {
        sites.iter().find(|(at, _)| *at == number).map(|(_, site)| *site)
    };
    match highest {
        120..=129 => {
            CapElectrode { cap: "EGI net of 128", site: of(&EGI_128), near: &["E36", "E104"] }
        }
        241..=257 => {
            CapElectrode { cap: "EGI net of 256", site: of(&EGI_256), near: &["E59", "E183"] }
        }
        _ => CapElectrode { cap: "EGI net", site: None, near: &[] },
    }
}

impl CapElectrode {
    /// Why an electrode without a known place is left out, and what to do.
    pub fn left_out(&self) -> String {
        let cap = self.cap;
        match self.near {
            [] => format!(
                "{cap}, electrode without a place in the 10-20 system; --map LABEL=BAS uses it"
            ),
            near => {
                let map: Vec<String> =
                    near.iter().map(|label| format!("--map '{label}=BAS'")).collect();
                let map = map.join(" ");
                format!(
                    "{cap}, electrode without a place in the 10-20 system; {map} uses those near C3 and C4"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(labels: impl Iterator<Item = String>) -> Vec<SignalInfo> {
        let signal = |label| SignalInfo {
            label,
            rate_hz: 256.0,
            unit: "uV".to_owned(),
            physical_min: -1.0,
            physical_max: 1.0,
            digital_min: -1,
            digital_max: 1,
        };
        labels.map(signal).collect()
    }

    #[test]
    fn caps_are_known_by_their_number() {
        let numbered = |letter: char, count: u32| (1..=count).map(move |n| format!("{letter}{n}"));
        let sites = |found: &[Option<CapElectrode>]| -> Vec<(usize, &str)> {
            let site = |(n, e): (usize, &Option<CapElectrode>)| Some((n, e.as_ref()?.site?));
            found.iter().enumerate().filter_map(site).collect()
        };
        let found = recognize(&signals(numbered('A', 32)));
        assert_eq!((sites(&found)[7], sites(&found).len()), ((7, "C3"), 32));
        let found = recognize(&signals(numbered('A', 32).chain(numbered('B', 32))));
        assert_eq!((sites(&found)[12], sites(&found)[63]), ((12, "C3"), (63, "O2")));
        let found = recognize(&signals(numbered('E', 128)));
        assert!(sites(&found).contains(&(35, "C3")) && sites(&found).contains(&(99, "M2")));
        assert_eq!(sites(&found).len(), EGI_128.len());
        assert!(
            found[0].expect("of the net").left_out().contains("--map 'E36=BAS' --map 'E104=BAS'")
        );
        let all = "ABCD".chars().flat_map(|letter| numbered(letter, 32));
        let found = recognize(&signals(all));
        assert!(sites(&found).is_empty() && found.iter().all(Option::is_some));
        // Earlobes and eyes.
        let usual = ["A1", "A2", "E1", "E2", "C3"].map(str::to_owned);
        assert!(recognize(&signals(usual.into_iter())).iter().all(Option::is_none));
        assert!(recognize(&signals(numbered('E', 20))).iter().all(Option::is_none));
        // Without some that were bad.
        let bad = |label: &String| !["A5", "B7", "E17", "E128"].contains(&label.as_str());
        let found = recognize(&signals(
            numbered('A', 32).chain(numbered('B', 32)).filter(bad).chain(["EXG1".to_owned()]),
        ));
        assert_eq!((sites(&found)[3], sites(&found).len()), ((3, "F1"), 62));
        let found = recognize(&signals(numbered('E', 128).filter(bad)));
        assert!(found.iter().all(|electrode| electrode.is_some_and(|e| e.cap == "EGI net of 128")));
        for (count, cap) in [(5, "BioSemi cap of 160"), (8, "BioSemi cap of 256")] {
            let all = "ABCDEFGH".chars().take(count).flat_map(|letter| numbered(letter, 32));
            assert!(recognize(&signals(all)).iter().all(|e| e.is_some_and(|e| e.cap == cap)));
        }
        assert!(recognize(&signals(numbered('A', 16))).iter().all(Option::is_some));
    }
}
