//! `sfm-train pretrain`: contrastive pretraining of the base network on a store.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use clap::Args;

use super::{FAILED, Failure, USAGE, say};
use crate::config;
use crate::data::Split;
use crate::device::{Device, DeviceChoice};
use crate::pretrain::{End, Pretraining};
use crate::recipe::Recipe;
use crate::run::{CONFIG, LAST, SPLIT, StopFlag};

/// Interrupt it (Ctrl-C) and it saves its state; --resume goes on from there.
#[derive(Args)]
pub struct PretrainArgs {
    /// Sizes and hyper-parameters, such as configs/train/default.toml [default with --resume: the
    /// run's own]
    #[arg(long, value_name = "TOML", required_unless_present = "resume")]
    config: Option<PathBuf>,
    /// The store that `sfm-train preprocess` made.
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Recordings by part; `pretrain` and `validation` are used [default with --resume: the run's
    /// own]
    #[arg(long, value_name = "JSON", required_unless_present = "resume")]
    split: Option<PathBuf>,
    /// The run's folder.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Devices that share each batch, from --device on; each compares its part within itself
    /// [default: the configuration's]
    #[arg(long, value_name = "N")]
    devices: Option<usize>,
    /// Go on with the run in --out.
    #[arg(long)]
    resume: bool,
    /// Stop after this many steps, to be resumed later.
    #[arg(long, value_name = "STEPS")]
    stop_after: Option<u64>,
    /// Instead of the configuration's.
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Instead of the configuration's.
    #[arg(long, value_name = "N")]
    passes: Option<u64>,
    /// Instead of the configuration's.
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,
    /// Instead of the configuration's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Instead of the configuration's.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Compute in bfloat16 on a GPU.
    #[arg(long)]
    bf16: bool,
}

/// Pretrains.
pub fn run(args: PretrainArgs) -> Result<(), Failure> {
    let path = args.config.clone().unwrap_or_else(|| args.out.join(CONFIG));
    let mut recipe: Recipe = config::read(&path).map_err(|e| (USAGE, e.to_string()))?;
    override_with(&args, &mut recipe);
    let pretrain = &recipe.pretrain;
    pretrain.check(&recipe.network).map_err(|reason| (USAGE, super::named(&path, &reason)))?;
    let split = args.split.clone().unwrap_or_else(|| args.out.join(SPLIT));
    let split = Split::read(&split, None).map_err(|e| (e.exit_code(), e.to_string()))?;
    let split = split.below(&args.store);
    let device = Device::choose(args.device)
        .and_then(|device| device.with_more(pretrain.devices))
        .map_err(|e| (USAGE, e.to_string()))?;
    let (bf16, batch_size) = (pretrain.bf16, pretrain.batch_size);
    say(format_args!("device      {}", device.why));
    if bf16 && !device.is_gpu() {
        say(format_args!("            float32: bfloat16 is for GPUs"));
    }
    let stop = StopFlag::install();
    let run = Pretraining::open(recipe, &args.store, split, &args.out, args.resume, stop)
        .map_err(|e| (e.exit_code(), e.to_string()))?
        .stop_after(args.stop_after);
    announce(&run);
    let ended = guarded(&device, batch_size, || device.run(bf16, run))?;
    let end = ended.map_err(|e| (e.exit_code(), e.to_string()))?;
    summary(&args, &end);
    Ok(())
}

fn override_with(args: &PretrainArgs, recipe: &mut Recipe) {
    let pretrain = &mut recipe.pretrain;
    pretrain.batch_size = args.batch_size.unwrap_or(pretrain.batch_size);
    pretrain.devices = args.devices.unwrap_or(pretrain.devices);
    pretrain.passes = args.passes.unwrap_or(pretrain.passes);
    pretrain.max_steps = args.max_steps.unwrap_or(pretrain.max_steps);
    pretrain.seed = args.seed.unwrap_or(pretrain.seed);
    pretrain.workers = args.workers.unwrap_or(pretrain.workers);
    pretrain.bf16 |= args.bf16;
}

fn announce(run: &Pretraining) {
    for (part, index) in [("training", run.training()), ("validation", run.validation())] {
        let (windows, recordings) = (index.len(), index.recordings());
        say(format_args!("{part:<11} {windows} windows of {recordings} recording(s)"));
        for name in index.passed_over() {
            say(format_args!("            without {name}: no whole window of two modalities"));
        }
    }
    say(format_args!("steps       {}", run.steps()));
}

fn summary(args: &PretrainArgs, end: &End) {
    if let Some((step, loss)) = end.best {
        say(format_args!("best        step {step}, validation loss {loss:.4}"));
    }
    if end.windows_per_s.is_finite() {
        let waiting = 100.0 * end.waiting;
        let speed = end.windows_per_s;
        say(format_args!("speed       {speed:.1} windows/s, {waiting:.1} % waiting for data"));
    }
    let out = args.out.display();
    if end.step < end.steps {
        let (step, steps) = (end.step, end.steps);
        say(format_args!(
            "stopped     at step {step} of {steps}; --resume goes on from {out}/{LAST}"
        ));
    }
    say(format_args!("written     {out}"));
}

/// Runs `work`; a GPU's memory running out is a panic of the backend, turned into a line here. It
/// is known by its text alone, and one on a thread of the backend's own may still be shown by it.
fn guarded<T>(device: &Device, batch_size: usize, work: impl FnOnce() -> T) -> Result<T, Failure> {
    if !device.is_gpu() {
        return Ok(work());
    }
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or_default();
        if !is_out_of_memory(text) {
            resume_unwind(panic);
        }
        let half = (batch_size / 2).max(2);
        (
            FAILED,
            format!(
                "the GPU's memory does not hold a batch of {batch_size} windows; \
                 try --batch-size {half}, with accumulate doubled for as long a step"
            ),
        )
    })
}

fn is_out_of_memory(text: &str) -> bool {
    let text = text.to_lowercase().replace(['_', ' '], "");
    text.contains("outofmemory") || text.contains("buffertoobig")
}

#[cfg(test)]
mod tests {
    #[test]
    fn messages_of_memory_that_ran_out() {
        for text in ["CUDA_ERROR_OUT_OF_MEMORY", "DriverError: out of memory", "BufferTooBig(1)"] {
            assert!(super::is_out_of_memory(text), "{text}");
        }
        assert!(!super::is_out_of_memory("index out of bounds"));
    }
}
