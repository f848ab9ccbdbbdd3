//! The account of one channel: what became of every sample. Holds the blocks that have not been
//! delivered, whose number grows with what is lost, not with the recording.

use std::collections::BTreeMap;

use super::report::{Cause, ChannelReport, LostRange};

/// The account; the words are those of [`ChannelReport`].
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    report: ChannelReport,
    /// Blocks of the session that were never delivered, by counter.
    missing: BTreeMap<u64, Missing>,
    /// Counter behind the last sample of the session that was delivered.
    newest: u64,
    /// Index of the session.
    session: usize,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    count: u64,
    /// What became of its last copy.
    cause: Cause,
    /// It was kept while the link was down.
    delayed: bool,
}

impl Ledger {
    pub fn new(label: &str) -> Self {
        let report = ChannelReport { label: label.to_owned(), ..ChannelReport::default() };
        Self { report, ..Self::default() }
    }

    /// A block was measured.
    pub fn taken(&mut self, counter: u64, count: u64) {
        self.report.taken += count;
        let missing = Missing { count, cause: Cause::Outage, delayed: false };
        self.missing.insert(counter, missing);
    }

    /// A block waits in memory for the link.
    pub fn delayed(&mut self, counter: u64) {
        if let Some(missing) = self.missing.get_mut(&counter) {
            missing.delayed = true;
        }
    }

    /// A copy of a block did not arrive.
    pub fn failed(&mut self, counter: u64, cause: Cause) {
        if let Some(missing) = self.missing.get_mut(&counter) {
            missing.cause = cause;
        }
    }

    /// A frame left with flipped bits.
    pub fn corrupted(&mut self, counter: u64) {
        self.report.frames_corrupted += 1;
        self.failed(counter, Cause::Corruption);
    }

    /// A copy of a block arrived.
    pub fn delivered(&mut self, counter: u64, count: u64, resent: bool) {
        let Some(missing) = self.missing.remove(&counter) else {
            self.report.duplicate += count;
            return;
        };
        self.report.delivered += count;
        if resent {
            self.report.resent += count;
        } else if counter < self.newest {
            self.report.reordered += count;
        } else if missing.delayed {
            self.report.delayed += count;
        }
        self.newest = self.newest.max(counter + count);
    }

    /// The session is over: what has not been delivered is lost. `session` is the next one's index.
    pub fn end_session(&mut self, session: usize) {
        let ended = std::mem::replace(&mut self.session, session);
        self.newest = 0;
        for (counter, Missing { count, cause, .. }) in std::mem::take(&mut self.missing) {
            self.report.lost += count;
            match cause {
                Cause::Loss => self.report.lost_by_loss += count,
                Cause::Corruption => self.report.lost_by_corruption += count,
                Cause::Outage => self.report.lost_by_outage += count,
            }
            match self.report.lost_ranges.last_mut() {
                Some(last)
                    if last.session == ended
                        && last.cause == cause
                        && last.counter + last.count == counter =>
                {
                    last.count += count;
                }
                _ => self.report.lost_ranges.push(LostRange {
                    session: ended,
                    counter,
                    count,
                    cause,
                }),
            }
        }
    }

    /// The account, as if the session were over now.
    pub fn report(&self) -> ChannelReport {
        let mut ledger = self.clone();
        ledger.end_session(self.session);
        ledger.report
    }
}
