//! Threads that read batches ahead of training. Thread i of n reads batches i, i + n, i + 2 n, ...
//! into a queue of its own, so that they arrive in order however long each takes; a full queue
//! makes its thread wait.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Augment, Batch, Reader, WindowIndex};
use crate::data::DataError;

/// Batches that wait in each thread's queue.
const READ_AHEAD: usize = 2;

/// How windows make batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Windows of a batch.
    pub batch_size: usize,
    /// Decides the order of each pass.
    pub seed: u64,
}

/// Whether channels and modalities are drawn at random, and how.
pub type Draw = Option<Augment>;

impl Order {
    /// Batches of one pass; windows too few for another batch wait for another pass.
    pub fn batches(&self, index: &WindowIndex) -> u64 {
        match index.len() {
            0 => 0,
            windows => (windows / self.batch_size.max(1)).max(1) as u64,
        }
    }

    /// Windows of batch `number` of all passes; `shuffled` keeps the order of the pass it is of.
    fn windows(
        &self,
        index: &WindowIndex,
        number: u64,
        shuffled: &mut Option<(u64, Vec<u32>)>,
    ) -> Vec<usize> {
        let batches = self.batches(index).max(1);
        let (pass, place) = (number / batches, (number % batches) as usize);
        if shuffled.as_ref().is_none_or(|(of, _)| *of != pass) {
            *shuffled = Some((pass, index.shuffled(self.seed, pass)));
        }
        let order = shuffled.iter().flat_map(|(_, order)| order);
        order.skip(place * self.batch_size).take(self.batch_size).map(|&w| w as usize).collect()
    }
}

/// Batches in order, read ahead.
#[derive(Debug)]
pub struct Loader {
    queues: Vec<Receiver<Result<Batch, DataError>>>,
    threads: Vec<JoinHandle<()>>,
    next: u64,
    waited: Duration,
}

impl Loader {
    /// Reads the batches from number `first` up to `end` of all passes on `workers` threads.
    pub fn start(
        index: &Arc<WindowIndex>,
        order: Order,
        draw: Draw,
        (first, end): (u64, u64),
        workers: usize,
    ) -> Self {
        let workers = workers.max(1) as u64;
        let start = |worker: u64| {
            let (sender, queue) = sync_channel(READ_AHEAD);
            let index = Arc::clone(index);
            let numbers = (first + worker..end).step_by(workers as usize);
            let work = move || read(&index, order, draw, numbers, &sender);
            (queue, std::thread::spawn(work))
        };
        let (queues, threads) = (0..workers).map(start).unzip();
        Self { queues, threads, next: 0, waited: Duration::ZERO }
    }

    /// The time that [`Loader::next`] has waited so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    /// The next batch; nothing after the last, or if its thread has died.
    fn next(&mut self) -> Option<Self::Item> {
        let queue = self.queues.get(self.next as usize % self.queues.len().max(1))?;
        self.next += 1;
        let began = Instant::now();
        let batch = queue.recv().ok();
        self.waited += began.elapsed();
        batch
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.queues.clear();
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn read(
    index: &WindowIndex,
    order: Order,
    draw: Draw,
    numbers: impl Iterator<Item = u64>,
    queue: &SyncSender<Result<Batch, DataError>>,
) {
    let mut reader = Reader::new();
    let mut shuffled = None;
    for number in numbers {
        let windows = order.windows(index, number, &mut shuffled);
        let draw = draw.map(|augment| (augment, order.seed, number));
        let batch = reader.batch(index, windows, draw);
        let failed = batch.is_err();
        // Nobody listens any more once training has stopped.
        if queue.send(batch).is_err() || failed {
            return;
        }
    }
}
