//! The pass over the whole recording: windows in batches, then the heads over the night.

use rayon::prelude::*;

use super::lane::{Lane, empty_window, put_embeddings, signal};
use super::watch::Watch;
use super::{Network, PipelineError, Surroundings};
use crate::encode::TokenLog;
use crate::event::{EpochStatus, Event, Pass, SleepEpoch};
use crate::infer::{InferError, batch};
use crate::intake::{Intake, Normalization};
use crate::staging::{EpochSignal, score_epoch};

/// Windows worked on at once, at most: 3 MB of signal each.
const MAX_LANES: usize = 32;

/// The final pass: windows in batches, one lane each, then the heads over the night.
pub(super) struct Final<'a> {
    network: &'a Network,
    lanes: Vec<Vec<Lane>>,
    pub(super) log: TokenLog,
    signals: Vec<EpochSignal>,
    pub(super) watch: Watch,
    taken: u64,
}

impl<'a> Final<'a> {
    pub(super) fn new(network: &'a Network, intake: &Intake) -> Self {
        // Twice as many windows at once as threads: modalities differ in cost.
        let lanes = (0..(2 * rayon::current_num_threads()).min(MAX_LANES))
            .map(|_| Lane::of(network, intake))
            .collect();
        Self {
            network,
            lanes,
            log: TokenLog::new(network.base.embed_dim),
            signals: Vec::new(),
            watch: Watch::new(Pass::Final),
            taken: 0,
        }
    }

    /// Takes windows as long as a batch of them is complete; at the source's end what is left.
    pub(super) fn take_windows(
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
            (around.progress)(self.network.base.onset_s(self.taken));
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
                source.gather(at, size, normalization, &mut lane.batch);
            });
            self.taken += size as u64;
        }
        let open = &mut self.lanes[..sizes.len()];
        let shared = self.network.base.shared.is_some();
        open.par_iter_mut().flat_map(|lane| lane.par_iter_mut()).try_for_each(|lane| {
            lane.encoder.begin();
            lane.push()?;
            if shared { Ok(()) } else { lane.encoder.encode().map(drop) }
        })?;
        if shared {
            encode_together(open)?;
        }
        self.log.grow(rows);
        for (index, &size) in sizes.iter().enumerate() {
            // Window by window: how many are in a batch depends on the threads.
            self.close_window(intake, index, first + (index * window) as u64, size, around);
        }
        Ok(())
    }

    /// Tells of window `index` of the batch, `size` patches from patch `first` on.
    fn close_window(
        &mut self,
        intake: &mut Intake,
        index: usize,
        first: u64,
        size: usize,
        around: &mut Surroundings<'_>,
    ) {
        for gap in intake.take_gaps(first + size as u64) {
            (around.emit)(Event::Gap(gap));
        }
        let epoch_patches = self.network.base.epoch_patches;
        for from in (0..size).step_by(epoch_patches) {
            let here = epoch_patches.min(size - from);
            let lanes = self.lanes[index].iter().map(|lane| {
                let channels = lane.batch.shares.len() / size;
                (lane.modality, &lane.batch.shares[from * channels..(from + here) * channels])
            });
            let part = here as f64 / epoch_patches as f64;
            let signal = signal(lanes.clone(), part as f32);
            let modalities = lanes.map(|(m, shares)| (m, shares.iter().any(|&p| p > 0.0)));
            let epoch = self.signals.len() as u32;
            let sound = self.watch.epoch(epoch, part, modalities, intake, around.emit);
            self.signals.push(EpochSignal { sound, ..signal });
        }
        let mut event = empty_window(Pass::Final, first as usize, size, &self.network.base);
        for lane in &self.lanes[index] {
            let latest = lane.encoder.latest();
            self.log.write(first as usize, lane.modality, latest.embeddings, latest.present);
            put_embeddings(&mut event, lane.modality, latest);
        }
        (around.emit)(Event::Window(Box::new(event)));
    }

    pub(super) fn stage(
        &self,
        around: &mut Surroundings<'_>,
    ) -> Result<Vec<SleepEpoch>, PipelineError> {
        let Some(stager) = self.network.staging() else { return Ok(Vec::new()) };
        let epoch_patches = self.network.base.epoch_patches;
        let logits = stager.night(&self.log)?;
        let scored: Vec<SleepEpoch> = logits
            .chunks(epoch_patches)
            .zip(&self.signals)
            .enumerate()
            .map(|(epoch, (tokens, &signal))| {
                let tokens = (tokens, epoch_patches);
                score_epoch(Pass::Final, epoch as u32, tokens, signal, EpochStatus::Final)
            })
            .collect();
        for epoch in &scored {
            (around.emit)(Event::Epoch(epoch.clone()));
        }
        Ok(scored)
    }
}

/// Encodes every lane on a network whose runs are shared: from as many threads as a batch has
/// places, so that one night fills batches and several nights fill each other's.
fn encode_together(windows: &mut [Vec<Lane>]) -> Result<(), InferError> {
    let mut shares: Vec<Vec<&mut Lane>> = (0..batch::LARGEST).map(|_| Vec::new()).collect();
    for (index, lane) in windows.iter_mut().flatten().enumerate() {
        shares[index % batch::LARGEST].push(lane);
    }
    std::thread::scope(|scope| {
        let encode = |share: Vec<&mut Lane>| {
            share.into_iter().try_for_each(|lane| lane.encoder.encode().map(drop))
        };
        let threads: Vec<_> =
            shares.into_iter().map(|share| scope.spawn(move || encode(share))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}
