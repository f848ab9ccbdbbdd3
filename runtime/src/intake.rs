//! The pipeline's front: every mapped channel from its ring through filter and resampler into
//! 5-s patches, with its running mean and variance and its line of the gap ledger. Channels are
//! independent of each other and run on all threads; time is the sample count.
//!
//! What leaves here does not depend on how samples were grouped or when they were drained: a patch
//! is ready when every channel has its samples or has had them decided missing, and a gap is told
//! at the first boundary behind its end, when nothing can be added to it any more. A channel that
//! is silent and not decided is waited for; only the source gives it up.

mod channel;

use rayon::prelude::*;
use sfm_models::Modality;
use sfm_models::manifest::Preprocessing;

use self::channel::ChannelIntake;
use crate::dsp::normalize::{ChannelStats, z_score_into};
use crate::event::{ChannelLedger, ChannelPatch, ChannelQuality, Gap, Pass, SignalPatch};
use crate::montage::Montage;
use crate::quality::{MaskRule, PieceMeter, QualityMeter, part_of};
use crate::ring::{RingReader, RingState};
use crate::signal::StreamInfo;
use crate::timing::{Step, Timings};

/// No sample of a living person is this many standard deviations from the mean.
const MAX_Z: f32 = 1e6;

/// How patches are z-scored.
#[derive(Debug, Clone)]
pub enum Normalization {
    /// With each channel's mean and variance up to the end of the epoch: the causal pass.
    Running,
    /// With these figures, by channel of the source: the final pass.
    Fixed(Vec<Option<ChannelStats>>),
    /// Not at all: the source is preprocessed.
    AsStored,
}

/// Patches of one modality as the network takes them.
#[derive(Debug, Default)]
pub struct PatchBatch {
    /// [rows, C, patch_samples], z-scored, zero where absent.
    pub patches: Vec<f32>,
    /// [rows, C], 1.0 or 0.0.
    pub present: Vec<f32>,
    /// [rows, C]: the part of each patch that was measured, 0 where it is absent.
    pub shares: Vec<f32>,
}

/// All mapped channels, by modality.
pub struct Intake {
    /// One entry a modality that has channels.
    pub modalities: Vec<ModalityIntake>,
    state: RingState,
    patch_samples: u64,
    rate_hz: f64,
    pass: Pass,
    ready: u64,
    finished: bool,
}

/// The channels of one modality.
pub struct ModalityIntake {
    /// The modality.
    pub modality: Modality,
    channels: Vec<ChannelIntake>,
    /// [rows, patch_samples]: one channel's patches before the z-score.
    raw: Vec<f32>,
    patch_samples: usize,
}

impl Intake {
    /// Takes the ring readers of the mapped channels, by channel of the source.
    ///
    /// # Errors
    /// A message for the user if a channel's rate cannot be filtered.
    pub fn new(
        info: &StreamInfo,
        montage: &Montage,
        preprocessing: &Preprocessing,
        mut readers: Vec<Option<RingReader>>,
        state: RingState,
        pass: Pass,
    ) -> Result<Self, String> {
        let mut modalities = Vec::new();
        for modality in Modality::ALL {
            let channels = montage
                .channels(modality)
                .filter_map(|index| Some((index, readers.get_mut(index)?.take()?)))
                .map(|(index, reader)| ChannelIntake::new(info, index, reader, preprocessing, pass))
                .collect::<Result<Vec<_>, _>>()?;
            if !channels.is_empty() {
                modalities.push(ModalityIntake {
                    modality,
                    channels,
                    raw: Vec::new(),
                    patch_samples: preprocessing.patch_samples,
                });
            }
        }
        Ok(Self {
            modalities,
            state,
            patch_samples: preprocessing.patch_samples as u64,
            rate_hz: f64::from(preprocessing.rate_hz),
            pass,
            ready: 0,
            finished: false,
        })
    }

    /// Judges the signals too, from here on: [`Intake::take_quality`]. Not those of a preprocessed
    /// source, whose units are gone.
    pub fn watch_quality(&mut self, info: &StreamInfo) {
        if info.preprocessed {
            return;
        }
        for ModalityIntake { modality, channels, .. } in &mut self.modalities {
            for channel in channels {
                let signal = &info.signals[channel.ledger.channel];
                channel.meter = Some(QualityMeter::new(signal, *modality));
            }
        }
    }

    /// Keeps bad pieces from the network and from what it is normalized with, by `rule`. Not those of
    /// a preprocessed source. To be said before the first sample.
    pub fn mask_pieces(
        &mut self,
        info: &StreamInfo,
        preprocessing: &Preprocessing,
        rule: MaskRule,
    ) {
        if info.preprocessed || rule == MaskRule::KeepBad {
            return;
        }
        for ModalityIntake { modality, channels, .. } in &mut self.modalities {
            for channel in channels {
                let signal = &info.signals[channel.ledger.channel];
                let meter = PieceMeter::new(signal, *modality, preprocessing, rule);
                channel.pieces = Some(meter);
            }
        }
    }

    /// What is wrong with the channels in epoch `epoch`, of which `part` is in the recording, in
    /// the source's order, and the part of the present signal that is sound. To be asked once an
    /// epoch, in order, when its patches are ready.
    pub fn take_quality(&mut self, epoch: u32, part: f64) -> (Vec<ChannelQuality>, f32) {
        let mut reported = Vec::new();
        let mut sound = 0.0;
        for modality in &mut self.modalities {
            let channels = modality.channels.len() as f32;
            for channel in &mut modality.channels {
                let Some(meter) = &mut channel.meter else {
                    sound += 1.0 / channels;
                    continue;
                };
                let (quality, of_channel) = meter.epoch(epoch, part);
                sound += of_channel / channels;
                let masked = part_of(channel.take_masked(epoch));
                let quality = ChannelQuality { masked, ..quality };
                if quality != ChannelQuality::default() {
                    let (index, label) = (channel.ledger.channel, channel.ledger.label.clone());
                    reported.push(ChannelQuality { channel: index, label, ..quality });
                }
            }
        }
        reported.sort_by_key(|quality| quality.channel);
        // No more digits than the parts it is made of.
        let sound = (sound / self.modalities.len().max(1) as f32 * 1000.0).round() / 1000.0;
        (reported, sound)
    }

    /// Moves what is in the rings through filter and resampler; waits a moment if the source has
    /// nothing. After the source's end everything is flushed and [`Intake::finished`] holds.
    pub fn advance(&mut self, timings: &Timings) {
        let ended = self.state.ended();
        let heard = self.drain(timings, ended);
        if !ended && heard == 0 {
            self.state.wait();
        }
    }

    /// How many spans were in the rings.
    fn drain(&mut self, timings: &Timings, ended: bool) -> usize {
        let take = |channel: &mut ChannelIntake| {
            timings.measure(Step::Condition, || {
                let heard = channel.drain();
                if ended {
                    channel.finish();
                }
                heard
            })
        };
        let heard = if self.state.is_live() {
            // A few samples a channel: not worth waking the pool, which other beds may use.
            self.modalities.iter_mut().flat_map(|m| &mut m.channels).map(take).sum::<usize>()
        } else {
            self.channels_mut().map(take).sum::<usize>()
        };
        self.state.drained();
        self.finished = ended;
        self.ready = self.ready.max(self.complete_until() / self.patch_samples);
        heard
    }

    /// The source is one that does not wait for the pipeline.
    pub fn is_live(&self) -> bool {
        self.state.is_live()
    }

    /// Fill of the fullest ring since the last call, 0 to 1; 0 of a source that waits.
    pub fn take_fill(&self) -> f32 {
        self.state.take_fill()
    }

    /// Samples dropped so far because rings were full, all channels.
    pub fn overflow(&self) -> u64 {
        self.channels().map(ChannelIntake::overflow).sum()
    }

    /// The source is at its end and all of its samples are patches.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// The source failed before its end.
    pub fn broke_off(&self) -> bool {
        self.state.broke_off()
    }

    /// Patches from the start of the recording that are complete or known to be missing.
    pub fn ready_patches(&self) -> u64 {
        self.ready
    }

    /// Time from the start to the end of the last sample of any channel so far, seconds.
    pub fn length_s(&self) -> f64 {
        self.channels().map(ChannelIntake::length_s).fold(0.0, f64::max)
    }

    /// Patch `patch` of every channel, before it is taken: for pictures.
    pub fn signals(&self, patch: u64) -> SignalPatch {
        let patch_s = self.patch_samples as f64 / self.rate_hz;
        let of = |channel: &ChannelIntake| ChannelPatch {
            channel: channel.ledger.channel,
            samples: channel.patches.peek(patch).map(<[f32]>::to_vec).unwrap_or_default(),
        };
        SignalPatch {
            pass: self.pass,
            patch: patch as u32,
            onset_s: patch as f64 * patch_s,
            rate_hz: self.rate_hz,
            channels: self.channels().map(of).collect(),
        }
    }

    /// Grid index below which every channel has its samples or a gap.
    fn complete_until(&self) -> u64 {
        if self.finished {
            return self.channels().map(|c| c.conditioner.ready_until()).max().unwrap_or(0);
        }
        // Both: filtered that far, and no sample before that can still come.
        let until =
            |c: &ChannelIntake| c.conditioner.ready_until().min(c.conditioner.decided_until());
        self.channels().map(until).min().unwrap_or(0)
    }

    /// Gaps that end before patch `patch` begins, in order of time then channel, once each. Asked
    /// for a patch that is not beyond [`Intake::ready_patches`] the answer is always the same:
    /// whatever ends before it has ended for certain.
    pub fn take_gaps(&mut self, patch: u64) -> Vec<Gap> {
        let until = patch.saturating_mul(self.patch_samples);
        let mut gaps: Vec<Gap> = Vec::new();
        for channel in self.modalities.iter_mut().flat_map(|m| &mut m.channels) {
            let ChannelIntake { conditioner, gaps: closed, .. } = channel;
            while let Some(gap) =
                closed.pop_front_if(|gap| conditioner.is_before(gap.start + gap.samples, until))
            {
                gaps.push(gap);
            }
        }
        in_order(gaps)
    }

    /// The gaps that are left when the source is at its end, in order of time then channel.
    pub fn take_last_gaps(&mut self) -> Vec<Gap> {
        let channels = self.modalities.iter_mut().flat_map(|m| &mut m.channels);
        let gaps = channels.flat_map(|channel| {
            channel.close_gap();
            channel.gaps.drain(..)
        });
        in_order(gaps.collect())
    }

    /// The gap ledger so far, in the source's order.
    pub fn ledger(&self) -> Vec<ChannelLedger> {
        let mut ledger: Vec<_> = self.channels().map(ChannelIntake::ledger).collect();
        ledger.sort_by_key(|line| line.channel);
        ledger
    }

    /// Labels of the channels that had one value throughout and are masked for it, in the source's
    /// order.
    pub fn flat_channels(&self) -> Vec<&str> {
        let flat = self.channels().filter(|c| {
            c.flat_is_masked && c.ledger.received > 0 && c.flat_longest == c.ledger.received
        });
        let mut flat: Vec<_> = flat.map(|c| (c.ledger.channel, c.ledger.label.as_str())).collect();
        flat.sort_unstable();
        flat.into_iter().map(|(_, label)| label).collect()
    }

    /// Each channel's mean and standard deviation over the whole recording, by channel of the
    /// source: what was gathered or accumulated so far, and the part of a patch at the end.
    pub fn conclude_stats(&mut self, signals: usize) -> Vec<Option<ChannelStats>> {
        let ready = self.ready_patches();
        self.modalities.par_iter_mut().for_each(|m| m.accumulate(ready, 1));
        let mut stats = vec![None; signals];
        for channel in self.channels() {
            stats[channel.ledger.channel] = channel.stats.stats();
        }
        stats
    }

    fn channels(&self) -> impl Iterator<Item = &ChannelIntake> {
        self.modalities.iter().flat_map(|m| &m.channels)
    }

    fn channels_mut(&mut self) -> impl ParallelIterator<Item = &mut ChannelIntake> {
        self.modalities.par_iter_mut().flat_map(|m| m.channels.par_iter_mut())
    }
}

impl ModalityIntake {
    /// Number of channels, C.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Takes patches `first..first + rows` of every channel. A channel without any variance says
    /// nothing and is absent.
    pub fn gather(
        &mut self,
        first: u64,
        rows: usize,
        normalization: &Normalization,
        batch: &mut PatchBatch,
    ) {
        let (channels, samples) = (self.channels.len(), self.patch_samples);
        batch.patches.resize(rows * channels * samples, 0.0);
        batch.present.resize(rows * channels, 0.0);
        batch.shares.resize(rows * channels, 0.0);
        self.raw.resize(rows * samples, 0.0);
        for (slot, channel) in self.channels.iter_mut().enumerate() {
            let cell = |row: usize| row * channels + slot;
            for (row, raw) in self.raw.chunks_exact_mut(samples).enumerate() {
                let share = channel.take_patch(first + row as u64, raw);
                batch.shares[cell(row)] = share.unwrap_or(0.0);
                // Of an absent patch, the samples that are there count; the others are NaN.
                if matches!(normalization, Normalization::Running) {
                    channel.stats.add_patch(raw);
                }
                if share.is_some() {
                    channel.patches.bridge(raw);
                }
            }
            let stats = match normalization {
                Normalization::Running => channel.stats.stats(),
                Normalization::Fixed(stats) => stats[channel.ledger.channel],
                Normalization::AsStored => Some(ChannelStats { count: 0, mean: 0.0, std: 1.0 }),
            };
            for (row, raw) in self.raw.chunks_exact(samples).enumerate() {
                let patch = &mut batch.patches[cell(row) * samples..][..samples];
                let is_there = batch.shares[cell(row)] > 0.0 && normalized(raw, stats, patch);
                batch.present[cell(row)] = f32::from(u8::from(is_there));
                if !is_there {
                    batch.shares[cell(row)] = 0.0;
                    patch.fill(0.0);
                }
            }
        }
    }

    /// Passes over patches `first..first + rows`, whose tokens are known: only what later patches
    /// are normalized with, and what is said of the signals, is brought up to date.
    pub fn pass_over(&mut self, first: u64, rows: usize, normalization: &Normalization) {
        self.take_rows(first, rows, matches!(normalization, Normalization::Running));
    }

    /// Takes patches `first..first + rows` for their mean and variance alone.
    pub fn accumulate(&mut self, first: u64, rows: usize) {
        self.take_rows(first, rows, true);
    }

    fn take_rows(&mut self, first: u64, rows: usize, into_stats: bool) {
        for channel in &mut self.channels {
            self.raw.resize(self.patch_samples, 0.0);
            for row in 0..rows {
                let raw = &mut self.raw;
                channel.take_patch(first + row as u64, raw);
                if into_stats {
                    channel.stats.add_patch(raw);
                }
            }
        }
    }
}

/// Z-scores a patch, if that makes a signal of it.
fn normalized(raw: &[f32], stats: Option<ChannelStats>, patch: &mut [f32]) -> bool {
    let Some(stats) = stats.filter(|stats| !stats.is_flat()) else { return false };
    z_score_into(raw, &stats, patch);
    // One absurd value would spoil the window: masks do not stop a NaN.
    patch.iter().all(|z| z.abs() <= MAX_Z)
}

/// In order of time, then of channel.
fn in_order(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_by(|a, b| a.onset_s.total_cmp(&b.onset_s).then(a.channel.cmp(&b.channel)));
    gaps
}

#[cfg(test)]
#[path = "intake/tests.rs"]
mod tests;
