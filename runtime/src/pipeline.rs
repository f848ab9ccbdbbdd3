//! The straight line: source thread -> rings -> filter, resample -> patches -> tokens -> windows
//! -> epochs -> events. [`live_pass`] does it causally, epoch by epoch; [`final_pass`] over the
//! whole recording, which equals the offline reference; [`live_session`] is the causal pass at
//! the bedside. Runs on the caller's thread and the current rayon pool; nothing here reads a clock
//! but for `--timings` and `--speed`.

mod conclude;
mod feed;
mod lane;
mod live;
mod load;
mod shown;
mod watch;
mod whole;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use sfm_models::{Bundle, Manifest, Modality};

use self::conclude::conclude;
use self::feed::run;

use self::live::Live;
pub use self::load::Load;
use self::shown::Shown;
use self::whole::Final;
use crate::dsp::normalize::ChannelStats;
use crate::encode::{BaseNetwork, TokenLog, WindowEncoder};
use crate::event::{Event, Night, Pass, SleepEpoch};
use crate::infer::InferError;
use crate::infer::backend::Backend;
use crate::intake::{Intake, Normalization};
use crate::journal::JournalWindow;
use crate::lights::Lights;
use crate::montage::Montage;
use crate::montage::derived::DerivedSource;
use crate::night::{ApneaHead, Demographics, RiskHead};
use crate::quality::MaskRule;
use crate::source::{Source, SourceError};
use crate::staging::Stager;
use crate::telemetry::InferenceMeter;
use crate::timing::Timings;

/// Seconds of signal a ring holds.
const RING_S: f64 = 120.0;
/// The same of a live session: as long may the pipeline stand still without losing a sample.
const LIVE_RING_S: f64 = 300.0;

/// Channels of a modality for which plans are compiled before a session; no more come from sensors.
const MOST_CHANNELS: usize = 16;

/// A bundle's networks on an engine.
pub struct Network {
    manifest: Manifest,
    base: Arc<BaseNetwork>,
    staging: Option<Arc<Stager>>,
    risk: Option<RiskHead>,
    apnea: Option<ApneaHead>,
    mask: MaskRule,
    backend: Backend,
    timings: Arc<Timings>,
}

impl Network {
    /// Loads all of `bundle` on `backend`.
    ///
    /// # Errors
    /// [`InferError`] if the engine refuses a graph.
    pub fn load(bundle: &Bundle, backend: &Backend) -> Result<Self, InferError> {
        Self::load_with(bundle, backend, |_| ())
    }

    /// Loads `bundle` for several live sessions at once, each on a thread of its own: windows of
    /// all of them share runs of the encoder. A window waits up to `patience` for others.
    ///
    /// # Errors
    /// [`InferError`] if the engine refuses a graph.
    pub fn load_shared(
        bundle: &Bundle,
        backend: &Backend,
        patience: Duration,
    ) -> Result<Self, InferError> {
        Self::load_with(bundle, backend, |base| base.share_runs(patience))
    }

    fn load_with(
        bundle: &Bundle,
        backend: &Backend,
        prepare: impl FnOnce(&mut BaseNetwork),
    ) -> Result<Self, InferError> {
        let timings = Arc::new(Timings::metered(InferenceMeter::default()));
        let mut base = BaseNetwork::load(bundle, backend, timings.clone())?;
        prepare(&mut base);
        Ok(Self {
            manifest: bundle.manifest().clone(),
            base: Arc::new(base),
            staging: Stager::load(bundle, backend, timings.clone())?.map(Arc::new),
            risk: RiskHead::load(bundle, backend, timings.clone())?,
            apnea: ApneaHead::load(bundle, backend, timings.clone())?,
            mask: bundle.manifest().bad_signals.into(),
            backend: backend.clone(),
            timings,
        })
    }

    /// Gives the network flat lines and other bad signals too, as the reference does, whatever its
    /// bundle says. Only a channel that is flat throughout stays absent.
    #[must_use]
    pub fn keeping_bad(self) -> Self {
        Self { mask: MaskRule::KeepBad, ..self }
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

    /// Runs every shape of the live pass once. An engine compiles a plan for each, which would delay
    /// the first stages of a session.
    ///
    /// # Errors
    /// [`InferError`] of the first graph that does not run.
    pub fn warm_up(&self) -> Result<(), InferError> {
        let most = self.manifest.base.max_channels.values().copied().max();
        self.base.warm_up(most.unwrap_or(1).min(MOST_CHANNELS))?;
        match &self.staging {
            Some(stager) => stager.warm_up(self.base.epoch_patches),
            None => Ok(()),
        }
    }

    /// Runs of the encoder that sessions have shared so far, by size as in
    /// [`crate::infer::batch::SIZES`]; `None` unless loaded with [`Network::load_shared`].
    pub fn shared_runs(&self) -> Option<[u64; crate::infer::batch::SIZES.len()]> {
        self.base.shared.as_ref().map(|shared| shared.runs())
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
    /// Emit [`Event::Signals`] too.
    pub signals: bool,
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
    /// Epochs of a live session that had no provisional score because it could not keep up.
    pub skipped_epochs: u32,
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

/// What goes on outside of a pass: the taker of its events, its position, the wish to stop, and what
/// is known of the night by then.
pub struct Surroundings<'a> {
    /// Takes every event, in order.
    pub emit: &'a mut dyn FnMut(Event),
    /// Told the position in the recording, seconds, after every step.
    pub progress: &'a mut dyn FnMut(f64),
    /// Set to stop at the next opportunity.
    pub stop: &'a AtomicBool,
    /// Asked at the end when the lights went off and on.
    pub lights: &'a dyn Fn() -> Lights,
}

/// What a live session adds to the causal pass.
pub struct LiveSession<'a> {
    /// The windows that were settled before a restart, from window 0 on and whole. The source
    /// yields what was recorded of them first: it goes through filters, statistics and ledger, but
    /// not through the network. None in a session that begins.
    pub settled: Vec<JournalWindow>,
    /// Takes the events of those windows, in order and without provisional epochs: they were
    /// emitted before the restart.
    pub restore: &'a mut dyn FnMut(Event),
    /// Takes every window that is closed by this run, for the journal; the last may be a part.
    pub closed_window: &'a mut dyn FnMut(JournalWindow),
    /// Told how the session keeps up.
    pub load: Arc<Load>,
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
    causal_pass(source, montage, network, options, around, None)
}

/// The causal pass over a live session, until its source ends; `around.stop` cuts it off before
/// that, and what is in the rings is then lost. Rings hold 300 s. From the moment on at which the
/// source cannot wait any more (see [`Source::can_wait`]), blocks that do not fit are dropped, and
/// while more than one epoch is due only the newest gets a provisional score; every window is
/// settled all the same. Everything else is [`live_pass`]'s to the bit, whatever was restored.
///
/// # Errors
/// [`PipelineError`]; everything emitted up to there is valid.
pub fn live_session(
    source: &mut dyn Source,
    montage: &Montage,
    network: &Network,
    options: &Options,
    around: &mut Surroundings<'_>,
    session: LiveSession<'_>,
) -> Result<PassOutcome, PipelineError> {
    causal_pass(source, montage, network, options, around, Some(session))
}

fn causal_pass(
    source: &mut dyn Source,
    montage: &Montage,
    network: &Network,
    options: &Options,
    around: &mut Surroundings<'_>,
    session: Option<LiveSession<'_>>,
) -> Result<PassOutcome, PipelineError> {
    let mut source = DerivedSource::new(source, montage);
    let info = source.info().clone();
    let normalization = match (&options.stats, info.preprocessed) {
        (_, true) => Normalization::AsStored,
        (Some(stats), false) => Normalization::Fixed(stats.clone()),
        (None, false) => Normalization::Running,
    };
    let rings_s = if session.is_some() { LIVE_RING_S } else { RING_S };
    let drive = |mut intake: Intake| {
        intake.watch_quality(&info);
        let mut live = Live::new(network, &intake, session);
        let mut shown = Shown::new(options.signals, live.restored_patches());
        while !intake.finished() && !around.stop.load(Ordering::Relaxed) {
            let begin = Instant::now();
            intake.advance(network.timings());
            shown.show(&intake, &mut |event, known| live.emit_or_restore(event, known, around));
            live.take_epochs(&mut intake, &normalization, begin, around)?;
        }
        live.close_window(around)?;
        for gap in intake.take_last_gaps() {
            (around.emit)(Event::Gap(gap));
        }
        let stats = intake.conclude_stats(info.signals.len());
        let hypnogram = std::mem::take(&mut live.hypnogram);
        let skipped_epochs = live.skipped_epochs;
        let found = (hypnogram, live.log, stats);
        let outcome = conclude(Pass::Live, network, options, &intake, found, &live.watch, around)?;
        Ok(PassOutcome { skipped_epochs, ..outcome })
    };
    run(&mut source, montage, network, Pass::Live, rings_s, options.speed, drive)
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
    let mut source = DerivedSource::new(source, montage);
    let info = source.info().clone();
    let stats = options.stats.clone().unwrap_or_else(|| vec![None; info.signals.len()]);
    let normalization = if info.preprocessed {
        Normalization::AsStored
    } else {
        Normalization::Fixed(stats.clone())
    };
    let drive = |mut intake: Intake| {
        intake.watch_quality(&info);
        let mut whole = Final::new(network, &intake);
        let mut shown = Shown::new(options.signals, 0);
        while !intake.finished() {
            if around.stop.load(Ordering::Relaxed) {
                return Err(PipelineError::Interrupted);
            }
            intake.advance(network.timings());
            shown.show(&intake, &mut |event, _| (around.emit)(event));
            whole.take_windows(&mut intake, &normalization, around)?;
        }
        for gap in intake.take_last_gaps() {
            (around.emit)(Event::Gap(gap));
        }
        let hypnogram = whole.stage(around)?;
        let found = (hypnogram, whole.log, stats);
        conclude(Pass::Final, network, options, &intake, found, &whole.watch, around)
    };
    run(&mut source, montage, network, Pass::Final, RING_S, None, drive)
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
    let mut source = DerivedSource::new(source, montage);
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
    run(&mut source, montage, network, Pass::Final, RING_S, None, drive)
}
