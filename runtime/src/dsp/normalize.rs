//! Mean and standard deviation of a channel, and the z-score.
//!
//! [`RunningStats`] takes patches and merges their moments (Chan, Golub, LeVeque 1979) in double
//! precision, so that neither a large offset nor the length of the night costs digits.

/// Mean and population standard deviation of a channel's samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelStats {
    /// Samples seen.
    pub count: u64,
    /// Mean, in the channel's unit.
    pub mean: f64,
    /// Standard deviation with divisor `count`, as `numpy.std`.
    pub std: f64,
}

/// A standard deviation below this part of the mean is the rounding of `f32` and no signal.
const FLAT: f64 = 1e-6;

impl ChannelStats {
    /// One value throughout, but for rounding: a lead that is off, a sensor that is dead.
    pub fn is_flat(&self) -> bool {
        self.std <= FLAT * self.mean.abs()
    }
}

/// Running mean and variance of one channel, patch by patch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RunningStats {
    count: u64,
    mean: f64,
    /// Sum of squared deviations from the mean.
    squares: f64,
}

impl RunningStats {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one patch, whole or part; NaN marks missing samples and is left out. The result
    /// depends on where patches begin and end, so feed it patches, not blocks as they arrive.
    pub fn add_patch(&mut self, patch: &[f32]) {
        let present = || patch.iter().filter(|x| !x.is_nan()).map(|&x| f64::from(x));
        // Deviations from the first sample: exact for a constant channel.
        let Some(origin) = present().next() else { return };
        let (count, sum) = present().fold((0_u64, 0.0), |(n, s), x| (n + 1, s + (x - origin)));
        let mean = origin + sum / count as f64;
        let squares = present().map(|x| (x - mean) * (x - mean)).sum();
        self.merge(&RunningStats { count, mean, squares });
    }

    /// Adds what another accumulator has seen.
    pub fn merge(&mut self, other: &RunningStats) {
        if other.count == 0 {
            return;
        }
        let (n, m) = (self.count as f64, other.count as f64);
        let delta = other.mean - self.mean;
        if self.count == 0 {
            *self = *other;
            return;
        }
        self.count += other.count;
        self.mean += delta * m / (n + m);
        self.squares += other.squares + delta * delta * n * m / (n + m);
    }

    /// The figures so far; `None` before the first sample.
    pub fn stats(&self) -> Option<ChannelStats> {
        let count = self.count;
        let variance = self.squares / count as f64;
        (count > 0).then(|| ChannelStats { count, mean: self.mean, std: variance.sqrt() })
    }
}

/// Writes (`input` - mean) / std to `output`; a channel with std 0 is only centered. The shorter
/// of the two slices sets the length.
pub fn z_score_into(input: &[f32], stats: &ChannelStats, output: &mut [f32]) {
    let scale = if stats.std > 0.0 { 1.0 / stats.std } else { 1.0 };
    let mean = stats.mean;
    for (y, &x) in output.iter_mut().zip(input) {
        *y = ((f64::from(x) - mean) * scale) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn two_pass(samples: &[f32]) -> (f64, f64) {
        let n = samples.len() as f64;
        let mean = samples.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = samples.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    proptest! {
        #[test]
        fn equals_the_two_pass_formula(
            samples in prop::collection::vec(-300.0_f32..300.0, 1..3000),
            offset in prop::sample::select(vec![0.0_f32, 97.0, 5000.0, 4.0e5]),
            patch in 1_usize..700,
        ) {
            let samples: Vec<f32> = samples.iter().map(|x| x + offset).collect();
            let mut running = RunningStats::new();
            samples.chunks(patch).for_each(|p| running.add_patch(p));
            let stats = running.stats().expect("samples were seen");
            let (mean, std) = two_pass(&samples);
            prop_assert_eq!(stats.count, samples.len() as u64);
            prop_assert!((stats.mean - mean).abs() <= 1e-12 * (mean.abs() + std));
            prop_assert!((stats.std - std).abs() <= 1e-9 * std + 1e-9);
        }
    }

    #[test]
    fn a_constant_channel_is_exactly_zero() {
        for value in [0.0_f32, 0.1, -3.3e-7, 12_345.678] {
            let mut running = RunningStats::new();
            (0..1000).for_each(|i| running.add_patch(&vec![value; 1 + i % 640]));
            let stats = running.stats().expect("samples were seen");
            assert_eq!(stats.std, 0.0);
            assert!(stats.is_flat());
            let mut z = [9.0; 3];
            z_score_into(&[value; 3], &stats, &mut z);
            assert_eq!(z, [0.0; 3]);
        }
    }

    #[test]
    fn a_small_signal_on_a_large_offset_is_not_flat() {
        // 1 uV on the 300 mV that an electrode may have, and rounding on the same offset.
        let stats = |std| ChannelStats { count: 9, mean: 3e5, std };
        assert!(!stats(1.0).is_flat());
        assert!(stats(0.02).is_flat());
        assert!(!ChannelStats { count: 9, mean: 0.0, std: 1e-12 }.is_flat());
    }

    #[test]
    fn missing_samples_are_left_out() {
        let mut running = RunningStats::new();
        running.add_patch(&[f32::NAN, f32::NAN]);
        assert_eq!(running.stats(), None);
        running.add_patch(&[1.0, f32::NAN, 3.0]);
        assert_eq!(running.stats(), Some(ChannelStats { count: 2, mean: 2.0, std: 1.0 }));
    }
}
