//! The pipeline's front: every mapped channel from its ring through filter and resampler into
//! 5-s patches, with its running mean and variance and its line of the gap ledger. Channels are
//! independent of each other and run on all threads; time is the sample count.

use rayon::prelude::*;
use sfm_models::manifest::Preprocessing;
use sfm_models::{Manifest, Modality};

use crate::dsp::condition::Conditioner;
use crate::dsp::normalize::{ChannelStats, RunningStats, z_score_into};
use crate::dsp::patch::PatchBuf;
use crate::event::{ChannelLedger, Gap, Pass};
use crate::montage::Montage;
use crate::ring::{RingReader, RingState};
use crate::signal::StreamInfo;
use crate::timing::{Step, Timings};

/// A channel that stays silent while another one delivers this many seconds is not waited for.
/// Longer than a ring, of which one channel may be found full and the next one still empty.
const MAX_SILENCE_S: f64 = 180.0;
/// No sample of a living person is this many standard deviations from the mean.
const MAX_Z: f32 = 1e6;
/// A constant stretch shorter than this is not worth a line in the ledger.
const FLAT_S: f64 = 60.0;

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

/// All mapped channels, by modality.
pub struct Intake {
    /// One entry a modality that has channels.
    pub modalities: Vec<ModalityIntake>,
    state: RingState,
    patch_samples: u64,
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

struct ChannelIntake {
    reader: RingReader,
    conditioner: Conditioner,
    patches: PatchBuf,
    stats: RunningStats,
    rate_hz: f64,
    next: u64,
    /// Seconds of signal that the last drain brought, and that other channels brought since.
    fresh_s: f64,
    silent_s: f64,
    ledger: ChannelLedger,
    gaps: Vec<Gap>,
    pass: Pass,
    flat_value: f32,
    flat_run: u64,
    flat_longest: u64,
    /// A preprocessed channel stays as it is stored.
    flat_is_masked: bool,
}

impl Intake {
    /// Takes the ring readers of the mapped channels, by channel of the source.
    ///
    /// # Errors
    /// A message for the user if a channel's rate cannot be filtered.
    pub fn new(
        info: &StreamInfo,
        montage: &Montage,
        manifest: &Manifest,
        mut readers: Vec<Option<RingReader>>,
        state: RingState,
        pass: Pass,
    ) -> Result<Self, String> {
        let preprocessing = &manifest.preprocessing;
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
            ready: 0,
            finished: false,
        })
    }

    /// Moves what is in the rings through filter and resampler; waits a moment if the source has
    /// nothing. After the source's end everything is flushed and [`Intake::finished`] holds.
    pub fn advance(&mut self, timings: &Timings) {
        let ended = self.state.ended();
        self.channels_mut().for_each(|channel| {
            timings.measure(Step::Condition, || {
                channel.drain();
                if ended {
                    channel.finish();
                }
            });
        });
        self.state.drained();
        self.finished = ended;
        let heard = self.note_silence();
        self.ready = self.ready.max(self.complete_until() / self.patch_samples);
        if !ended && !heard {
            self.state.wait();
        }
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

    /// Counts, for each channel, the signal that came since its own last. Signal and not time: a
    /// channel that has just jumped over a hole of hours is no reason to give up the others, which
    /// are still before it.
    /// Returns whether any signal came.
    fn note_silence(&mut self) -> bool {
        let heard_s = self.channels().map(|c| c.fresh_s).fold(0.0, f64::max);
        for channel in self.modalities.iter_mut().flat_map(|m| &mut m.channels) {
            channel.silent_s = if channel.fresh_s > 0.0 { 0.0 } else { channel.silent_s + heard_s };
        }
        heard_s > 0.0
    }

    /// Grid index below which every channel that is waited for has its samples or a gap.
    fn complete_until(&self) -> u64 {
        let furthest = || self.channels().map(|c| c.conditioner.ready_until()).max().unwrap_or(0);
        if self.finished {
            return furthest();
        }
        let heard = self.channels().filter(|c| c.silent_s < MAX_SILENCE_S);
        heard.map(|c| c.conditioner.ready_until()).min().unwrap_or_else(furthest)
    }

    /// Gaps that begin before `until_s`, in order of time then channel, once each.
    pub fn take_gaps(&mut self, until_s: f64) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for channel in self.modalities.iter_mut().flat_map(|m| &mut m.channels) {
            let count = channel.gaps.iter().take_while(|g| g.onset_s < until_s).count();
            gaps.extend(channel.gaps.drain(..count));
        }
        gaps.sort_by(|a, b| a.onset_s.total_cmp(&b.onset_s).then(a.channel.cmp(&b.channel)));
        gaps
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

    /// Takes patches `first..first + rows` of every channel: `patches` [rows, C, patch_samples]
    /// z-scored (zero where absent) and `present` [rows, C], 1.0 or 0.0. A channel without any
    /// variance says nothing and is absent.
    pub fn gather(
        &mut self,
        first: u64,
        rows: usize,
        normalization: &Normalization,
        patches: &mut Vec<f32>,
        present: &mut Vec<f32>,
    ) {
        let (channels, samples) = (self.channels.len(), self.patch_samples);
        patches.resize(rows * channels * samples, 0.0);
        present.resize(rows * channels, 0.0);
        self.raw.resize(rows * samples, 0.0);
        for (slot, channel) in self.channels.iter_mut().enumerate() {
            let cell = |row: usize| row * channels + slot;
            for (row, raw) in self.raw.chunks_exact_mut(samples).enumerate() {
                let is_present = channel.patches.take(first + row as u64, raw);
                present[cell(row)] = f32::from(u8::from(is_present));
                // Of an absent patch, the samples that are there count; the others are NaN.
                if matches!(normalization, Normalization::Running) {
                    channel.stats.add_patch(raw);
                }
            }
            let stats = match normalization {
                Normalization::Running => channel.stats.stats(),
                Normalization::Fixed(stats) => stats[channel.ledger.channel],
                Normalization::AsStored => Some(ChannelStats { count: 0, mean: 0.0, std: 1.0 }),
            };
            for (row, raw) in self.raw.chunks_exact(samples).enumerate() {
                let patch = &mut patches[cell(row) * samples..][..samples];
                match stats {
                    Some(stats) if present[cell(row)] > 0.0 && !stats.is_flat() => {
                        z_score_into(raw, &stats, patch);
                        // One absurd value would spoil the window: masks do not stop a NaN.
                        if !patch.iter().all(|z| z.abs() <= MAX_Z) {
                            present[cell(row)] = 0.0;
                            patch.fill(0.0);
                        }
                    }
                    _ => {
                        present[cell(row)] = 0.0;
                        patch.fill(0.0);
                    }
                }
            }
        }
    }

    /// Takes patches `first..first + rows` for their mean and variance alone.
    pub fn accumulate(&mut self, first: u64, rows: usize) {
        for channel in &mut self.channels {
            self.raw.resize(self.patch_samples, 0.0);
            for row in 0..rows {
                channel.patches.take(first + row as u64, &mut self.raw);
                channel.stats.add_patch(&self.raw);
            }
        }
    }
}

impl ChannelIntake {
    fn new(
        info: &StreamInfo,
        index: usize,
        reader: RingReader,
        preprocessing: &Preprocessing,
        pass: Pass,
    ) -> Result<Self, String> {
        let signal = &info.signals[index];
        let conditioner = Conditioner::new(signal.rate_hz, preprocessing)
            .map_err(|e| format!("channel '{}': {e}", signal.label))?;
        Ok(Self {
            reader,
            conditioner,
            patches: PatchBuf::new(preprocessing.patch_samples),
            stats: RunningStats::new(),
            rate_hz: signal.rate_hz,
            next: 0,
            fresh_s: 0.0,
            silent_s: 0.0,
            ledger: ChannelLedger {
                channel: index,
                label: signal.label.clone(),
                ..ChannelLedger::default()
            },
            gaps: Vec::new(),
            pass,
            flat_value: f32::NAN,
            flat_run: 0,
            flat_longest: 0,
            flat_is_masked: !info.preprocessed,
        })
    }

    fn drain(&mut self) {
        // The reader is lent out while the rest of the channel takes its samples.
        let Self { reader, conditioner, patches, .. } = self;
        let (next, rate_hz, ledger, gaps) =
            (&mut self.next, self.rate_hz, &mut self.ledger, &mut self.gaps);
        let (flat_value, flat_run, flat_longest) =
            (&mut self.flat_value, &mut self.flat_run, &mut self.flat_longest);
        let received_before = ledger.received;
        reader.drain(|start, samples| {
            if start > *next {
                let missing = start - *next;
                ledger.missing += missing;
                ledger.gaps += 1;
                gaps.push(Gap {
                    pass: self.pass,
                    channel: ledger.channel,
                    label: ledger.label.clone(),
                    start: *next,
                    samples: missing,
                    onset_s: *next as f64 / rate_hz,
                    duration_s: missing as f64 / rate_hz,
                });
            }
            *next = (*next).max(start + samples.len() as u64);
            ledger.received += samples.len() as u64;
            for &sample in samples {
                *flat_run = if sample == *flat_value { *flat_run + 1 } else { 1 };
                *flat_value = sample;
                *flat_longest = (*flat_longest).max(*flat_run);
            }
            conditioner.push(start, samples, &mut |grid, values| patches.push(grid, values));
        });
        self.fresh_s = (self.ledger.received - received_before) as f64 / self.rate_hz;
    }

    fn finish(&mut self) {
        let Self { conditioner, patches, .. } = self;
        conditioner.finish(&mut |grid, values| patches.push(grid, values));
    }

    fn ledger(&self) -> ChannelLedger {
        let flat_s = self.flat_longest as f64 / self.rate_hz;
        ChannelLedger {
            not_finite: self.conditioner.not_finite_samples(),
            overflow: self.reader.overflow(),
            overlapping: self.conditioner.overlapping_samples() + self.patches.late_samples(),
            flat_s: if flat_s >= FLAT_S { flat_s } else { 0.0 },
            ..self.ledger.clone()
        }
    }
}
