//! `--bundle` and `sfm-stream bundle`: what is shown of a bundle, heads that are absent, damage.

use std::path::PathBuf;

use sfm_models::bundle::{BundleWriter, LABELS};
use sfm_models::{Bundle, Manifest};

use crate::run::{Bench, data};

fn mini() -> Vec<u8> {
    std::fs::read(data("mini/mini.sfm")).expect("the bundle of tests/data/mini")
}

/// The bundle of `tests/data/mini` with another manifest and without the graphs of `dropped` heads.
fn changed(dropped: &[&str], change: impl FnOnce(&mut Manifest, &mut BundleWriter)) -> Vec<u8> {
    let bundle = Bundle::from_bytes(mini()).expect("opens");
    let mut manifest = bundle.manifest().clone();
    let mut writer = BundleWriter::new();
    for name in manifest.files.keys() {
        if !dropped.iter().any(|head| name.starts_with(head)) {
            writer.file(name, bundle.file(name).expect("a file").to_vec());
        }
    }
    change(&mut manifest, &mut writer);
    writer.to_bytes(manifest).expect("a bundle")
}

fn with_labels(phenotype: &str) -> Vec<u8> {
    changed(&[], |manifest, writer| {
        let risk = manifest.risk.as_mut().expect("a risk head");
        risk.has_labels = true;
        let rows = (0..risk.classes).map(|k| format!("{k},{k}.1,\"{phenotype} {k}\"\n"));
        let csv: String =
            ["label_idx,phecode,phenotype\n".to_owned()].into_iter().chain(rows).collect();
        writer.file(LABELS, csv.into_bytes());
    })
}

#[test]
fn info_shows_what_the_built_in_bundle_holds() {
    let bench = Bench::new();
    let bundle = Bundle::open(data("../../models/bundles/default.sfm")).expect("opens");
    let run = bench.run("bundle info");
    let text = run.done();
    for fact in [
        &format!("sha256:        {}", bundle.sha256()),
        "training data: simulated sleep only",
        "trained on simulated sleep only",
        "they say nothing about people",
        "commit: ",
        "staging head:  1 layer(s)",
        "risk head:     6 relative log-hazards with names, with quantiles of a reference cohort",
        "apnea head:    presence and severity",
        "metric:        staging.",
        "metric:        risk.",
        "base.recipe.toml",
    ] {
        assert!(text.contains(fact), "no '{fact}' in {text}");
    }
}

#[test]
fn info_shows_what_a_bundle_holds() {
    let bench = Bench::new();
    let mini = bench.file("example.sfm", mini());
    let run = bench.run("bundle info example.sfm");
    let text = run.done();
    let bundle = Bundle::open(mini).expect("opens");
    for fact in [
        &format!("sha256:        {}", bundle.sha256()),
        "embedding 32, 1 layer(s), 4 heads",
        "staging head:  1 layer(s), up to 1024 tokens",
        "risk head:     12 relative log-hazards",
        "random weights",
        "at most BAS 10, RESP 7, EKG 2, EMG 4",
    ] {
        assert!(text.contains(fact), "no '{fact}' in {text}");
    }
    let files = text.lines().filter(|line| line.starts_with("file: ")).count();
    assert_eq!(files, bundle.manifest().files.len());
    let run = bench.run("bundle verify example.sfm");
    assert!(run.done().contains("checksums right, all graphs run"), "{run:#?}");
}

#[test]
fn a_bundle_without_a_risk_head_stages_and_says_so() {
    let bench = Bench::new();
    bench.file("staging.sfm", changed(&["risk."], |manifest, _| manifest.risk = None));
    let run = bench.run("bundle info staging.sfm");
    assert!(run.done().contains("risk head:     none"), "{run:#?}");
    let file = data("edf/short_psg.edf");
    let run = bench.replay(&file, "--bundle staging.sfm --age 40 --sex m");
    assert!(run.done().contains("no risk head"), "{run:#?}");
    let output = bench.output();
    assert!(!output.stages().contains(&"?"));
    assert_eq!((output.risk.len(), output.night["risk"].is_null()), (1, true));
    assert!(output.notes().contains("no risk head"));
}

#[test]
fn a_bundle_without_a_staging_head_says_so() {
    let bench = Bench::new();
    bench.file("risk.sfm", changed(&["staging."], |manifest, _| manifest.staging = None));
    let run = bench.replay(&data("edf/short_psg.edf"), "--bundle risk.sfm --age 40 --sex m");
    assert!(run.done().contains("no staging head"), "{run:#?}");
    let output = bench.output();
    assert!(output.hypnogram.is_empty());
    assert_eq!(output.risk.len(), 13);
}

#[test]
fn hazards_have_names_where_the_bundle_brings_them() {
    let bench = Bench::new();
    bench.file("named.sfm", with_labels("Fibrillation, \"\"atrial\"\""));
    let run = bench.replay(&data("edf/short_psg.edf"), "--bundle named.sfm --age 61 --sex f");
    let output = bench.output();
    assert!(
        output.risk[1].starts_with("0,0.1,\"Fibrillation, \"\"atrial\"\" 0\","),
        "{:?}",
        output.risk
    );
    assert!(
        run.done().contains("no relative hazards are shown: they need 4 h of sleep"),
        "{run:#?}"
    );
    assert!(!run.stdout.contains("Fibrillation"), "{run:#?}");
    // Without age and sex there are none, and it is said.
    let run = bench.replay(&data("edf/short_psg.edf"), "--bundle named.sfm");
    assert!(run.done().contains("no hazards without --age and --sex"), "{run:#?}");
    assert!(!run.stdout.contains("Fibrillation"), "{run:#?}");
    assert_eq!(bench.output().risk.len(), 1);
}

#[test]
fn texts_of_a_bundle_do_not_command_the_terminal() {
    let bench = Bench::new();
    let red = "Red \u{1b}[31m\u{9b}2J\u{202e}";
    bench.file("red.sfm", with_labels(red));
    bench.file(
        "red2.sfm",
        changed(&[], |manifest, _| {
            manifest.name = red.to_owned();
            manifest.license = red.to_owned();
            manifest.exporter = red.to_owned();
            manifest.training.data = red.to_owned();
            manifest.metrics.insert(red.to_owned(), 0.5);
        }),
    );
    // `Bench` checks the terminal's side of each of them.
    let file = data("edf/short_psg.edf");
    for bundle in ["red.sfm", "red2.sfm"] {
        bench.run(&format!("bundle info {bundle}")).done();
        for json in ["", "--json"] {
            let more = format!("--pass final --age 30 --sex f --bundle {bundle} {json}");
            bench.replay(&file, &more).done();
        }
    }
}

#[test]
fn damaged_bundles_are_4() {
    let bench = Bench::new();
    let whole = mini();
    let middle = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[middle] ^= 1;
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("flipped.sfm", flipped, "tampered"),
        ("cut.sfm", whole[..middle].to_vec(), "not a model bundle"),
        ("empty.sfm", Vec::new(), "not a model bundle"),
        ("text.sfm", b"weights, honest".to_vec(), "not a model bundle"),
        ("edf.sfm", std::fs::read(data("mini/psg.edf")).expect("read"), "not a model bundle"),
    ];
    for (name, bytes, reason) in cases {
        bench.file(name, bytes);
        let file = data("edf/short_psg.edf");
        let run = bench.replay(&file, &format!("--bundle {name}"));
        for run in [
            run,
            bench.run(&format!("bundle verify {name}")),
            bench.run(&format!("bundle info {name}")),
        ] {
            let line = run.refused(4);
            assert!(line.starts_with(name) && line.contains(reason), "{line}");
        }
    }
    assert!(bench.run("bundle info absent.sfm").refused(4).starts_with("absent.sfm "));
    assert!(bench.run("--replay x.edf --bundle absent.sfm").refused(4).starts_with("absent.sfm "));
    assert!(!bench.path("out").exists());
}

#[test]
fn a_graph_that_no_engine_takes_is_4() {
    let bench = Bench::new();
    for (name, graph) in [("noise", b"no graph at all".to_vec()), ("nothing", Vec::new())] {
        let path: PathBuf = format!("{name}.sfm").into();
        let bytes = changed(&[], |_, writer| writer.graph("encoder", graph));
        bench.file(&format!("{name}.sfm"), bytes);
        let run = bench.run(&format!("bundle verify {}", path.display()));
        assert!(run.refused(4).contains("encoder"), "{run:#?}");
        let run = bench.replay(&data("edf/short_psg.edf"), &format!("--bundle {name}.sfm"));
        assert!(run.refused(4).contains("encoder"), "{run:#?}");
    }
}
