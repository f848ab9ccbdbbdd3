//! What is no recording, or claims the impossible: exit code 3, one line, no large allocation.

use crate::recordings::{RECORD_DURATION, SIGNAL_COUNT, column, noise, set, study};
use crate::run::{Bench, data};

fn refused(bytes: Vec<u8>, reason: &str) {
    let bench = Bench::new();
    bench.file("study.edf", bytes);
    for args in ["--replay study.edf", "inspect study.edf"] {
        let run = bench.run(args);
        let line = run.refused(3);
        assert!(line.starts_with("study.edf ") && line.contains(reason), "{reason}: {line}");
    }
    assert!(!bench.path("study.sfm-out").exists(), "refused before anything is written");
}

/// The real recording with the field of a signal's column changed.
fn with(place: usize, width: usize, text: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(data("mini/psg.edf")).expect("read");
    set(&mut bytes, place, width, text);
    bytes
}

#[test]
fn empty_files_noise_and_text() {
    refused(Vec::new(), "is empty");
    refused((0..70_000).map(|i| noise(0, i) as u8 | 1).collect(), "neither EDF");
    refused(vec![0; 70_000], "neither EDF");
    refused(b"Slept badly, dreamt of forms.\n".repeat(50), "neither EDF");
    refused(b"\x89HDF\r\n\x1a\n and nothing".to_vec(), "damaged HDF5");
    refused(std::fs::read(data("mini/mini.sfm")).expect("read"), "neither EDF");
}

#[test]
fn a_cut_header() {
    let whole = study(10).bytes();
    for bytes in [1, 8, 100, 255, 256, 300, 256 * 5 - 1] {
        let reason = if bytes < 8 { "" } else { "cut" };
        refused(whole[..bytes].to_vec(), reason);
    }
    refused(whole[..256 * 5].to_vec(), "ends before its first data record");
    refused(whole[..256 * 5 + 100].to_vec(), "ends before its first data record");
}

#[test]
fn impossible_numbers_of_signals() {
    for count in ["0", "-5", "9999", "NaN", ""] {
        refused(with(SIGNAL_COUNT, 4, count), "signals");
    }
}

#[test]
fn impossible_samples_a_record() {
    for samples in ["99999999", "-1", "NaN", ""] {
        refused(with(column(18, 216), 8, samples), "samples per record");
    }
    // Possible for a record, but this file holds none such.
    let mut bytes = with(RECORD_DURATION, 8, "100000");
    for signal in 0..18 {
        set(&mut bytes, column(18, 216) + 8 * signal, 8, "33554432");
    }
    refused(bytes, "ends before its first data record");
}

#[test]
fn impossible_durations() {
    for duration in ["NaN", "0", "-1", "inf", "", "1e300", "soon"] {
        refused(with(RECORD_DURATION, 8, duration), "record duration");
    }
    refused(with(RECORD_DURATION, 8, "0.000001"), "Hz");
}

#[test]
fn a_hypnogram_is_no_recording() {
    let bench = Bench::new();
    bench.replay(&data("edf/short_psg.edf"), "--pass final").done();
    let run = bench.run("--replay out/hypnogram.edf");
    assert!(run.refused(3).contains("holds annotations but no signals"), "{run:#?}");
    let run = bench.run("--replay out/embeddings.h5");
    assert!(run.refused(3).contains("no data set of one float channel"), "{run:#?}");
}

/// Single bytes of the header changed at random: refused or run, never anything else.
#[test]
fn random_damage_to_the_header() {
    let bench = Bench::new();
    let whole = study(10).bytes();
    for round in 0..60 {
        let mut bytes = whole.clone();
        for change in 0..=round % 4 {
            let place = noise(1, 8 * round + change).unsigned_abs() as usize % (256 * 5);
            bytes[place] = noise(2, 8 * round + change) as u8;
        }
        bench.file("study.edf", bytes);
        let run = bench.run("inspect study.edf");
        match run.code {
            0 => assert!(
                run.stdout.contains("channels left out")
                    || run.stdout.contains("no channel left out")
            ),
            code => drop(run.refused(code)),
        }
    }
}
