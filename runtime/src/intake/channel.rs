//! One mapped channel: from its ring into patches, with its running figures, its line of the gap
//! ledger, its gaps and the verdict on its signal.

use std::collections::VecDeque;

use sfm_models::manifest::Preprocessing;

use crate::dsp::condition::Conditioner;
use crate::dsp::normalize::RunningStats;
use crate::dsp::patch::PatchBuf;
use crate::event::{ChannelLedger, Gap, Pass};
use crate::quality::{PieceMeter, QualityMeter};
use crate::ring::RingReader;
use crate::signal::StreamInfo;

/// A constant stretch shorter than this is not worth a line in the ledger.
const FLAT_S: f64 = 60.0;

pub(super) struct ChannelIntake {
    /// `None` only while it is being drained.
    reader: Option<RingReader>,
    pub(super) conditioner: Conditioner,
    pub(super) patches: PatchBuf,
    pub(super) stats: RunningStats,
    rate_hz: f64,
    next: u64,
    pub(super) ledger: ChannelLedger,
    /// First sample of a gap that may still grow: it ends at `next`.
    open_gap: Option<u64>,
    /// Closed gaps that were not taken yet.
    pub(super) gaps: VecDeque<Gap>,
    pass: Pass,
    pub(super) meter: Option<QualityMeter>,
    /// Decides what the network is not given.
    pub(super) pieces: Option<PieceMeter>,
    /// Epochs with such pieces that were taken and not reported yet, and how many.
    masked: VecDeque<(u32, u32)>,
    epoch_patches: u64,
    flat_value: f32,
    flat_run: u64,
    pub(super) flat_longest: u64,
    /// A preprocessed channel stays as it is stored.
    pub(super) flat_is_masked: bool,
}

impl ChannelIntake {
    pub(super) fn new(
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
            reader: Some(reader),
            conditioner,
            patches: PatchBuf::new(preprocessing.patch_samples),
            stats: RunningStats::new(),
            rate_hz: signal.rate_hz,
            next: 0,
            ledger: ChannelLedger {
                channel: index,
                label: signal.label.clone(),
                ..ChannelLedger::default()
            },
            open_gap: None,
            gaps: VecDeque::new(),
            pass,
            meter: None,
            pieces: None,
            masked: VecDeque::new(),
            epoch_patches: preprocessing.epoch_patches().max(1) as u64,
            flat_value: f32::NAN,
            flat_run: 0,
            flat_longest: 0,
            flat_is_masked: !info.preprocessed,
        })
    }

    /// Takes what is in the ring; how many spans that was.
    pub(super) fn drain(&mut self) -> usize {
        // Lent out while the channel takes what is in it.
        let Some(mut reader) = self.reader.take() else { return 0 };
        let spans = reader.drain(|start, samples| self.take(start, samples));
        self.reader = Some(reader);
        spans
    }

    fn take(&mut self, start: u64, samples: &[f32]) {
        let known = self.next.saturating_sub(start).min(samples.len() as u64);
        let fresh = &samples[known as usize..];
        if let Some(meter) = &mut self.meter {
            meter.take(start + known, fresh);
        }
        if let Some(pieces) = &mut self.pieces {
            pieces.take(start + known, fresh);
        }
        self.note_missing(start, samples);
        self.ledger.received += samples.len() as u64;
        for &sample in samples {
            self.flat_run = if sample == self.flat_value { self.flat_run + 1 } else { 1 };
            self.flat_value = sample;
            self.flat_longest = self.flat_longest.max(self.flat_run);
        }
        let Self { conditioner, patches, .. } = self;
        conditioner.push(start, samples, &mut |points| patches.push(points));
    }

    /// Takes patch `index` as it was measured, NaN elsewhere; all of it is NaN if the network is not
    /// to have it. The part that was measured, if the patch counts.
    pub(super) fn take_patch(&mut self, index: u64, raw: &mut [f32]) -> Option<f32> {
        let share = self.patches.take(index, raw);
        if !self.pieces.as_mut().is_some_and(|pieces| pieces.is_bad(index)) {
            return share;
        }
        raw.fill(f32::NAN);
        let epoch = u32::try_from(index / self.epoch_patches).unwrap_or(u32::MAX);
        match self.masked.back_mut() {
            Some((latest, pieces)) if *latest == epoch => *pieces += 1,
            _ => self.masked.push_back((epoch, 1)),
        }
        None
    }

    /// Part of epoch `epoch` that the network was not given. To be asked for one epoch after the
    /// other.
    pub(super) fn take_masked(&mut self, epoch: u32) -> f64 {
        let mut masked = 0;
        while let Some((of, pieces)) = self.masked.pop_front_if(|(of, _)| *of <= epoch) {
            masked = if of == epoch { pieces } else { 0 };
        }
        f64::from(masked) / self.epoch_patches as f64
    }

    /// Keeps the account of what has not come: missing stretches that touch are one gap, however
    /// the source cut them.
    fn note_missing(&mut self, start: u64, samples: &[f32]) {
        if start > self.next {
            if self.open_gap.is_none() {
                self.open_gap = Some(self.next);
                self.ledger.gaps += 1;
            }
            self.ledger.missing += start - self.next;
            self.next = start;
        }
        let end = start.saturating_add(samples.len() as u64);
        if end > self.next {
            self.close_gap();
            self.next = end;
        }
    }

    /// The open gap, if there is one, ends here.
    pub(super) fn close_gap(&mut self) {
        let Some(start) = self.open_gap.take() else { return };
        let samples = self.next - start;
        self.gaps.push_back(Gap {
            pass: self.pass,
            channel: self.ledger.channel,
            label: self.ledger.label.clone(),
            start,
            samples,
            onset_s: start as f64 / self.rate_hz,
            duration_s: samples as f64 / self.rate_hz,
        });
    }

    pub(super) fn finish(&mut self) {
        let Self { conditioner, patches, .. } = self;
        conditioner.finish(&mut |points| patches.push(points));
    }

    /// Time from the recording's start to behind the newest sample, seconds.
    pub(super) fn length_s(&self) -> f64 {
        self.next as f64 / self.rate_hz
    }

    pub(super) fn overflow(&self) -> u64 {
        self.reader.as_ref().map_or(0, RingReader::overflow)
    }

    pub(super) fn ledger(&self) -> ChannelLedger {
        let flat_s = self.flat_longest as f64 / self.rate_hz;
        ChannelLedger {
            not_finite: self.conditioner.not_finite_samples(),
            overflow: self.overflow(),
            overlapping: self.conditioner.overlapping_samples() + self.patches.late_samples(),
            flat_s: if flat_s >= FLAT_S { flat_s } else { 0.0 },
            ..self.ledger.clone()
        }
    }
}
