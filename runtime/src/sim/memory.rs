//! A device's memory of the blocks it took: for sending after an outage what could not be sent, and
//! for sending again what the host does not acknowledge. Holds blocks for a limited time, the oldest
//! go first. Without a capacity it holds nothing.

use std::collections::VecDeque;

/// A block that is missing at the host is sent again when its last sending is older than this,
/// seconds.
const RESEND_AFTER_S: f64 = 1.0;
/// A host whose counter is older than this, seconds, is sent more than one block at once.
const BEHIND_S: f64 = 2.0;
/// Blocks sent again at once at most.
const MAX_RUN: usize = 32;

/// A block as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub channel: usize,
    pub counter: u64,
    pub count: u64,
    /// First or last of its session.
    pub is_exempt: bool,
    /// The frame.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
struct Kept {
    block: Block,
    taken_s: f64,
    /// When it was last sent.
    sent_s: Option<f64>,
    sendings: u64,
}

#[derive(Debug, Default)]
struct Shelf {
    blocks: VecDeque<Kept>,
    /// How many blocks were last sent again.
    run: usize,
}

/// The blocks of all channels.
#[derive(Debug)]
pub(super) struct Memory {
    capacity_s: f64,
    shelves: Vec<Shelf>,
    /// Channel and counter of blocks to be sent for the first time, in order.
    unsent: VecDeque<(usize, u64)>,
    /// The same of those to be sent again.
    again: VecDeque<(usize, u64)>,
}

impl Memory {
    pub fn new(capacity_s: f64, channels: usize) -> Self {
        let shelves = (0..channels).map(|_| Shelf::default()).collect();
        Self { capacity_s, shelves, unsent: VecDeque::new(), again: VecDeque::new() }
    }

    /// It keeps anything at all.
    pub fn exists(&self) -> bool {
        self.capacity_s > 0.0
    }

    /// Blocks wait for their first sending.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Something waits to be sent.
    pub fn has_waiting(&self) -> bool {
        !self.unsent.is_empty() || !self.again.is_empty()
    }

    /// Keeps a block that is sent now, or else waits. Returns how many blocks were thrown away
    /// without having been sent.
    pub fn keep(&mut self, block: Block, now_s: f64, is_sent: bool) -> u64 {
        if !self.exists() {
            return 0;
        }
        let (channel, counter) = (block.channel, block.counter);
        let Some(shelf) = self.shelves.get_mut(channel) else { return 0 };
        let sent_s = is_sent.then_some(now_s);
        let sendings = u64::from(is_sent);
        shelf.blocks.push_back(Kept { block, taken_s: now_s, sent_s, sendings });
        if !is_sent {
            self.unsent.push_back((channel, counter));
        }
        let mut dropped = 0;
        while let Some(oldest) = shelf.blocks.front()
            && oldest.taken_s < now_s - self.capacity_s
        {
            dropped += u64::from(oldest.sendings == 0);
            shelf.blocks.pop_front();
        }
        dropped
    }

    /// The host has everything of a channel before `counter`; what lies there, if it was sent long
    /// ago, did not arrive. The counter tells of one block, which is sent again; a host that falls
    /// behind nonetheless is sent twice as many each time, needed or not.
    pub fn acknowledge(&mut self, channel: usize, counter: u64, now_s: f64) {
        let Some(shelf) = self.shelves.get_mut(channel) else { return };
        while let Some(oldest) = shelf.blocks.front()
            && oldest.block.counter + oldest.block.count <= counter
        {
            shelf.blocks.pop_front();
        }
        let is_overdue = |kept: &Kept| kept.sent_s.is_some_and(|s| now_s - s > RESEND_AFTER_S);
        let Some(first) = shelf.blocks.front() else { return };
        if first.block.counter > counter || !is_overdue(first) {
            return;
        }
        let is_behind = now_s - first.taken_s > BEHIND_S;
        shelf.run = if is_behind { (2 * shelf.run).clamp(1, MAX_RUN) } else { 1 };
        let run = shelf.blocks.iter_mut().take(shelf.run);
        for kept in run.filter(|kept| is_overdue(kept)) {
            kept.sent_s = Some(now_s);
            self.again.push_back((channel, kept.block.counter));
        }
    }

    /// The next block to be sent and how often it was sent before.
    pub fn next(&mut self, now_s: f64) -> Option<(Block, u64)> {
        loop {
            let (channel, counter) = self.again.pop_front().or_else(|| self.unsent.pop_front())?;
            let Some(shelf) = self.shelves.get_mut(channel) else { continue };
            // It may have been forgotten or acknowledged meanwhile.
            if let Ok(place) = shelf.blocks.binary_search_by_key(&counter, |k| k.block.counter)
                && let Some(kept) = shelf.blocks.get_mut(place)
            {
                kept.sent_s = Some(now_s);
                kept.sendings += 1;
                return Some((kept.block.clone(), kept.sendings - 1));
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.capacity_s, self.shelves.len());
    }
}
