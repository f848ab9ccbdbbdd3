//! Frames on their way: what was sent and leaves later, in order of time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// What a samples frame stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cargo {
    pub channel: usize,
    /// Counter of the block's first sample.
    pub counter: u64,
    pub count: u64,
    /// It was sent before.
    pub resent: bool,
    pub corrupted: bool,
}

/// A frame on its way.
#[derive(Debug)]
pub(super) struct Traveling {
    pub due_s: f64,
    order: u64,
    pub bytes: Vec<u8>,
    /// `None` for anything but samples.
    pub cargo: Option<Cargo>,
}

impl PartialEq for Traveling {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Traveling {}

impl PartialOrd for Traveling {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Traveling {
    /// The earliest is the greatest: the heap gives it first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.due_s.total_cmp(&self.due_s).then(other.order.cmp(&self.order))
    }
}

/// The link's memory. Frames leave in the order in which they were sent, but for those held back.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: BinaryHeap<Traveling>,
    sent: u64,
    /// No frame that keeps its order leaves before the one ahead of it.
    last_due_s: f64,
}

impl Queue {
    /// Sends a frame that leaves at `due_s` or behind its predecessors, and `held_s` later.
    pub fn send(&mut self, due_s: f64, held_s: f64, bytes: Vec<u8>, cargo: Option<Cargo>) {
        self.last_due_s = self.last_due_s.max(due_s);
        let due_s = self.last_due_s + held_s;
        self.frames.push(Traveling { due_s, order: self.sent, bytes, cargo });
        self.sent += 1;
    }

    /// When the next frame leaves.
    pub fn next_due_s(&self) -> Option<f64> {
        self.frames.peek().map(|frame| frame.due_s)
    }

    /// The next frame, if it leaves at `now_s` or before.
    pub fn pop_due(&mut self, now_s: f64) -> Option<Traveling> {
        self.next_due_s().filter(|&due_s| due_s <= now_s)?;
        self.frames.pop()
    }

    /// The next frame, whenever it would leave.
    pub fn pop(&mut self) -> Option<Traveling> {
        let frame = self.frames.pop();
        if self.frames.is_empty() {
            self.last_due_s = 0.0;
        }
        frame
    }
}
