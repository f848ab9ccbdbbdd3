//! The straight line: source thread -> rings -> filter, resample -> patches -> tokens -> windows
//! -> epochs -> events. [`live_pass`] does it causally, epoch by epoch; [`final_pass`] over the
//! whole recording, which equals the offline reference. Runs on the caller's thread and the
//! current rayon pool; nothing here reads a clock but for `--timings` and `--speed`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use sfm_models::{Bundle, Manifest, Modality, SleepStage};

use crate::dsp::normalize::ChannelStats;
use crate::encode::{BaseNetwork, EPOCH_PATCHES, TokenLog, WindowEncoder, WindowOutput};
use crate::event::{EpochStatus, Event, Night, Pass, SleepEpoch, WindowEmbedding};
use crate::infer::InferError;
use crate::infer::backend::Backend;
use crate::intake::{Intake, ModalityIntake, Normalization};
use crate::montage::Montage;
use crate::night::{Demographics, RiskHead};
use crate::ring::{RingWriter, WhenFull, rings};
use crate::signal::{SampleBlock, StreamInfo};
use crate::source::{Source, SourceError};
use crate::staging::{EPOCH_S, LIVE_CONTEXT, LiveStager, Logits, Stager, score_epoch};
use crate::statistics::SleepStatistics;
use crate::timing::{Step, Timings};

/// Seconds of signal a ring holds.
const RING_S: f64 = 120.0;

/// Windows the final pass works on at once, at most: 3 MB of signal each.
const MAX_LANES: usize = 32;

/// A bundle's networks on an engine.
pub struct Network {
    manifest: Manifest,
    base: Arc<BaseNetwork>,
    staging: Option<Arc<Stager>>,
    risk: Option<RiskHead>,
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
            timings,
        })
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
    while timings.measure(Step::Source, || source.next_block(&mut block))? {
        if let Some(speed) = speed {
            let end = (block.start + block.samples.len() as u64) as f64;
            let due = Duration::from_secs_f64(end / info.signals[block.channel].rate_hz / speed);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
        if !writer.push(&block) {
            break;
        }
    }
    Ok(())
}

/// The live pass between two epochs.
struct Live<'a> {
    network: &'a Network,
    lanes: Vec<LiveLane>,
    log: TokenLog,
    stager: Option<LiveStager>,
    /// Latest logits of the open window's tokens.
    window_logits: Vec<Logits>,
    /// Quality of each epoch so far.
    quality: Vec<f32>,
    hypnogram: Vec<SleepEpoch>,
    /// Patches taken from the intake, and the first of the open window.
    taken: u64,
    window_start: u64,
}

/// One modality of the live pass.
struct LiveLane {
    modality: Modality,
    encoder: WindowEncoder,
    patches: Vec<f32>,
    present: Vec<f32>,
}

impl<'a> Live<'a> {
    fn new(network: &'a Network, intake: &Intake) -> Self {
        let lanes = intake
            .modalities
            .iter()
            .map(|m| LiveLane {
                modality: m.modality,
                encoder: WindowEncoder::new(network.base.clone(), m.channels()),
                patches: Vec::new(),
                present: Vec::new(),
            })
            .collect();
        Self {
            network,
            lanes,
            log: TokenLog::new(network.base.embed_dim),
            stager: network.staging.clone().map(LiveStager::new),
            window_logits: Vec::new(),
            quality: Vec::new(),
            hypnogram: Vec::new(),
            taken: 0,
            window_start: 0,
        }
    }

    /// Takes every epoch that is complete; at the source's end the part of one that is left.
    fn take_epochs(
        &mut self,
        intake: &mut Intake,
        normalization: &Normalization,
        mut begin: Instant,
        around: &mut Surroundings<'_>,
    ) -> Result<(), PipelineError> {
        loop {
            let left = intake.ready_patches() - self.taken;
            let rows = if intake.finished() { left.min(EPOCH_PATCHES as u64) } else { left };
            if rows < EPOCH_PATCHES as u64 && !(intake.finished() && rows > 0) {
                return Ok(());
            }
            self.epoch(intake, normalization, EPOCH_PATCHES.min(rows as usize), around)?;
            // The first epoch of a drain bears the filtering of all; the next ones waited for it.
            self.network.timings.epoch_latency(begin.elapsed());
            begin = Instant::now();
            let window = self.network.base.window_patches as u64;
            if self.taken - self.window_start >= window {
                self.close_window(around);
            }
            (around.progress)(self.taken as f64 * EPOCH_S / EPOCH_PATCHES as f64);
            if around.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    fn epoch(
        &mut self,
        intake: &mut Intake,
        normalization: &Normalization,
        rows: usize,
        around: &mut Surroundings<'_>,
    ) -> Result<(), PipelineError> {
        let first = self.taken;
        self.lanes.par_iter_mut().zip(&mut intake.modalities).try_for_each(|(lane, source)| {
            lane.take(source, first, rows, normalization)?;
            lane.encoder.encode().map(drop)
        })?;
        self.taken += rows as u64;
        self.quality.push(quality(self.lanes.iter().map(|l| l.present.as_slice()), rows));
        self.write_log();
        let until_s = self.taken as f64 * EPOCH_S / EPOCH_PATCHES as f64;
        for gap in intake.take_gaps(until_s) {
            (around.emit)(Event::Gap(gap));
        }
        if let Some(stager) = &mut self.stager {
            self.window_logits = stager.stage(&self.log, self.window_start as usize)?;
            self.score(self.quality.len() - 1, EpochStatus::Provisional, around);
        }
        Ok(())
    }

    /// Writes the open window's tokens into the log anew.
    fn write_log(&mut self) {
        let start = self.window_start as usize;
        self.log.truncate(start);
        self.log.grow((self.taken - self.window_start) as usize);
        for lane in &mut self.lanes {
            let latest = lane.encoder.latest();
            self.log.write(start, lane.modality, latest.embeddings, latest.present);
        }
    }

    /// Scores the open window's epochs from `first_epoch` on and emits them.
    fn score(&mut self, first_epoch: usize, status: EpochStatus, around: &mut Surroundings<'_>) {
        let window_epoch = self.window_start as usize / EPOCH_PATCHES;
        let logits = self.window_logits.chunks(EPOCH_PATCHES).skip(first_epoch - window_epoch);
        for (epoch, tokens) in (first_epoch..).zip(logits) {
            let scored = score_epoch(Pass::Live, epoch as u32, tokens, self.quality[epoch], status);
            self.hypnogram.truncate(epoch);
            self.hypnogram.push(scored.clone());
            (around.emit)(Event::Epoch(scored));
        }
    }

    /// Settles the open window's epochs, if there is one, and begins the next.
    fn close_window(&mut self, around: &mut Surroundings<'_>) {
        if self.taken == self.window_start {
            return;
        }
        self.score(self.window_start as usize / EPOCH_PATCHES, EpochStatus::Settled, around);
        let rows = (self.taken - self.window_start) as usize;
        let mut window =
            empty_window(Pass::Live, self.window_start as usize, rows, &self.network.base);
        for lane in &mut self.lanes {
            put_embeddings(&mut window, lane.modality, lane.encoder.latest());
            lane.encoder.begin();
        }
        (around.emit)(Event::Window(Box::new(window)));
        if let Some(stager) = &mut self.stager {
            stager.settle(&self.log);
        }
        self.window_start = self.taken;
    }
}

impl LiveLane {
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

/// The final pass: windows in batches, one lane each, then the heads over the night.
struct Final<'a> {
    network: &'a Network,
    lanes: Vec<Vec<LiveLane>>,
    log: TokenLog,
    quality: Vec<f32>,
    taken: u64,
}

impl<'a> Final<'a> {
    fn new(network: &'a Network, intake: &Intake) -> Self {
        // Twice as many windows at once as threads: modalities differ in cost.
        let lanes = (0..(2 * rayon::current_num_threads()).min(MAX_LANES))
            .map(|_| Live::new(network, intake).lanes)
            .collect();
        Self {
            network,
            lanes,
            log: TokenLog::new(network.base.embed_dim),
            quality: Vec::new(),
            taken: 0,
        }
    }

    /// Takes windows as long as a batch of them is complete; at the source's end what is left.
    fn take_windows(
        &mut self,
        intake: &mut Intake,
        normalization: &Normalization,
        around: &mut Surroundings<'_>,
    ) -> Result<(), PipelineError> {
        let window = self.network.base.window_patches as u64;
        let batch = window * self.lanes.len() as u64;
        loop {
            let rows = (intake.ready_patches() - self.taken).min(batch);
            if rows < batch && !(intake.finished() && rows > 0) {
                return Ok(());
            }
            self.batch(intake, normalization, rows as usize, around)?;
            (around.progress)(self.taken as f64 * EPOCH_S / EPOCH_PATCHES as f64);
        }
    }

    fn batch(
        &mut self,
        intake: &mut Intake,
        normalization: &Normalization,
        rows: usize,
        around: &mut Surroundings<'_>,
    ) -> Result<(), PipelineError> {
        let window = self.network.base.window_patches;
        let first = self.taken;
        let sizes: Vec<usize> =
            (0..rows).step_by(window).map(|start| window.min(rows - start)).collect();
        for (lane, &size) in self.lanes.iter_mut().zip(&sizes) {
            let at = self.taken;
            lane.par_iter_mut().zip(&mut intake.modalities).for_each(|(lane, source)| {
                source.gather(at, size, normalization, &mut lane.patches, &mut lane.present);
            });
            self.taken += size as u64;
        }
        let open = &mut self.lanes[..sizes.len()];
        open.par_iter_mut().flat_map(|lane| lane.par_iter_mut()).try_for_each(|lane| {
            lane.encoder.begin();
            lane.encoder.push(&lane.patches, &lane.present)?;
            lane.encoder.encode().map(drop)
        })?;
        for gap in intake.take_gaps(self.taken as f64 * EPOCH_S / EPOCH_PATCHES as f64) {
            (around.emit)(Event::Gap(gap));
        }
        self.log.grow(rows);
        for (index, (lanes, &size)) in self.lanes.iter_mut().zip(&sizes).enumerate() {
            let start = first as usize + index * window;
            let mut event = empty_window(Pass::Final, start, size, &self.network.base);
            for lane in lanes.iter_mut() {
                let latest = lane.encoder.latest();
                self.log.write(start, lane.modality, latest.embeddings, latest.present);
                put_embeddings(&mut event, lane.modality, latest);
            }
            (around.emit)(Event::Window(Box::new(event)));
            for epoch in 0..size.div_ceil(EPOCH_PATCHES) {
                let from = epoch * EPOCH_PATCHES;
                let here = EPOCH_PATCHES.min(size - from);
                let present = lanes.iter().map(|lane| {
                    let channels = lane.present.len() / size;
                    &lane.present[from * channels..(from + here) * channels]
                });
                self.quality.push(quality(present, here));
            }
        }
        Ok(())
    }

    fn stage(&self, around: &mut Surroundings<'_>) -> Result<Vec<SleepEpoch>, PipelineError> {
        let Some(stager) = self.network.staging() else { return Ok(Vec::new()) };
        let logits = stager.night(&self.log)?;
        let scored: Vec<SleepEpoch> = logits
            .chunks(EPOCH_PATCHES)
            .zip(&self.quality)
            .enumerate()
            .map(|(epoch, (tokens, &quality))| {
                score_epoch(Pass::Final, epoch as u32, tokens, quality, EpochStatus::Final)
            })
            .collect();
        for epoch in &scored {
            (around.emit)(Event::Epoch(epoch.clone()));
        }
        Ok(scored)
    }
}

/// Part of an epoch's signal that is present: the mean over its patches and the modalities, each
/// with `rows` patches of its channels.
fn quality<'a>(modalities: impl Iterator<Item = &'a [f32]>, rows: usize) -> f32 {
    let of_modalities: Vec<f32> = modalities
        .map(|present| present.iter().sum::<f32>() / present.len().max(1) as f32)
        .collect();
    let mean = of_modalities.iter().sum::<f32>() / of_modalities.len().max(1) as f32;
    mean * rows as f32 / EPOCH_PATCHES as f32
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
    let stages: Vec<Option<SleepStage>> = hypnogram.iter().map(|e| e.stage).collect();
    let mut notes = notes(pass, network, options, &log);
    if let Some(risk) = risk.as_ref().filter(|r| r.tokens_left_out > 0) {
        notes.push(format!(
            "the risk head takes the first {} tokens of a night, as the reference does; {} later ones are left out",
            risk.tokens, risk.tokens_left_out
        ));
    }
    let flat = intake.flat_channels();
    if !flat.is_empty() {
        notes.push(format!("one value throughout, masked: {}", flat.join(", ")));
    }
    let night = Night {
        pass,
        statistics: SleepStatistics::from_hypnogram(&stages),
        risk,
        ledger: intake.ledger(),
        notes,
    };
    (around.emit)(Event::Night(Box::new(night.clone())));
    Ok(PassOutcome { hypnogram, log, stats, night })
}

/// What the user should know about how this night was computed.
fn notes(pass: Pass, network: &Network, options: &Options, log: &TokenLog) -> Vec<String> {
    let mut notes = Vec::new();
    match network.staging() {
        None => notes.push("the bundle has no staging head: no hypnogram".to_owned()),
        Some(_) if pass == Pass::Live => notes.push(format!(
            "live stages look back {} min",
            LIVE_CONTEXT as f64 * EPOCH_S / EPOCH_PATCHES as f64 / 60.0
        )),
        Some(stager) if stager.stretches(log.len()) > 1 => notes.push(format!(
            "the recording is longer than the staging head's longest sequence: staged in {} overlapping stretches",
            stager.stretches(log.len())
        )),
        Some(_) => {}
    }
    match (&network.risk, options.demographics) {
        (None, _) => notes.push("the bundle has no risk head: no hazards".to_owned()),
        (Some(head), None) if head.needs_demographics() => notes.push(
            "no hazards without --age and --sex; the night's risk embedding does not need them"
                .to_owned(),
        ),
        _ => {}
    }
    notes
}
