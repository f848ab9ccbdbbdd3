//! Random streams, and the recursive filters that turn white noise into the rhythms of a body. A
//! stream depends on its seed, purpose and index only, so nothing depends on the order of work.

use std::f32::consts::PI;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The random stream of a purpose (16 bytes of its name count) and an index.
pub fn stream(seed: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&index.to_le_bytes());
    for (to, from) in key[16..].iter_mut().zip(purpose.bytes()) {
        *to = from;
    }
    ChaCha8Rng::from_seed(key)
}

/// White noise of variance 1, near enough to Gaussian: the sum of four uniform numbers out of one
/// word of splitmix64, because a night takes a billion of them.
#[derive(Debug, Clone)]
pub struct White {
    state: u64,
}

impl White {
    /// Seeded by the next word of `rng`.
    pub fn new(rng: &mut ChaCha8Rng) -> Self {
        White { state: rng.next_u64() }
    }

    /// The next sample.
    #[inline]
    pub fn sample(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let sum = (z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48);
        (sum as f32 - 131_070.0) * (1.732_050_8 / 65_536.0)
    }
}

/// One-pole low-pass whose output has variance 1 for white input.
#[derive(Debug, Clone)]
pub struct LowPass {
    keep: f32,
    gain: f32,
    state: f32,
}

impl LowPass {
    /// Corner frequency and sampling rate in Hz.
    pub fn new(corner_hz: f32, rate_hz: f32) -> Self {
        let keep = (-2.0 * PI * corner_hz / rate_hz).exp();
        LowPass { keep, gain: (1.0 - keep * keep).sqrt(), state: 0.0 }
    }

    /// The next sample.
    #[inline]
    pub fn step(&mut self, white: f32) -> f32 {
        self.state = self.keep * self.state + self.gain * white;
        self.state
    }
}

/// One-pole high-pass: the coupling of an amplifier.
#[derive(Debug, Clone)]
pub struct HighPass {
    keep: f32,
    low: f32,
}

impl HighPass {
    /// Corner frequency and sampling rate in Hz.
    pub fn new(corner_hz: f32, rate_hz: f32) -> Self {
        HighPass { keep: (-2.0 * PI * corner_hz / rate_hz).exp(), low: 0.0 }
    }

    /// The next sample.
    #[inline]
    pub fn step(&mut self, input: f32) -> f32 {
        self.low = self.keep * self.low + (1.0 - self.keep) * input;
        input - self.low
    }
}

/// Two-pole resonator whose output has variance 1 for white input: a rhythm with a waxing and
/// waning amplitude.
#[derive(Debug, Clone)]
pub struct Resonator {
    a1: f32,
    a2: f32,
    gain: f32,
    y1: f32,
    y2: f32,
}

impl Resonator {
    /// Center frequency, bandwidth and sampling rate in Hz.
    pub fn new(center_hz: f32, bandwidth_hz: f32, rate_hz: f32) -> Self {
        // In double precision: at 0.3 Hz the poles lie so close to 1 that the variance cancels.
        let radius = (-std::f64::consts::PI * f64::from(bandwidth_hz / rate_hz)).exp();
        let angle = 2.0 * std::f64::consts::PI * f64::from(center_hz / rate_hz);
        let (a1, a2) = (2.0 * radius * angle.cos(), -radius * radius);
        let variance = (1.0 - a2) / ((1.0 + a2) * ((1.0 - a2).powi(2) - a1 * a1));
        let gain = variance.sqrt().recip() as f32;
        Resonator { a1: a1 as f32, a2: a2 as f32, gain, y1: 0.0, y2: 0.0 }
    }

    /// The next sample.
    #[inline]
    pub fn step(&mut self, white: f32) -> f32 {
        let y = self.a1 * self.y1 + self.a2 * self.y2 + self.gain * white;
        self.y2 = self.y1;
        self.y1 = y;
        y
    }
}
