//! The straight line: source thread -> rings -> filter, resample -> patches -> tokens -> windows
//! -> epochs -> events. [`live_pass`] does it causally, epoch by epoch; [`final_pass`] over the
//! whole recording, which equals the offline reference. Runs on the caller's thread and the
//! current rayon pool; nothing here reads a clock but for `--timings` and `--speed`.

mod live;
mod whole;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use sfm_models::{Bundle, Manifest, Modality, SleepStage};

use self::live::Live;
use self::whole::Final;
use crate::dsp::normalize::ChannelStats;
use crate::encode::{BaseNetwork, TokenLog, WindowEncoder, WindowOutput};
use crate::event::{Event, Night, OvernightRisk, Pass, SleepEpoch, WindowEmbedding};
use crate::infer::InferError;
use crate::infer::backend::Backend;
use crate::intake::{Intake, ModalityIntake, Normalization};
use crate::montage::Montage;
use crate::night::{ApneaHead, Demographics, RiskHead};
use crate::ring::{RingWriter, WhenFull, rings};
use crate::signal::{SampleBlock, StreamInfo};
use crate::source::{Source, SourceError};
use crate::staging::Stager;
use crate::statistics::SleepStatistics;
use crate::timing::{Step, Timings};

/// Seconds of signal a ring holds.
const RING_S: f64 = 120.0;

/// A bundle's networks on an engine.
pub struct Network {
    manifest: Manifest,
    base: Arc<BaseNetwork>,
    staging: Option<Arc<Stager>>,
    risk: Option<RiskHead>,
    apnea: Option<ApneaHead>,
    timings: Arc<Timings>,
}

impl Network {
    /// Loads all of `bundle` on `backend`.
    ///
    /// # Errors
    /// [`InferError`] if the engine refuses a graph.
    pub fn load(bundle: &Bundle, backend: &Backend) -> Result<Self, InferError> {
        let timings = Arc::new(Timings::default());
        Ok(Self {
            manifest: bundle.manifest().clone(),
            base: Arc::new(BaseNetwork::load(bundle, backend, timings.clone())?),
            staging: Stager::load(bundle, backend, timings.clone())?.map(Arc::new),
            risk: RiskHead::load(bundle, backend, timings.clone())?,
            apnea: ApneaHead::load(bundle, backend, timings.clone())?,
            timings,
        })
    }

    /// Runs every graph once, on an epoch of zeros in two channels.
    ///
    /// # Errors
    /// [`InferError`] of the first graph that does not run.
    pub fn try_out(&self) -> Result<(), InferError> {
        let rows = self.base.epoch_patches;
        let mut encoder = WindowEncoder::new(self.base.clone(), 2);
        encoder.push(&vec![0.0; rows * 2 * self.base.patch_samples], &vec![1.0; rows * 2])?;
        let output = encoder.encode()?;
        let mut log = TokenLog::new(self.base.embed_dim);
        log.grow(rows);
        log.write(0, Modality::Bas, output.embeddings, output.present);
        if let Some(stager) = &self.staging {
            stager.night(&log)?;
        }
        if let Some(risk) = &self.risk {
            risk.night(&log, None)?;
        }
        if let Some(apnea) = &self.apnea {
            apnea.night(&log)?;
        }
        Ok(())
    }

    /// The staging head, if there is one.
    pub fn staging(&self) -> Option<&Stager> {
        self.staging.as_deref()
    }

    /// The risk head, if there is one.
    pub fn risk(&self) -> Option<&RiskHead> {
        self.risk.as_ref()
    }

    /// Where the time went so far.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }
}

/// What a pass needs besides the recording and the network.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Age and sex, for the hazards.
    pub demographics: Option<Demographics>,
    /// Times real time at which the source is read; `None` as fast as possible.
    pub speed: Option<f64>,
    /// Mean and standard deviation by channel of the source. The final pass takes them instead of
    /// reading the recording once more; the live pass takes them instead of its running ones, so
    /// that nothing is left that tells it from the final pass.
    pub stats: Option<Vec<Option<ChannelStats>>>,
}

/// What a pass leaves behind besides its events.
pub struct PassOutcome {
    /// The last score of every epoch.
    pub hypnogram: Vec<SleepEpoch>,
    /// The contextual tokens of the night.
    pub log: TokenLog,
    /// Mean and standard deviation by channel of the source.
    pub stats: Vec<Option<ChannelStats>>,
    /// The last event.
    pub night: Night,
}

/// Why a pass could not be carried through. What was emitted before stands.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The engine failed.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The source broke off.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A channel cannot be processed: use another map or leave it out.
    #[error("{0}")]
    Channel(String),
    /// The user stopped it; the events up to there are complete.
    #[error("interrupted")]
    Interrupted,
}

/// What goes on outside of a pass: the taker of its events, its position, and the wish to stop.
pub struct Surroundings<'a> {
    /// Takes every event, in order.
    pub emit: &'a mut dyn FnMut(Event),
    /// Told the position in the recording, seconds, after every step.
    pub progress: &'a mut dyn FnMut(f64),
    /// Set to stop at the next opportunity.
    pub stop: &'a AtomicBool,
}

/// The causal pass: provisional epochs as their 30 s are in, settled ones as their window closes.
///
/// # Errors
/// [`PipelineError`]; everything emitted up to there is valid.
pub fn live_pass(
    source: &mut dyn Source,
    montage: &Montage,
    network: &Network,
    options: &Options,
    around: &mut Surroundings<'_>,
) -> Result<PassOutcome, PipelineError> {
    let info = source.info().clone();
    let normalization = match (&options.stats, info.preprocessed) {
        (_, true) => Normalization::AsStored,
        (Some(stats), false) => Normalization::Fixed(stats.clone()),
        (None, false) => Normalization::Running,
    };
    let drive = |mut intake: Intake| {
        let mut live = Live::new(network, &intake);
        while !intake.finished() && !around.stop.load(Ordering::Relaxed) {
            let begin = Instant::now();
            intake.advance(network.timings());
            live.take_epochs(&mut intake, &normalization, begin, around)?;
        }
        live.close_window(around);
        for gap in intake.take_gaps(f64::INFINITY) {
            (around.emit)(Event::Gap(gap));
        }
        let stats = intake.conclude_stats(info.signals.len());
        let hypnogram = std::mem::take(&mut live.hypnogram);
        conclude(Pass::Live, network, options, &intake, (hypnogram, live.log, stats), around)
    };
    run(source, montage, network, Pass::Live, options.speed, drive)
}

/// The pass over the whole recording. Reads the source from where it stands; without
/// `options.stats` the caller runs [`measure`] first.
///
/// # Errors
/// [`PipelineError`]; everything emitted up to there is valid.
pub fn final_pass(
    source: &mut dyn Source,
    montage: &Montage,
    network: &Network,
    options: &Options,
    around: &mut Surroundings<'_>,
) -> Result<PassOutcome, PipelineError> {
    let info = source.info().clone();
    let stats = options.stats.clone().unwrap_or_else(|| vec![None; info.signals.len()]);
    let normalization = if info.preprocessed {
        Normalization::AsStored
    } else {
        Normalization::Fixed(stats.clone())
    };
    let drive = |mut intake: Intake| {
        let mut whole = Final::new(network, &intake);
        while !intake.finished() {
            if around.stop.load(Ordering::Relaxed) {
                return Err(PipelineError::Interrupted);
            }
            intake.advance(network.timings());
            whole.take_windows(&mut intake, &normalization, around)?;
        }
        for gap in intake.take_gaps(f64::INFINITY) {
            (around.emit)(Event::Gap(gap));
        }
        let hypnogram = whole.stage(around)?;
        conclude(Pass::Final, network, options, &intake, (hypnogram, whole.log, stats), around)
    };
    run(source, montage, network, Pass::Final, None, drive)
}

/// Reads the whole source for each channel's mean and standard deviation after filter and
/// resampling: what the final pass normalizes with.
///
/// # Errors
/// [`PipelineError`].
pub fn measure(
    source: &mut dyn Source,
    montage: &Montage,
    network: &Network,
    around: &mut Surroundings<'_>,
) -> Result<Vec<Option<ChannelStats>>, PipelineError> {
    let signals = source.info().signals.len();
    let drive = |mut intake: Intake| {
        let mut taken = 0;
        while !intake.finished() {
            if around.stop.load(Ordering::Relaxed) {
                return Err(PipelineError::Interrupted);
            }
            intake.advance(network.timings());
            let ready = intake.ready_patches();
            let rows = (ready - taken) as usize;
            intake.modalities.par_iter_mut().for_each(|m| m.accumulate(taken, rows));
            taken = ready;
        }
        Ok(intake.conclude_stats(signals))
    };
    run(source, montage, network, Pass::Final, None, drive)
}

/// Runs the source on a thread of its own and `drive` on this one.
fn run<T>(
    source: &mut dyn Source,
    montage: &Montage,
    network: &Network,
    pass: Pass,
    speed: Option<f64>,
    drive: impl FnOnce(Intake) -> Result<T, PipelineError>,
) -> Result<T, PipelineError> {
    let info = source.info().clone();
    let rates: Vec<Option<f64>> = info
        .signals
        .iter()
        .zip(&montage.decisions)
        .map(|(signal, decision)| decision.modality.map(|_| signal.rate_hz))
        .collect();
    let (writer, readers, state) = rings(&rates, RING_S, WhenFull::Wait);
    let intake = Intake::new(&info, montage, &network.manifest, readers, state, pass)
        .map_err(PipelineError::Channel)?;
    std::thread::scope(|scope| {
        let feeder = scope.spawn(|| feed(source, &info, writer, speed, network.timings()));
        // `drive` owns the intake: however it ends, the rings close and the feeder with them.
        let result = drive(intake);
        match feeder.join() {
            Ok(fed) => {
                let outcome = result?;
                fed?;
                Ok(outcome)
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Moves blocks from the source into the rings until either side is done.
fn feed(
    source: &mut dyn Source,
    info: &StreamInfo,
    mut writer: RingWriter,
    speed: Option<f64>,
    timings: &Timings,
) -> Result<(), SourceError> {
    let begin = Instant::now();
    let mut block = SampleBlock::default();
    loop {
        match timings.measure(Step::Source, || source.next_block(&mut block)) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                writer.break_off();
                return Err(error);
            }
        }
        if let Some(speed) = speed {
            let end = (block.start + block.samples.len() as u64) as f64;
            let due_s = end / info.signals[block.channel].rate_hz / speed;
            wait_until(begin + Duration::from_secs_f64(due_s), &writer);
        }
        if !writer.push(&block) {
            return Ok(());
        }
    }
}

/// Sleeps until `due`, or until the pipeline wants no more: a hole may be hours long.
fn wait_until(due: Instant, writer: &RingWriter) {
    while writer.is_wanted() {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// One modality's window on its way through the base network.
struct Lane {
    modality: Modality,
    encoder: WindowEncoder,
    patches: Vec<f32>,
    present: Vec<f32>,
}

impl Lane {
    /// An empty one for every modality of the intake.
    fn of(network: &Network, intake: &Intake) -> Vec<Self> {
        let lane = |m: &ModalityIntake| Lane {
            modality: m.modality,
            encoder: WindowEncoder::new(network.base.clone(), m.channels()),
            patches: Vec::new(),
            present: Vec::new(),
        };
        intake.modalities.iter().map(lane).collect()
    }

    fn take(
        &mut self,
        source: &mut ModalityIntake,
        first: u64,
        rows: usize,
        normalization: &Normalization,
    ) -> Result<(), InferError> {
        source.gather(first, rows, normalization, &mut self.patches, &mut self.present);
        self.encoder.push(&self.patches, &self.present)
    }
}

/// Part of an epoch's signal that is present: the mean over its patches and the modalities, each
/// with the presence of its channels, times the part of the epoch that the recording covers.
fn quality<'a>(modalities: impl Iterator<Item = &'a [f32]>, part: f32) -> f32 {
    let of_modalities: Vec<f32> = modalities
        .map(|present| present.iter().sum::<f32>() / present.len().max(1) as f32)
        .collect();
    let mean = of_modalities.iter().sum::<f32>() / of_modalities.len().max(1) as f32;
    mean * part
}

fn empty_window(pass: Pass, first: usize, rows: usize, base: &BaseNetwork) -> WindowEmbedding {
    WindowEmbedding {
        pass,
        window: (first / base.window_patches) as u32,
        first_patch: first as u32,
        patches: rows as u32,
        embed_dim: base.embed_dim,
        tokens: Default::default(),
        pooled: Default::default(),
    }
}

fn put_embeddings(window: &mut WindowEmbedding, modality: Modality, output: WindowOutput<'_>) {
    if output.present.iter().all(|&p| p == 0.0) {
        return;
    }
    let mut tokens = output.embeddings.to_vec();
    for (token, &p) in tokens.chunks_mut(window.embed_dim).zip(output.present) {
        if p == 0.0 {
            token.fill(f32::NAN);
        }
    }
    window.tokens[modality.index()] = Some(tokens);
    window.pooled[modality.index()] = Some(output.window.to_vec());
}

/// Statistics, risk and ledger: the last event of a pass.
fn conclude(
    pass: Pass,
    network: &Network,
    options: &Options,
    intake: &Intake,
    (hypnogram, log, stats): (Vec<SleepEpoch>, TokenLog, Vec<Option<ChannelStats>>),
    around: &mut Surroundings<'_>,
) -> Result<PassOutcome, PipelineError> {
    let risk = match &network.risk {
        Some(head) => head.night(&log, options.demographics)?,
        None => None,
    };
    let apnea = match &network.apnea {
        Some(head) => head.night(&log)?,
        None => None,
    };
    let stages: Vec<Option<SleepStage>> = hypnogram.iter().map(|e| e.stage).collect();
    let notes = notes(pass, network, intake, &log, risk.as_ref());
    let night = Night {
        pass,
        statistics: SleepStatistics::from_hypnogram(&stages),
        risk,
        apnea,
        ledger: intake.ledger(),
        notes,
    };
    (around.emit)(Event::Night(Box::new(night.clone())));
    Ok(PassOutcome { hypnogram, log, stats, night })
}

/// What the user should know about how this night was computed.
fn notes(
    pass: Pass,
    network: &Network,
    intake: &Intake,
    log: &TokenLog,
    risk: Option<&OvernightRisk>,
) -> Vec<String> {
    let mut notes = Vec::new();
    if intake.broke_off() {
        notes.push("the recording broke off: this is the part before".to_owned());
    }
    let flat = intake.flat_channels();
    if !flat.is_empty() {
        notes.push(format!("one value throughout, masked: {}", flat.join(", ")));
    }
    match network.staging() {
        None => notes.push("the bundle has no staging head: no hypnogram".to_owned()),
        Some(stager) if pass == Pass::Live => notes.push(format!(
            "live stages look back {} min",
            network.base.onset_s(stager.live_context() as u64) / 60.0
        )),
        Some(stager) if stager.stretches(log.len()) > 1 => notes.push(format!(
            "the recording is longer than the staging head's longest sequence: staged in {} overlapping stretches",
            stager.stretches(log.len())
        )),
        Some(_) => {}
    }
    if network.risk.is_none() {
        notes.push("the bundle has no risk head: no hazards".to_owned());
    }
    let Some(risk) = risk else { return notes };
    if risk.log_hazards.is_empty() {
        notes.push(
            "no hazards without --age and --sex; the night's risk embedding does not need them"
                .to_owned(),
        );
    }
    if risk.tokens_left_out > 0 {
        notes.push(format!(
            "the risk head takes the first {} tokens of a night, as the reference does; {} later ones are left out",
            risk.tokens, risk.tokens_left_out
        ));
    }
    notes
}
