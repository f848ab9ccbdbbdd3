//! One channel from its own samples to the network's time grid: zero-phase low-pass where the
//! channel is faster than the network, then linear interpolation. Owns the segments: a jump in
//! the sample index and every value that is no finite number end one, and nothing is invented
//! across a gap. Runs on the pipeline thread.

use sfm_models::manifest::Preprocessing;

use super::DspError;
use super::butterworth;
use super::filter::{ZeroPhase, look_ahead};
use super::resample::Resampler;

/// Fastest channel accepted, Hz.
pub const MAX_RATE_HZ: f64 = 1e6;

/// Conditions one channel.
#[derive(Debug, Clone)]
pub struct Conditioner {
    filter: Option<ZeroPhase>,
    resampler: Resampler,
    /// A segment is under way.
    open: bool,
    /// Index of the next sample expected.
    next: u64,
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
        Ok(Self { filter, resampler, open: false, next: 0, overlapping: 0, not_finite: 0 })
    }

    /// Takes samples of which the first has index `start` on the channel's time axis; `out` gets
    /// grid points in ascending order, as index of the first and values. A `start` beyond the
    /// last sample ends the segment, with no samples too; samples that were already there are
    /// dropped.
    pub fn push(&mut self, start: u64, samples: &[f32], out: &mut impl FnMut(u64, &[f32])) {
        let known = self.next.saturating_sub(start).min(samples.len() as u64) as usize;
        self.overlapping += known as u64;
        let mut samples = &samples[known..];
        let start = start.max(self.next);
        if start > self.next {
            self.finish(out);
            self.next = start;
        }
        while !samples.is_empty() {
            let run = samples.iter().position(|x| !x.is_finite()).unwrap_or(samples.len());
            let (finite, rest) = samples.split_at(run);
            self.push_finite(finite, out);
            let missing = rest.iter().position(|x| x.is_finite()).unwrap_or(rest.len());
            if missing > 0 {
                self.finish(out);
                self.next += missing as u64;
                self.not_finite += missing as u64;
            }
            samples = &rest[missing..];
        }
    }

    /// Ends the segment as the end of a recording does; samples may still follow and begin
    /// another one.
    pub fn finish(&mut self, out: &mut impl FnMut(u64, &[f32])) {
        if !self.open {
            return;
        }
        let resampler = &mut self.resampler;
        if let Some(filter) = &mut self.filter {
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

    fn push_finite(&mut self, samples: &[f32], out: &mut impl FnMut(u64, &[f32])) {
        if samples.is_empty() {
            return;
        }
        if !self.open {
            self.resampler.begin(self.next);
            if let Some(filter) = &mut self.filter {
                filter.begin(self.next);
            }
            self.open = true;
        }
        let resampler = &mut self.resampler;
        match &mut self.filter {
            Some(filter) => filter.push(samples, &mut |y| resampler.push(y, out)),
            None => resampler.push(samples, out),
        }
        self.next += samples.len() as u64;
    }
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
