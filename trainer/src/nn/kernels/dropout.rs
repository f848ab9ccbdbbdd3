//! Which values dropout drops: a hash of seed, row and column, so that backward finds the same
//! ones again without a stored mask, on any number of threads.

use burn::backend::Flex;
use burn::prelude::*;
use burn::tensor::Distribution;

/// Dropout of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask {
    seed: u32,
    /// Hashes under it are dropped.
    threshold: u32,
    /// One over the probability to stay.
    scale: f32,
}

impl Mask {
    /// Drops with `probability`, from burn's seeded generator; nothing where it is 0.
    pub fn draw(probability: f64) -> Option<Self> {
        if probability <= 0.0 {
            return None;
        }
        let uniform = Distribution::Uniform(0.0, 1.0);
        let halves = Tensor::<Flex, 1>::random([2], uniform, &Default::default()).into_data();
        let seed =
            halves.iter::<f32>().fold(0, |seed: u32, x| (seed << 16) ^ (x * 65_536.0) as u32);
        Some(Self {
            seed,
            threshold: (probability * f64::from(u32::MAX)) as u32,
            scale: (1.0 / (1.0 - probability).max(f64::MIN_POSITIVE)) as f32,
        })
    }

    /// The seed of one row.
    #[inline(always)]
    pub fn row(&self, row: usize) -> u32 {
        hash(self.seed ^ hash(row as u32))
    }

    /// What multiplies a value: 0 or the scale.
    #[inline(always)]
    pub fn factor(&self, row: u32, column: usize) -> f32 {
        if hash(row ^ column as u32) < self.threshold { 0.0 } else { self.scale }
    }

    /// The scale of what stays.
    pub fn scale(&self) -> f32 {
        self.scale
    }
}

/// `lowbias32` (Wellons, hash-prospector): every bit of the output depends on every bit of x.
#[inline(always)]
fn hash(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
