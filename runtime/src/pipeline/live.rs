//! The causal pass: one epoch after the other, the open window encoded anew with each.

use std::sync::atomic::Ordering;
use std::time::Instant;

use rayon::prelude::*;

use super::{Lane, Network, PipelineError, Surroundings, empty_window, put_embeddings, quality};
use crate::encode::TokenLog;
use crate::event::{EpochStatus, Event, Pass, SleepEpoch};
use crate::intake::{Intake, Normalization};
use crate::staging::{LiveStager, Logits, score_epoch};

/// The live pass between two epochs.
pub(super) struct Live<'a> {
    network: &'a Network,
    lanes: Vec<Lane>,
    pub(super) log: TokenLog,
    stager: Option<LiveStager>,
    /// Latest logits of the open window's tokens.
    window_logits: Vec<Logits>,
    /// Quality of each epoch so far.
    quality: Vec<f32>,
    pub(super) hypnogram: Vec<SleepEpoch>,
    /// Patches taken from the intake, and the first of the open window.
    taken: u64,
    window_start: u64,
}

impl<'a> Live<'a> {
    pub(super) fn new(network: &'a Network, intake: &Intake) -> Self {
        let lanes = Lane::of(network, intake);
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
    pub(super) fn take_epochs(
        &mut self,
        intake: &mut Intake,
        normalization: &Normalization,
        mut begin: Instant,
        around: &mut Surroundings<'_>,
    ) -> Result<(), PipelineError> {
        loop {
            let epoch = self.network.base.epoch_patches;
            let rows = epoch.min((intake.ready_patches() - self.taken) as usize);
            if rows < epoch && !(intake.finished() && rows > 0) {
                return Ok(());
            }
            self.epoch(intake, normalization, rows, around)?;
            // The first epoch of a drain bears the filtering of all; the next ones waited for it.
            self.network.timings.epoch_latency(begin.elapsed());
            begin = Instant::now();
            let window = self.network.base.window_patches as u64;
            if self.taken - self.window_start >= window {
                self.close_window(around);
            }
            (around.progress)(self.network.base.onset_s(self.taken));
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
        let whole = rows as f32 / self.network.base.epoch_patches as f32;
        self.quality.push(quality(self.lanes.iter().map(|l| l.present.as_slice()), whole));
        self.write_log();
        let until_s = self.network.base.onset_s(self.taken);
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
        let epoch_patches = self.network.base.epoch_patches;
        let window_epoch = self.window_start as usize / epoch_patches;
        let logits = self.window_logits.chunks(epoch_patches).skip(first_epoch - window_epoch);
        for (epoch, tokens) in (first_epoch..).zip(logits) {
            let tokens = (tokens, epoch_patches);
            let scored = score_epoch(Pass::Live, epoch as u32, tokens, self.quality[epoch], status);
            self.hypnogram.truncate(epoch);
            self.hypnogram.push(scored.clone());
            (around.emit)(Event::Epoch(scored));
        }
    }

    /// Settles the open window's epochs, if there is one, and begins the next.
    pub(super) fn close_window(&mut self, around: &mut Surroundings<'_>) {
        if self.taken == self.window_start {
            return;
        }
        let first_epoch = self.window_start as usize / self.network.base.epoch_patches;
        self.score(first_epoch, EpochStatus::Settled, around);
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
