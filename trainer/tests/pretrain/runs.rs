//! Whole runs: what they leave behind, that they learn, and that a resumed one goes on as if it had
//! not stopped.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use burn::backend::Flex;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use sfm_trainer::metrics;
use sfm_trainer::network::BaseNetwork;

use crate::cohort::{Cohort, refusal};

/// Values by step, split and metric; without those that measure time.
pub fn logged(run: &Path) -> BTreeMap<(u64, String, String), f64> {
    let timed = |metric: &str| ["windows_per_s", "waiting"].contains(&metric);
    metrics::read(run)
        .unwrap()
        .into_iter()
        .filter(|logged| !timed(&logged.metric))
        .map(|logged| ((logged.step, logged.split, logged.metric), logged.value))
        .collect()
}

pub fn losses(run: &Path, split: &str) -> Vec<f64> {
    let of = |(_, s, m): &(u64, String, String)| s == split && m == "loss";
    logged(run).into_iter().filter(|(key, _)| of(key)).map(|(_, value)| value).collect()
}

/// Every weight and running statistic of a checkpoint.
pub fn weights(path: &Path) -> Vec<f32> {
    struct Collect(Vec<f32>);
    impl<B: Backend> ModuleVisitor<B> for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.0.extend(param.val().into_data().to_vec::<f32>().unwrap());
        }
    }
    let network = BaseNetwork::<Flex>::read(path, &Default::default()).unwrap();
    let mut collect = Collect(Vec::new());
    network.base.visit(&mut collect);
    collect.0
}

#[test]
fn ten_steps_straight_are_five_and_five() {
    let cohort = Cohort::new();
    cohort.pretrain("straight", &[]);
    let said = cohort.pretrain("parts", &["--stop-after", "5"]);
    assert!(said.contains("at step 5 of 10"), "{said}");
    // The run has its own copies of configuration and split.
    std::fs::remove_file(cohort.path("run.toml")).unwrap();
    let mut resume = std::process::Command::new(env!("CARGO_BIN_EXE_sfm-train"));
    let resume = resume
        .current_dir(cohort.folder.path())
        .args(["pretrain", "--store", "store", "--out", "parts", "--resume", "--device", "cpu"]);
    let output = resume.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let (straight, parts) = (cohort.path("straight"), cohort.path("parts"));
    assert_eq!(logged(&straight), logged(&parts));
    assert_eq!(losses(&straight, "train").len(), 10);
    for checkpoint in ["last.ckpt", "best.ckpt"] {
        let same = weights(&straight.join(checkpoint)) == weights(&parts.join(checkpoint));
        assert!(same, "{checkpoint} differs");
    }
}

#[test]
fn a_resumed_run_forgets_what_it_had_logged_beyond_its_checkpoint() {
    let cohort = Cohort::new();
    cohort.pretrain("run", &["--stop-after", "5"]);
    let kept = std::fs::read(cohort.path("run/last.ckpt")).unwrap();
    cohort.pretrain("run", &["--resume", "--stop-after", "3"]);
    // As if it had been killed before saving.
    std::fs::write(cohort.path("run/last.ckpt"), kept).unwrap();
    cohort.pretrain("run", &["--resume"]);
    assert_eq!(losses(&cohort.path("run"), "train").len(), 10);
    let lines = std::fs::read_to_string(cohort.path("run/metrics.jsonl")).unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains("\"train\"")).count(), 10);
}

#[test]
fn both_optimizers_and_objectives_learn_what_modalities_share() {
    let cohort = Cohort::new();
    for (name, from, to) in [
        ("adamw", "max_steps = 10", "max_steps = 120"),
        ("pairwise", "max_steps = 10", "max_steps = 120\nobjective = \"pairwise\"\naccumulate = 2"),
    ] {
        cohort.configure(from, to);
        cohort.pretrain(name, &[]);
        let run = cohort.path(name);
        let train = losses(&run, "train");
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        // Batches of 8: chance is ln 8 = 2.08, less where modalities are missing.
        assert!((1.4..2.3).contains(&train[0]), "{name}: begins at {}", train[0]);
        assert!(mean(&train[110..]) < 1.2, "{name}: ends at {}", mean(&train[110..]));
        let validation = losses(&run, "validation");
        let best = validation.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(best < 1.6, "{name}: validation {best}");
        let values = logged(&run);
        let found = |metric: &str| {
            let of = values.iter().filter(|((_, s, m), _)| s == "validation" && m == metric);
            of.map(|(_, &value)| value).fold(0.0, f64::max)
        };
        assert!(found("BAS_RESP") > 0.4 && found("RESP_BAS") > 0.4, "{name}: chance is 0.125");
        if name == "adamw" {
            assert!(found("BAS_others") > 0.4 && found("others_BAS") > 0.4);
        }
        let svg = std::fs::read_to_string(run.join("curves.svg")).unwrap();
        assert!(svg.contains("Contrastive loss") && svg.contains("validation"));
    }
}

#[test]
fn the_published_optimizer_runs_too() {
    let cohort = Cohort::new();
    let published = "[pretrain.optimizer]\nkind = \"sgd\"\nlearning_rate = 0.05\nmomentum = 0.9\n\
                     [pretrain.schedule]\nkind = \"step\"\nstep_passes = 1\ngamma = 0.1\n";
    let config = crate::cohort::CONFIG;
    let (before, _) = config.split_once("[pretrain.optimizer]").unwrap();
    std::fs::write(cohort.path("run.toml"), format!("{before}{published}")).unwrap();
    // 4 recordings of 20 windows in batches of 8: a pass is 10 steps.
    cohort.pretrain("run", &["--max-steps", "21"]);
    let rates: Vec<f64> = logged(&cohort.path("run"))
        .into_iter()
        .filter(|((_, _, metric), _)| metric == "learning_rate")
        .map(|(_, value)| value)
        .collect();
    for (step, rate) in [(0, 0.05), (9, 0.05), (10, 0.005), (20, 0.0005)] {
        assert!((rates[step] - rate).abs() < 1e-12, "step {step}: {}", rates[step]);
    }
}

#[test]
fn a_signal_saves_and_ends() {
    let cohort = Cohort::new();
    cohort.configure("max_steps = 10", "max_steps = 1000000");
    let mut child = cohort.command("run", &[]).stdout(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    // The first line of metrics: it trains.
    while std::fs::metadata(cohort.path("run/metrics.tsv")).map_or(0, |m| m.len()) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    let killed =
        std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
    assert!(child.wait().unwrap().success());
    let steps = losses(&cohort.path("run"), "train").len();
    assert!(steps > 0 && cohort.path("run/curves.svg").exists());
    // It goes on at the very next step.
    cohort.pretrain("run", &["--resume", "--stop-after", "1"]);
    assert_eq!(losses(&cohort.path("run"), "train").len(), steps + 1);
}

#[test]
fn a_full_disk_leaves_the_checkpoint_before() {
    let cohort = Cohort::new();
    cohort.pretrain("run", &["--stop-after", "2"]);
    let before = std::fs::read(cohort.path("run/last.ckpt")).unwrap();
    // No file may grow beyond 20 kB; a checkpoint is larger.
    assert!(before.len() > 20 * 1024);
    let command = cohort.command("run", &["--resume", "--stop-after", "1"]);
    let mut shell = std::process::Command::new("bash");
    shell.current_dir(cohort.folder.path()).arg("-c");
    shell.arg("trap '' XFSZ; ulimit -f 20; exec \"$0\" \"$@\"").arg(command.get_program());
    let output = shell.args(command.get_args()).output().unwrap();
    let said = refusal(&output, 5);
    assert!(said.contains("last.ckpt: cannot be written") && said.contains("is kept"), "{said}");
    assert!(std::fs::read(cohort.path("run/last.ckpt")).unwrap() == before);
    let left: Vec<_> = std::fs::read_dir(cohort.path("run"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.ends_with(".part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    cohort.pretrain("run", &["--resume"]);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run() {
    let cohort = Cohort::new();
    cohort.pretrain("run", &["--stop-after", "2"]);
    // Weights of a checkpoint cannot be made bad by hand; a rate this high makes them so.
    cohort.configure("learning_rate = 0.01", "learning_rate = 1e38");
    let said = cohort.refused("wild", &[], 5);
    assert!(said.contains("is not a number; the batch is of sim/night-"), "{said}");
    assert!(said.contains("wild/last.ckpt is that of step 0"), "{said}");
    assert!(weights(&cohort.path("wild/last.ckpt")).iter().all(|w| w.is_finite()));
}
