//! EDF+D: holes of a second, of a minute and of hours. The ledger has them to the sample, epochs
//! in them are `?`, those behind them stay in their place, and no run differs from another.

use serde_json::Value;

use crate::output::Output;
use crate::recordings::Made;
use crate::run::Bench;

const CHANNELS: [(&str, usize); 5] =
    [("EEG C4-M1", 256), ("EEG C3-M2", 256), ("EMG Chin", 200), ("SaO2", 1), ("Thor", 32)];

/// 200 1-s records, those from the `at`th on behind a hole.
fn run(at: usize, hole_s: f64, more: &str) -> Output {
    let bench = Bench::new();
    let file =
        bench.file("study.edf", Made::new(1.0, 200, &CHANNELS).with_hole(at, hole_s).bytes());
    let run = bench.replay(&file, more);
    run.done();
    run.warns(&format!("1 hole(s) in the recording, {hole_s:.1} s in all"));
    bench.output()
}

fn check_ledger(output: &Output, at: usize, hole_s: f64, passes: usize) {
    for (label, rate) in CHANNELS {
        let line = output.ledger(label);
        let missing = hole_s as u64 * rate as u64;
        assert_eq!(line["received"], 200 * rate as u64, "{line}");
        assert_eq!((&line["missing"], &line["gaps"]), (&Value::from(missing), &1.into()), "{line}");
        assert_eq!((&line["overlapping"], &line["overflow"]), (&0.into(), &0.into()), "{line}");
        let gaps = output.of_kind("gap").into_iter().filter(|gap| gap["label"] == label);
        let gaps: Vec<&Value> = gaps.collect();
        assert_eq!(gaps.len(), passes, "{label}");
        for gap in gaps {
            assert_eq!(gap["start"], at as u64 * rate as u64, "{gap}");
            assert_eq!(gap["samples"], missing, "{gap}");
            assert_eq!(
                (&gap["onset_s"], &gap["duration_s"]),
                (&(at as f64).into(), &hole_s.into())
            );
        }
    }
}

/// Part of each epoch whose 5-s patches the hole leaves whole.
fn quality(at: usize, hole_s: f64) -> Vec<f64> {
    let (from, to, end) = (at as f64, at as f64 + hole_s, 200.0 + hole_s);
    let whole = |patch: usize| {
        let (start, stop) = (5.0 * patch as f64, 5.0 * (patch + 1) as f64);
        stop <= end && (stop <= from || start >= to)
    };
    let epochs = ((end / 5.0) as usize).div_ceil(6);
    (0..epochs).map(|e| (6 * e..6 * e + 6).filter(|&p| whole(p)).count() as f64 / 6.0).collect()
}

#[test]
fn epochs_in_a_hole_have_no_stage() {
    for (at, hole_s) in [(61, 2.0), (61, 95.0), (100, 3.0 * 3600.0), (60, 30.0), (199, 2.0)] {
        let output = run(at, hole_s, "");
        check_ledger(&output, at, hole_s, 2);
        let quality = quality(at, hole_s);
        assert_eq!(output.hypnogram.len(), quality.len(), "hole of {hole_s} s at {at} s");
        for (row, quality) in output.hypnogram.iter().zip(quality) {
            assert!((row.quality - quality).abs() < 1e-4, "{row:?}, not {quality}");
            assert_eq!(row.stage == "?", quality < 0.5, "{row:?}");
        }
    }
}

/// A single sample of a slow channel is bridged, a second of a fast one is not.
#[test]
fn a_sample_that_a_slow_channel_lacks_costs_no_piece() {
    let output = run(61, 1.0, "");
    check_ledger(&output, 61, 1.0, 2);
    // Of the third epoch the saturation has 5 pieces and four fifths of one, the others 5.
    let breath = (5.0 + 5.8) / 2.0;
    let expected = (5.0 + 5.0 + breath) / 3.0 / 6.0;
    assert!((output.hypnogram[2].quality - expected).abs() < 1e-4, "{:?}", output.hypnogram[2]);
    assert!(output.stages()[..6].iter().all(|stage| *stage != "?"));
}

/// Channels reach a hole one after the other, which must not cost any of them what lies before it.
#[test]
fn no_run_differs_from_another() {
    let holes = (1..20).map(|k| 10 * k);
    let made = holes.fold(Made::new(1.0, 200, &CHANNELS), |made, at| made.with_hole(at, 150.0));
    let bench = Bench::new();
    let file = bench.file("study.edf", made.bytes());
    let mut first: Option<Vec<Value>> = None;
    for _ in 0..5 {
        bench.replay(&file, "--pass live").done();
        let events = bench.output().events;
        assert_eq!(events, *first.get_or_insert(events.clone()));
    }
}

#[test]
fn a_record_beyond_a_week_is_damage() {
    let bench = Bench::new();
    let file = bench.file("study.edf", Made::new(1.0, 65, &CHANNELS).with_hole(40, 2e6).bytes());
    let run = bench.replay(&file, "--pass live");
    run.done();
    run.warns("25 record(s) without an onset; taken to follow the last");
    assert_eq!(bench.output().hypnogram.len(), 3);
}
