//! `finetune staging`.

use std::path::PathBuf;

use clap::Args;

use super::{Common, Job, failure, people, tell};
use crate::cli::stages::StagesArgs;
use crate::cli::{Failure, say};
use crate::device::DeviceJob;
use crate::finetune::FinetuneError;
use crate::finetune::fit::{Surroundings, fit};
use crate::finetune::staging::{Scored, Staging, StagingRecipe};
use crate::nn::TrainBackend;
use crate::run::{BEST, StopFlag};

/// Arguments of `finetune staging`.
#[derive(Args)]
pub struct StagingArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    stages: StagesArgs,
    /// Age, sex and subject: no subject may be in two parts of the split.
    #[arg(long, value_name = "CSV")]
    demographics: Option<PathBuf>,
}

/// Trains the head.
pub fn run(args: StagingArgs) -> Result<(), Failure> {
    let common = &args.common;
    let mut recipe = common.recipe()?.staging;
    common.override_fit(&mut recipe.fit);
    let people = args.demographics.as_deref().map(people).transpose()?;
    let split = common.split(people.as_ref())?;
    let stages = args.stages.folder();
    let read = |part: &[String]| Scored::read(&common.embeddings, &stages, part).map_err(failure);
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
