//! `sfm-stream --replay FILE`: opens everything, runs the passes, shows the summary.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::args::{Passes, RunArgs, Speed};
use super::output::{self, Output};
use super::setup::{Setup, Study, failed, interrupted, stage_changes};
use super::summary::{self, StageChanges};
use super::{Failure, say, show};
use crate::event::Pass;
use crate::pipeline::{Options, PassOutcome, Surroundings, final_pass, live_pass, measure};
use crate::sink::{Place, Sinks, WhenFull};
use crate::source::{self, Recording, Source};

/// What is fixed before the first sample is read.
struct Replay {
    setup: Setup,
    recording: Recording,
    study: Study,
    options: Options,
    args: RunArgs,
    file: PathBuf,
    out_dir: PathBuf,
}

/// Replays `file`.
pub(super) fn run(
    args: &RunArgs,
    file: &Path,
    threads: usize,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let begin = Instant::now();
    let mut replay = Replay::open(args, file, threads)?;
    let result = replay.run(args.pass.unwrap_or(Passes::Both), stop);
    if args.timings {
        replay.setup.network.timings().table(begin.elapsed()).lines().for_each(say);
    }
    result
}

impl Replay {
    fn open(args: &RunArgs, file: &Path, threads: usize) -> Result<Self, Failure> {
        let setup = Setup::open(args, threads)?;
        let mut recording = source::open(file).map_err(Failure::input)?;
        let study = setup.study(recording.info(), &file.display().to_string())?;
        recording.select(&study.used());
        let speed = match args.speed.unwrap_or(Speed::Max) {
            Speed::Max => None,
            Speed::Times(times) => Some(times),
        };
        Ok(Self {
            options: Options {
                demographics: setup.demographics,
                speed,
                stats: None,
                signals: output::want_signals(args),
            },
            setup,
            recording,
            study,
            out_dir: args.out.clone().unwrap_or_else(|| default_out(file)),
            args: args.clone(),
            file: file.to_owned(),
        })
    }

    fn run(&mut self, passes: Passes, stop: &AtomicBool) -> Result<(), Failure> {
        self.study.explain();
        let study = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let place = Place {
            out_dir: &self.out_dir,
            study: &study,
            recording: &self.file,
            labels: &self.setup.labels,
            resumed: None,
        };
        let sinks = output::sinks(&self.args, &self.setup, &place)
            .and_then(|sinks| Sinks::start(sinks, WhenFull::Wait).map_err(Failure::run))?;
        let mut output = Output { sinks, json: self.args.json, shown: Ok(()) };
        let result = self.passes(passes, &mut output, stop);
        for failure in output.sinks.finish() {
            say(&format!("warning: {failure}"));
        }
        let (outcome, changed) = result?;
        if self.args.json {
            output.shown?;
        } else {
            let (night, labels) = (&outcome.night, &self.setup.labels);
            show(&summary::table(night, &self.study.started, labels, &self.out_dir, changed))?;
        }
        if stop.load(Ordering::Relaxed) {
            return Err(interrupted(&self.out_dir));
        }
        Ok(())
    }

    fn passes(
        &mut self,
        passes: Passes,
        output: &mut Output,
        stop: &AtomicBool,
    ) -> Result<(PassOutcome, Option<StageChanges>), Failure> {
        if passes == Passes::Final {
            let begun = Instant::now();
            if !self.recording.info().preprocessed {
                let mut ignore = |_| ();
                let mut around = Surroundings { emit: &mut |_| (), progress: &mut ignore, stop };
                let (montage, network) = (&self.study.montage, &self.setup.network);
                let stats = measure(&mut self.recording, montage, network, &mut around);
                self.options.stats = Some(stats.map_err(|e| failed(e, &self.out_dir))?);
                self.recording.rewind();
            }
            return Ok((self.pass(Pass::Final, begun, output, stop)?, None));
        }
        let mut live = self.pass(Pass::Live, Instant::now(), output, stop)?;
        if passes == Passes::Live || stop.load(Ordering::Relaxed) {
            return Ok((live, None));
        }
        self.options.stats = Some(live.stats.clone());
        // Only the stages are compared; the night's tokens need not be there twice.
        live.log.truncate(0);
        live.log.shrink();
        self.recording.rewind();
        let last = self.pass(Pass::Final, Instant::now(), output, stop)?;
        let changed = stage_changes(&live.hypnogram, &last.hypnogram);
        Ok((last, Some(changed)))
    }

    fn pass(
        &mut self,
        pass: Pass,
        begun: Instant,
        output: &mut Output,
        stop: &AtomicBool,
    ) -> Result<PassOutcome, Failure> {
        let mut progress = self.study.begin(pass, begun, |event| output.send(event));
        let mut around = Surroundings {
            emit: &mut |event| output.send(event),
            progress: &mut |position_s| progress.at(position_s),
            stop,
        };
        let carry_out = match pass {
            Pass::Live => live_pass,
            Pass::Final => final_pass,
        };
        let outcome = carry_out(
            &mut self.recording,
            &self.study.montage,
            &self.setup.network,
            &self.options,
            &mut around,
        );
        progress.finish();
        outcome.map_err(|e| failed(e, &self.out_dir))
    }
}

/// `<study>.sfm-out` in the current folder: the recording's folder may be read-only.
fn default_out(file: &Path) -> PathBuf {
    let stem = file.file_stem().map_or_else(|| "study".into(), |s| s.to_string_lossy());
    PathBuf::from(format!("{stem}.sfm-out"))
}
