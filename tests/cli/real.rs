//! Five minutes of a real night, which nobody here made: run to the end, in 16 and in 24 bits.

use sfm_models::Modality;

use crate::run::{Bench, data};

/// The two files hold the same samples, but for what the rounding of 16 and 24 bits allows.
const SAME_SIGNAL: f64 = 1e-4;

#[test]
fn edf_and_bdf_run_to_the_end_and_are_alike() {
    let (edf, bdf) = (Bench::new(), Bench::new());
    for (bench, name) in [(&edf, "short_psg.edf"), (&bdf, "short_psg.bdf")] {
        let run = bench.replay(&data("edf").join(name), "--age 33 --sex f");
        assert!(run.done().ends_with("Research software, not a medical device.\n"));
        assert!(run.stderr.contains("absent: no channel for EKG; masked"), "{run:#?}");
        assert!(run.stdout.contains("Total recording time (TRT)         5.0 min"), "{run:#?}");
        assert!(run.stdout.contains("0 of 10 epochs") || run.stdout.contains(" of 10 epochs ("));
        assert!(run.stdout.contains("random weights"), "{run:#?}");
    }
    let (edf, bdf) = (edf.output(), bdf.output());
    assert_eq!(edf.stages().len(), 10);
    assert_eq!(edf.stages(), bdf.stages());
    for (a, b) in edf.hypnogram.iter().zip(&bdf.hypnogram) {
        assert_eq!((a.quality, a.status.as_str()), (1.0, "final"));
        assert_eq!(b.quality, 1.0);
        for (p, q) in a.probabilities.iter().zip(b.probabilities) {
            assert!((p - q).abs() < SAME_SIGNAL, "{a:?} {b:?}");
        }
    }
    assert_eq!(edf.risk.len(), 13);
    for (a, b) in edf.risk.iter().zip(&bdf.risk).skip(1) {
        let hazard = |line: &str| line.split(',').nth(3).expect("field").parse::<f64>();
        let (a, b) = (hazard(a).expect("a number"), hazard(b).expect("a number"));
        assert!((a - b).abs() < SAME_SIGNAL, "{a} {b}");
    }
    for output in [&edf, &bdf] {
        let mut rows = [Some((60, 32)); Modality::COUNT];
        rows[Modality::Ekg.index()] = None;
        assert_eq!(output.embeddings, rows);
        assert_eq!(output.ledger("EMG submental")["received"], 300);
        assert_eq!(output.ledger("EEG Fpz-Cz")["received"], 30_000);
        assert_eq!(output.night["provenance"]["modalities_absent"], serde_json::json!(["EKG"]));
        assert_eq!(output.night["provenance"]["start"], "1989-04-24T16:13:00");
        // Live: every epoch provisional, then settled; final: once.
        assert_eq!(output.of_kind("epoch").len(), 10 + 10 + 10);
        assert_eq!((output.of_kind("window").len(), output.of_kind("night").len()), (2, 2));
    }
}

#[test]
fn a_pass_alone_gives_the_rows_of_both() {
    let file = data("edf/short_psg.edf");
    let bench = Bench::new();
    let both = bench.replay(&file, "");
    assert!(both.stdout.contains("between the live and the final pass"), "{both:#?}");
    let both = bench.output();
    let run = bench.replay(&file, "--pass final");
    assert!(run.done().starts_with("Sleep statistics (final pass)"), "{run:#?}");
    assert!(!run.stderr.contains("live pass"), "{run:#?}");
    let last = bench.output();
    assert_eq!(last.hypnogram, both.hypnogram);
    assert_eq!(last.of_kind("epoch").len(), 10);
    let run = bench.replay(&file, "--pass live");
    assert!(run.done().starts_with("Sleep statistics (live pass)"), "{run:#?}");
    let live = bench.output();
    assert!(live.hypnogram.iter().all(|row| row.status == "settled"));
    assert_eq!(live.events[..], both.events[..live.events.len()]);
}

#[test]
fn json_lines_are_the_events() {
    let bench = Bench::new();
    let run = bench.replay(&data("edf/short_psg.edf"), "--json --age 70 --sex m");
    let output = bench.output();
    assert_eq!(crate::output::events(run.done()), output.events);
    let night = output.events.last().expect("events");
    assert_eq!((&night["event"], &night["pass"]), (&"night".into(), &"final".into()));
    assert_eq!(night["risk"]["log_hazards"].as_array().map(Vec::len), Some(12));
}

#[test]
fn the_reference_preprocessed_store_runs() {
    let bench = Bench::new();
    let run = bench.replay(&data("mini/psg.hdf5"), "--pass final");
    assert!(run.done().contains("Total recording time (TRT)"), "{run:#?}");
    let output = bench.output();
    assert!(output.embeddings.iter().all(Option::is_some));
    assert!(!output.stages().contains(&"?"), "{:?}", output.stages());
}

#[test]
fn speed_paces_the_live_pass_and_changes_nothing() {
    let bench = Bench::new();
    let file = data("edf/short_psg.edf");
    assert_eq!(bench.replay(&file, "--pass live").code, 0);
    let fast = bench.output();
    let begun = std::time::Instant::now();
    assert_eq!(bench.replay(&file, "--pass live --speed 200").code, 0);
    assert!(begun.elapsed().as_secs_f64() > 1.4, "300 s at 200 x real time");
    assert_eq!(bench.output().events, fast.events);
}

#[test]
fn timings_are_lines_on_stderr() {
    let bench = Bench::new();
    let run = bench.replay(&data("edf/short_psg.edf"), "--pass final --timings");
    assert!(run.stderr.contains("tokenizer") && run.stderr.contains("staging"), "{run:#?}");
    assert!(!run.done().contains("tokenizer"), "{run:#?}");
}
