//! How a live session keeps up: counters that the pipeline's thread writes and the service reads.
//! No result depends on them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Latencies kept for a reader that comes late; older ones are dropped.
const MAX_LATENCIES: usize = 1024;

/// The state of one live session's pipeline.
#[derive(Debug, Default)]
pub struct Load {
    turns: AtomicU64,
    epochs: AtomicU64,
    skipped: AtomicU64,
    overflow: AtomicU64,
    /// Per mille.
    fill: AtomicU32,
    latencies: Mutex<VecDeque<Duration>>,
}

impl Load {
    /// Times the pipeline has looked for samples: it moves as long as this grows.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Epochs that went through the pipeline, restored ones included: it has come to 30 s times
    /// this in the session's time.
    pub fn epochs(&self) -> u64 {
        self.epochs.load(Ordering::Relaxed)
    }

    /// Epochs without a provisional score, because a newer one was due already. Their window
    /// settles them.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Samples dropped because a ring was full.
    pub fn overflow(&self) -> u64 {
        self.overflow.load(Ordering::Relaxed)
    }

    /// Fill of the fullest ring, 0 to 1, when the pipeline last came to empty it.
    pub fn fill(&self) -> f32 {
        self.fill.load(Ordering::Relaxed) as f32 / 1000.0
    }

    /// For each epoch since the last call, the time from taking its last sample out of its ring to
    /// its event. A sample waits in the ring for 20 ms more at most.
    pub fn take_latencies(&self) -> Vec<Duration> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    pub(super) fn note_rings(&self, fill: f32, overflow: u64) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.fill.store((fill * 1000.0) as u32, Ordering::Relaxed);
        self.overflow.store(overflow, Ordering::Relaxed);
    }

    /// An epoch is through; `latency` of one that was scored.
    pub(super) fn note_epoch(&self, latency: Option<Duration>) {
        self.epochs.fetch_add(1, Ordering::Relaxed);
        let Some(latency) = latency else { return };
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        if latencies.len() == MAX_LATENCIES {
            latencies.pop_front();
        }
        latencies.push_back(latency);
    }

    pub(super) fn note_skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }
}
