//! `finetune apnea`.

use std::path::PathBuf;

use clap::Args;

use super::{Common, Job, failure, people, tell};
use crate::cli::{Failure, say};
use crate::device::DeviceJob;
use crate::finetune::FinetuneError;
use crate::finetune::apnea::{ApneaRecipe, ApneaTask, Breathers};
use crate::finetune::fit::{Surroundings, fit};
use crate::finetune::nights::{Nights, Tokens};
use crate::finetune::seed_of;
use crate::nn::TrainBackend;
use crate::run::{BEST, StopFlag};

/// Arguments of `finetune apnea`.
#[derive(Args)]
pub struct ApneaArgs {
    #[command(flatten)]
    common: Common,
    /// The AHI of each recording.
    #[arg(long, value_name = "CSV")]
    demographics: PathBuf,
}

/// Trains the head.
pub fn run(args: ApneaArgs) -> Result<(), Failure> {
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
