//! The causal pass: one epoch after the other, the open window encoded anew with each. Windows
//! that were settled before a restart are taken over instead.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use sfm_models::Modality;

use super::lane::{Lane, empty_window, put_embeddings, signal};
use super::watch::Watch;
use super::{LiveSession, Network, PipelineError, Surroundings};
use crate::encode::{TokenLog, WindowOutput};
use crate::event::{EpochStatus, Event, Pass, SleepEpoch, WindowEmbedding};
use crate::infer::InferError;
use crate::intake::{Intake, ModalityIntake, Normalization};
use crate::journal::{JournalEpoch, JournalModality, JournalWindow};
use crate::staging::{EpochSignal, LiveStager, Logits, score_epoch, scored_epoch};

/// Night for whose tokens a live session claims memory when it begins, seconds.
const LIVE_ROOM_S: f64 = 12.0 * 3600.0;

/// The live pass between two epochs.
pub(super) struct Live<'n, 's> {
    network: &'n Network,
    lanes: Vec<Lane>,
    pub(super) log: TokenLog,
    stager: Option<LiveStager>,
    /// Latest logits of the open window's tokens.
    window_logits: Vec<Logits>,
    /// The log and the logits hold all of the open window; not after an epoch was skipped.
    encoded: bool,
    /// The signals of each epoch so far.
    signals: Vec<EpochSignal>,
    pub(super) watch: Watch,
    /// The settled score of every epoch.
    pub(super) hypnogram: Vec<SleepEpoch>,
    /// Patches taken from the intake, and the first of the open window.
    taken: u64,
    window_start: u64,
    session: Option<LiveSession<'s>>,
    /// The open window, if it was settled before a restart, and those behind it.
    known: Option<JournalWindow>,
    settled: std::vec::IntoIter<JournalWindow>,
    pub(super) skipped_epochs: u32,
}

impl<'n, 's> Live<'n, 's> {
    pub(super) fn new(
        network: &'n Network,
        intake: &Intake,
        mut session: Option<LiveSession<'s>>,
    ) -> Self {
        let lanes = Lane::of(network, intake);
        let room = session.as_ref().map_or(0, |_| network.base.patches_in(LIVE_ROOM_S));
        let settled = session.as_mut().map(|s| std::mem::take(&mut s.settled)).unwrap_or_default();
        Self {
            network,
            lanes,
            log: TokenLog::with_room(network.base.embed_dim, room),
            stager: network.staging.clone().map(LiveStager::new),
            window_logits: Vec::new(),
            encoded: true,
            signals: Vec::new(),
            watch: Watch::new(Pass::Live),
            hypnogram: Vec::new(),
            taken: 0,
            window_start: 0,
            session,
            known: None,
            settled: settled.into_iter(),
            skipped_epochs: 0,
        }
    }

    /// Patches of the windows that were settled before a restart.
    pub(super) fn restored_patches(&self) -> u64 {
        self.settled.as_slice().iter().map(|window| u64::from(window.patches)).sum()
    }

    /// Emits `event`, or hands it over as one that was emitted before a restart.
    pub(super) fn emit_or_restore(
        &mut self,
        event: Event,
        known: bool,
        around: &mut Surroundings<'_>,
    ) {
        match &mut self.session {
            Some(session) if known => (session.restore)(event),
            _ => (around.emit)(event),
        }
    }

    /// Takes every epoch that is complete; at the source's end the part of one that is left.
    pub(super) fn take_epochs(
        &mut self,
        intake: &mut Intake,
        normalization: &Normalization,
        mut begin: Instant,
        around: &mut Surroundings<'_>,
    ) -> Result<(), PipelineError> {
        if let Some(session) = &self.session {
            session.load.note_rings(intake.take_fill(), intake.overflow());
        }
        loop {
            let epoch = self.network.base.epoch_patches;
            let rows = epoch.min((intake.ready_patches() - self.taken) as usize);
            if rows < epoch && !(intake.finished() && rows > 0) {
                return Ok(());
            }
            if self.taken == self.window_start {
                self.begin_window()?;
            }
            let scored = if self.known.is_some() {
                self.pass_over(intake, normalization, rows, around);
                false
            } else {
                self.epoch(intake, normalization, rows, around)?
            };
            // The first epoch of a drain bears the filtering of all; the next ones waited for it.
            self.note_epoch(scored.then(|| begin.elapsed()));
            begin = Instant::now();
            if self.window_is_full() {
                self.close_window(around)?;
            }
            (around.progress)(self.network.base.onset_s(self.taken));
            if around.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    fn note_epoch(&self, latency: Option<Duration>) {
        if let Some(latency) = latency {
            self.network.timings.epoch_latency(latency);
        }
        if let Some(session) = &self.session {
            session.load.note_epoch(latency);
        }
    }

    fn window_is_full(&self) -> bool {
        self.taken - self.window_start >= self.network.base.window_patches as u64
    }

    /// Looks whether the window that begins is known; behind the last known one the stager takes
    /// over what they left.
    fn begin_window(&mut self) -> Result<(), InferError> {
        let last_was_known = self.known.take().is_some();
        self.known = self.settled.next().filter(|window| self.fits(window));
        if self.known.is_some() {
            return Ok(());
        }
        // Nothing behind a window that does not fit can be trusted.
        self.settled = Vec::new().into_iter();
        if let Some(stager) = self.stager.as_mut().filter(|_| last_was_known) {
            stager.take_over(&self.log, self.network.base.window_patches)?;
        }
        Ok(())
    }

    /// The window is the one that begins here, whole and of this network's sizes.
    fn fits(&self, window: &JournalWindow) -> bool {
        let base = &self.network.base;
        let rows = base.window_patches;
        window.patches as usize == rows
            && u64::from(window.first_patch) == self.window_start
            && window.modalities.iter().flatten().all(|m| {
                m.present.len() == rows
                    && m.tokens.len() == rows * base.embed_dim
                    && m.pooled.len() == base.embed_dim
            })
    }

    /// An epoch of a known window: all but the network.
    fn pass_over(
        &mut self,
        intake: &mut Intake,
        normalization: &Normalization,
        rows: usize,
        around: &mut Surroundings<'_>,
    ) {
        let first = self.taken;
        intake.modalities.par_iter_mut().for_each(|m| m.pass_over(first, rows, normalization));
        self.taken += rows as u64;
        let Some(window) = &self.known else { return };
        let from = (first - self.window_start) as usize;
        let present = self.lanes.iter().map(|lane| lane.modality).map(|modality| {
            let known = window.modalities[modality.index()].as_ref();
            let present = known.and_then(|m| m.present.get(from..from + rows)).unwrap_or_default();
            (modality, present.iter().any(|&p| p > 0.0))
        });
        let present: Vec<_> = present.collect();
        let epoch = self.signals.len() as u32;
        let settled = window.epochs.iter().find(|e| e.epoch == epoch);
        // Its stage is known: nothing asks for the evidence again.
        let quality = settled.map_or(0.0, |e| e.quality);
        let signal = EpochSignal { present: quality, evidence: quality, sound: 1.0 };
        self.tell_signals(intake, rows, signal, &present, around);
    }

    /// Takes one epoch through the network; `false` if its provisional score was skipped.
    fn epoch(
        &mut self,
        intake: &mut Intake,
        normalization: &Normalization,
        rows: usize,
        around: &mut Surroundings<'_>,
    ) -> Result<bool, PipelineError> {
        let first = self.taken;
        let newer_is_due = intake.ready_patches() - first >= 2 * rows as u64;
        let closes =
            first + rows as u64 - self.window_start >= self.network.base.window_patches as u64;
        let skip = intake.is_live() && newer_is_due && !closes;
        let work = |lane: &mut Lane, source: &mut ModalityIntake| {
            lane.take(source, first, rows, normalization)?;
            if skip { Ok(()) } else { lane.encoder.encode().map(drop) }
        };
        if self.network.base.shared.is_some() {
            on_own_threads(&mut self.lanes, &mut intake.modalities, work)?;
        } else {
            let pairs = self.lanes.par_iter_mut().zip(&mut intake.modalities);
            pairs.try_for_each(|(lane, source)| work(lane, source))?;
        }
        self.taken += rows as u64;
        let whole = rows as f32 / self.network.base.epoch_patches as f32;
        let shares = || self.lanes.iter().map(|l| (l.modality, l.batch.shares.as_slice()));
        let signal = signal(shares(), whole);
        let present = shares().map(|(m, shares)| (m, shares.iter().any(|&p| p > 0.0)));
        let present: Vec<_> = present.collect();
        self.tell_signals(intake, rows, signal, &present, around);
        self.encoded = false;
        if skip {
            self.skipped_epochs += 1;
            if let Some(session) = &self.session {
                session.load.note_skipped();
            }
            return Ok(false);
        }
        self.stage()?;
        self.score(self.signals.len() - 1, EpochStatus::Provisional, around);
        Ok(true)
    }

    /// Gaps, modalities and signal quality up to the end of the epoch that was just taken.
    fn tell_signals(
        &mut self,
        intake: &mut Intake,
        rows: usize,
        signal: EpochSignal,
        modalities: &[(Modality, bool)],
        around: &mut Surroundings<'_>,
    ) {
        let emit: &mut dyn FnMut(Event) = match &mut self.session {
            Some(session) if self.known.is_some() => &mut *session.restore,
            _ => &mut *around.emit,
        };
        for gap in intake.take_gaps(self.taken) {
            emit(Event::Gap(gap));
        }
        let part = rows as f64 / self.network.base.epoch_patches as f64;
        let epoch = self.signals.len() as u32;
        let sound = self.watch.epoch(epoch, part, modalities.iter().copied(), intake, emit);
        self.signals.push(EpochSignal { sound, ..signal });
    }

    /// Writes the open window's tokens, which the lanes have just encoded, into the log anew and
    /// stages them.
    fn stage(&mut self) -> Result<(), InferError> {
        let start = self.window_start as usize;
        self.log.truncate(start);
        self.log.grow((self.taken - self.window_start) as usize);
        for lane in &mut self.lanes {
            let latest = lane.encoder.latest();
            self.log.write(start, lane.modality, latest.embeddings, latest.present);
        }
        if let Some(stager) = &mut self.stager {
            self.window_logits = stager.stage(&self.log, start)?;
        }
        self.encoded = true;
        Ok(())
    }

    /// Scores the open window's epochs from `first_epoch` on and emits them.
    fn score(&mut self, first_epoch: usize, status: EpochStatus, around: &mut Surroundings<'_>) {
        let epoch_patches = self.network.base.epoch_patches;
        let window_epoch = self.window_start as usize / epoch_patches;
        let logits = self.window_logits.chunks(epoch_patches).skip(first_epoch - window_epoch);
        for (epoch, tokens) in (first_epoch..).zip(logits) {
            let tokens = (tokens, epoch_patches);
            let scored = score_epoch(Pass::Live, epoch as u32, tokens, self.signals[epoch], status);
            if status == EpochStatus::Settled {
                self.hypnogram.push(scored.clone());
            }
            (around.emit)(Event::Epoch(scored));
        }
    }

    /// Settles the open window's epochs, if there is one, and begins the next.
    pub(super) fn close_window(
        &mut self,
        around: &mut Surroundings<'_>,
    ) -> Result<(), PipelineError> {
        if self.taken == self.window_start {
            return Ok(());
        }
        if self.known.is_some() {
            self.restore_window();
        } else {
            if !self.encoded {
                self.lanes.par_iter_mut().try_for_each(|lane| lane.encoder.encode().map(drop))?;
                self.stage()?;
            }
            self.settle_window(around);
        }
        self.window_start = self.taken;
        Ok(())
    }

    fn settle_window(&mut self, around: &mut Surroundings<'_>) {
        let start = self.window_start as usize;
        let rows = self.taken as usize - start;
        let first_epoch = start / self.network.base.epoch_patches;
        self.score(first_epoch, EpochStatus::Settled, around);
        let mut window = empty_window(Pass::Live, start, rows, &self.network.base);
        for lane in &self.lanes {
            put_embeddings(&mut window, lane.modality, lane.encoder.latest());
        }
        if let Some(session) = &mut self.session {
            let epochs = self.hypnogram.get(first_epoch..).unwrap_or_default();
            (session.closed_window)(journal_window(&self.lanes, epochs, &window));
        }
        (around.emit)(Event::Window(Box::new(window)));
        self.lanes.iter_mut().for_each(|lane| lane.encoder.begin());
        if let Some(stager) = &mut self.stager {
            stager.settle(&self.log);
        }
    }

    /// Takes over a known window as it was settled; of one that the recording does not hold to its
    /// end, the part it holds.
    fn restore_window(&mut self) {
        let (Some(known), Some(session)) = (&self.known, &mut self.session) else { return };
        let (start, rows) = (self.window_start as usize, (self.taken - self.window_start) as usize);
        let embed_dim = self.network.base.embed_dim;
        self.log.grow(rows);
        let mut window = empty_window(Pass::Live, start, rows, &self.network.base);
        for modality in self.lanes.iter().map(|lane| lane.modality) {
            let Some(known) = &known.modalities[modality.index()] else { continue };
            let output = WindowOutput {
                embeddings: &known.tokens[..rows * embed_dim],
                present: &known.present[..rows],
                window: &known.pooled,
            };
            self.log.write(start, modality, output.embeddings, output.present);
            put_embeddings(&mut window, modality, output);
        }
        for epoch in &known.epochs {
            let Some(&signal) = self.signals.get(epoch.epoch as usize) else { continue };
            let score = (epoch.stage, epoch.probabilities);
            let settled = EpochStatus::Settled;
            let scored = scored_epoch(Pass::Live, epoch.epoch, score, signal, settled);
            self.hypnogram.push(scored.clone());
            (session.restore)(Event::Epoch(scored));
        }
        (session.restore)(Event::Window(Box::new(window)));
    }
}

/// Each modality on a thread of its own, where it waits for other beds; a pool's worker must not.
fn on_own_threads(
    lanes: &mut [Lane],
    sources: &mut [ModalityIntake],
    work: impl Fn(&mut Lane, &mut ModalityIntake) -> Result<(), InferError> + Sync,
) -> Result<(), InferError> {
    std::thread::scope(|scope| {
        let work = &work;
        let pairs = lanes.iter_mut().zip(sources);
        let threads: Vec<_> =
            pairs.map(|(lane, source)| scope.spawn(move || work(lane, source))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// A window that was just closed, for the journal.
fn journal_window(
    lanes: &[Lane],
    epochs: &[SleepEpoch],
    window: &WindowEmbedding,
) -> JournalWindow {
    let mut modalities: [Option<JournalModality>; Modality::COUNT] = Default::default();
    for lane in lanes {
        let latest = lane.encoder.latest();
        let tokens = latest.present.iter().any(|&p| p > 0.0).then(|| JournalModality {
            tokens: latest.embeddings.to_vec(),
            present: latest.present.to_vec(),
            pooled: latest.window.to_vec(),
        });
        modalities[lane.modality.index()] = tokens;
    }
    JournalWindow {
        window: window.window,
        first_patch: window.first_patch,
        patches: window.patches,
        modalities,
        epochs: epochs.iter().map(JournalEpoch::from).collect(),
    }
}
