//! `finetune risk`, in all four variants.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Common, Job, failure, people, tell};
use crate::cli::{Failure, UNREADABLE, USAGE, named, say};
use crate::data::Events;
use crate::device::DeviceJob;
use crate::finetune::fit::{Surroundings, Task, add_to_best, fit};
use crate::finetune::followed::Followed;
use crate::finetune::head::{HeadAbout, REFERENCE, begun_with, check_beginning};
use crate::finetune::nights::{Nights, Tokens};
use crate::finetune::risk::{
    Cohort, Inputs, LogHazard, Risk, RiskRecipe, Variant, fitted_layer, put_last, reference,
    whole_log_hazards,
};
use crate::finetune::stretch::Subset;
use crate::finetune::supervised::{Signals, Supervised};
use crate::finetune::{FinetuneError, seed_of};
use crate::network::initialized;
use crate::nn::TrainBackend;
use crate::recipe::Recipe;
use crate::run::{BEST, StopFlag};

/// Arguments of `finetune risk`.
#[derive(Args)]
pub struct RiskArgs {
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
    /// Run of `finetune apnea` or `finetune risk` whose pooling and LSTM are the first weights, over
    /// the same embeddings.
    #[arg(long, value_name = "RUN")]
    begin_with: Option<PathBuf>,
    /// The store of signals, for the variant `supervised`.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

/// Trains the head.
pub fn run(args: RiskArgs) -> Result<(), Failure> {
    let common = &args.common;
    let Recipe { network, risk: mut recipe, .. } = common.recipe()?;
    common.override_fit(&mut recipe.fit);
    recipe.variant = args.variant.unwrap_or(recipe.variant);
    recipe.begin_with = args.begin_with.clone().or(recipe.begin_with);
    if let (Some(_), Variant::DemographicsOnly | Variant::Supervised) =
        (&recipe.begin_with, recipe.variant)
    {
        let reason = format!("the variant {} begins with random weights", recipe.variant);
        return Err((USAGE, format!("--begin-with: {reason}; leave it out")));
    }
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
    if let Some(run) = &recipe.begin_with {
        check_beginning(&run.join(BEST), &about).map_err(|e| (e.exit_code(), e.to_string()))?;
    }
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
                let head = match &recipe.begin_with {
                    Some(run) => begun_with(initialized(head), about, &run.join(BEST), device)?,
                    None => head,
                };
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
    mut head: H,
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
    let fitted = |head: &H::InnerModule| {
        fitted_layer::<B::InnerBackend, I, _>(head, (train, validation), recipe.ties, device)
    };
    // What it begins with may stay the best: there are far more weights than people. A resumed run
    // draws the same beginning.
    let mut first = None;
    if recipe.readout {
        head = initialized(head);
        let (layer, _) = fitted(&head.valid())?;
        put_last::<B, I::Night, H>(&mut head, &layer, device);
        first = Some(head.valid());
    }
    let mut best = fit(&task, head, &mut job.around, device)?;
    if recipe.readout {
        let (layer, _) = fitted(&best)?;
        let mut other = best.clone();
        put_last::<B::InnerBackend, I::Night, _>(&mut other, &layer, device);
        let mut figure = task.validate(&best)?.figure;
        for candidate in [Some(other), first].into_iter().flatten() {
            let its = task.validate(&candidate)?.figure;
            if its > figure {
                (best, figure) = (candidate, its);
            }
        }
    }
    let hazards = whole_log_hazards::<B::InnerBackend, _, _>(&best, train, Subset::ALL, device)?;
    let about = job.around.about;
    let quantiles = reference(&hazards, about.classes);
    add_to_best(&job.around.run.file(BEST), &best, about, (REFERENCE, &quantiles))
}
