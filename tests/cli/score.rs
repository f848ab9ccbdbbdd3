//! `score` on scorings of other programs (`data/scorings`): what it says, and every refusal.

use serde_json::Value;

use crate::run::{Bench, data};

/// `score` of a file of `data/scorings` against the truth.
fn command(reference: &str, more: &str) -> String {
    let (reference, truth) = (data(&format!("scorings/{reference}")), data("scorings/truth.csv"));
    format!("score --svg score.svg {more} --reference {} {}", reference.display(), truth.display())
}

fn figures(bench: &Bench, reference: &str, more: &str) -> Value {
    let run = bench.run(&command(reference, &format!("--json {more}")));
    serde_json::from_str(run.done()).expect("JSON")
}

#[test]
fn scorings_of_other_programs_are_the_same_night() {
    let bench = Bench::new();
    for (reference, aligned_by) in [
        ("s02.txt", "epoch"),
        ("s03.txt", "first_row"),
        ("s04.txt", "row"),
        ("s09.rml", "epoch"),
        ("s12.txt", "epoch"),
        ("s13.txt", "epoch"),
        ("s15.csv", "epoch"),
        ("s16.csv", "first_row"),
        ("s17a.annot", "epoch"),
        ("s17b.annot", "epoch"),
        ("s19.csv", "epoch"),
        ("s24a.tsv", "epoch"),
        ("s25.txt", "epoch"),
        ("s26.csv", "epoch"),
        ("s29.txt", "epoch"),
        ("s33a.csv", "epoch"),
    ] {
        let figures = figures(&bench, reference, "");
        assert_eq!(figures["accuracy"], 1.0, "{reference}: {figures}");
        assert_eq!(figures["epochs"], 40, "{reference}");
        assert_eq!(figures["aligned_by"], aligned_by, "{reference}");
        assert_eq!((&figures["offset_s"], &figures["only_run"]), (&0.0.into(), &0.into()));
        assert_eq!(figures["codes_assumed"], Value::Null, "{reference}");
    }
}

#[test]
fn what_was_assumed_is_said() {
    let bench = Bench::new();
    let run = bench.run(&command("s37.txt", ""));
    assert!(run.done().starts_with("accuracy 1.000, kappa 1.000, macro-F1 1.000 over 40 epochs"));
    for said in [
        "reference: a list of stages; epochs of 30 s assumed",
        "aligned by row, since one has no times",
        "warning: reference: its numbers are taken as yasa's; else give --codes",
    ] {
        assert!(run.stderr.contains(said), "{run:#?}");
    }
    let assumed = figures(&bench, "s37.txt", "");
    assert_eq!(
        (&assumed["codes_assumed"], &assumed["aligned_by"]),
        (&"yasa".into(), &"row".into())
    );
    assert_eq!(assumed["epoch_s_assumed"], 30.0);
    let given = figures(&bench, "s37.txt", "--codes yasa --epoch-s 30");
    assert_eq!((&given["codes_assumed"], &given["epoch_s_assumed"]), (&Value::Null, &Value::Null));
}

#[test]
fn nights_that_begin_apart_are_laid_on_each_other() {
    let bench = Bench::new();
    let (early, late) = (data("scorings/s22a.edf"), data("scorings/s22b.edf"));
    let run = bench.run(&format!(
        "score --json --svg score.svg --reference {} {}",
        late.display(),
        early.display()
    ));
    let figures: Value = serde_json::from_str(run.done()).expect("JSON");
    assert_eq!((&figures["accuracy"], &figures["epochs"]), (&1.0.into(), &30.into()));
    assert_eq!((&figures["aligned_by"], &figures["offset_s"]), (&"start".into(), &300.0.into()));
    assert_eq!((&figures["only_reference"], &figures["only_run"]), (&0.into(), &10.into()));
    assert!(run.stderr.contains("the reference begins 300 s behind the run"), "{run:#?}");
    assert!(run.stderr.contains("warning: the reference has 900 s (30 epochs), the run 1200 s"));

    let part = self::figures(&bench, "s32a.csv", "");
    assert_eq!((&part["accuracy"], &part["epochs"]), (&1.0.into(), &30.into()));
    assert_eq!((&part["aligned_by"], &part["only_run"]), (&"epoch".into(), &10.into()));
    // Two epochs late by the user's word, which disagrees where stages change.
    let moved = self::figures(&bench, "s32a.csv", "--offset-s 60");
    assert_eq!((&moved["aligned_by"], &moved["only_reference"]), (&"given".into(), &2.into()));
    assert!(moved["accuracy"].as_f64().expect("a number") < 0.9, "{moved}");
}

#[test]
fn what_cannot_be_known_is_refused_with_what_to_do() {
    let bench = Bench::new();
    for (reference, reasons) in [
        ("s05.txt", &["line 31: 5 is no stage", "rk (5=R)", "isruc (5=R)", "zmax (5=W)"][..]),
        ("s28.txt", &["line 1: 5 is no stage", "dreams (5=W)", "ucddb (5=N3)"][..]),
        ("s31.txt", &["1200 values", "a value per second", "--epoch-s 1"][..]),
        ("s23a.csv", &["line 22: the clock goes back", "seconds since the start"][..]),
    ] {
        let run = bench.run(&command(reference, ""));
        let refusal = run.refused(3);
        for reason in reasons {
            assert!(refusal.contains(reason), "{reference}: {run:#?}");
        }
    }
    for (reference, more) in
        [("s05.txt", "--codes isruc"), ("s28.txt", "--codes zmax"), ("s31.txt", "--epoch-s 1")]
    {
        let figures = figures(&bench, reference, more);
        assert_eq!((&figures["accuracy"], &figures["epochs"]), (&1.0.into(), &40.into()));
    }
    let unused = figures(&bench, "s11.edf", "--codes rk --epoch-s 20 --run-epoch-s 20");
    for option in ["--codes is not used", "--epoch-s is not used", "--run-epoch-s is not used"] {
        assert!(unused["warnings"].to_string().contains(option), "{unused}");
    }
    let pairs = figures(&bench, "s05.txt", "--codes 0=W,1=N1,2=N2,3=N3,5=R");
    assert_eq!(pairs["accuracy"], 1.0);
    let open = figures(&bench, "s11.edf", "");
    assert_eq!((&open["accuracy"], &open["epochs"]), (&1.0.into(), &36.into()));
    let warning = open["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains("the last stage, at 1080 s, has no end"), "{warning}");
    for wrong in ["--codes isruk", "--codes 1=N7", "--epoch-s 0"] {
        bench.run(&command("s05.txt", wrong)).refused(2);
    }
}

#[test]
fn a_run_without_times_of_day_has_the_start_of_its_edf_file() {
    let bench = Bench::new();
    bench.replay(&data("mini/psg.edf"), "--pass final").done();
    let figures = |reference: &str| -> Value {
        let run = bench.run(&format!("score --json --reference {reference} out"));
        serde_json::from_str(run.done()).expect("JSON")
    };
    assert_eq!(figures("out/hypnogram.edf")["aligned_by"], "start");
    assert_eq!(figures("out/hypnogram.csv")["aligned_by"], "start");
}

#[test]
fn help_lists_the_formats() {
    let bench = Bench::new();
    let run = bench.run("score --help");
    for format in ["Luna .annot", "Domino", "Philips RML", "HMC", "Wonambi", "DREAMS", "--codes"] {
        assert!(run.stdout.contains(format), "{format} in {run:#?}");
    }
}

#[test]
fn the_timeline_replaces_nothing_but_a_picture() {
    let bench = Bench::new();
    let to = |name: &str| command("s02.txt", "").replace("score.svg", name);
    let recording = bench.file("r.edf", "a recording");
    let run = bench.run(&to("r.edf"));
    assert!(run.code == 2 && run.stderr.contains("is there already and no picture"), "{run:#?}");
    assert_eq!(std::fs::read_to_string(&recording).expect("there"), "a recording");
    std::fs::create_dir(bench.path("folder")).expect("made");
    let run = bench.run(&to("folder"));
    assert!(run.code == 2 && run.stderr.contains("no regular file"), "{run:#?}");
    for _ in 0..2 {
        bench.run(&to("timeline.svg")).done();
    }
}
