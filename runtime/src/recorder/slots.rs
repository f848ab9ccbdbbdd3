//! Decided samples on their way to whole records: a queue a channel. A record is taken when every
//! channel has decided on it; the bytes depend on what was decided and not on how it was pushed.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::edf::gap::{Missing, Reason};
use crate::signal::DigitalBlock;

/// Samples held at most, 64 MB, while a channel does not decide. Then it is taken to stay silent.
const MAX_HELD: usize = 16 << 20;
/// A silence of all channels up to this long, seconds, is written as records of gaps: pyedflib
/// refuses files with holes, and MNE closes them without a word, so that all behind is early.
const MAX_EMPTY_S: f64 = 3600.0;
/// No sample lies behind this, seconds: our reader takes records of seven days.
const MAX_S: f64 = 7.0 * 86_400.0 - 10.0;

/// All channels between the last record and what is decided.
#[derive(Debug)]
pub(super) struct Slots {
    channels: Vec<Channel>,
    storable: RangeInclusive<i32>,
    /// The next record.
    record: u64,
    max_records: u64,
    max_empty: u64,
    held: usize,
    pub lost: Lost,
}

/// Samples that came and are not in the recording as such, each of them declared as missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Their place was already written or given up.
    pub late: u64,
    /// Beyond what the format stores, or beyond seven days.
    pub unstorable: u64,
    /// Between gaps so many that a record had no room to declare them apart.
    pub merged: u64,
}

#[derive(Debug)]
struct Channel {
    per_record: usize,
    fill: i32,
    /// All before it is decided.
    decided: u64,
    samples: VecDeque<i32>,
    /// Where `samples` lie, in order, without overlaps.
    spans: VecDeque<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u64,
    count: usize,
}

/// A record to be written.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    /// Index on the session's grid of records.
    pub index: u64,
    /// By channel, all of them.
    pub samples: Vec<Vec<i32>>,
    /// In order of channel, then of time.
    pub missing: Vec<Missing>,
}

impl Record {
    /// Samples that came, those of all channels.
    pub fn sample_count(&self) -> u64 {
        let all: usize = self.samples.iter().map(Vec::len).sum();
        let missing: usize = self.missing.iter().map(|missing| missing.samples.len()).sum();
        all.saturating_sub(missing) as u64
    }
}

impl Slots {
    /// Channels of so many samples in each record of `record_s`, missing ones filled by the second
    /// number; `record` is the first to come.
    pub fn new(
        channels: &[(usize, i32)],
        storable: RangeInclusive<i32>,
        record_s: f64,
        record: u64,
    ) -> Self {
        let channels = channels.iter().map(|&(per_record, fill)| Channel {
            per_record: per_record.max(1),
            fill,
            decided: record * per_record as u64,
            samples: VecDeque::new(),
            spans: VecDeque::new(),
        });
        Self {
            channels: channels.collect(),
            storable,
            record,
            max_records: (MAX_S / record_s) as u64,
            max_empty: (MAX_EMPTY_S / record_s) as u64,
            held: 0,
            lost: Lost::default(),
        }
    }

    /// Record 0 without a sample.
    pub fn empty_record(&self) -> Record {
        let samples = |channel: &Channel| vec![channel.fill; channel.per_record];
        let missing = |(channel, samples): (usize, &Vec<i32>)| Missing {
            channel,
            samples: 0..samples.len(),
            reason: Reason::Gap,
        };
        let samples: Vec<Vec<i32>> = self.channels.iter().map(samples).collect();
        let missing = samples.iter().enumerate().map(missing).collect();
        Record { index: 0, samples, missing }
    }

    /// The next record to be taken.
    pub fn next_record(&self) -> u64 {
        self.record
    }

    /// Samples that wait.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Behind the last record that a channel has decided on.
    pub fn end_record(&self) -> u64 {
        let begun = |channel: &Channel| channel.decided.div_ceil(channel.per_record as u64);
        self.channels.iter().map(begun).max().unwrap_or_default()
    }

    /// Takes a block; of an unknown channel nothing.
    pub fn push(&mut self, block: &DigitalBlock) {
        let Some(channel) = self.channels.get_mut(block.channel) else { return };
        let last = self.max_records * channel.per_record as u64;
        if block.start >= last {
            self.lost.unstorable += block.samples.len() as u64;
            return;
        }
        let mut place = block.start;
        channel.decided = channel.decided.max(place);
        for chunk in block.samples.split_inclusive(|sample| !self.storable.contains(sample)) {
            let (chunk, unstorable) = match chunk.split_last() {
                Some((last, before)) if !self.storable.contains(last) => (before, 1),
                _ => (chunk, 0),
            };
            let late = channel.decided.saturating_sub(place).min(chunk.len() as u64) as usize;
            let room = last.saturating_sub(place).min(chunk.len() as u64) as usize;
            let kept = chunk.get(late..room).unwrap_or_default();
            channel.extend(place + late as u64, kept);
            self.held += kept.len();
            self.lost.late += late as u64;
            self.lost.unstorable += unstorable + (chunk.len() - room.max(late)) as u64;
            place += chunk.len() as u64 + unstorable;
            channel.decided = channel.decided.max(place.min(last));
        }
    }

    /// The next record on which every channel has decided. Records without a sample are taken when
    /// one with a sample follows, or passed over if they are too many; only the first is taken in
    /// any case, since it tells where the recording starts.
    pub fn next(&mut self) -> Option<Record> {
        let records = |channel: &Channel| channel.decided / channel.per_record as u64;
        let mut decided = self.channels.iter().map(records).min()?;
        if self.held > MAX_HELD {
            decided = decided.max(self.record + 1);
        }
        let filled = self.first_filled();
        if self.record > 0 && filled == u64::MAX {
            return None;
        }
        let index = self.behind_hole(filled);
        (index < decided).then(|| self.take(index, false))
    }

    /// The next of the records that are left when the session is over, up to the last one that a
    /// channel has decided on; of a long hole those that a channel's last decision lies in.
    pub fn next_at_end(&mut self) -> Option<Record> {
        let end = self.end_record().max(1);
        let last_words = self.channels.iter().map(|c| c.decided / c.per_record as u64);
        let last_words = last_words.filter(|&record| record >= self.record).min();
        let said = self.first_filled().min(last_words.unwrap_or(u64::MAX)).min(end - 1);
        let index = self.behind_hole(said);
        (index < end).then(|| self.take(index, true))
    }

    /// The next record, or `said`, the next in which there is something, behind a long hole.
    fn behind_hole(&self, said: u64) -> u64 {
        let is_long = said.saturating_sub(self.record) > self.max_empty;
        if is_long && self.record > 0 { said } else { self.record }
    }

    /// The first record that holds a sample; `u64::MAX` if none does.
    fn first_filled(&self) -> u64 {
        let first =
            |channel: &Channel| Some(channel.spans.front()?.start / channel.per_record as u64);
        self.channels.iter().filter_map(first).min().unwrap_or(u64::MAX)
    }

    fn take(&mut self, index: u64, at_end: bool) -> Record {
        let mut record = Record { index, samples: Vec::new(), missing: Vec::new() };
        for (number, channel) in self.channels.iter_mut().enumerate() {
            let samples = channel.take(number, index, at_end, &mut record.missing);
            record.samples.push(samples);
        }
        self.held = self.channels.iter().map(|channel| channel.samples.len()).sum();
        self.record = index + 1;
        record
    }
}

impl Channel {
    fn extend(&mut self, start: u64, samples: &[i32]) {
        if samples.is_empty() {
            return;
        }
        self.samples.extend(samples);
        match self.spans.back_mut() {
            Some(last) if last.start + last.count as u64 == start => last.count += samples.len(),
            _ => self.spans.push_back(Span { start, count: samples.len() }),
        }
    }

    /// A record's samples; what is not there goes to `missing`.
    fn take(
        &mut self,
        channel: usize,
        index: u64,
        at_end: bool,
        missing: &mut Vec<Missing>,
    ) -> Vec<i32> {
        let first = index * self.per_record as u64;
        let mut samples = Vec::with_capacity(self.per_record);
        let mut miss = |samples: std::ops::Range<usize>, reason| {
            if !samples.is_empty() {
                missing.push(Missing { channel, samples, reason });
            }
        };
        while let Some(span) = self.spans.front_mut() {
            let place = span.start.saturating_sub(first);
            if place >= self.per_record as u64 {
                break;
            }
            miss(samples.len()..place as usize, Reason::Gap);
            samples.resize(place as usize, self.fill);
            let count = span.count.min(self.per_record - samples.len());
            samples.extend(self.samples.drain(..count.min(self.samples.len())));
            span.start += count as u64;
            span.count -= count;
            if span.count == 0 {
                self.spans.pop_front();
            }
        }
        // Silence that is decided is a gap; behind it, at the end, is nothing.
        let decided = if at_end { self.decided.saturating_sub(first) } else { u64::MAX };
        let decided = (decided.min(self.per_record as u64) as usize).max(samples.len());
        miss(samples.len()..decided, Reason::Gap);
        miss(decided..self.per_record, Reason::End);
        samples.resize(self.per_record, self.fill);
        if !at_end {
            self.decided = self.decided.max(first + self.per_record as u64);
        }
        samples
    }
}

/// Merges neighbors in `missing`, the closest first, until there are at most `room`. Returns the
/// samples between them, which are declared missing with them.
pub(super) fn merge(missing: &mut Vec<Missing>, room: usize) -> u64 {
    let surplus = missing.len().saturating_sub(room);
    if surplus == 0 {
        return 0;
    }
    let mut joints: Vec<(usize, usize)> = missing
        .windows(2)
        .enumerate()
        .filter_map(|(index, pair)| match pair {
            [a, b] if a.channel == b.channel => Some((b.samples.start - a.samples.end, index + 1)),
            _ => None,
        })
        .collect();
    joints.sort_unstable();
    joints.truncate(surplus);
    let lost = joints.iter().map(|&(samples, _)| samples as u64).sum();
    let mut closed = vec![false; missing.len()];
    for &(_, index) in &joints {
        closed[index] = true;
    }
    let mut merged: Vec<Missing> = Vec::with_capacity(room);
    for (next, closed) in missing.drain(..).zip(closed) {
        match merged.last_mut() {
            Some(last) if closed => {
                last.samples.end = next.samples.end;
                last.reason = next.reason;
            }
            _ => merged.push(next),
        }
    }
    *missing = merged;
    lost
}
