//! One channel from its own samples to the network's time grid: zero-phase low-pass where the
//! channel is faster than the network, then linear interpolation. Owns the segments: a jump in
//! the sample index and every value that is no finite number make a hole. A short hole is bridged by
//! a straight line, whose grid points say so; a longer one ends the segment, and nothing is invented
//! across it. Runs on the pipeline thread.

use std::collections::VecDeque;
use std::ops::Range;

use sfm_models::manifest::Preprocessing;

use super::DspError;
use super::butterworth;
use super::filter::{ZeroPhase, look_ahead};
use super::resample::Resampler;

/// Fastest channel accepted, Hz.
pub const MAX_RATE_HZ: f64 = 1e6;

/// Longest hole that is bridged, seconds; of a slow channel a single sample.
pub const MAX_BRIDGE_S: f64 = 0.3;

/// Grid points as they come out of a [`Conditioner`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridPoints<'a> {
    /// Grid index of the first.
    pub first: u64,
    /// Their values.
    pub values: &'a [f32],
    /// They lie in a hole: a straight line was put there, nothing was measured.
    pub bridged: bool,
}

/// Conditions one channel.
#[derive(Debug, Clone)]
pub struct Conditioner {
    filter: Option<ZeroPhase>,
    resampler: Resampler,
    /// A segment is under way.
    open: bool,
    /// Index of the next sample expected.
    next: u64,
    /// Behind the newest sample of the open segment, and its value. Before `next` where a hole is
    /// open that may yet be bridged.
    end: u64,
    last: f32,
    /// Longest hole that is bridged, samples.
    max_bridge: u64,
    /// Grid points of bridged holes that have not come out yet.
    bridged: VecDeque<Range<u64>>,
    /// The samples of a bridge.
    bridge: Vec<f32>,
    overlapping: u64,
    not_finite: u64,
}

impl Conditioner {
    /// A conditioner for a channel of `rate_hz`.
    ///
    /// # Errors
    /// [`DspError`] if the rate or the preprocessing cannot be served.
    pub fn new(rate_hz: f64, preprocessing: &Preprocessing) -> Result<Self, DspError> {
        if !(rate_hz > 0.0 && rate_hz <= MAX_RATE_HZ) {
            return Err(DspError::Rate(rate_hz));
        }
        let Preprocessing { rate_hz: grid_hz, patch_samples, lowpass_hz, lowpass_order } =
            *preprocessing;
        let grid_hz = f64::from(grid_hz);
        if grid_hz == 0.0 || patch_samples == 0 {
            return Err(DspError::Preprocessing("rate or patch length is zero".into()));
        }
        let nyquist_hz = rate_hz / 2.0;
        let filter = if rate_hz > grid_hz && lowpass_hz < nyquist_hz {
            let sections = butterworth::low_pass(lowpass_order, lowpass_hz / nyquist_hz)?;
            // A hop is a patch: released sooner, its samples would only wait for the rest.
            let hop = patch_samples as f64 * rate_hz / grid_hz;
            let look_ahead = look_ahead(&sections, rate_hz);
            Some(ZeroPhase::new(sections, lowpass_order, hop, look_ahead))
        } else {
            None
        };
        let resampler = Resampler::new(rate_hz, grid_hz);
        Ok(Self {
            filter,
            resampler,
            open: false,
            next: 0,
            end: 0,
            last: 0.0,
            max_bridge: ((MAX_BRIDGE_S * rate_hz) as u64).max(1),
            bridged: VecDeque::new(),
            bridge: Vec::new(),
            overlapping: 0,
            not_finite: 0,
        })
    }

    /// Takes samples of which the first has index `start` on the channel's time axis; `out` gets
    /// grid points in ascending order. A `start` beyond the last sample makes a hole, with no
    /// samples too; samples that were already there are dropped.
    pub fn push(&mut self, start: u64, samples: &[f32], out: &mut impl FnMut(GridPoints<'_>)) {
        let known = self.next.saturating_sub(start).min(samples.len() as u64) as usize;
        self.overlapping += known as u64;
        let mut samples = &samples[known..];
        self.skip_to(start, out);
        while !samples.is_empty() {
            let run = samples.iter().position(|x| !x.is_finite()).unwrap_or(samples.len());
            let (finite, rest) = samples.split_at(run);
            self.push_finite(finite, out);
            let missing = rest.iter().position(|x| x.is_finite()).unwrap_or(rest.len());
            self.not_finite += missing as u64;
            self.skip_to(self.next + missing as u64, out);
            samples = &rest[missing..];
        }
    }

    /// Ends the segment as the end of a recording does; samples may still follow and begin
    /// another one.
    pub fn finish(&mut self, out: &mut impl FnMut(GridPoints<'_>)) {
        if !self.open {
            return;
        }
        let Self { filter, resampler, bridged, .. } = self;
        let out = &mut |first: u64, values: &[f32]| emit(bridged, first, values, out);
        if let Some(filter) = filter {
            filter.finish(&mut |y| resampler.push(y, out));
        }
        resampler.finish(out);
        self.open = false;
    }

    /// Grid index below which every point has come out or is known to be missing.
    pub fn ready_until(&self) -> u64 {
        if self.open {
            self.resampler.next_grid()
        } else {
            self.resampler.grid_at_or_after(self.next)
        }
    }

    /// Grid index up to which every sample that lies before the grid point has come or will not
    /// come. May be behind [`Conditioner::ready_until`], by a point, or far before it.
    pub fn decided_until(&self) -> u64 {
        let grid = self.resampler.grid_at_or_after(self.next);
        grid.saturating_sub(u64::from(self.is_before(self.next, grid)))
    }

    /// Sample `index` lies before grid point `grid`.
    pub fn is_before(&self, index: u64, grid: u64) -> bool {
        self.resampler.is_before(index, grid)
    }

    /// Samples dropped because their time was already taken.
    pub fn overlapping_samples(&self) -> u64 {
        self.overlapping
    }

    /// Samples that were NaN or infinite and count as missing.
    pub fn not_finite_samples(&self) -> u64 {
        self.not_finite
    }

    /// No sample before `start` will come. Ends the segment once the hole is too long for a bridge.
    fn skip_to(&mut self, start: u64, out: &mut impl FnMut(GridPoints<'_>)) {
        self.next = self.next.max(start);
        if self.next - self.end > self.max_bridge {
            self.finish(out);
        }
    }

    fn push_finite(&mut self, samples: &[f32], out: &mut impl FnMut(GridPoints<'_>)) {
        let (Some(&first), Some(&newest)) = (samples.first(), samples.last()) else { return };
        if !self.open {
            self.resampler.begin(self.next);
            if let Some(filter) = &mut self.filter {
                filter.begin(self.next);
            }
            self.open = true;
        } else if self.next > self.end {
            self.bridge_to(first, out);
        }
        self.feed(samples, out);
        self.next += samples.len() as u64;
        (self.end, self.last) = (self.next, newest);
    }

    /// Fills the hole before the next sample, whose value is `next`.
    fn bridge_to(&mut self, next: f32, out: &mut impl FnMut(GridPoints<'_>)) {
        let grid = |index: u64| self.resampler.grid_at_or_after(index);
        let points = grid(self.end)..grid(self.next);
        if !points.is_empty() {
            self.bridged.push_back(points);
        }
        let mut bridge = std::mem::take(&mut self.bridge);
        bridge.clear();
        let (last, steps) = (f64::from(self.last), (self.next - self.end + 1) as f64);
        let slope = (f64::from(next) - last) / steps;
        bridge.extend((1..=self.next - self.end).map(|i| (last + slope * i as f64) as f32));
        self.feed(&bridge, out);
        self.bridge = bridge;
    }

    fn feed(&mut self, samples: &[f32], out: &mut impl FnMut(GridPoints<'_>)) {
        let Self { filter, resampler, bridged, .. } = self;
        let out = &mut |first: u64, values: &[f32]| emit(bridged, first, values, out);
        match filter {
            Some(filter) => filter.push(samples, &mut |y| resampler.push(y, out)),
            None => resampler.push(samples, out),
        }
    }
}

/// Gives `out` grid points that come out, what lies in a bridged hole apart from the rest.
fn emit(
    bridged: &mut VecDeque<Range<u64>>,
    mut first: u64,
    mut values: &[f32],
    out: &mut impl FnMut(GridPoints<'_>),
) {
    while !values.is_empty() {
        while bridged.pop_front_if(|hole| hole.end <= first).is_some() {}
        let (is_bridged, until) = match bridged.front() {
            Some(hole) if hole.start <= first => (true, hole.end),
            Some(hole) => (false, hole.start),
            None => (false, u64::MAX),
        };
        let here = values.len().min(usize::try_from(until - first).unwrap_or(usize::MAX));
        let (now, rest) = values.split_at(here);
        out(GridPoints { first, values: now, bridged: is_bridged });
        first += here as u64;
        values = rest;
    }
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
