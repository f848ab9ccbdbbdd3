//! Texts that a recording brings in: labels in Latin-1, with control characters, with markup.
//! [`crate::run::wait`] checks that none of it reaches the terminal as it is.

use crate::output::Output;
use crate::recordings::{column, set, study};
use crate::run::{Bench, Run, wait};

/// Two minutes of a study whose first label is these bytes.
fn labeled(label: &[u8]) -> Vec<u8> {
    let mut bytes = study(65).bytes();
    bytes[256..272].fill(b' ');
    bytes[256..256 + label.len()].copy_from_slice(label);
    bytes
}

fn inspect(bench: &Bench) -> Run {
    wait(bench.command(["inspect", "study.edf"]))
}

fn label(output: &Output) -> String {
    output.night["provenance"]["channels"][0]["label"].as_str().expect("text").to_owned()
}

#[test]
fn latin_1_labels_are_decoded() {
    let bench = Bench::new();
    let file = bench.file("study.edf", labeled(b"EEG C4-M1 \xb5\xe9"));
    assert!(inspect(&bench).done().contains("EEG C4-M1 µé"));
    bench.replay(&file, "--pass live").done();
    assert_eq!(label(&bench.output()), "EEG C4-M1 µé");
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let bench = Bench::new();
    let texts: [&[u8]; 5] = [
        b"EEG\x1b[2J\x1b[31m",
        b"EEG\x9b31m",
        b"EEG\r\nC4\x07",
        b"EEG \x7f\x08\x08",
        b"\x1b]0;x\x07",
    ];
    for text in texts {
        let file = bench.file("study.edf", labeled(text));
        inspect(&bench).done();
        for json in ["", "--json"] {
            bench.replay(&file, &format!("--pass live {json}")).done();
        }
        let kept = label(&bench.output());
        assert!(kept.starts_with("EEG") || kept.contains("]0;x"), "{kept:?}");
    }
}

#[test]
fn neither_do_those_of_a_refusal() {
    let bench = Bench::new();
    // Samples per record that are none, in a channel that would turn the screen red.
    let mut bytes = labeled(b"EEG\x1b[31m\x9b");
    set(&mut bytes, column(4, 216), 8, "many");
    let file = bench.file("study.edf", &bytes);
    assert!(bench.replay(&file, "").refused(3).contains("samples per record"));
    let odd = bench.file("odd\u{1b}[31m\n\u{9b}.edf", b"text");
    let run = bench.replay(&odd, "");
    assert!(run.refused(3).contains("neither EDF"), "{run:#?}");
    let run = wait(bench.command(["--replay", "\u{1b}[31m.edf", "--map", "\u{9b}=\u{1b}"]));
    assert!(run.refused(2).contains("--map"), "{run:#?}");
    // An unknown argument, a warning, and a folder that cannot be written.
    wait(bench.command(["--\u{1b}[31m\u{9b}"])).refused(2);
    let mut bytes = labeled(b"EEG\x1b[31m");
    set(&mut bytes, column(4, 104), 8, "1");
    set(&mut bytes, column(4, 112), 8, "1");
    let file = bench.file("study.edf", &bytes);
    bench.replay(&file, "--pass live").warns("physical limits are both 1");
    bench.file("taken\u{1b}[31m", "");
    let mut command = bench.replaying(&file, "");
    command.args(["--config", "taken\u{1b}[31m"]);
    assert_eq!(wait(command).code, 0, "an empty config");
}

#[test]
fn markup_is_text() {
    let bench = Bench::new();
    let file = bench.file("study.edf", labeled(b"<script>EEG,\"'"));
    assert!(inspect(&bench).done().contains("<script>EEG"));
    bench.replay(&file, "--map <script>EEG,\"'=BAS --pass live").done();
    assert_eq!(label(&bench.output()), "<script>EEG,\"'");
}

#[test]
fn two_channels_of_one_label_are_both_kept() {
    let bench = Bench::new();
    let mut made = study(65);
    made.signals[1].label = "EEG C4-M1".into();
    let file = bench.file("study.edf", made.bytes());
    let run = bench.replay(&file, "--pass live");
    run.warns("2 channels are labelled 'EEG C4-M1'; all are kept");
    assert!(run.stderr.contains("BAS 2, RESP 1, EKG 1, EMG none"), "{run:#?}");
    let ledger = bench.output().night["gap_ledger"].clone();
    assert_eq!(
        (&ledger[0]["label"], &ledger[1]["label"]),
        (&"EEG C4-M1".into(), &"EEG C4-M1".into())
    );
    assert_eq!((&ledger[0]["received"], &ledger[1]["received"]), (&6500.into(), &6500.into()));
}
