//! `--format`, `--annotated-edf` and `score` as their users call them.

use serde_json::Value;
use sfm_runtime::edf::annotations;

use crate::run::{Bench, data};

const ALL: &str = "luna,nsrr-xml,profusion-xml,usleep,yasa,bids,parquet,numpy,fhir";

#[test]
fn every_format_agrees_with_the_hypnogram_it_comes_from() {
    let bench = Bench::new();
    let out = bench.path("out");
    let psg = data("mini/psg.edf");
    let more = format!("--pass final --annotated-edf --format {ALL}");
    bench.replay(&psg, &more).done();
    for name in [
        "hypnogram.csv",
        "hypnogram.edf",
        "annotated.edf",
        "hypnogram.annot",
        "hypnogram.nsrr.xml",
        "hypnogram.profusion.xml",
        "hypnogram.usleep.tsv",
        "hypnogram.usleep.npy",
        "hypnogram.yasa.csv",
        "events.tsv",
    ] {
        let run = bench.run(&format!("score --json --reference out/{name} out"));
        let figures: Value = serde_json::from_str(run.done()).expect("JSON");
        assert_eq!((&figures["accuracy"], &figures["epochs"]), (&1.0.into(), &12.into()), "{name}");
    }
    let stages = annotations(&out.join("annotated.edf")).expect("annotations");
    assert_eq!(stages.len(), 12);
    for name in ["embeddings.parquet", "embeddings.BAS.npy", "events.json", "fhir.json"] {
        assert!(out.join(name).exists(), "{name}");
    }
}

#[test]
fn figures_and_timeline_of_two_scorers() {
    let bench = Bench::new();
    let head = "epoch,onset_s,stage,p_wake,p_n1,p_n2,p_n3,p_rem,quality,status\n";
    let rows = "0,0,W,0,0,0,0,0,1,final\n1,30,N2,0,0,0,0,0,1,final\n2,60,?,0,0,0,0,0,0,final\n\
                3,90,R,0,0,0,0,0,1,final\n4,120,N2,0,0,0,0,0,1,final\n";
    std::fs::create_dir(bench.path("out")).expect("a folder");
    bench.file("out/hypnogram.csv", format!("{head}{rows}"));
    let reference = "Stage\nWAKE\nN1\nN2\nREM\nN2\nWAKE\n";
    bench.file("<script>.csv", reference);

    let run = bench.run("score --reference <script>.csv --svg lines.svg out");
    let text = run.done();
    assert!(
        text.starts_with("accuracy 0.750, kappa 0.667, macro-F1 0.667 over 4 epochs\n"),
        "{text}"
    );
    assert!(text.contains(
        "compared 4 of 5 epochs (reference 6, run 5): 0 not scored by the reference, 1 by the run"
    ));
    assert!(run.stderr.contains("reference: a list of stages"), "{run:#?}");
    let svg = std::fs::read_to_string(bench.path("lines.svg")).expect("the timeline");
    assert!(svg.contains("&lt;script&gt;.csv") && !svg.contains("<script>"), "{svg}");
    assert!(svg.contains("N1 / N2 from 30 s"), "{svg}");

    let run = bench.run("score --json --reference <script>.csv out");
    let figures: Value = serde_json::from_str(run.done()).expect("JSON");
    assert_eq!(figures["confusion"][1][2], 1);
    assert_eq!(figures["stages"]["N3"]["f1"], Value::Null);
    assert!(bench.path("out/score.svg").exists());
}

#[test]
fn what_is_no_hypnogram_is_refused_in_a_line() {
    let bench = Bench::new();
    bench.file("stages.csv", "Start,Stop,StageName,StageNumber\n0,30,Stage 9,9\n");
    bench.file("ours.csv", "W\nN1\n");
    for (reference, reason) in [
        ("none.csv", "none.csv: cannot be read"),
        ("stages.csv", "stages.csv: line 2: 'Stage 9' is no sleep stage"),
    ] {
        let run = bench.run(&format!("score --reference {reference} ours.csv"));
        assert!(run.refused(3).contains(reason), "{run:#?}");
    }
    let run = bench.run("--replay none.edf --format word");
    assert!(run.refused(2).contains("nsrr-xml"), "{run:#?}");
}
