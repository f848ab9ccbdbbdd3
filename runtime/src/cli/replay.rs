//! `sfm-stream --replay FILE`: opens everything, runs the passes, shows the summary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sfm_models::{Bundle, Manifest, Modality};

use super::args::{Passes, RunArgs, Speed};
use super::progress::Progress;
use super::summary::{self, StageChanges};
use super::{Failure, bundle, channel_rules, say, show};
use crate::event::{ChannelUse, Event, Pass, Started};
use crate::infer::backend::{Backend, BackendChoice};
use crate::montage::Montage;
use crate::night::Demographics;
use crate::pipeline::{
    Network, Options, PassOutcome, PipelineError, Surroundings, final_pass, live_pass, measure,
};
use crate::service::stop::on_signal;
use crate::signal::StreamInfo;
use crate::sink::{self, Sinks, WhenFull};
use crate::source::{self, Recording, Source};
use crate::staging::EPOCH_S;

/// A night has some hundred independent steps at a time at most.
const MAX_THREADS: usize = 256;

/// What is fixed before the first sample is read.
struct Session {
    recording: Recording,
    montage: Montage,
    network: Network,
    options: Options,
    started: Started,
    labels: Vec<(String, String)>,
    out_dir: PathBuf,
    json: bool,
    /// What is odd about the recording.
    warnings: Vec<String>,
}

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let args = args.with_config().map_err(Failure::usage)?;
    let threads = threads(&args)?;
    let workers = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Failure::run(format!("the worker threads cannot start: {e}")))?;
    let stop = Arc::new(AtomicBool::new(false));
    on_signal(stop.clone()).map_err(Failure::run)?;
    workers.install(|| {
        let begin = Instant::now();
        let mut session = Session::open(&args, threads)?;
        let passes = args.pass.unwrap_or(Passes::Both);
        let result = session.run(passes, &stop);
        if args.timings {
            session.network.timings().table(begin.elapsed()).lines().for_each(say);
        }
        result
    })
}

fn threads(args: &RunArgs) -> Result<usize, Failure> {
    match args.threads {
        Some(threads) if (1..=MAX_THREADS).contains(&threads) => Ok(threads),
        Some(threads) => {
            Err(Failure::usage(format!("--threads {threads} is not in 1 to {MAX_THREADS}")))
        }
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)),
    }
}

impl Session {
    fn open(args: &RunArgs, threads: usize) -> Result<Self, Failure> {
        let file = args.replay.as_deref().ok_or_else(|| {
            Failure::usage("no recording given; use --replay FILE (sfm-stream --help shows all)")
        })?;
        let demographics = demographics(args)?;
        let rules = channel_rules(&args.channels)?;
        let bundle = bundle::open(args.bundle.as_deref())?;
        let labels = labels(&bundle)?;
        let mut recording = source::open(file).map_err(Failure::input)?;
        let montage = rules
            .assign(&recording.info().signals, &channel_limits(bundle.manifest()))
            .map_err(Failure::usage)?;
        refuse_unusable(file, &montage)?;
        let used: Vec<usize> = (0..montage.decisions.len())
            .filter(|&channel| montage.decisions[channel].modality.is_some())
            .collect();
        recording.select(&used);
        let backend = Backend::choose(args.backend.unwrap_or(BackendChoice::Auto), threads)
            .map_err(Failure::usage)?;
        let network = Network::load(&bundle, &backend).map_err(Failure::bundle)?;
        let started = started(&recording, &montage, &bundle, &backend);
        let speed = match args.speed.unwrap_or(Speed::Max) {
            Speed::Max => None,
            Speed::Times(times) => Some(times),
        };
        Ok(Self {
            montage,
            network,
            options: Options { demographics, speed, stats: None },
            started,
            labels,
            out_dir: args.out.clone().unwrap_or_else(|| default_out(file)),
            json: args.json,
            warnings: warnings(recording.info(), bundle.manifest()),
            recording,
        })
    }

    fn run(&mut self, passes: Passes, stop: &AtomicBool) -> Result<(), Failure> {
        self.explain();
        let sinks = sink::open_all(&self.out_dir, &self.labels)
            .and_then(|sinks| Sinks::start(sinks, WhenFull::Wait))
            .map_err(Failure::run)?;
        let mut output = Output { sinks, json: self.json, shown: Ok(()) };
        let result = self.passes(passes, &mut output, stop);
        for failure in output.sinks.finish() {
            say(&format!("warning: {failure}"));
        }
        let (outcome, changed) = result?;
        if self.json {
            output.shown?;
        } else {
            let night = &outcome.night;
            show(&summary::table(night, &self.started, &self.labels, &self.out_dir, changed))?;
        }
        if stop.load(Ordering::Relaxed) {
            return Err(self.interrupted());
        }
        Ok(())
    }

    /// One line each on stderr: engine, channels, what is odd about the recording.
    fn explain(&self) {
        say(&format!("backend: {}", self.started.backend));
        say(&format!("channels: {}", self.montage.summary()));
        if !self.started.modalities_absent.is_empty() {
            let absent: Vec<_> =
                self.started.modalities_absent.iter().map(|m| m.as_str()).collect();
            say(&format!("absent: no channel for {}; masked", absent.join(", ")));
        }
        if let Some(caution) = &self.started.caution {
            say(&format!("warning: {caution}"));
        }
        for warning in &self.warnings {
            say(&format!("warning: {warning}"));
        }
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
                let stats = measure(&mut self.recording, &self.montage, &self.network, &mut around);
                self.options.stats = Some(stats.map_err(|e| self.failure(e))?);
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
        let changed = stage_changes(&live, &last);
        Ok((last, Some(changed)))
    }

    fn pass(
        &mut self,
        pass: Pass,
        begun: Instant,
        output: &mut Output,
        stop: &AtomicBool,
    ) -> Result<PassOutcome, Failure> {
        self.started.pass = pass;
        output.send(Event::Started(Box::new(self.started.clone())));
        for message in self.warnings.clone() {
            output.send(Event::Warning { message });
        }
        let mut progress = Progress::new(self.started.duration_s, pass, begun);
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
            &self.montage,
            &self.network,
            &self.options,
            &mut around,
        );
        progress.finish();
        outcome.map_err(|e| self.failure(e))
    }

    fn failure(&self, error: PipelineError) -> Failure {
        match error {
            PipelineError::Source(e) => Failure::input(e),
            PipelineError::Channel(e) => {
                Failure::input(format!("{e}; leave the channel out with --map 'LABEL=none'"))
            }
            PipelineError::Interrupted => self.interrupted(),
            PipelineError::Infer(e) => Failure::run(e),
        }
    }

    fn interrupted(&self) -> Failure {
        Failure::run(format!("interrupted; what was done is in {}", self.out_dir.display()))
    }
}

/// Where events go: the sinks, and stdout with `--json`.
struct Output {
    sinks: Sinks,
    json: bool,
    /// Why stdout took no more; the files are still written then.
    shown: Result<(), Failure>,
}

impl Output {
    fn send(&mut self, event: Event) {
        if self.json && self.shown.is_ok() {
            self.shown = match sink::json_line(&event) {
                Ok(line) => show(&line),
                Err(e) => Err(Failure::run(format!("an event cannot be written as JSON: {e}"))),
            };
        }
        self.sinks.send(event);
        for failure in self.sinks.failures() {
            say(&format!("warning: {failure}"));
        }
    }
}

/// What the source found odd, and a length that leaves nothing to do.
fn warnings(info: &StreamInfo, manifest: &Manifest) -> Vec<String> {
    let mut warnings = info.warnings.clone();
    let patch_s = EPOCH_S / manifest.preprocessing.epoch_patches() as f64;
    if let Some(duration_s) = info.duration_s.filter(|&s| s < patch_s) {
        warnings.push(format!(
            "the recording is {duration_s} s long, too short for a single {patch_s}-s patch: no stages"
        ));
    }
    warnings
}

fn demographics(args: &RunArgs) -> Result<Option<Demographics>, Failure> {
    match (args.age, args.sex) {
        (Some(age_years), Some(sex)) if (0.0..=130.0).contains(&age_years) => {
            Ok(Some(Demographics { age_years, sex }))
        }
        (Some(age), _) if !(0.0..=130.0).contains(&age) => {
            Err(Failure::usage(format!("--age {age} is no age in years")))
        }
        (None, None) => Ok(None),
        _ => Err(Failure::usage("the hazards need both --age and --sex; give both or neither")),
    }
}

fn labels(bundle: &Bundle) -> Result<Vec<(String, String)>, Failure> {
    let labels = bundle.labels().map_err(Failure::bundle)?;
    Ok(labels.into_iter().map(|label| (label.phecode, label.phenotype)).collect())
}

/// At most as many channels as the network was trained with; none of a modality it lacks.
fn channel_limits(manifest: &Manifest) -> BTreeMap<Modality, usize> {
    let mut limits = manifest.base.max_channels.clone();
    for modality in Modality::ALL {
        if !manifest.base.modalities.contains(&modality) {
            limits.insert(modality, 0);
        }
    }
    limits
}

fn refuse_unusable(file: &Path, montage: &Montage) -> Result<(), Failure> {
    if montage.used() > 0 {
        return Ok(());
    }
    Err(Failure::input(format!(
        "{}: none of its {} channels is one the network takes; 'sfm-stream inspect' says why, --map LABEL=MODALITY decides otherwise",
        file.display(),
        montage.decisions.len()
    )))
}

/// `<study>.sfm-out` in the current folder: the recording's folder may be read-only.
fn default_out(file: &Path) -> PathBuf {
    let stem = file.file_stem().map_or_else(|| "study".into(), |s| s.to_string_lossy());
    PathBuf::from(format!("{stem}.sfm-out"))
}

fn started(
    recording: &Recording,
    montage: &Montage,
    bundle: &Bundle,
    backend: &Backend,
) -> Started {
    let info = recording.info();
    let manifest = bundle.manifest();
    Started {
        pass: Pass::Live,
        format: info.format.clone(),
        start: info.start.clone(),
        duration_s: info.duration_s,
        channels: montage
            .decisions
            .iter()
            .map(|decision| ChannelUse {
                channel: decision.channel,
                label: decision.label.clone(),
                rate_hz: info.signals[decision.channel].rate_hz,
                modality: decision.modality,
                rule: decision.rule.clone(),
            })
            .collect(),
        modalities_absent: montage.absent(),
        bundle: manifest.name.clone(),
        bundle_sha256: bundle.sha256(),
        training_data: manifest.training.data.clone(),
        caution: manifest.training.caution().map(str::to_owned),
        backend: backend.why.clone(),
    }
}

fn stage_changes(live: &PassOutcome, last: &PassOutcome) -> StageChanges {
    let pairs = live.hypnogram.iter().zip(&last.hypnogram);
    StageChanges {
        changed: pairs.clone().filter(|(a, b)| a.stage != b.stage).count() as u32,
        epochs: pairs.count() as u32,
    }
}
