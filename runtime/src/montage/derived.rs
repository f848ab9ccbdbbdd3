//! Derived channels: what a montage makes of recorded ones, behind any source, so that a live session,
//! the replay of its recording and every pass have the same. A derived channel has the rate of its fastest
//! channel; slower ones are interpolated along straight lines. It is missing where one of its channels is,
//! and is decided as soon as all of them are: its samples do not depend on how blocks were cut.

use std::collections::VecDeque;

use super::{Derivation, Montage};
use crate::signal::{SampleBlock, StreamInfo};
use crate::source::{Source, SourceError};

/// A source with the derived channels of a montage behind its own.
pub struct DerivedSource<'a> {
    source: &'a mut dyn Source,
    info: StreamInfo,
    combiners: Vec<Combiner>,
    /// Derived blocks that were not taken yet.
    ready: VecDeque<SampleBlock>,
}

impl<'a> DerivedSource<'a> {
    /// `source` with what `montage` derives of it.
    pub fn new(source: &'a mut dyn Source, montage: &Montage) -> Self {
        let info = montage.extended(source.info());
        let combiner = |(k, derivation): (usize, &Derivation)| {
            Combiner::new(montage.recorded() + k, derivation, &info)
        };
        let used = |(k, _): &(usize, &Derivation)| {
            montage.decisions[montage.recorded() + k].modality.is_some()
        };
        let combiners = montage.derivations.iter().enumerate().filter(used).map(combiner).collect();
        Self { source, info, combiners, ready: VecDeque::new() }
    }
}

impl Source for DerivedSource<'_> {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next_block(&mut self, block: &mut SampleBlock) -> Result<bool, SourceError> {
        if let Some(ready) = self.ready.pop_front() {
            *block = ready;
            return Ok(true);
        }
        if !self.source.next_block(block)? {
            return Ok(false);
        }
        for combiner in &mut self.combiners {
            combiner.take(block, &mut self.ready);
        }
        Ok(true)
    }

    fn can_wait(&self) -> bool {
        self.source.can_wait()
    }
}

/// Makes one derived channel.
struct Combiner {
    /// Its index among the extended channels.
    channel: usize,
    terms: Vec<Term>,
    /// The first sample that was not made or decided missing.
    next: u64,
}

/// A channel of a derivation: what has come of it and is still needed.
struct Term {
    channel: usize,
    weight: f32,
    /// Own samples per derived one, 1 or less.
    ratio: f64,
    /// Contiguous samples, in order.
    runs: VecDeque<Run>,
    /// Everything before this sample has come or will not come.
    decided: u64,
}

/// Contiguous samples.
struct Run {
    start: u64,
    samples: VecDeque<f32>,
}

impl Run {
    fn end(&self) -> u64 {
        self.start + self.samples.len() as u64
    }
}

impl Combiner {
    fn new(channel: usize, derivation: &Derivation, info: &StreamInfo) -> Self {
        let rate_hz = derivation.signal.rate_hz;
        let term = |channel: usize, weight: f32| Term {
            channel,
            weight,
            ratio: info.signals[channel].rate_hz / rate_hz,
            runs: VecDeque::new(),
            decided: 0,
        };
        let others = derivation.minus.iter().map(|&(channel, weight)| term(channel, -weight));
        let terms = std::iter::once(term(derivation.plus, 1.0)).chain(others).collect();
        Self { channel, terms, next: 0 }
    }

    fn take(&mut self, block: &SampleBlock, ready: &mut VecDeque<SampleBlock>) {
        let mut concerned = false;
        // A channel may be both sides of a derivation.
        for term in self.terms.iter_mut().filter(|term| term.channel == block.channel) {
            term.take(block);
            concerned = true;
        }
        if !concerned {
            return;
        }
        let until = self.terms.iter().map(Term::decided_until).min().unwrap_or(0);
        let mut made = SampleBlock { channel: self.channel, start: self.next, samples: Vec::new() };
        while self.next < until {
            match self.terms.iter_mut().map(|term| term.at(self.next)).collect::<At>() {
                At::Sample(value) => {
                    if made.samples.is_empty() {
                        made.start = self.next;
                    }
                    made.samples.push(value);
                    self.next += 1;
                }
                At::MissingUntil(next) => {
                    if !made.samples.is_empty() {
                        let channel = self.channel;
                        let rest = SampleBlock { channel, ..SampleBlock::default() };
                        ready.push_back(std::mem::replace(&mut made, rest));
                    }
                    self.next = next.min(until);
                }
            }
        }
        let is_decided = made.samples.is_empty() && self.next > made.start;
        if is_decided {
            // Nothing before it will come.
            made.start = self.next;
        }
        if is_decided || !made.samples.is_empty() {
            ready.push_back(made);
        }
    }
}

/// What a derived sample is.
enum At {
    Sample(f32),
    /// There is none before this one.
    MissingUntil(u64),
}

impl FromIterator<At> for At {
    /// The sum of the terms; missing as long as any of them is.
    fn from_iter<I: IntoIterator<Item = At>>(terms: I) -> Self {
        terms.into_iter().fold(At::Sample(0.0), |sum, term| match (sum, term) {
            (At::Sample(a), At::Sample(b)) => At::Sample(a + b),
            (At::MissingUntil(a), At::MissingUntil(b)) => At::MissingUntil(a.max(b)),
            (At::MissingUntil(until), _) | (_, At::MissingUntil(until)) => At::MissingUntil(until),
        })
    }
}

impl Term {
    fn take(&mut self, block: &SampleBlock) {
        // What overlaps has come already.
        let known = self.decided.saturating_sub(block.start).min(block.samples.len() as u64);
        let (start, samples) = (block.start + known, &block.samples[known as usize..]);
        self.decided = self.decided.max(start + samples.len() as u64);
        if samples.is_empty() {
            return;
        }
        match self.runs.back_mut().filter(|run| run.end() == start) {
            Some(run) => run.samples.extend(samples),
            None => self.runs.push_back(Run { start, samples: samples.iter().copied().collect() }),
        }
    }

    /// Derived samples before this one are decided as far as this channel goes.
    fn decided_until(&self) -> u64 {
        match self.decided.checked_sub(1) {
            None => 0,
            // Some come after the last sample received, and need the next.
            Some(last) => {
                let mut index = (last as f64 / self.ratio).floor() as u64;
                // Rounding must not ask for a sample that has not come.
                while index > 0 && index as f64 * self.ratio > last as f64 {
                    index -= 1;
                }
                index + 1
            }
        }
    }

    /// This channel's part of derived sample `index`; samples before it are let go.
    fn at(&mut self, index: u64) -> At {
        let place = index as f64 * self.ratio;
        let (first, part) = (place.floor() as u64, place.fract());
        while self.runs.front().is_some_and(|run| run.end() <= first) {
            self.runs.pop_front();
        }
        // Behind the last run all is missing, as far as it is decided.
        let Some(run) = self.runs.front_mut() else { return At::MissingUntil(u64::MAX) };
        if run.start > first {
            let next = (run.start as f64 / self.ratio).ceil() as u64;
            return At::MissingUntil(next.max(index + 1));
        }
        let spent = (first - run.start).min(run.samples.len() as u64);
        run.samples.drain(..spent as usize);
        run.start += spent;
        let (Some(&a), b) = (run.samples.front(), run.samples.get(1)) else {
            return At::MissingUntil(index + 1);
        };
        let value = match (part > 0.0, b) {
            (false, _) => a,
            (true, Some(&b)) => a + (b - a) * part as f32,
            (true, None) => return At::MissingUntil(index + 1),
        };
        // A value that is no number says as much as none.
        if value.is_finite() {
            At::Sample(self.weight * value)
        } else {
            At::MissingUntil(index + 1)
        }
    }
}

#[cfg(test)]
#[path = "derived_tests.rs"]
mod tests;
