//! Which sample is which: LSL numbers none, so lost samples show only as time that is missing
//! between stamps. Owns the counter of a stream and the samples that wait for a decision. A sender
//! that was merely late catches up within half a second; one whose stamps stay behind has lost.

use std::collections::VecDeque;

/// Samples that are behind for so long are behind for good, seconds.
const CONFIRM_S: f64 = 0.5;
/// A sample that is further behind its place than this has a hole before it, or is late. Samples
/// are one apart, so this is a distance of 1.5 samples.
const HOLE_SAMPLES: f64 = 0.5;
/// How much of a sample's distance moves the expected time: it follows the sender's real rate, and
/// makes little of a single stamp.
const FOLLOW: f64 = 0.05;
/// Stamps that step further are a clock that was set, not samples that were lost, seconds.
const STEP_S: f64 = 86_400.0;

/// A sample with its number.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot<T> {
    /// Samples of the session before this one, lost ones included.
    pub counter: u64,
    /// When it was taken, by the sender's clock, without the jitter of single stamps, seconds.
    pub time_s: f64,
    /// The sample.
    pub sample: T,
}

/// Numbers the samples of a stream.
#[derive(Debug)]
pub struct Slots<T> {
    interval_s: f64,
    counter: u64,
    /// When the next sample is due; `None` before the first.
    due_s: Option<f64>,
    waiting: VecDeque<(f64, T)>,
}

impl<T> Slots<T> {
    /// For a stream of `rate_hz`.
    pub fn new(rate_hz: f64) -> Self {
        Self { interval_s: 1.0 / rate_hz, counter: 0, due_s: None, waiting: VecDeque::new() }
    }

    /// Takes a sample with its stamp.
    pub fn push(&mut self, stamp_s: f64, sample: T) {
        self.waiting.push_back((stamp_s, sample));
    }

    /// Nothing will follow for now: what waits is decided by what is there.
    pub fn flush(&mut self) -> Option<Slot<T>> {
        self.decide(0.0)
    }

    /// The next sample whose number is decided.
    pub fn pop(&mut self) -> Option<Slot<T>> {
        self.decide(CONFIRM_S)
    }

    fn decide(&mut self, confirm_s: f64) -> Option<Slot<T>> {
        let &(stamp_s, _) = self.waiting.front()?;
        let stamp_s = if stamp_s.is_finite() { stamp_s } else { self.due_s.unwrap_or(0.0) };
        let mut due_s = self.due_s.unwrap_or(stamp_s);
        let behind_s = stamp_s - due_s;
        if !(-CONFIRM_S..=STEP_S).contains(&behind_s) {
            due_s = stamp_s;
        } else if behind_s <= HOLE_SAMPLES * self.interval_s {
            due_s += FOLLOW * behind_s.max(-self.interval_s);
        } else {
            let missing_s = self.missing_s(due_s);
            if missing_s > HOLE_SAMPLES * self.interval_s {
                if (self.waiting.len() as f64) * self.interval_s < confirm_s {
                    return None;
                }
                let lost = (missing_s / self.interval_s).round();
                self.counter = self.counter.saturating_add(lost as u64);
                due_s += lost * self.interval_s;
            }
        }
        let (_, sample) = self.waiting.pop_front()?;
        let slot = Slot { counter: self.counter, time_s: due_s, sample };
        self.counter = self.counter.saturating_add(1);
        self.due_s = Some(due_s + self.interval_s);
        Some(slot)
    }

    /// By how much the waiting sample that is nearest to its place is behind it.
    fn missing_s(&self, due_s: f64) -> f64 {
        let stamps = self.waiting.iter().enumerate();
        let behind = stamps.map(|(i, (stamp_s, _))| stamp_s - due_s - i as f64 * self.interval_s);
        behind.filter(|behind_s| behind_s.is_finite()).fold(f64::INFINITY, f64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    const RATE_HZ: f64 = 250.0;

    /// Counters that samples with these stamps get.
    fn counters(stamps: impl IntoIterator<Item = f64>) -> Vec<u64> {
        let mut slots = Slots::new(RATE_HZ);
        let mut counters = Vec::new();
        for stamp_s in stamps {
            slots.push(stamp_s, ());
            counters.extend(std::iter::from_fn(|| slots.pop()).map(|slot| slot.counter));
        }
        counters.extend(std::iter::from_fn(|| slots.flush()).map(|slot| slot.counter));
        counters
    }

    fn steady(indices: impl IntoIterator<Item = u64>) -> impl Iterator<Item = f64> {
        indices.into_iter().map(|index| 1000.0 + index as f64 / RATE_HZ)
    }

    #[test]
    fn holes_are_counted_to_the_sample() {
        let sent: Vec<u64> =
            (0..5000).filter(|i| ![1000, 2000].contains(i) && !(3000..3700).contains(i)).collect();
        assert_eq!(counters(steady(sent.clone())), sent);
    }

    #[test]
    fn a_sender_that_catches_up_has_lost_nothing() {
        // Stamped when it was sent: 100 ms of silence, then what had gathered, at once.
        let stamps = steady(0..5000).enumerate().map(|(index, stamp_s)| {
            if (2000..2025).contains(&index) { 1000.0 + 2025.0 / RATE_HZ } else { stamp_s }
        });
        assert_eq!(counters(stamps), (0..5000).collect::<Vec<_>>());
    }

    #[test]
    fn jitter_and_a_wrong_rate_are_no_holes() {
        for rate in [0.99, 0.9998, 1.0002, 1.01] {
            let stamps = (0..100_000_u64).map(|index| {
                let noise = (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / 16_777_216.0;
                index as f64 / (RATE_HZ * rate) + 0.2 * (noise - 0.5) / RATE_HZ
            });
            assert_eq!(counters(stamps), (0..100_000).collect::<Vec<_>>(), "{rate}");
        }
    }

    #[test]
    fn a_clock_that_is_set_loses_nothing_and_counters_never_fall() {
        let stamps = steady(0..1000).map(|s| s + 1e9).chain(steady(1000..2000));
        let stamps = stamps.chain([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5.0, 1e300]);
        let counters = counters(stamps);
        assert_eq!(counters[..2000], (0..2000).collect::<Vec<_>>());
        assert!(counters.is_sorted() && counters.len() == 2005);
    }
}
