//! `sfm-train finetune staging|risk|apnea`: a head on stored embeddings.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Failure, UNREADABLE, USAGE, named, say};
use crate::config;
use crate::data::{Demographics, Events, Split};
use crate::device::{Device, DeviceChoice, DeviceJob};
use crate::finetune::apnea::{ApneaRecipe, ApneaTask, Breathers};
use crate::finetune::fit::{Fit, Surroundings, add_to_best, fit};
use crate::finetune::followed::Followed;
use crate::finetune::head::{HeadAbout, REFERENCE};
use crate::finetune::nights::{Nights, Tokens};
use crate::finetune::risk::{
    Cohort, Inputs, LogHazard, Risk, RiskRecipe, Variant, reference, whole_log_hazards,
};
use crate::finetune::staging::{Scored, Staging, StagingRecipe};
use crate::finetune::stretch::Subset;
use crate::finetune::supervised::{Signals, Supervised};
use crate::finetune::{FinetuneError, seed_of};
use crate::nn::TrainBackend;
use crate::recipe::Recipe;
use crate::run::{BEST, RunFolder, SPLIT, StopFlag};

/// Trains a head on stored embeddings.
#[derive(Args)]
pub struct FinetuneArgs {
    #[command(subcommand)]
    head: Head,
}

#[derive(Subcommand)]
enum Head {
    /// Sleep stages.
    Staging(StagingArgs),
    /// Hazards of diseases.
    Risk(RiskArgs),
    /// Presence and severity of sleep apnea.
    Apnea(ApneaArgs),
}

#[derive(Args)]
struct Common {
    /// The recipe.
    #[arg(long, value_name = "TOML")]
    config: Option<PathBuf>,
    /// Folder of embeddings, as `embed` writes them.
    #[arg(long, value_name = "DIR")]
    embeddings: PathBuf,
    /// Which recordings train, and which choose the best pass.
    #[arg(long, value_name = "JSON")]
    split: PathBuf,
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where to train: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Go on with the run in --out.
    #[arg(long)]
    resume: bool,
    /// Overrides the recipe's seed.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Overrides the recipe's number of passes.
    #[arg(long, value_name = "N")]
    passes: Option<u64>,
}

#[derive(Args)]
struct StagingArgs {
    #[command(flatten)]
    common: Common,
    /// Folder of scored stages: <cohort>/<id>.csv or <id>.csv.
    #[arg(long, value_name = "DIR")]
    stages: PathBuf,
    /// Age, sex and subject: no subject may be in two parts of the split.
    #[arg(long, value_name = "CSV")]
    demographics: Option<PathBuf>,
}

#[derive(Args)]
struct RiskArgs {
    #[command(flatten)]
    common: Common,
    /// Folder with is_event.csv and time_to_event.csv.
    #[arg(long, value_name = "DIR")]
    events: PathBuf,
    /// Age, sex and subject.
    #[arg(long, value_name = "CSV")]
    demographics: PathBuf,
    /// Overrides the recipe's variant.
    #[arg(long, value_enum)]
    variant: Option<Variant>,
    /// The store of signals, for the variant `supervised`.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

#[derive(Args)]
struct ApneaArgs {
    #[command(flatten)]
    common: Common,
    /// The AHI of each recording.
    #[arg(long, value_name = "CSV")]
    demographics: PathBuf,
}

/// Trains the head.
pub fn run(args: FinetuneArgs) -> Result<(), Failure> {
    match args.head {
        Head::Staging(args) => staging(args),
        Head::Risk(args) => risk(args),
        Head::Apnea(args) => apnea(args),
    }
}

impl Common {
    fn recipe(&self) -> Result<Recipe, Failure> {
        match &self.config {
            Some(path) => config::read(path).map_err(|e| (USAGE, e.to_string())),
            None => Ok(Recipe::default()),
        }
    }

    fn override_fit(&self, fit: &mut Fit) {
        fit.seed = self.seed.unwrap_or(fit.seed);
        fit.passes = self.passes.unwrap_or(fit.passes);
    }

    fn split(&self, people: Option<&Demographics>) -> Result<Split, Failure> {
        Split::read(&self.split, people).map_err(|e| (e.exit_code(), e.to_string()))
    }

    fn device(&self) -> Result<Device, Failure> {
        let device = Device::choose(self.device).map_err(|e| (USAGE, e.to_string()))?;
        say(format_args!("device: {}", device.why));
        Ok(device)
    }

    /// A value of the recipe that is out of range.
    fn refuse(&self, section: &str, reason: String) -> Failure {
        let reason = format!("[{section}] {reason}");
        (USAGE, self.config.as_deref().map_or(reason.clone(), |path| named(path, &reason)))
    }

    /// Opens the run's folder with configuration and split as used.
    fn open(
        &self,
        section: &str,
        recipe: &impl Serialize,
        split: &Split,
    ) -> Result<RunFolder, Failure> {
        let run =
            RunFolder::open(&self.out, self.resume).map_err(|e| (e.exit_code(), e.to_string()))?;
        let section = std::collections::BTreeMap::from([(section, recipe)]);
        run.write_config(&section).map_err(|e| (e.exit_code(), e.to_string()))?;
        split.write(&run.file(SPLIT)).map_err(|e| (e.exit_code(), e.to_string()))?;
        Ok(run)
    }
}

/// The failure of a command that ends with `error`.
fn failure(error: FinetuneError) -> Failure {
    (error.exit_code(), error.to_string())
}

fn people(path: &Path) -> Result<Demographics, Failure> {
    Demographics::read(path).map_err(|e| (e.exit_code(), e.to_string()))
}

fn tell(part: &str, nights: &Nights) {
    for note in &nights.notes {
        eprintln!("note: {}", sfm_runtime::montage::escaped(note));
    }
    say(format_args!("{part}: {} recordings", nights.len()));
}

struct Job<'a, F> {
    work: F,
    around: Surroundings<'a>,
}

fn staging(args: StagingArgs) -> Result<(), Failure> {
    let common = &args.common;
    let mut recipe = common.recipe()?.staging;
    common.override_fit(&mut recipe.fit);
    let people = args.demographics.as_deref().map(people).transpose()?;
    let split = common.split(people.as_ref())?;
    let read =
        |part: &[String]| Scored::read(&common.embeddings, &args.stages, part).map_err(failure);
    let (train, validation) = (read(&split.train)?, read(&split.validation)?);
    recipe.check(train.nights.embed_dim()).map_err(|e| common.refuse("staging", e))?;
    tell("train", &train.nights);
    tell("validation", &validation.nights);
    let device = common.device()?;
    let mut run = common.open("staging", &recipe, &split)?;
    let about = recipe.about(train.nights.embed_dim(), train.nights.len());
    let stop = StopFlag::install();
    let around = Surroundings {
        fit: &recipe.fit,
        about: &about,
        run: &mut run,
        resume: common.resume,
        stop: &stop,
    };
    let job = Job {
        work: StagingWork { train: &train, validation: &validation, recipe: &recipe },
        around,
    };
    device.run(false, job).map_err(failure)?;
    say(format_args!("written {}", common.out.join(BEST).display()));
    Ok(())
}

struct StagingWork<'a> {
    train: &'a Scored,
    validation: &'a Scored,
    recipe: &'a StagingRecipe,
}

impl DeviceJob for Job<'_, StagingWork<'_>> {
    type Output = Result<(), FinetuneError>;

    fn run<B: TrainBackend>(mut self, device: &B::Device) -> Self::Output {
        let StagingWork { train, validation, recipe } = self.work;
        let task = Staging::<B>::new(train, validation, recipe, device);
        fit(&task, task.init(), &mut self.around, device).map(drop)
    }
}

fn risk(args: RiskArgs) -> Result<(), Failure> {
    let common = &args.common;
    let Recipe { network, risk: mut recipe, .. } = common.recipe()?;
    common.override_fit(&mut recipe.fit);
    recipe.variant = args.variant.unwrap_or(recipe.variant);
    let people = people(&args.demographics)?;
    let events =
        Events::read(&args.events.join("is_event.csv"), &args.events.join("time_to_event.csv"))
            .map_err(|e| (e.exit_code(), e.to_string()))?;
    let split = common.split(Some(&people))?;
    let read = |part: &[String]| {
        let tokens = Tokens::Recorded(recipe.head.max_seq_length);
        let mut nights = Nights::read(&common.embeddings, part, tokens)?;
        let needed = recipe.variant.demographics();
        let source = &args.events;
        let followed =
            Followed::find(&mut nights, &events, &people, recipe.age_range, needed, source)?;
        Ok(Cohort { nights, followed })
    };
    let (train, validation) =
        (read(&split.train).map_err(failure)?, read(&split.validation).map_err(failure)?);
    recipe.check(train.nights.embed_dim()).map_err(|e| common.refuse("risk", e))?;
    tell("train", &train.nights);
    tell("validation", &validation.nights);
    let mut about = recipe.about(train.nights.embed_dim(), &events.labels, &train.followed);
    let store = match (recipe.variant, &args.store) {
        (Variant::Supervised, None) => {
            return Err((
                USAGE,
                "the variant supervised learns from signals: give --store".to_owned(),
            ));
        }
        (Variant::Supervised, Some(store)) => {
            network.check().map_err(|e| common.refuse("network", e))?;
            about.embed_dim = network.embed_dim;
            recipe.head.check(network.embed_dim).map_err(|e| common.refuse("risk.head", e))?;
            about.signals = Some((network, recipe.windows));
            Some(store.as_path())
        }
        _ => None,
    };
    warn_of_censored(&args.events, &about)?;
    let device = common.device()?;
    let mut run = common.open("risk", &recipe, &split)?;
    let stop = StopFlag::install();
    let around = Surroundings {
        fit: &recipe.fit,
        about: &about,
        run: &mut run,
        resume: common.resume,
        stop: &stop,
    };
    if let (Some(store), Some((network, windows))) = (store, &about.signals) {
        let signals = |cohort: Cohort<Nights>| {
            let nights = Signals::of(store, &cohort.nights, network, *windows)?;
            Ok(Cohort { nights, followed: cohort.followed })
        };
        let (train, validation) =
            (signals(train).map_err(failure)?, signals(validation).map_err(failure)?);
        let work = RiskWork { train: &train, validation: &validation, recipe: &recipe };
        device.run(false, Job { work, around }).map_err(failure)?;
    } else {
        let work = RiskWork { train: &train, validation: &validation, recipe: &recipe };
        device.run(false, Job { work, around }).map_err(failure)?;
    }
    say(format_args!("written {}", common.out.join(BEST).display()));
    Ok(())
}

/// Labels without an event in the training set are masked; if none has one there is nothing to do.
fn warn_of_censored(events: &Path, about: &HeadAbout) -> Result<(), Failure> {
    let censored: Vec<&str> = about
        .labels
        .iter()
        .zip(&about.learned)
        .filter(|(_, learned)| !**learned)
        .map(|(label, _)| label.as_str())
        .collect();
    if censored.len() == about.labels.len() {
        let reason = "no label has an event in the training set: nothing can be learned of hazards";
        return Err((UNREADABLE, named(events, &reason)));
    }
    if !censored.is_empty() {
        eprintln!(
            "warning: masked {} label(s) without an event in the training set: {}",
            censored.len(),
            crate::finetune::some_of(censored)
        );
    }
    Ok(())
}

struct RiskWork<'a, I> {
    train: &'a Cohort<I>,
    validation: &'a Cohort<I>,
    recipe: &'a RiskRecipe,
}

impl DeviceJob for Job<'_, RiskWork<'_, Nights>> {
    type Output = Result<(), FinetuneError>;

    fn run<B: TrainBackend>(self, device: &B::Device) -> Self::Output {
        let (recipe, about) = (self.work.recipe, self.around.about);
        let (embed_dim, classes) = (about.embed_dim, about.classes);
        B::seed(device, seed_of(recipe.fit.seed, u64::MAX));
        match recipe.variant {
            Variant::DemographicsOnly => {
                let head = recipe.head.demographics(embed_dim, classes).init::<B>(device);
                fit_risk(self, head, device)
            }
            _ => {
                let head =
                    recipe.head.risk(embed_dim, classes, about.demographics).init::<B>(device);
                fit_risk(self, head, device)
            }
        }
    }
}

impl DeviceJob for Job<'_, RiskWork<'_, Signals>> {
    type Output = Result<(), FinetuneError>;

    fn run<B: TrainBackend>(self, device: &B::Device) -> Self::Output {
        let (recipe, about) = (self.work.recipe, self.around.about);
        B::seed(device, seed_of(recipe.fit.seed, u64::MAX));
        let network = about.signals.as_ref().map(|(network, _)| network.clone());
        let head = Supervised::<B> {
            base: network.unwrap_or_default().base().init(device),
            risk: recipe.head.risk(about.embed_dim, about.classes, true).init(device),
        };
        fit_risk(self, head, device)
    }
}

/// Trains, then adds the quantiles of the training set's hazards to the best head.
fn fit_risk<B, I, H>(
    mut job: Job<'_, RiskWork<'_, I>>,
    head: H,
    device: &B::Device,
) -> Result<(), FinetuneError>
where
    B: TrainBackend,
    I: Inputs,
    H: burn::module::AutodiffModule<B> + LogHazard<B, I::Night>,
    H::InnerModule: LogHazard<B::InnerBackend, I::Night>,
{
    let RiskWork { train, validation, recipe } = job.work;
    let task = Risk::<B, I, H> {
        train,
        validation,
        recipe,
        device: device.clone(),
        head: std::marker::PhantomData,
    };
    let best = fit(&task, head, &mut job.around, device)?;
    let hazards = whole_log_hazards::<B::InnerBackend, _, _>(&best, train, Subset::ALL, device)?;
    let about = job.around.about;
    let quantiles = reference(&hazards, about.classes);
    add_to_best(&job.around.run.file(BEST), &best, about, (REFERENCE, &quantiles))
}

fn apnea(args: ApneaArgs) -> Result<(), Failure> {
    let common = &args.common;
    let mut recipe = common.recipe()?.apnea;
    common.override_fit(&mut recipe.fit);
    let people = people(&args.demographics)?;
    let split = common.split(Some(&people))?;
    let read = |part: &[String]| {
        let tokens = Tokens::Recorded(recipe.head.max_seq_length);
        Breathers::find(Nights::read(&common.embeddings, part, tokens)?, &people)
    };
    let (train, validation) =
        (read(&split.train).map_err(failure)?, read(&split.validation).map_err(failure)?);
    recipe.check(train.nights.embed_dim()).map_err(|e| common.refuse("apnea", e))?;
    tell("train", &train.nights);
    tell("validation", &validation.nights);
    let device = common.device()?;
    let mut run = common.open("apnea", &recipe, &split)?;
    let about = recipe.about(train.nights.embed_dim(), train.nights.len());
    let stop = StopFlag::install();
    let around = Surroundings {
        fit: &recipe.fit,
        about: &about,
        run: &mut run,
        resume: common.resume,
        stop: &stop,
    };
    let work = ApneaWork { train: &train, validation: &validation, recipe: &recipe };
    device.run(false, Job { work, around }).map_err(failure)?;
    say(format_args!("written {}", common.out.join(BEST).display()));
    Ok(())
}

struct ApneaWork<'a> {
    train: &'a Breathers,
    validation: &'a Breathers,
    recipe: &'a ApneaRecipe,
}

impl DeviceJob for Job<'_, ApneaWork<'_>> {
    type Output = Result<(), FinetuneError>;

    fn run<B: TrainBackend>(mut self, device: &B::Device) -> Self::Output {
        let ApneaWork { train, validation, recipe } = self.work;
        let task = ApneaTask::<B> { train, validation, recipe, device: device.clone() };
        B::seed(device, seed_of(recipe.fit.seed, u64::MAX));
        let head = recipe.head.apnea(train.nights.embed_dim()).init::<B>(device);
        fit(&task, head, &mut self.around, device).map(drop)
    }
}
