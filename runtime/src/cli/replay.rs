//! `sfm-stream --replay FILE`: opens everything, runs the passes, shows the summary. A batch runs
//! each of its recordings through the same [`Replay`], without a word to the user.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::args::{Passes, RunArgs, Speed};
use super::output::{self, Output};
use super::progress::Progress;
use super::setup::{Setup, Study, failed, interrupted, stage_changes};
use super::summary::{self, StageChanges};
use super::{Failure, out_folder, say, show};
use crate::event::Pass;
use crate::lights::Lights;
use crate::night::Demographics;
use crate::pipeline::{Options, PassOutcome, Surroundings, final_pass, live_pass, measure};
use crate::sink::{Place, Sink, WhenFull};
use crate::source::{self, Recording, Source};
use crate::web::Origin;

/// One recording, and what is fixed before its first sample is read.
pub(super) struct Replay<'a> {
    setup: &'a Setup,
    args: &'a RunArgs,
    recording: Recording,
    /// What its channels are used for.
    pub study: Study,
    options: Options,
    file: PathBuf,
    out_dir: PathBuf,
    /// No progress and no warnings on stderr: somebody else tells.
    quiet: bool,
}

/// What came of a recording.
pub(super) struct Replayed {
    /// Of the last pass.
    pub outcome: PassOutcome,
    /// Between the passes, where there were two.
    pub changed: Option<StageChanges>,
    /// Sinks that failed, if the user was not told yet.
    pub failures: Vec<String>,
    /// Whether stdout and the files got all there is.
    written: Result<(), Failure>,
}

/// Replays `file`.
pub(super) fn run(
    args: &RunArgs,
    file: &Path,
    threads: usize,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let begin = Instant::now();
    let out_dir = args.out.clone().unwrap_or_else(|| default_out(file));
    let _claim = out_folder::claim(&out_dir)?;
    let web = output::live_page(args, None)?;
    let setup = Setup::open(args, threads)?;
    let mut replay = Replay::open(&setup, args, file, &out_dir, setup.demographics)?;
    let title = file.file_stem().unwrap_or_default().to_string_lossy();
    let shown = web.map(|web| (web.rooms().open("replay", &title, Origin::Replay, None), web));
    let page = shown.iter().map(|(occupied, _)| output::page_sink(&occupied.room)).collect();
    let result = replay.show(page, stop);
    if args.timings {
        setup.network.timings().table(begin.elapsed()).lines().for_each(say);
    }
    result
}

impl<'a> Replay<'a> {
    /// Opens `file`, whose results go to `out_dir`.
    pub fn open(
        setup: &'a Setup,
        args: &'a RunArgs,
        file: &Path,
        out_dir: &Path,
        demographics: Option<Demographics>,
    ) -> Result<Self, Failure> {
        let mut recording = source::open(file).map_err(Failure::input)?;
        let study = setup.study(&mut recording, &file.display().to_string())?;
        recording.select(&study.used());
        let speed = match args.speed.unwrap_or(Speed::Max) {
            Speed::Max => None,
            Speed::Times(times) => Some(times),
        };
        let signals = output::want_signals(args);
        Ok(Self {
            setup,
            args,
            recording,
            study,
            options: Options { demographics, speed, signals, stats: None },
            file: file.to_owned(),
            out_dir: out_dir.to_owned(),
            quiet: false,
        })
    }

    /// The same without a word on stderr.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Runs the passes and shows the summary.
    fn show(&mut self, more: Vec<Box<dyn Sink>>, stop: &AtomicBool) -> Result<(), Failure> {
        self.study.explain();
        let replayed = self.run(more, stop)?;
        if !self.args.json {
            let (night, labels) = (&replayed.outcome.night, &self.setup.labels);
            let (started, changed) = (&self.study.started, replayed.changed);
            show(&summary::table(night, started, labels, &self.out_dir, changed))?;
        }
        if stop.load(Ordering::Relaxed) {
            return Err(interrupted(&self.out_dir));
        }
        replayed.written
    }

    /// Runs the passes that the arguments ask for into their sinks and `more`. A `stop` ends the
    /// live pass early and fails the final one.
    pub fn run(
        &mut self,
        more: Vec<Box<dyn Sink>>,
        stop: &AtomicBool,
    ) -> Result<Replayed, Failure> {
        let study = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let place = Place {
            out_dir: &self.out_dir,
            study: &study,
            recording: &self.file,
            labels: &self.setup.labels,
            quantiles: self.setup.quantiles.as_ref(),
            resumed: None,
            health: None,
        };
        let mut sinks = output::sinks(self.args, self.setup, &place)?;
        sinks.extend(more);
        let mut output = Output::start(sinks, WhenFull::Wait, self.args.json, self.quiet)?;
        let result = self.passes(self.args.pass.unwrap_or(Passes::Both), &mut output, stop);
        let (failures, written) = output.finish();
        let (outcome, changed) = result?;
        Ok(Replayed { outcome, changed, failures, written })
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
                let mut around = Surroundings {
                    emit: &mut |_| (),
                    progress: &mut ignore,
                    stop,
                    lights: &Lights::default,
                };
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
        self.study.begin(pass, |event| output.send(event));
        let mut progress = self.study.progress(!self.quiet && !self.args.tui.tui, begun);
        let (file, preprocessed) = (&self.file, self.recording.info().preprocessed);
        let lights = || if preprocessed { Lights::default() } else { Lights::of(file) };
        let mut around = Surroundings {
            emit: &mut |event| output.send(event),
            progress: &mut |position_s| {
                progress.iter_mut().for_each(|progress| progress.at(position_s));
            },
            stop,
            lights: &lights,
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
        progress.into_iter().for_each(Progress::finish);
        outcome.map_err(|e| failed(e, &self.out_dir))
    }
}

/// `<study>.sfm-out` in the current folder: the recording's folder may be read-only.
fn default_out(file: &Path) -> PathBuf {
    let stem = file.file_stem().map_or_else(|| "study".into(), |s| s.to_string_lossy());
    PathBuf::from(format!("{stem}.sfm-out"))
}
