//! One channel's sample blocks back in the order of their counters. Knows what is missing, what
//! came twice and what came out of order; a hole that stays open too long is given up. Refuses
//! counters that no sensor reaches, and holds a bounded number of samples.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::ledger::SampleLedger;

/// Out-of-order samples count as reordered on their way up to this age, seconds of signal, and as
/// sent again beyond it.
pub const REORDER_S: f64 = 1.0;
/// A counter that leaps further than this is no loss but a broken or hostile device, seconds.
const MAX_LEAP_S: f64 = 12.0 * 3600.0;
/// Samples waiting behind a hole, at most, seconds of signal: a device may send a long outage again.
const MAX_WAITING_S: f64 = 120.0;
/// The same in blocks.
const MAX_WAITING_BLOCKS: usize = 4096;
/// Holes that are remembered to tell a late sample from a repeated one.
const MAX_HOLES: usize = 1024;

/// Contiguous samples of a channel, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Counter of the first sample.
    pub counter: u64,
    /// The device's clock when it was taken.
    pub tick: u64,
    /// Digital values.
    pub samples: Vec<i32>,
}

impl Run {
    fn end(&self) -> u64 {
        self.counter + self.samples.len() as u64
    }

    /// The part within `range` of counters, its tick moved along by `ticks_per_sample`.
    fn part(&self, range: &Range<u64>, ticks_per_sample: f64) -> Run {
        let skip = (range.start - self.counter) as usize;
        let length = (range.end - range.start) as usize;
        Run {
            counter: range.start,
            tick: self.tick + (skip as f64 * ticks_per_sample) as u64,
            samples: self.samples.iter().skip(skip).take(length).copied().collect(),
        }
    }
}

/// The counter is beyond anything a sensor counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImpossibleCounter(pub u64);

/// Puts one channel's blocks in order.
#[derive(Debug, Clone)]
pub struct Reassembly {
    rate_hz: f64,
    tick_hz: f64,
    /// Counter of the next sample in order; `None` before the first block.
    next: Option<u64>,
    /// Behind the largest counter seen.
    furthest: u64,
    /// Blocks behind a hole, by counter; they do not overlap.
    waiting: BTreeMap<u64, Run>,
    waiting_samples: u64,
    /// Given up, in order.
    holes: VecDeque<Range<u64>>,
    /// Counts; `placed`, `clock_*` and what is lost for its place in time are the alignment's.
    pub ledger: SampleLedger,
}

impl Reassembly {
    /// For a channel of `rate_hz` on a device with `tick_hz` ticks a second.
    pub fn new(rate_hz: f64, tick_hz: u32) -> Self {
        Self {
            rate_hz,
            tick_hz: f64::from(tick_hz),
            next: None,
            furthest: 0,
            waiting: BTreeMap::new(),
            waiting_samples: 0,
            holes: VecDeque::new(),
            ledger: SampleLedger::default(),
        }
    }

    /// The first counter that has not arrived: what is acknowledged to the device.
    pub fn acknowledged(&self) -> Option<u64> {
        self.next
    }

    /// Something waits behind a hole.
    pub fn has_hole(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes a block; `out` gets what is in order now.
    ///
    /// # Errors
    /// [`ImpossibleCounter`]; the block is left out.
    pub fn push(&mut self, block: Run, out: &mut impl FnMut(Run)) -> Result<(), ImpossibleCounter> {
        let leap = self.samples_in(MAX_LEAP_S);
        let from = self.next.unwrap_or(block.counter);
        let end = block.counter.checked_add(block.samples.len() as u64);
        if end.is_none_or(|end| end > self.furthest.max(from).saturating_add(leap)) {
            return Err(ImpossibleCounter(block.counter));
        }
        self.ledger.received += block.samples.len() as u64;
        self.next.get_or_insert(block.counter);
        if self.waiting.is_empty() && block.counter == from {
            self.release(block, out);
            return Ok(());
        }
        self.count_old(block.counter..block.end().min(from));
        let fresh = self.fresh_parts(block.counter.max(from)..block.end());
        for range in fresh {
            let part = block.part(&range, self.ticks_per_sample());
            self.count_order(&part);
            self.furthest = self.furthest.max(part.end());
            self.waiting_samples += part.samples.len() as u64;
            self.waiting.insert(part.counter, part);
        }
        self.release_waiting(out);
        // A device that keeps leaving holes cannot fill the memory.
        while self.waiting_samples > self.samples_in(MAX_WAITING_S)
            || self.waiting.len() > MAX_WAITING_BLOCKS
        {
            self.give_up_first(out);
        }
        Ok(())
    }

    /// Gives up holes whose end the device took more than `patience_s` before `tick`, its clock
    /// now; `out` gets what was waiting behind them.
    pub fn give_up_before(&mut self, tick: u64, patience_s: f64, out: &mut impl FnMut(Run)) {
        let patience = (patience_s * self.tick_hz) as u64;
        while let Some((_, first)) = self.waiting.first_key_value() {
            if first.tick.saturating_add(patience) > tick {
                return;
            }
            self.give_up_first(out);
        }
    }

    /// The device's session is over: everything that waits comes out.
    pub fn finish(&mut self, out: &mut impl FnMut(Run)) {
        while self.has_hole() {
            self.give_up_first(out);
        }
    }

    fn samples_in(&self, seconds: f64) -> u64 {
        ((seconds * self.rate_hz) as u64).max(16)
    }

    fn ticks_per_sample(&self) -> f64 {
        self.tick_hz / self.rate_hz
    }

    fn give_up_first(&mut self, out: &mut impl FnMut(Run)) {
        let (Some(next), Some((&first, _))) = (self.next, self.waiting.first_key_value()) else {
            return;
        };
        self.ledger.lost += first - next;
        while self.holes.len() >= MAX_HOLES {
            self.holes.pop_front();
        }
        self.holes.push_back(next..first);
        self.next = Some(first);
        self.release_waiting(out);
    }

    fn release_waiting(&mut self, out: &mut impl FnMut(Run)) {
        while let Some(entry) = self.waiting.first_entry() {
            if Some(*entry.key()) != self.next {
                return;
            }
            let run = entry.remove();
            self.waiting_samples -= run.samples.len() as u64;
            self.release(run, out);
        }
    }

    fn release(&mut self, run: Run, out: &mut impl FnMut(Run)) {
        self.next = Some(run.end());
        self.furthest = self.furthest.max(run.end());
        out(run);
    }

    /// Counts samples whose place is behind: late if it was given up, else repeated.
    fn count_old(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut late = 0;
        let mut left = VecDeque::with_capacity(self.holes.len());
        for hole in &self.holes {
            let (start, end) = (hole.start.max(range.start), hole.end.min(range.end));
            if start >= end {
                left.push_back(hole.clone());
                continue;
            }
            late += end - start;
            // Coming once more they are repetitions.
            left.extend([hole.start..start, end..hole.end].into_iter().filter(|r| !r.is_empty()));
        }
        self.holes = left;
        self.ledger.late += late;
        self.ledger.duplicate += range.end - range.start - late;
    }

    /// The parts of `range` that are not waiting already; the others are counted as repeated.
    fn fresh_parts(&mut self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut fresh = Vec::new();
        let mut at = range.start;
        for run in self.waiting.values() {
            if run.end() <= at {
                continue;
            }
            if run.counter >= range.end {
                break;
            }
            if run.counter > at {
                fresh.push(at..run.counter);
            }
            let known = run.counter.max(at)..run.end().min(range.end);
            self.ledger.duplicate += known.end - known.start;
            at = known.end;
        }
        if at < range.end {
            fresh.push(at..range.end);
        }
        fresh
    }

    fn count_order(&mut self, part: &Run) {
        if part.counter >= self.furthest {
            return;
        }
        let samples = part.samples.len() as u64;
        if self.furthest - part.counter <= self.samples_in(REORDER_S) {
            self.ledger.reordered += samples;
        } else {
            self.ledger.resent += samples;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE_HZ: f64 = 100.0;

    fn block(counter: u64, samples: u64) -> Run {
        Run {
            counter,
            tick: counter * 10_000,
            samples: (counter..counter + samples).map(|v| v as i32).collect(),
        }
    }

    fn channel() -> Reassembly {
        Reassembly::new(RATE_HZ, 1_000_000)
    }

    /// Pushes blocks and returns the counters that came out.
    fn push(channel: &mut Reassembly, blocks: &[(u64, u64)]) -> Vec<u64> {
        let mut out = Vec::new();
        for &(counter, samples) in blocks {
            channel
                .push(block(counter, samples), &mut |run| out.extend(counters(&run)))
                .expect("possible");
        }
        out
    }

    /// Counters of a run, which its samples repeat.
    fn counters(run: &Run) -> Vec<u64> {
        let counters: Vec<u64> = (run.counter..run.end()).collect();
        assert!(counters.iter().zip(&run.samples).all(|(&c, &v)| c as i32 == v), "{run:?}");
        assert_eq!(run.tick, run.counter * 10_000);
        counters
    }

    #[test]
    fn blocks_out_of_order_come_out_in_order() {
        let mut channel = channel();
        let out = push(&mut channel, &[(7, 3), (20, 10), (10, 10), (30, 5)]);
        assert_eq!(out, (7..35).collect::<Vec<_>>());
        assert_eq!(channel.acknowledged(), Some(35));
        let ledger = SampleLedger { received: 28, reordered: 10, ..SampleLedger::default() };
        assert_eq!(channel.ledger, ledger);
    }

    #[test]
    fn a_hole_is_given_up_and_what_comes_then_is_late_once() {
        let mut channel = channel();
        assert_eq!(push(&mut channel, &[(0, 10), (30, 10)]).len(), 10);
        let mut out = Vec::new();
        channel.give_up_before(5_299_999, 5.0, &mut |run| out.extend(counters(&run)));
        assert!(out.is_empty() && channel.has_hole());
        channel.give_up_before(5_300_000, 5.0, &mut |run| out.extend(counters(&run)));
        assert_eq!(out, (30..40).collect::<Vec<_>>());
        assert_eq!(channel.ledger.lost, 20);
        push(&mut channel, &[(5, 10), (12, 3)]);
        assert_eq!((channel.ledger.late, channel.ledger.duplicate), (5, 8));
    }

    #[test]
    fn a_filled_hole_is_reordered_or_sent_again_by_its_age() {
        let mut channel = channel();
        let out = push(&mut channel, &[(0, 10), (20, 10), (10, 10), (40, 150), (30, 10), (35, 5)]);
        assert_eq!(out, (0..190).collect::<Vec<_>>());
        assert_eq!((channel.ledger.reordered, channel.ledger.resent), (10, 10));
        assert_eq!((channel.ledger.duplicate, channel.ledger.lost), (5, 0));
    }

    #[test]
    fn impossible_counters_are_refused_and_memory_is_bounded() {
        let mut channel = channel();
        push(&mut channel, &[(1 << 40, 10)]);
        for counter in [u64::MAX, u64::MAX - 5, 1 << 50] {
            let refused = channel.push(block(0, 10).at(counter), &mut |_| ());
            assert_eq!(refused, Err(ImpossibleCounter(counter)));
        }
        for hole in 1..10_000 {
            push(&mut channel, &[((1 << 40) + hole * 20, 10)]);
        }
        assert!(channel.waiting_samples <= 12_000 && channel.holes.len() <= MAX_HOLES);
    }

    impl Run {
        fn at(mut self, counter: u64) -> Run {
            self.counter = counter;
            self
        }
    }

    proptest! {
        /// Whatever is dropped, repeated and shuffled: every counter comes out once and in order,
        /// or is lost, and the ledger adds up.
        #[test]
        fn the_ledger_adds_up(
            fates in prop::collection::vec((0_u8..8, 0_usize..6), 1..200)
        ) {
            let mut arrivals: Vec<(usize, u64)> = Vec::new();
            let mut sent_lost = 0;
            for (index, &(fate, delay)) in fates.iter().enumerate() {
                match fate {
                    0 if index > 0 => sent_lost += 10,
                    1 => arrivals.extend([(index, index as u64), (index + delay, index as u64)]),
                    2 if index > 0 => arrivals.push((index + delay, index as u64)),
                    _ => arrivals.push((index, index as u64)),
                }
            }
            arrivals.sort_by_key(|a| a.0);
            let mut channel = channel();
            let mut out = Vec::new();
            for &(_, index) in &arrivals {
                channel.push(block(index * 10, 10), &mut |run| out.extend(counters(&run))).expect("possible");
            }
            channel.finish(&mut |run| out.extend(counters(&run)));
            prop_assert!(out.windows(2).all(|w| w[0] < w[1]));
            let ledger = channel.ledger;
            let furthest = arrivals.iter().map(|a| a.1 * 10 + 10).max().unwrap_or(0);
            let tail = fates.len() as u64 * 10 - furthest;
            prop_assert_eq!(ledger.late, 0);
            prop_assert_eq!(ledger.lost, sent_lost - tail);
            prop_assert_eq!(ledger.received, out.len() as u64 + ledger.duplicate);
        }
    }
}
