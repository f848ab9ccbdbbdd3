//! `sfm-stream inspect`, `--map`, `--channel-groups`, `--channel-rules`, contested labels.

use crate::recordings::{Made, study};
use crate::run::{Bench, Run, data, wait};

fn inspect(bench: &Bench, more: &[&str]) -> Run {
    let file = bench.file("study.edf", study(10).bytes());
    let args = ["inspect".into(), file.into_os_string()].into_iter();
    wait(bench.command(args.chain(more.iter().map(Into::into))))
}

/// The modality and the rest of the line of a channel.
fn line<'a>(run: &'a Run, label: &str) -> &'a str {
    let line = run.done().lines().find(|line| line.contains(label)).expect("the channel's line");
    line.split(label).nth(1).expect("the rest")
}

#[test]
fn the_table_of_a_real_recording() {
    let bench = Bench::new();
    let file = data("edf/short_psg.edf").into_os_string();
    let run = wait(bench.command(["inspect".into(), file]));
    let lines: Vec<&str> = run.done().lines().collect();
    assert_eq!(lines[1..3], ["start: 1989-04-24T16:13:00", "length: 0:05:00"]);
    assert_eq!(
        lines[4..],
        [
            "#  label             rate  unit  physical range  modality  rule",
            "0  EEG Fpz-Cz      100 Hz  uV       -192 .. 192  BAS       EEG derivation",
            "1  EEG Pz-Oz       100 Hz  uV       -197 .. 196  BAS       EEG derivation",
            "2  EOG horizontal  100 Hz  uV     -1009 .. 1009  BAS       EOG by name",
            "3  Resp oro-nasal    1 Hz         -2048 .. 2047  RESP      respiration by name",
            "4  EMG submental     1 Hz  uV           -5 .. 5  EMG       EMG by name",
            "5  Temp rectal       1 Hz  DegC        34 .. 40  -         left out: temperature: no \
             modality of the network",
            "6  Event marker      1 Hz         -2047 .. 2048  -         left out: event marker: a \
             button or trigger, not a physiological signal",
            "BAS 3, RESP 1, EKG none, EMG 1; 2 of 7 channels left out",
        ]
    );
    assert_eq!(run.stderr, "");
}

#[test]
fn map_decides_before_the_rules() {
    let bench = Bench::new();
    let run = inspect(&bench, &["--map", "ecg-ii=EMG", "--map", "SaO2=none"]);
    assert!(line(&run, "ECG II").contains("EMG       --map"), "{run:#?}");
    assert!(line(&run, "SaO2").contains("left out: --map"), "{run:#?}");
    let run = inspect(&bench, &["--map", "EEG C4-M2=BAS"]);
    let line = run.refused(2);
    assert!(line.contains("'EEG C4-M2': no channel") && line.contains("'EEG C4-M1'"), "{line}");
    let run = inspect(&bench, &["--map", "SaO2=none", "--map", "SAO2=RESP"]);
    assert!(run.refused(2).contains("keep one of the two"), "{run:#?}");
}

#[test]
fn lists_of_the_reference_replace_the_rules() {
    let bench = Bench::new();
    bench.file("groups.json", r#"{"BAS": ["ECG II"], "RESP": [], "EKG": [], "EMG": ["SaO2"]}"#);
    let run = inspect(&bench, &["--channel-groups", "groups.json"]);
    assert!(line(&run, "ECG II").contains("BAS       BAS list"), "{run:#?}");
    assert!(line(&run, "SaO2").contains("EMG       EMG list"), "{run:#?}");
    assert!(line(&run, "EEG C4-M1").contains("left out: no rule matches"), "{run:#?}");
    for (json, reason) in [
        (r#"{"BAS": ["SaO2"], "EMG": ["SaO2"]}"#, "'SaO2' is claimed by two rules"),
        (r#"{"EEG": ["SaO2"]}"#, "groups.json"),
        (r#"{"BAS": "#, "groups.json"),
        ("{}", "it lists no label"),
        ("\u{1b}[31m", "groups.json"),
    ] {
        bench.file("groups.json", json);
        let run = inspect(&bench, &["--channel-groups", "groups.json"]);
        assert!(run.refused(2).contains(reason), "{json}: {run:#?}");
    }
}

#[test]
fn a_contested_label_is_refused_with_both_rules() {
    let bench = Bench::new();
    let rules = "[[rule]]\nname = 'brain'\nmodality = 'BAS'\npattern = 'eeg.*'\n\
                 [[rule]]\nname = 'every C4'\nmodality = 'EMG'\npattern = '.*c4.*'\n";
    bench.file("rules.toml", rules);
    let contested = |run: Run| {
        let line = run.refused(2).to_owned();
        for part in ["'EEG C4-M1'", "'brain' (BAS)", "'every C4' (EMG)", "--map 'EEG C4-M1=BAS'"] {
            assert!(line.contains(part), "{line}");
        }
    };
    contested(inspect(&bench, &["--channel-rules", "rules.toml"]));
    contested(bench.replay(&bench.path("study.edf"), "--channel-rules rules.toml"));
    assert!(!bench.path("out").exists());
    // As it says, --map decides.
    let args = ["--channel-rules", "rules.toml", "--map", "EEG C4-M1=BAS"];
    assert!(line(&inspect(&bench, &args), "EEG C4-M1").contains("BAS       --map"));
    // The built-in rules contest an ECG that an EEG recorder names.
    let file = bench.file("ekg.edf", Made::new(1.0, 10, &[("EEG EKG-REF", 100)]).bytes());
    let run = wait(bench.command(["inspect".into(), file.into_os_string()]));
    assert!(run.refused(2).contains("claimed by two rules"), "{run:#?}");
}

#[test]
fn more_channels_than_the_network_takes_are_left_out() {
    let bench = Bench::new();
    let labels: Vec<String> = (1..=12).map(|k| format!("EEG {k}")).collect();
    let channels: Vec<_> = labels.iter().map(|label| (label.as_str(), 40)).collect();
    let file = bench.file("many.edf", Made::new(1.0, 65, &channels).bytes());
    let run = bench.replay(&file, "--map EEG_12=BAS --pass live");
    assert!(run.stderr.contains("BAS 10, RESP none"), "{run:#?}");
    assert!(run.stderr.contains("2 of 12 channels left out"), "{run:#?}");
    let channels = bench.output().night["provenance"]["channels"].clone();
    let rule = |k: usize| channels[k]["rule"].as_str().expect("text").to_owned();
    assert_eq!(rule(11), "--map");
    assert!(rule(9).contains("BAS already has its 10 channels"), "{}", rule(9));
}
