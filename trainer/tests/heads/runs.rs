//! Runs on small made-up embeddings: what is learned, resumed, masked and refused.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::backend::{Autodiff, Flex};
use burn::module::{AutodiffModule, Module};
use burn::optim::GradientsParams;
use burn::prelude::*;
use sfm_models::Modality;
use sfm_trainer::data::embeddings::{Rows, write};
use sfm_trainer::data::labels::{Outcome, StageFolder};
use sfm_trainer::data::{Demographics, Events};
use sfm_trainer::finetune::FinetuneError;
use sfm_trainer::finetune::fit::{Fit, Surroundings, Task, fit};
use sfm_trainer::finetune::followed::Followed;
use sfm_trainer::finetune::head::{read_risk, read_stager};
use sfm_trainer::finetune::nights::{Nights, Tokens};
use sfm_trainer::finetune::risk::{Cohort, LogHazard, Risk, RiskRecipe};
use sfm_trainer::finetune::staging::{Scored, Staging, StagingRecipe};
use sfm_trainer::finetune::stretch::Subset;
use sfm_trainer::loss::cox::{Ties, cox};
use sfm_trainer::network::HeadConfig;
use sfm_trainer::nn::RiskHead;
use sfm_trainer::run::{BEST, LAST, RunFolder, StopFlag};

type Train = Autodiff<Flex>;

const E: usize = 8;
const TOKENS: usize = 48;

/// Embeddings whose first values name the stage, and stages that change every 12 tokens.
struct Made {
    folder: tempfile::TempDir,
    paths: Vec<String>,
}

fn made(nights: usize) -> Made {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut paths = Vec::new();
    for sub in ["emb/mesa", "stages/mesa"] {
        std::fs::create_dir_all(folder.path().join(sub)).expect("makes folders");
    }
    let (mut events, mut times) = ("Study ID,a,b\n".to_owned(), "Study ID,a,b\n".to_owned());
    let mut people = "Study ID,subject,age_years,sex,ahi\n".to_owned();
    for night in 0..nights {
        let id = format!("n{night:02}");
        // Nights of two lengths.
        let tokens = TOKENS + 12 * (night % 2);
        let stage = |token: usize| (token / 12 + night) % 5;
        let rows = |modality: Modality| {
            let value = |token: usize, k: usize| {
                let wave = ((token * 7 + k * 13 + night * 5 + modality.index()) as f32).sin();
                f32::from(u8::from(stage(token) == k)) * 3.0 + 0.3 * wave
            };
            (0..tokens).flat_map(|t| (0..E).map(move |k| value(t, k))).collect()
        };
        let all: Vec<Rows> =
            Modality::ALL.iter().map(|&m| Rows { modality: m, values: rows(m) }).collect();
        let path = folder.path().join(format!("emb/mesa/{id}.hdf5"));
        write(&path, E, &all).expect("writes embeddings");
        let mut text = "Start,Stop,StageName,StageNumber\n".to_owned();
        for token in 0..tokens {
            let (from, to) = (5 * token, 5 * token + 5);
            let name = ["Wake", "N1", "N2", "N3", "REM"][stage(token)];
            // The first two minutes are not scored.
            let (name, number) =
                if token < 6 { ("Unknown", -1) } else { (name, stage(token) as i32) };
            writeln!(text, "{from},{to},{name},{number}").expect("writes to a string");
        }
        std::fs::write(folder.path().join(format!("stages/mesa/{id}.csv")), text).expect("writes");
        writeln!(events, "{id},{},0", night % 2).expect("writes to a string");
        writeln!(times, "{id},{}.5,4", night + 1).expect("writes to a string");
        writeln!(people, "{id},p{night},{},f,{}", 40 + night, 4 * night).expect("writes");
        paths.push(format!("mesa/{id}.hdf5"));
    }
    for (name, text) in
        [("is_event.csv", events), ("time_to_event.csv", times), ("demographics.csv", people)]
    {
        std::fs::write(folder.path().join(name), text).expect("writes");
    }
    Made { folder, paths }
}

impl Made {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stages(&self) -> StageFolder {
        StageFolder { path: self.path("stages"), options: Default::default() }
    }

    fn scored(&self, part: &[String]) -> Scored {
        Scored::read(&self.path("emb"), &self.stages(), part).expect("reads nights")
    }

    fn followed(&self) -> Cohort<Nights> {
        let mut nights =
            Nights::read(&self.path("emb"), &self.paths, Tokens::Recorded(1000)).expect("reads");
        let events = Events::read(&self.path("is_event.csv"), &self.path("time_to_event.csv"))
            .expect("reads");
        let people = Demographics::read(&self.path("demographics.csv")).expect("reads");
        let source = self.path("is_event.csv");
        let followed = Followed::find(&mut nights, &events, &people, (0.0, 100.0), true, &source)
            .expect("finds");
        Cohort { nights, followed }
    }
}

fn head() -> HeadConfig {
    HeadConfig {
        heads: 2,
        pooling_heads: 2,
        layers: 1,
        feed_forward: 16,
        dropout: 0.0,
        max_seq_length: 100,
    }
}

fn staging_recipe(passes: u64) -> StagingRecipe {
    StagingRecipe {
        context: 24,
        short: 0.3,
        stretches: 4,
        batch: 4,
        accumulate: 2,
        modality_dropout: 0.3,
        head: head(),
        fit: Fit { passes, patience: 100, learning_rate: 0.02, warmup_steps: 2, ..Fit::default() },
        ..StagingRecipe::default()
    }
}

/// burn draws weights and dropout from one generator of the process: runs take turns.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Trains for the recipe's passes, or until `stop_after` steps.
fn stage(
    made: &Made,
    out: &Path,
    recipe: &StagingRecipe,
    resume: bool,
    stopped: bool,
) -> Result<(), FinetuneError> {
    let (train, validation) = (made.scored(&made.paths[..6]), made.scored(&made.paths[6..]));
    let device = Default::default();
    let task = Staging::<Train>::new(&train, &validation, recipe, &device);
    let about = recipe.about(E, train.nights.len());
    let mut run = RunFolder::open(out, resume).expect("opens the run");
    let stop = StopFlag::manual();
    if stopped {
        stop.set();
    }
    let mut around =
        Surroundings { fit: &recipe.fit, about: &about, run: &mut run, resume, stop: &stop };
    fit(&task, task.init(), &mut around, &device).map(drop)
}

#[test]
fn a_stager_learns_stages_that_are_plain_to_see() {
    let _turn = one_at_a_time();
    let made = made(8);
    let out = made.path("run");
    stage(&made, &out, &staging_recipe(25), false, false).expect("trains");
    let table = std::fs::read_to_string(out.join("metrics.tsv")).expect("reads");
    let best = table
        .lines()
        .filter_map(|line| line.split_once("\tvalidation\tmacro_f1\t"))
        .map(|(_, value)| value.parse::<f64>().expect("a number"))
        .fold(0.0, f64::max);
    assert!(best > 0.9, "macro-F1 {best}");
    let (about, _) = read_stager::<Flex>(&out.join(BEST), &Default::default()).expect("reads");
    assert_eq!((about.config.max_seq_length, about.recordings), (24, 6));
    assert!(read_risk::<Flex>(&out.join(BEST), &Default::default()).is_err(), "no risk head");
    for name in [LAST, "metrics.jsonl", "curves.svg"] {
        assert!(out.join(name).is_file(), "{name} is written");
    }
}

#[test]
fn a_run_that_was_stopped_continues_as_if_it_had_not_been() {
    let _turn = one_at_a_time();
    let made = made(8);
    let recipe = staging_recipe(2);
    let (straight, stopped) = (made.path("straight"), made.path("stopped"));
    stage(&made, &straight, &recipe, false, false).expect("trains");
    // One step at a time, as if a signal came in each.
    let mut resume = false;
    while let Err(error) = stage(&made, &stopped, &recipe, resume, true) {
        assert!(matches!(error, FinetuneError::Interrupted { .. }), "{error}");
        resume = true;
    }
    assert!(resume, "it was stopped at least once");
    let table = |out: &Path| std::fs::read_to_string(out.join("metrics.tsv")).expect("reads");
    assert_eq!(table(&straight), table(&stopped));
    let weights = |out: &Path| {
        let (_, stager) = read_stager::<Flex>(&out.join(BEST), &Default::default()).expect("reads");
        stager.classifier.weight.to_data()
    };
    assert_eq!(weights(&straight), weights(&stopped));
}

#[test]
fn a_loss_that_is_no_number_stops_and_names_recordings() {
    let _turn = one_at_a_time();
    let made = made(8);
    let mut recipe = staging_recipe(3);
    let out = made.path("run");
    recipe.class_weights = sfm_trainer::finetune::staging::ClassWeights::Given([f64::NAN; 5]);
    let error = stage(&made, &out, &recipe, false, false).expect_err("stops");
    let message = error.to_string();
    assert!(matches!(error, FinetuneError::NotFinite { step: 0, .. }), "{message}");
    assert!(message.contains("mesa/n0"), "{message}");
    assert!(!out.join(LAST).exists(), "no checkpoint of it");
}

#[test]
fn stages_without_one_that_is_known_are_refused() {
    let _turn = one_at_a_time();
    let made = made(2);
    for path in &made.paths {
        let csv = made.path("stages").join(path).with_extension("csv");
        std::fs::write(csv, "Start,Stop,StageName,StageNumber\n0,240,Unknown,-1\n")
            .expect("writes");
    }
    let error = Scored::read(&made.path("emb"), &made.stages(), &made.paths);
    assert!(matches!(error, Err(FinetuneError::TooFew { .. })));
    let error = Scored::read(&made.path("emb"), &made.stages(), &[]);
    assert!(matches!(error, Err(FinetuneError::TooFew { .. })));
}

/// The two-pass gradient against one graph over all nights at once.
#[test]
fn the_gradient_of_batches_is_that_of_the_whole_set() {
    let _turn = one_at_a_time();
    let made = made(7);
    let cohort = made.followed();
    let device = Default::default();
    let recipe = RiskRecipe {
        batch: 3,
        stretches: 1,
        stretch_tokens: 1000,
        head: head(),
        ..RiskRecipe::default()
    };
    let head: RiskHead<Train> = recipe.head.risk(E, 2, true).init(&device);
    let task = Risk::<Train, _, RiskHead<Train>> {
        train: &cohort,
        validation: &cohort,
        recipe: &recipe,
        device,
        head: std::marker::PhantomData,
    };
    let step = task.step(&head, 0).expect("steps");

    // Whole nights: one graph, and Cox's loss by burn's own operations, label 0 only: the other
    // one is all censored. Times are distinct, so there are no ties to speak of.
    let nights: Vec<_> = (0..cohort.followed.len())
        .map(|i| {
            sfm_trainer::finetune::risk::Inputs::whole(&cohort.nights, i, Subset::ALL)
                .expect("reads")
        })
        .collect();
    let demographics = cohort.followed.demographics.concat();
    let demographics = TensorData::new(demographics, [cohort.followed.len(), 2]);
    let demographics: Tensor<Train, 2> = Tensor::from_data(demographics, &device);
    let hazards = LogHazard::log_hazard(&head, &nights, demographics, &device).narrow(1, 0, 1);
    let outcomes: Vec<Outcome> =
        cohort.followed.outcomes.iter().map(|row| row[0].expect("is known")).collect();
    let mut loss: Tensor<Train, 1> = Tensor::zeros([1], &device);
    let events = outcomes.iter().filter(|o| o.event).count() as f64;
    for (row, outcome) in outcomes.iter().enumerate().filter(|(_, o)| o.event) {
        let at_risk: Vec<f32> =
            outcomes.iter().map(|o| f32::from(u8::from(o.years >= outcome.years))).collect();
        let at_risk: Tensor<Train, 2> =
            Tensor::from_data(TensorData::new(at_risk, [outcomes.len(), 1]), &device);
        let sum = (hazards.clone().exp() * at_risk).sum().log();
        loss = loss + sum - hazards.clone().narrow(0, row, 1).reshape([1]);
    }
    let loss = loss / events;
    let value = loss.clone().into_scalar().elem::<f64>();
    assert!((value - step.loss).abs() < 1e-5, "{value}, not {}", step.loss);
    let whole = GradientsParams::from_grads(loss.backward(), &head);
    let gradient = |from: &GradientsParams| -> Vec<f32> {
        let gradient = from.get::<Flex, 2>(head.pooling.layer.linear1.weight.id).expect("is there");
        gradient.into_data().to_vec().expect("float32")
    };
    let (own, golden) = (gradient(&step.gradients), gradient(&whole));
    let largest = golden.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
    assert!(largest > 0.0);
    for (own, golden) in own.iter().zip(&golden) {
        assert!((own - golden).abs() < 1e-4 * largest, "{own}, not {golden}");
    }
}

#[test]
fn a_risk_head_orders_what_it_was_trained_on_better_than_before() {
    let _turn = one_at_a_time();
    let made = made(8);
    let cohort = made.followed();
    let device = Default::default();
    let recipe = RiskRecipe {
        stretches: 2,
        stretch_tokens: 12,
        batch: 3,
        steps_per_pass: 3,
        head: head(),
        fit: Fit {
            passes: 40,
            patience: 100,
            learning_rate: 0.02,
            warmup_steps: 2,
            ..Fit::default()
        },
        ..RiskRecipe::default()
    };
    let about = recipe.about(E, &["a".into(), "b".into()], &cohort.followed);
    assert_eq!(about.learned, [true, false]);
    let start: RiskHead<Train> = recipe.head.risk(E, 2, true).init(&device);
    let task = Risk::<Train, _, RiskHead<Train>> {
        train: &cohort,
        validation: &cohort,
        recipe: &recipe,
        device,
        head: std::marker::PhantomData,
    };
    let loss = |head: &RiskHead<Flex>| {
        let hazards = sfm_trainer::finetune::risk::whole_log_hazards::<Flex, _, _>(
            head,
            &cohort,
            Subset::ALL,
            &device,
        )
        .expect("reads");
        cox(&hazards, &cohort.followed.rows(), Ties::Efron).loss
    };
    let before = loss(&start.valid());
    let out = made.path("run");
    let mut run = RunFolder::open(&out, false).expect("opens");
    let stop = StopFlag::manual();
    let mut around =
        Surroundings { fit: &recipe.fit, about: &about, run: &mut run, resume: false, stop: &stop };
    let best = fit(&task, start, &mut around, &device).expect("trains");
    assert!(loss(&best) < 0.97 * before, "{} after {before}", loss(&best));
    let (_, read) = read_risk::<Flex>(&out.join(BEST), &device).expect("reads");
    assert_eq!(read.num_params(), best.num_params());
    assert!((loss(&read) - loss(&best)).abs() < 1e-9);
}
