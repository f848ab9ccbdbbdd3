//! Welch's estimate of a signal's spectral density, as `scipy.signal.welch` has it: Hann windows of
//! 4 s that overlap by half, each without its mean. Stretches with missing samples are left out.

use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

/// Length of a window, seconds; its inverse is the resolution, Hz.
const WINDOW_S: f64 = 4.0;
/// Frequencies that are kept, Hz.
pub(super) const FROM_HZ: f64 = 0.5;
/// See [`FROM_HZ`].
pub(super) const TO_HZ: f64 = 30.0;

/// Spectra of stretches of one signal.
pub(super) struct Welch {
    rate_hz: f64,
    window: Vec<f32>,
    fft: Arc<dyn Fft<f32>>,
    buffer: Vec<Complex32>,
    scratch: Vec<Complex32>,
}

impl Welch {
    /// For a signal of `rate_hz`.
    pub fn new(rate_hz: f64) -> Self {
        let length = ((WINDOW_S * rate_hz).round() as usize).max(2);
        let step = std::f64::consts::TAU / length as f64;
        let window = (0..length).map(|n| (0.5 - 0.5 * (step * n as f64).cos()) as f32).collect();
        let fft = FftPlanner::new().plan_fft_forward(length);
        let scratch = vec![Complex32::ZERO; fft.get_inplace_scratch_len()];
        Welch { rate_hz, window, fft, buffer: vec![Complex32::ZERO; length], scratch }
    }

    /// Density of `samples` from [`FROM_HZ`] to [`TO_HZ`] in steps of 0.25 Hz, in the square of their
    /// unit per Hz; `None` where no window is without a hole.
    pub fn density(&mut self, samples: &[f32]) -> Option<Vec<f32>> {
        let length = self.window.len();
        let resolution_hz = self.rate_hz / length as f64;
        let bin = |hz: f64| ((hz / resolution_hz).round() as usize).min(length / 2 - 1);
        let bins = bin(FROM_HZ)..=bin(TO_HZ);
        let mut sum = vec![0.0; bins.clone().count()];
        let mut windows = 0;
        let stretches = samples.windows(length).step_by(length / 2);
        for stretch in stretches.filter(|s| s.iter().all(|x| x.is_finite())) {
            self.transform(stretch);
            for (sum, value) in sum.iter_mut().zip(&self.buffer[bins.clone()]) {
                *sum += value.norm_sqr();
            }
            windows += 1;
        }
        let power: f64 = self.window.iter().map(|w| f64::from(w * w)).sum();
        // Twice: the negative frequencies.
        let scale = 2.0 / (self.rate_hz * power * f64::from(windows));
        (windows > 0).then(|| sum.into_iter().map(|value| value * scale as f32).collect())
    }

    fn transform(&mut self, stretch: &[f32]) {
        let mean = stretch.iter().sum::<f32>() / stretch.len() as f32;
        for ((value, x), w) in self.buffer.iter_mut().zip(stretch).zip(&self.window) {
            *value = Complex32::new((x - mean) * w, 0.0);
        }
        self.fft.process_with_scratch(&mut self.buffer, &mut self.scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 s of two tones and a drift.
    fn signal() -> Vec<f32> {
        let at = |n: usize| {
            let t = n as f64 / 128.0;
            let tone = |hz: f64| (std::f64::consts::TAU * hz * t).sin();
            (20.0 * tone(10.1) + 5.0 * tone(2.0) + 0.5 * t) as f32
        };
        (0..3840).map(at).collect()
    }

    /// `scipy.signal.welch(x, 128, nperseg=512)` of SciPy 1.17.1 at 0.5, 2, 2.25, 10, 10.25, 20 Hz.
    #[test]
    fn it_is_scipys() {
        let density = Welch::new(128.0).density(&signal()).expect("nothing is missing");
        assert_eq!(density.len(), 119);
        let scipy =
            [1.501113e-02, 3.335030e+01, 8.327371e+00, 4.329453e+02, 3.314738e+02, 1.261489e-08];
        for (hz, want) in [0.5, 2.0, 2.25, 10.0, 10.25, 20.0].into_iter().zip(scipy) {
            let got = f64::from(density[((hz - FROM_HZ) * 4.0) as usize]);
            assert!(
                (got / want - 1.0).abs() < 1e-3 || (got - want).abs() < 1e-6,
                "{hz}: {got} {want}"
            );
        }
    }

    #[test]
    fn a_hole_costs_its_windows_alone() {
        let mut samples = signal();
        samples[..600].fill(f32::NAN);
        assert!(Welch::new(128.0).density(&samples).is_some());
        samples.iter_mut().step_by(500).for_each(|x| *x = f32::NAN);
        assert!(Welch::new(128.0).density(&samples).is_none());
    }
}
