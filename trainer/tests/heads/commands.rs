//! `finetune` and `evaluate` through the program, on nights whose signals and embeddings tell how
//! often breathing fails: apnea, hazards from embeddings and from signals, a full disk.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sfm_models::Modality;
use sfm_trainer::data::embeddings::{Rows, write};
use sfm_trainer::data::store::StoreWriter;
use tempfile::TempDir;

const E: usize = 8;
const TOKENS: usize = 60;
const NIGHTS: usize = 32;
/// Samples of the network's window: 4 patches of 64.
const WINDOW: usize = 256;

const CONFIG: &str = r#"
[network]
embed_dim = 8
heads = 2
pooling_heads = 2
layers = 1
feed_forward = 16
dropout = 0.0
patch_samples = 64
window_patches = 4

[risk]
stretches = 2
stretch_tokens = 20
steps_per_pass = 5
windows = 4
batch = 8

[risk.head]
pooling_heads = 2
layers = 1
feed_forward = 16
dropout = 0.0
max_seq_length = 100

[risk.fit]
passes = 16
patience = 100
learning_rate = 0.02
warmup_steps = 2

[apnea]
stretches = 2
stretch_tokens = 20
batch = 8
repeats = 4

[apnea.head]
pooling_heads = 2
layers = 1
feed_forward = 16
dropout = 0.0
max_seq_length = 100

[apnea.fit]
passes = 12
patience = 100
learning_rate = 0.02
warmup_steps = 2
"#;

/// Events per hour of a night: all degrees of severity, in no order.
fn ahi(night: usize) -> f64 {
    50.0 * ((night * 13 % NIGHTS) as f64 / (NIGHTS - 1) as f64).powi(2)
}

fn name(night: usize) -> String {
    format!("sim/n{night:02}.hdf5")
}

/// Embeddings, signals, outcomes and a configuration in a temporary folder.
struct Made(TempDir);

impl Made {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for sub in ["emb/sim", "store/sim"] {
            std::fs::create_dir_all(folder.path().join(sub)).expect("makes folders");
        }
        let (mut events, mut times) = ("Study ID,a\n".to_owned(), "Study ID,a\n".to_owned());
        let mut people = "Study ID,subject,age_years,sex,ahi\n".to_owned();
        for night in 0..NIGHTS {
            embed(&folder.path().join("emb").join(name(night)), night);
            record(&folder.path().join("store").join(name(night)), night);
            // The worse the breathing, the sooner; the best sleepers are never ill.
            let years = 12.0 - 0.2 * ahi(night);
            let id = format!("n{night:02}");
            writeln!(events, "{id},{}", u8::from(ahi(night) > 8.0)).expect("writes to a string");
            writeln!(times, "{id},{years}").expect("writes to a string");
            writeln!(people, "{id},p{night},{},f,{}", 40 + night % 7, ahi(night)).expect("writes");
        }
        let part = |from: usize, to: usize| (from..to).map(name).collect::<Vec<_>>();
        let split = serde_json::json!({
            "train": part(0, 16), "validation": part(16, 22), "test": part(22, NIGHTS)
        });
        for (file, text) in [
            ("is_event.csv", events),
            ("time_to_event.csv", times),
            ("demographics.csv", people),
            ("split.json", split.to_string()),
            ("run.toml", CONFIG.to_owned()),
        ] {
            std::fs::write(folder.path().join(file), text).expect("writes");
        }
        Made(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sfm-train"));
        command.current_dir(self.0.path()).args(arguments.split_whitespace());
        command
    }

    fn finetune(&self, arguments: &str) -> Command {
        self.command(&format!(
            "finetune {arguments} --config run.toml --embeddings emb --split split.json \
             --demographics demographics.csv --device cpu"
        ))
    }

    /// The figures of a run on the test nights.
    fn evaluate(&self, arguments: &str, run: &str) -> serde_json::Value {
        let arguments = format!(
            "evaluate {arguments} --run {run} --embeddings emb --split split.json \
             --demographics demographics.csv"
        );
        succeed(&mut self.command(&arguments));
        let text = std::fs::read_to_string(self.path(run).join("evaluate-test/metrics.json"));
        serde_json::from_str(&text.expect("reads")).expect("is JSON")
    }
}

/// Tokens of which a share, the AHI's, has a mark in the breathing's first value.
fn embed(path: &Path, night: usize) {
    let rows = |modality: Modality| {
        let value = |token: usize, k: usize| {
            let noise = 0.3 * ((token * 7 + k * 13 + night * 5 + modality.index()) as f32).sin();
            let fails = (token * 37 % TOKENS) as f64 * 0.8 < ahi(night);
            let mark = modality == Modality::Resp && k == 0 && fails;
            noise + if mark { 3.0 } else { 0.0 }
        };
        (0..TOKENS).flat_map(|t| (0..E).map(move |k| value(t, k))).collect()
    };
    let all: Vec<Rows> =
        Modality::ALL.iter().map(|&m| Rows { modality: m, values: rows(m) }).collect();
    write(path, E, &all).expect("writes embeddings");
}

/// Signals that are faster the worse the breathing is.
fn record(path: &Path, night: usize) {
    let mut store = StoreWriter::create(path).expect("makes a file");
    let speed = 0.1 + 0.03 * ahi(night) as f32;
    let wave = |phase: f32| -> Vec<f32> {
        let noise = |i: usize| 0.2 * ((i * i % 1009) as f32 + phase).sin();
        (0..8 * WINDOW).map(|i| 1.4 * (speed * i as f32 + phase).sin() + noise(i)).collect()
    };
    for (label, modality, phase) in
        [("Flow", Modality::Resp, 0.0), ("C3-M2", Modality::Bas, night as f32)]
    {
        store.channel(label, label, Some(modality), &wave(phase)).expect("writes a channel");
    }
    store.finish().expect("closes the file");
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("is text")
}

fn refused(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn an_apnea_head_tells_who_has_it_on_nights_it_has_not_seen() {
    let made = Made::new();
    succeed(&mut made.finetune("apnea --out apnea"));
    let figures = made.evaluate("apnea", "apnea");
    for (place, threshold) in [5.0, 15.0].into_iter().enumerate() {
        let presence = &figures["presence"][place];
        assert_eq!(presence["ahi"], threshold);
        let positive = (22..NIGHTS).filter(|&night| ahi(night) >= threshold).count();
        assert_eq!(presence["positive"], positive);
        let area = presence["auroc"].as_f64().expect("both kinds are there");
        assert!(area > 0.9, "AUROC {area} at {threshold}");
    }
    let accuracy = figures["severity_accuracy"].as_f64().expect("a number");
    // Chance is the share of the commonest class, 5 of 10.
    assert!(accuracy >= 0.7, "severity {accuracy}");
}

#[test]
fn apnea_without_an_ahi_is_refused() {
    let made = Made::new();
    let people = std::fs::read_to_string(made.path("demographics.csv")).expect("reads");
    let without: String = people
        .lines()
        .map(|line| format!("{}\n", line.rsplit_once(',').map_or(line, |(kept, _)| kept)))
        .collect();
    std::fs::write(made.path("demographics.csv"), without).expect("writes");
    let output = made.finetune("apnea --out apnea").output().expect("runs");
    let said = refused(&output, 3);
    assert!(said.contains("no recording of this part of the split has an AHI"), "{said}");
    assert!(!made.path("apnea").exists());
}

#[test]
fn a_head_learned_from_signals_alone_orders_people_it_has_not_seen() {
    let made = Made::new();
    let risk = "risk --events . --variant supervised";
    let output = made.finetune(&format!("{risk} --out lacks")).output().expect("runs");
    assert!(refused(&output, 2).contains("learns from signals: give --store"));
    let config = CONFIG.replacen("[risk]", "[risk]\nreadout = true", 1);
    let config = config.replacen("learning_rate = 0.02", "learning_rate = 0.005", 1);
    std::fs::write(made.path("run.toml"), config).expect("writes");
    succeed(&mut made.finetune(&format!("{risk} --store store --out signals")));
    let figures = made.evaluate("risk --events . --store store --bootstrap 20", "signals");
    assert_eq!(figures["recordings"], NIGHTS - 22);
    let c_index = figures["mean_c_index"].as_f64().expect("a number");
    assert!(c_index > 0.75, "C-index {c_index}");
    // It is a comparison and no part of a bundle.
    let head = made.path("signals/best.ckpt");
    let error =
        sfm_trainer::finetune::head::read_risk::<burn::backend::Flex>(&head, &Default::default());
    assert!(error.expect_err("refused").to_string().contains("supervised is for comparison only"));
}

#[test]
fn hazards_measured_on_other_stretches_than_are_learned_from() {
    let made = Made::new();
    let config = CONFIG.replace(
        "stretches = 2\nstretch_tokens = 20\nsteps",
        "stretches = 1\n\
                                 measured = 3\nstretch_tokens = 20\nsteps",
    );
    assert!(config.contains("measured"));
    std::fs::write(made.path("run.toml"), config).expect("writes");
    succeed(&mut made.finetune("risk --events . --out risk"));
    let c_index = made.evaluate("risk --events . --bootstrap 20", "risk")["mean_c_index"].as_f64();
    assert!(c_index.expect("a number") > 0.8, "C-index {c_index:?}");
}

#[test]
fn a_risk_head_begins_with_an_apnea_head() {
    let made = Made::new();
    succeed(&mut made.finetune("apnea --out apnea"));
    let loss = |run: &str, more: &str| {
        // One step, whose rate is too low to change anything: the loss is that of the beginning.
        let config = CONFIG.replace("steps_per_pass = 5", "steps_per_pass = 1");
        let config = config.replacen("learning_rate = 0.02", "learning_rate = 1e-12", 1);
        std::fs::write(made.path("run.toml"), config).expect("writes");
        let arguments = format!("risk --events . --passes 1 --out {run} {more}");
        succeed(&mut made.finetune(&arguments));
        let device = Default::default();
        let path = made.path(run).join("best.ckpt");
        let (_, risk) =
            sfm_trainer::finetune::head::read_risk::<burn::backend::Flex>(&path, &device)
                .expect("reads");
        risk.pooling.layer.linear1.weight.to_data().to_vec::<f32>().expect("float32")
    };
    let (_, apnea) = sfm_trainer::finetune::head::read_apnea::<burn::backend::Flex>(
        &made.path("apnea/best.ckpt"),
        &Default::default(),
    )
    .expect("reads");
    let weights = apnea.pooling.layer.linear1.weight.to_data().to_vec::<f32>().expect("float32");
    let distance = |from: Vec<f32>| {
        let differences = from.iter().zip(&weights).map(|(a, b)| (a - b).abs());
        differences.fold(0.0_f32, f32::max)
    };
    assert!(distance(loss("begun", "--begin-with apnea")) < 1e-6);
    assert!(distance(loss("random", "")) > 0.01);
    let kept = std::fs::read_to_string(made.path("begun/config.toml")).expect("reads");
    assert!(kept.contains("begin_with = \"apnea\""), "{kept}");

    let config = CONFIG.replacen(
        "feed_forward = 16\ndropout = 0.0\nmax",
        "feed_forward = 8\n\
                                  dropout = 0.0\nmax",
        1,
    );
    std::fs::write(made.path("run.toml"), config).expect("writes");
    let other = made.finetune("risk --events . --out other --begin-with apnea").output();
    assert!(
        refused(&other.expect("runs"), 4).contains("those of the head that is to begin with it")
    );
    let none = made.finetune("risk --events . --out none --begin-with nowhere").output();
    assert!(refused(&none.expect("runs"), 3).contains("nowhere/best.ckpt: cannot be read"));
    let signals = "risk --events . --out s --store store --variant supervised --begin-with apnea";
    let signals = made.finetune(signals).output().expect("runs");
    assert!(refused(&signals, 2).contains("the variant supervised begins with random weights"));
}

#[test]
fn a_full_disk_leaves_the_head_before() {
    let made = Made::new();
    succeed(&mut made.finetune("apnea --out run --passes 2"));
    let checkpoints = ["best.ckpt", "last.ckpt"].map(|name| made.path("run").join(name));
    let read = || checkpoints.each_ref().map(|path| std::fs::read(path).expect("reads"));
    let before = read();
    // No file may grow beyond 4 kB; both checkpoints are larger.
    assert!(before.iter().all(|bytes| bytes.len() > 4 * 1024));
    let command = made.finetune("apnea --out run --passes 12 --resume");
    let mut shell = Command::new("bash");
    shell.current_dir(made.0.path()).arg("-c");
    shell.arg("trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\"").arg(command.get_program());
    let said = refused(&shell.args(command.get_args()).output().expect("runs"), 5);
    assert!(said.contains("cannot be written") && said.contains("is kept"), "{said}");
    assert!(read() == before, "a checkpoint has changed");
    let names = std::fs::read_dir(made.path("run")).expect("lists").flatten();
    let parts = names.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(parts.count(), 0);
    succeed(&mut made.finetune("apnea --out run --passes 12 --resume"));
    assert!(read() != before);
}

#[test]
fn heads_go_on_the_base_network_of_a_bundle_that_fits() {
    let made = Made::new();
    let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/bundles/default.sfm");
    let export = format!("export --bundle {} --data made-up", given.display());
    succeed(&mut made.command(&format!("{export} --out base.sfm")));
    let open = |path: &Path| sfm_models::Bundle::open(path).expect("opens");
    let (from, to) = (open(&given), open(&made.path("base.sfm")));
    assert_eq!(to.manifest().base, from.manifest().base);
    assert!(to.manifest().training.simulated, "what the weights were trained on stays said");
    assert!(to.manifest().staging.is_none() && to.manifest().risk.is_none());
    for name in ["tokenizer", "pool", "encoder"] {
        assert!(from.graph(name).is_some() && to.graph(name) == from.graph(name), "{name}");
    }
    succeed(&mut made.finetune("apnea --out apnea --passes 1"));
    let output = made.command(&format!("{export} --apnea apnea --out all.sfm")).output();
    let said = refused(&output.expect("runs"), 4);
    assert!(said.contains("takes embeddings of 8") && said.contains("gives 64"), "{said}");
    assert!(!made.path("all.sfm").exists());
}
