//! The rules' file format is strict, and two rules that disagree are both named.

use std::collections::BTreeMap;

use sfm_models::Modality::{Bas, Emg, Resp};
use sfm_runtime::montage::{ChannelRules, MontageError, normalized};

use super::{decision, modality, signal};

fn refusal(text: &str) -> String {
    let error = ChannelRules::from_toml(text, "site.toml").expect_err("it is to be refused");
    let line = error.to_string();
    assert!(line.starts_with("site.toml: "), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

#[test]
fn separators_and_case_are_dropped() {
    assert_eq!(normalized("EOG (L)"), "eogl");
    assert_eq!(normalized("C3-M2:C4-M1"), "c3m2c4m1");
    assert_eq!(normalized(" H.R.\u{1b}[0m"), "hr0m");
    assert_eq!(normalized("Écart"), "ecart");
    assert_eq!(normalized("PSG_F3"), "f3");
}

#[test]
fn a_site_can_bring_its_own_rules() {
    let text = r"
        [parts]
        finger = 'thumb | index # a comment'
        [[leave_out]]
        name = 'ring'
        reason = 'broken since May'
        pattern = 'ring{finger}'
        [[rule]]
        name = 'finger'
        modality = 'RESP'
        pattern = '(?:ring)?{finger}\d'
    ";
    let rules = ChannelRules::from_toml(text, "site.toml").expect("well formed");
    assert_eq!(decision(&rules, "Index_1").modality, Some(Resp));
    assert_eq!(decision(&rules, "Index_1").rule, "finger");
    assert_eq!(decision(&rules, "ring thumb").rule, "ring: broken since May");
    assert_eq!(modality(&rules, "xIndex_1"), None, "a pattern matches a whole label");
    assert_eq!(modality(&rules, "EEG C3-A2"), None, "the built-in rules are not asked");
}

#[test]
fn a_broken_file_is_refused_in_one_line() {
    let rule = "[[rule]]\nname = 'a'\nmodality = 'BAS'\n";
    assert!(refusal("").contains("no [[rule]]"));
    assert!(refusal("[[rules]]\n").contains("unknown field `rules`"));
    assert!(
        refusal(&format!("{rule}pattern = 'x'\nlabel = 'y'")).contains("unknown field `label`")
    );
    assert!(refusal(rule).contains("missing field `pattern`"));
    assert!(refusal("[[rule]]\nname = 'a'\nmodality = 'EOG'\npattern = 'x'").contains("line 3"));
    assert!(refusal(&format!("{rule}pattern = '(x'")).contains("unclosed group"));
    assert!(refusal(&format!("{rule}pattern = '{{electrode}}'")).contains("pattern of 'a'"));
    assert!(refusal(&format!("{rule}pattern = '(?:.{{1000}}){{1000}}'")).contains("size limit"));
    assert!(refusal("[[rule]\n").contains("line 1"));
}

#[test]
fn a_broken_list_is_refused_in_one_line() {
    for text in ["", "[]", "{}", r#"{"BAS": []}"#, r#"{"EEG": ["C3"]}"#, r#"{"BAS": "C3"}"#] {
        let error = ChannelRules::from_channel_groups(text, "groups.json").expect_err(text);
        let line = error.to_string();
        assert!(line.starts_with("groups.json: ") && line.lines().count() == 1, "{line}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let absent = std::path::Path::new("no/such/rules.toml");
    for error in [ChannelRules::read_toml(absent), ChannelRules::read_channel_groups(absent)] {
        let line = error.expect_err("there is no such file").to_string();
        assert!(line.starts_with("no/such/rules.toml: "), "{line}");
    }
}

#[test]
fn a_label_of_two_lists_is_refused_where_a_channel_has_it() {
    let text = r#"{"BAS": ["C3", "X1"], "EMG": ["Chin", "X1"]}"#;
    let rules = ChannelRules::from_channel_groups(text, "groups.json").expect("well formed");
    assert_eq!(modality(&rules, "C3"), Some(Bas));
    assert_eq!(modality(&rules, "Chin"), Some(Emg));
    let error = rules.assign(&[signal("Chin"), signal("X1")], &BTreeMap::new());
    let Err(error @ MontageError::Contested { .. }) = error else { panic!("{error:?}") };
    let line = error.to_string();
    assert!(line.contains("'BAS list' (BAS)") && line.contains("'EMG list' (EMG)"), "{line}");
}
