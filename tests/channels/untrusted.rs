//! Labels are untrusted: whatever they hold, there is a decision or a refusal of one line, and
//! nothing that a terminal would obey.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use sfm_runtime::montage::{ChannelRules, table};
use sfm_runtime::signal::{SignalInfo, StreamInfo};

use super::{built_in, signal};

static RULES: LazyLock<ChannelRules> = LazyLock::new(built_in);

fn shown(signals: Vec<SignalInfo>) -> String {
    match RULES.assign(&signals, &BTreeMap::new()) {
        Err(refusal) => refusal.to_string(),
        Ok(montage) => {
            assert_eq!(montage.decisions.len(), signals.len());
            let info = StreamInfo {
                format: String::new(),
                start: None,
                duration_s: None,
                preprocessed: false,
                signals,
                warnings: Vec::new(),
            };
            table(&info, &montage)
        }
    }
}

/// Text as a label: anything, Latin-1 bytes, or pieces of real labels.
fn label() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        prop::collection::vec(any::<u8>(), 0..17)
            .prop_map(|bytes| bytes.iter().map(|&byte| byte as char).collect()),
        "(EEG|EOG|EMG|ECG|Resp|Chin|Leg|C3|M2|E1|SpO2|-|:| |\\+|\x1b|2){0,8}",
    ]
}

proptest! {
    #[test]
    fn any_label_is_decided_and_shown_safely(labels in prop::collection::vec(label(), 0..6)) {
        let channels = labels.len();
        let text = shown(labels.iter().map(|label| signal(label)).collect());
        prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        let lines = text.lines().count();
        prop_assert!(lines == 1 || lines == channels + 2, "{text:?}");
    }

    #[test]
    fn any_map_entry_is_taken_or_refused(entry in any::<String>(), label in label()) {
        if let Ok(rules) = built_in().with_map(&[entry])
            && let Err(refusal) = rules.assign(&[signal(&label)], &BTreeMap::new())
        {
            prop_assert!(!refusal.to_string().contains(char::is_control), "{refusal:?}");
        }
    }

    #[test]
    fn any_rules_file_is_taken_or_refused_in_one_line(text in any::<String>()) {
        for refusal in [
            ChannelRules::from_toml(&text, "f").err(),
            ChannelRules::from_channel_groups(&text, "f").err(),
        ].into_iter().flatten() {
            prop_assert!(!refusal.to_string().contains(char::is_control), "{refusal:?}");
        }
    }
}
