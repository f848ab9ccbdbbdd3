//! The measuring side of a device: which samples a channel takes, when, by the device's own clock,
//! and what their values are. Interpolates between the recording's samples where the two clocks
//! differ. Knows nothing of links.

use super::plan::Span;
use super::{ChannelSpec, Playback, SimError};

/// Closer to one of the recording's samples than this, its own value is taken.
const SAME_SAMPLE: f64 = 1e-6;

/// The time at which a session takes samples. Times are true time, seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampling {
    /// Sample 0 of every channel.
    pub start_s: f64,
    /// No sample lies here or later.
    pub end_s: f64,
    /// Where in the recording `start_s` is, seconds.
    pub place_s: f64,
}

/// One channel of a device in one session.
#[derive(Debug)]
pub(super) struct Sampler {
    spec: ChannelSpec,
    /// Samples of a whole block.
    block: u64,
    /// The device's rate in true time, Hz.
    true_rate_hz: f64,
    /// Speed of the device's clock, about 1.
    clock: f64,
    flat: i32,
    /// While it is off, recording time.
    off: Vec<Span>,
    /// Counter of the next block.
    pub next: u64,
    /// Samples that the session will take.
    pub total: u64,
    recorded: Vec<i32>,
}

impl Sampler {
    pub fn new(spec: &ChannelSpec, block_s: Option<f64>, drift_ppm: f64, off: Vec<Span>) -> Self {
        let clock = 1.0 + drift_ppm * 1e-6;
        Sampler {
            block: spec.block_samples(block_s),
            true_rate_hz: spec.rate_hz() * clock,
            clock,
            flat: spec.flat(),
            off,
            next: 0,
            total: 0,
            recorded: Vec::new(),
            spec: spec.clone(),
        }
    }

    /// Begins a session.
    pub fn begin(&mut self, sampling: &Sampling) {
        let span_s = (sampling.end_s - sampling.start_s).max(0.0);
        self.next = 0;
        // Sample k lies at k / rate: the last one before the end.
        self.total = (span_s * self.true_rate_hz - SAME_SAMPLE).ceil().max(0.0) as u64;
    }

    /// When the next block is complete, true time; `None` where the rest is no whole block.
    pub fn due_s(&self, sampling: &Sampling) -> Option<f64> {
        let end = self.next + self.block;
        (end <= self.total).then(|| sampling.start_s + (end - 1) as f64 / self.true_rate_hz)
    }

    /// How many samples had been taken at a moment.
    pub fn taken_at(&self, sampling: &Sampling, true_time_s: f64) -> u64 {
        let span_s = true_time_s - sampling.start_s;
        let taken = (span_s * self.true_rate_hz - SAME_SAMPLE).ceil().max(0.0) as u64;
        taken.min(self.total)
    }

    /// Counters of the next block, at most up to `end`; empty if nothing is left.
    pub fn next_block(&self, end: u64) -> std::ops::Range<u64> {
        self.next..(self.next + self.block).min(end).max(self.next)
    }

    /// Replaces `out` by the values of the next block, which has `count` samples, and goes behind it.
    pub fn take(
        &mut self,
        sampling: &Sampling,
        from_s: f64,
        count: u64,
        playback: &mut Playback,
        out: &mut Vec<i32>,
    ) -> Result<(), SimError> {
        let first = self.next;
        self.next += count;
        let rate_hz = self.spec.rate_hz();
        let place = |k: u64| sampling.place_s * rate_hz + k as f64 / self.clock;
        let (lowest, highest) = (place(first), place(first + count.saturating_sub(1)));
        let base = (lowest + SAME_SAMPLE).floor();
        let wanted = (highest - base).floor() as usize + 2;
        playback.read(self.spec.source, base as u64, wanted, &mut self.recorded)?;
        out.clear();
        for k in first..first + count {
            let time_s = place(k) / rate_hz - from_s;
            let value = if self.off.iter().any(|span| span.contains(time_s)) {
                self.flat
            } else {
                interpolated(&self.recorded, place(k) - base)
            };
            out.push(value.clamp(self.spec.digital_min, self.spec.digital_max));
        }
        Ok(())
    }
}

/// The value between two samples, on the line through them.
fn interpolated(samples: &[i32], place: f64) -> i32 {
    let nearest = place.round();
    let value = |index: usize| samples.get(index).copied().unwrap_or_default();
    if (place - nearest).abs() < SAME_SAMPLE {
        return value(nearest as usize);
    }
    let before = place.floor();
    let (low, high) = (f64::from(value(before as usize)), f64::from(value(before as usize + 1)));
    (low + (high - low) * (place - before)).round() as i32
}
