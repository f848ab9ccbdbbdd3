//! `tests/data/labels.tsv`: labels of public data sets and recorders, each with the modality that it is.

use std::collections::BTreeMap;

use sfm_models::Modality;
use sfm_runtime::montage::MontageError;

use super::{built_in, signal};

const LABELS: &str = include_str!("../data/labels.tsv");

#[test]
fn labels_of_recorders_are_what_they_are() {
    let rules = built_in();
    let mut wrong = Vec::new();
    let rows = LABELS.lines().filter(|line| !line.starts_with('#'));
    let rows: Vec<Vec<&str>> = rows.map(|line| line.split('\t').collect()).collect();
    assert!(rows.len() > 400, "{}", rows.len());
    for row in &rows {
        let [set, label, expected] = row[..] else { panic!("{row:?}") };
        let found = match rules.assign(&[signal(label)], &BTreeMap::new()) {
            Err(MontageError::Contested { .. }) => "!",
            Err(error) => panic!("{error}"),
            Ok(montage) => montage.decisions[0].modality.map_or("-", Modality::as_str),
        };
        if expected != "?" && found != expected {
            wrong.push(format!("{set}: '{label}' is {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
