//! Recordings that are odd but not broken: each runs to the end with a warning, and what is not
//! there is masked or `?`.

use sfm_models::Modality;
use sfm_runtime::edf::Continuity;

use crate::output::Output;
use crate::recordings::{Made, RECORD_COUNT, column, noise, set, study};
use crate::run::{Bench, Run, data};

/// Runs to the end, and the files agree with each other.
fn run(bytes: Vec<u8>, more: &str) -> (Run, Output) {
    let bench = Bench::new();
    let file = bench.file("study.edf", bytes);
    let run = bench.replay(&file, more);
    assert!(run.done().ends_with("Research software, not a medical device.\n"));
    let output = bench.output();
    (run, output)
}

/// Whole epochs of a recording that lacks nothing.
fn all_staged(output: &Output, epochs: usize) {
    assert_eq!(output.hypnogram.len(), epochs, "{:?}", output.hypnogram);
    assert!(output.hypnogram.iter().all(|row| row.stage != "?" && row.quality == 1.0));
}

#[test]
fn a_cut_last_record_and_wrong_record_counts() {
    let whole = std::fs::read(data("mini/psg.edf")).expect("read");
    let (_, complete) = run(whole.clone(), "--pass final");
    all_staged(&complete, 12);
    let (cut, output) = run(whole[..whole.len() - 1].to_vec(), "--pass final");
    cut.warns("the last record is cut");
    assert_eq!(output.stages().len(), 12);
    assert!(output.hypnogram[11].quality < 1.0, "its last patch is not whole");
    for (claim, reason) in
        [("-1", "does not say how many"), ("99999999", "claims 99999999"), ("2", "claims 2")]
    {
        let mut bytes = whole.clone();
        set(&mut bytes, RECORD_COUNT, 8, claim);
        let (warned, output) = run(bytes, "--pass final");
        warned.warns(reason);
        assert_eq!(output.hypnogram, complete.hypnogram);
    }
}

#[test]
fn any_record_length_gives_the_same_night() {
    let of = |record_s: f64, per_second: [f64; 3]| {
        let [eeg, emg, slow] = per_second.map(|rate| (rate * record_s) as usize);
        let channels = [("EEG C4-M1", eeg), ("EMG Chin", emg), ("SaO2", slow)];
        run(Made::new(record_s, (90.0 / record_s) as usize, &channels).bytes(), "").1
    };
    let reference = of(1.0, [256.0, 200.0, 2.0]);
    all_staged(&reference, 3);
    for record_s in [0.5, 2.5, 30.0] {
        let output = of(record_s, [256.0, 200.0, 2.0]);
        assert_eq!(output.hypnogram, reference.hypnogram, "records of {record_s} s");
    }
}

#[test]
fn rates_that_are_no_integer_and_one_rate_a_channel() {
    let channels = [
        ("EEG C3-M2", 1281),
        ("EEG C4-M1", 997),
        ("EOG E1-M2", 641),
        ("EMG Chin", 333),
        ("ECG II", 2505),
        ("SaO2", 7),
        ("Thor", 55),
    ];
    let (run, output) = run(Made::new(5.0, 13, &channels).bytes(), "");
    assert!(run.stderr.contains("BAS 3, RESP 2, EKG 1, EMG 1"), "{run:#?}");
    all_staged_but_the_last(&output);
}

#[test]
fn a_flat_channel_is_masked_and_named() {
    let mut made = study(65);
    made.sample = |signal, index| if signal == 1 { 77 } else { noise(signal, index) };
    let (run, output) = run(made.bytes(), "");
    assert!(run.done().contains("Note: one value throughout, masked: EMG Chin"), "{run:#?}");
    assert!(output.notes().contains("masked: EMG Chin"));
    assert_eq!(output.ledger("EMG Chin")["flat_s"], 65.0);
    assert_eq!(output.ledger("ECG II")["flat_s"], 0.0);
    assert_eq!(output.embeddings[Modality::Emg.index()], None);
    assert_eq!(output.hypnogram[0].quality, 0.75, "three of four modalities");
    assert!(!output.stages()[..2].contains(&"?"));
}

#[test]
fn an_all_zero_recording_has_no_stage() {
    for level in [0, 12] {
        let mut made = study(95);
        made.sample = if level == 0 { |_, _| 0 } else { |_, _| 12 };
        let (run, output) = run(made.bytes(), "--age 40 --sex f");
        assert!(run.done().contains("masked: EEG C4-M1, EMG Chin, ECG II, SaO2"), "{run:#?}");
        assert_eq!(output.stages().len(), 4);
        output.nothing_is_staged();
        assert!(output.night["risk"].is_null());
    }
}

#[test]
fn equal_digital_limits_are_a_flat_channel() {
    let mut bytes = study(65).bytes();
    for offset in [120, 128] {
        set(&mut bytes, column(4, offset) + 8, 8, "5");
    }
    let (run, output) = run(bytes, "");
    run.warns("'EMG Chin': digital limits are both 5");
    assert_eq!(output.night["modalities_missing"], serde_json::json!(["EMG"]));
    assert_eq!(output.embeddings[Modality::Emg.index()], None);
    assert!(output.notes().contains("masked: EMG Chin"));
}

#[test]
fn an_edf_plus_without_its_annotation_channel() {
    let mut bytes = study(65).bytes();
    set(&mut bytes, 192, 5, "EDF+D");
    let (run, output) = run(bytes, "");
    run.warns("without an annotation signal");
    all_staged_but_the_last(&output);
}

/// Statistics, and all that follow from them, count between the lights; stages are told of all.
#[test]
fn lights_that_go_off_and_on() {
    let marks = [(29.0, "Lights off"), (100.0, "Snoring"), (200.5, "Lights on")];
    let (run, output) = run(study(240).with_annotations(&marks).bytes(), "");
    assert!(run.stdout.contains("Total recording time (TRT)         3.0 min"), "{run:#?}");
    let lights = serde_json::json!({
        "off_s": 29.0,
        "on_s": 200.5,
        "marks": [{"onset_s": 29.0, "is_on": false}, {"onset_s": 200.5, "is_on": true}],
    });
    assert_eq!((output.hypnogram.len(), &output.night["lights"]), (8, &lights));
    for night in output.of_kind("night") {
        assert_eq!((&night["statistics"]["trt_min"], &night["lights"]), (&3.0.into(), &lights));
    }
}

/// 65 s: two epochs and the beginning of a third, too short for a stage.
fn all_staged_but_the_last(output: &Output) {
    assert_eq!(output.hypnogram.len(), 3);
    assert!(output.hypnogram[..2].iter().all(|row| row.stage != "?" && row.quality == 1.0));
    assert_eq!(output.stages()[2], "?");
}

#[test]
fn recordings_of_seconds() {
    for (seconds, epochs, staged) in [
        (2, 0, 0),
        (4, 0, 0),
        (5, 1, 0),
        (14, 1, 0),
        (15, 1, 1),
        (20, 1, 1),
        (29, 1, 1),
        (31, 1, 1),
    ] {
        let (run, output) = run(study(seconds).bytes(), "--age 40 --sex f");
        assert_eq!(output.hypnogram.len(), epochs, "{seconds} s");
        let known = output.stages().iter().filter(|stage| **stage != "?").count();
        assert_eq!(known, staged, "{seconds} s");
        assert!(run.done().contains("TRT)         0."), "{run:#?}");
        if seconds < 5 {
            run.warns("too short for a single 5-s patch");
            output.nothing_is_staged();
        } else {
            let patches = seconds as f64 / 5.0;
            assert!((output.hypnogram[0].quality - patches.floor().min(6.0) / 6.0).abs() < 1e-4);
        }
    }
}

#[test]
fn a_day_is_staged_in_stretches_and_in_little_memory() {
    let made = Made::new(30.0, 2880, &[("EEG C4-M1", 1200), ("SaO2", 15)]);
    let (run, output) = run(made.bytes(), "--pass final --age 40 --sex f");
    all_staged(&output, 2880);
    assert!(run.done().contains("Total recording time (TRT)      1440.0 min"), "{run:#?}");
    let notes = output.notes();
    assert!(notes.contains("overlapping stretches"), "{notes}");
    assert!(notes.contains("first 1024 tokens") && notes.contains("16256 later ones"), "{notes}");
    let rows = |modality: Modality| output.embeddings[modality.index()];
    assert_eq!(rows(Modality::Bas), Some((17_280, 32)));
    assert_eq!(rows(Modality::Ekg), None);
}

#[test]
fn one_channel_is_enough() {
    let (run, output) = run(Made::new(1.0, 65, &[("ECG", 128)]).bytes(), "");
    assert!(run.stderr.contains("absent: no channel for BAS, RESP, EMG; masked"), "{run:#?}");
    all_staged_but_the_last(&output);
}

#[test]
fn no_usable_channel_is_refused() {
    let bench = Bench::new();
    for channels in [&[("Light", 1), ("Position", 1)][..], &[("Temp rectal", 1)]] {
        let file = bench.file("study.edf", Made::new(1.0, 65, channels).bytes());
        let run = bench.replay(&file, "");
        let line = run.refused(3);
        assert!(line.contains("study.edf") && line.contains("--map LABEL=MODALITY"), "{line}");
        assert!(!bench.path("out").exists());
    }
    let file = bench.file("study.edf", study(65).bytes());
    let run = bench.replay(
        &file,
        "--map EEG_C4-M1=none --map EMG_Chin=none --map ECG_II=none --map SaO2=none",
    );
    assert!(run.refused(3).contains("none of its 4 channels"), "{run:#?}");
}

#[test]
fn saturated_signals_and_extreme_limits_stay_numbers() {
    let mut made = study(65);
    made.sample = |signal, index| match signal {
        0 if index / 50 % 2 == 0 => 32_767,
        0 => -32_768,
        _ => noise(signal, index),
    };
    made.continuity = Continuity::Continuous;
    let mut bytes = made.bytes();
    // Of five signals, one of them the annotations.
    for (signal, limits) in [(1, ["-1e14", "1e14"]), (2, ["-1e-5", "1e-5"])] {
        set(&mut bytes, column(5, 104) + 8 * signal, 8, limits[0]);
        set(&mut bytes, column(5, 112) + 8 * signal, 8, limits[1]);
    }
    let (_, output) = run(bytes, "--age 40 --sex f");
    all_staged_but_the_last(&output);
    assert!(output.embeddings.iter().all(Option::is_some));
    assert!(output.risk[1..].iter().all(|line| !line.contains("NaN")), "{:?}", output.risk);
}
