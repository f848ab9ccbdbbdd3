//! Channel labels to modalities: the built-in rules against the reference's lists and against
//! labels of public recordings, the rules' file format, `--map`, limits, and the table that
//! `sfm-stream inspect` prints.

mod assign;
mod files;
mod labels;
mod names;
mod policy;
mod reference;
mod rules;
mod table;
mod untrusted;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sfm_models::Modality;
use sfm_runtime::montage::{ChannelRules, Decision, Montage};
use sfm_runtime::signal::SignalInfo;

/// The optional data beside the checkout.
fn shared(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name)
}

/// A microvolt channel at 256 Hz.
fn signal(label: &str) -> SignalInfo {
    signal_at(label, 256.0)
}

fn signal_at(label: &str, rate_hz: f64) -> SignalInfo {
    SignalInfo {
        label: label.to_owned(),
        rate_hz,
        unit: "uV".to_owned(),
        physical_min: -250.0,
        physical_max: 250.0,
        digital_min: -2048,
        digital_max: 2047,
    }
}

fn built_in() -> ChannelRules {
    ChannelRules::built_in().expect("the built-in rules are well formed")
}

/// The montage of a recording with these labels, without limits.
fn montage_of(rules: &ChannelRules, labels: &[&str]) -> Montage {
    let signals: Vec<SignalInfo> = labels.iter().map(|label| signal(label)).collect();
    rules.assign(&signals, &BTreeMap::new()).expect("no label is contested")
}

fn decision(rules: &ChannelRules, label: &str) -> Decision {
    let decisions = montage_of(rules, &[label]).decisions;
    decisions.into_iter().next().expect("one channel, one decision")
}

fn modality(rules: &ChannelRules, label: &str) -> Option<Modality> {
    decision(rules, label).modality
}
