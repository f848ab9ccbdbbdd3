//! Every label of the reference's `channel_groups.json`.

use std::collections::{BTreeMap, BTreeSet};

use sfm_models::Modality;
use sfm_runtime::montage::ChannelRules;
use sfm_tests::skip::skipped;

use super::{built_in, decision, modality, shared};

/// Labels for which the built-in rules differ from the reference, and why.
const OTHERWISE: [(&str, Option<Modality>, &str); 3] = [
    ("RIP Abd", Some(Modality::Resp), "an effort belt; the reference has 'RIP Abdom' in RESP"),
    ("RIP Tho", Some(Modality::Resp), "an effort belt; the reference has 'RIP Thora' in RESP"),
    ("Pressur", None, "a cut 'Pressure' of unknown origin, certainly no muscle"),
];

const FILE: &str = "upstream/channel_groups.json";

fn reference_text() -> Option<String> {
    let text = std::fs::read_to_string(shared(FILE));
    if text.is_err() {
        skipped("shared", format_args!("../shared/{FILE} is not there"));
    }
    text.ok()
}

/// Label to modality as the reference lists them.
fn reference() -> Option<BTreeMap<String, Modality>> {
    let groups: BTreeMap<Modality, BTreeSet<String>> =
        serde_json::from_str(&reference_text()?).expect("lists of labels by modality");
    let flat = groups.into_iter().flat_map(|(m, labels)| labels.into_iter().map(move |l| (l, m)));
    Some(flat.collect())
}

fn expected(label: &str, listed: Modality) -> Option<Modality> {
    OTHERWISE.iter().find(|(other, ..)| *other == label).map_or(Some(listed), |(_, m, _)| *m)
}

#[test]
fn built_in_rules_map_every_label_of_the_reference() {
    let Some(reference) = reference() else { return };
    assert_eq!(reference.len(), 683);
    let rules = built_in();
    let wrong: Vec<String> = reference
        .iter()
        .map(|(label, &listed)| (listed, expected(label, listed), decision(&rules, label)))
        .filter(|(_, expected, found)| found.modality != *expected)
        .map(|(listed, _, found)| format!("{listed}: {found:?}"))
        .collect();
    assert!(wrong.is_empty(), "{} labels:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_exceptions_are_labels_of_the_reference() {
    let Some(reference) = reference() else { return };
    for (label, ours, why) in OTHERWISE {
        let listed = reference.get(label).copied();
        assert!(listed.is_some() && listed != ours, "'{label}' ({why}) is no exception");
    }
}

#[test]
fn neither_case_nor_separator_matters() {
    let Some(reference) = reference() else { return };
    let rules = built_in();
    for (label, listed) in reference {
        let expected = expected(&label, listed);
        for separator in ["", " ", "-", ":", "/", "_", "+", ". "] {
            let respelled: String = label
                .to_uppercase()
                .chars()
                .map(|c| if c.is_alphanumeric() { c.to_string() } else { separator.to_owned() })
                .collect();
            assert_eq!(modality(&rules, &respelled), expected, "'{label}' as '{respelled}'");
            assert_eq!(modality(&rules, &respelled.to_lowercase()), expected, "'{label}'");
        }
    }
}

#[test]
fn channel_groups_are_followed_to_the_letter() {
    let (Some(text), Some(reference)) = (reference_text(), reference()) else { return };
    let rules = ChannelRules::from_channel_groups(&text, FILE).expect("the reference's own file");
    for (label, listed) in reference {
        assert_eq!(modality(&rules, label.trim()), Some(listed), "'{label}'");
    }
    assert_eq!(modality(&rules, "eeg f3-a2"), None, "the reference knows 'EEG F3-A2' only");
    assert_eq!(modality(&rules, "Pressur"), Some(Modality::Emg));
}
