//! The recorder's thread and the queue before it, bounded by the memory it holds: 64 MB are the
//! better part of an hour. Nobody who hands samples over ever waits. What the disk refuses waits in
//! memory and is tried again; only when that is full samples are lost, as one declared gap that
//! ends when half of it is free. Looks whether the files are still under their names, and goes on in
//! another folder if not. All of this is reported; the annotations do as the samples.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::annotations::{AnnotationLog, Annotations};
use super::{Recorder, RecorderError, Written};
use crate::edf::Annotation;
use crate::health::disk::RecordingSpace;
use crate::session_folder::{FolderMaker, SessionFolder};
use crate::signal::DigitalBlock;

/// The queue's bound, bytes.
const MAX_QUEUED: usize = 64 << 20;
/// That of all queues of the process: a disk that fails, fails for all beds.
const MAX_QUEUED_BY_ALL: usize = 1 << 30;
/// What a block costs beside its samples, so that a million empty ones are not free.
const BLOCK_BYTES: usize = 64;
/// Annotations that wait at most, and after them those of a mark in ten thousand.
const MAX_ANNOTATIONS: usize = 10_000;
/// A disk that refused is tried again after so long.
const RETRY: Duration = Duration::from_secs(2);
/// How often it is looked whether the files are under their names.
const CHECK: Duration = Duration::from_secs(3);
/// A disk that takes longer over one write is reported as one that hangs.
const HANGS: Duration = Duration::from_secs(15);

/// What all queues of the process hold, bytes.
static QUEUED_BY_ALL: AtomicUsize = AtomicUsize::new(0);

/// What the thread takes.
#[derive(Debug)]
pub(super) enum Message {
    Block(DigitalBlock),
    Annotation(Annotation),
    Finish,
}

/// What happens to the recording.
#[derive(Debug, Clone, PartialEq)]
pub enum RecorderEvent {
    /// The disk does not take it; samples wait in memory.
    Waiting {
        /// Why.
        reason: String,
    },
    /// The memory for samples that wait is full: they are lost from now on.
    Losing {
        /// Why.
        reason: String,
    },
    /// Samples that the recording lacks, though they came.
    Lost(Unrecorded),
    /// It is written again, and all that waited was.
    Resumed {
        /// How long it was not.
        after: Duration,
    },
    /// The recording is not under its name any more; it goes on where nobody finds it.
    Displaced {
        /// What became of it, or why there is no other folder.
        reason: String,
    },
    /// The session goes on in this folder, with a copy of what is recorded.
    Moved {
        /// The folder.
        folder: PathBuf,
        /// What became of the last one.
        reason: String,
    },
    /// What the recording takes and has set aside, at every sync.
    Space(RecordingSpace),
    /// No space is set aside, for this reason.
    Unreserved {
        /// One sentence.
        reason: String,
    },
}

/// Samples that came and that the recording lacks.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Unrecorded {
    /// From, seconds after the start.
    pub from_s: f64,
    /// To, seconds after the start.
    pub to_s: f64,
    /// Samples of all channels; 0 where nobody counted them.
    pub samples: u64,
    /// Why.
    pub reason: String,
}

/// Takes what happens, from any thread.
type Observer = Box<dyn FnMut(RecorderEvent) + Send>;

struct Shared {
    queued: AtomicUsize,
    /// Samples are not taken until there is room again.
    is_losing: AtomicBool,
    /// When the thread last took a message, milliseconds after `born`.
    turned_ms: AtomicU64,
    born: Instant,
    rates_hz: Vec<f64>,
    state: Mutex<State>,
}

struct State {
    observer: Observer,
    outage: Option<Outage>,
}

/// Since when and why it is not written.
struct Outage {
    since: Instant,
    reason: String,
    lost: Option<Unrecorded>,
}

impl Shared {
    fn new(rates_hz: &[f64], observer: Observer) -> Self {
        Self {
            queued: AtomicUsize::new(0),
            is_losing: AtomicBool::new(false),
            turned_ms: AtomicU64::new(0),
            born: Instant::now(),
            rates_hz: rates_hz.to_vec(),
            state: Mutex::new(State { observer, outage: None }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, event: RecorderEvent) {
        (self.state().observer)(event);
    }

    /// Takes room in the queue; `false` if there is none.
    fn admit(&self, cost: usize) -> bool {
        let all = QUEUED_BY_ALL.fetch_add(cost, Ordering::AcqRel) + cost;
        let queued = self.queued.fetch_add(cost, Ordering::AcqRel) + cost;
        let fits = queued <= MAX_QUEUED && all <= MAX_QUEUED_BY_ALL;
        if !fits {
            self.release(cost);
        }
        fits
    }

    fn release(&self, cost: usize) {
        self.queued.fetch_sub(cost, Ordering::AcqRel);
        QUEUED_BY_ALL.fetch_sub(cost, Ordering::AcqRel);
    }

    fn turned(&self) {
        self.turned_ms.store(self.born.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn hangs(&self) -> bool {
        let turned = Duration::from_millis(self.turned_ms.load(Ordering::Relaxed));
        self.queued.load(Ordering::Relaxed) > 0
            && self.born.elapsed().saturating_sub(turned) > HANGS
    }

    /// It is not written from now on, which is reported once.
    fn wait(&self, reason: String) {
        let mut state = self.state();
        if state.outage.is_none() {
            let since = Instant::now();
            state.outage = Some(Outage { since, reason: reason.clone(), lost: None });
            (state.observer)(RecorderEvent::Waiting { reason });
        }
    }

    /// A block is lost.
    fn lose(&self, block: &DigitalBlock) {
        self.is_losing.store(true, Ordering::Release);
        let rate_hz = self.rates_hz.get(block.channel).copied().unwrap_or(1.0);
        let from_s = block.start as f64 / rate_hz;
        let to_s = from_s + block.samples.len() as f64 / rate_hz;
        self.lose_samples(from_s, to_s, block.samples.len() as u64);
    }

    fn lose_samples(&self, from_s: f64, to_s: f64, samples: u64) {
        let mut state = self.state();
        let State { observer, outage } = &mut *state;
        let outage = outage.get_or_insert_with(|| Outage {
            since: Instant::now(),
            reason: "the disk is too slow for the recording".to_owned(),
            lost: None,
        });
        if samples == 0 {
            return;
        }
        let lost = outage.lost.get_or_insert_with(|| {
            let reason = outage.reason.clone();
            observer(RecorderEvent::Losing { reason: reason.clone() });
            Unrecorded { from_s, to_s, samples: 0, reason }
        });
        lost.from_s = lost.from_s.min(from_s);
        lost.to_s = lost.to_s.max(to_s);
        lost.samples += samples;
    }

    /// What was lost so far is reported. Returns it.
    fn settle_loss(&self) -> Option<Unrecorded> {
        let mut state = self.state();
        let lost = state.outage.as_mut()?.lost.take()?;
        (state.observer)(RecorderEvent::Lost(lost.clone()));
        Some(lost)
    }

    /// It is written again.
    fn resume(&self) {
        self.is_losing.store(false, Ordering::Release);
        let mut state = self.state();
        if let Some(outage) = state.outage.take() {
            (state.observer)(RecorderEvent::Resumed { after: outage.since.elapsed() });
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        QUEUED_BY_ALL.fetch_sub(*self.queued.get_mut(), Ordering::AcqRel);
    }
}

/// A session's recorder at work.
pub struct RecorderThread {
    queue: Sender<Message>,
    shared: Arc<Shared>,
    outcome: Receiver<Result<Written, RecorderError>>,
}

/// The folder of a session and who makes another where it goes on if that one is gone.
pub type Whereabouts = (SessionFolder, FolderMaker);

/// Starts the thread. `observer` is called from any thread, and not for long. Without `whereabouts`
/// nobody looks whether the files are under their names.
///
/// # Errors
/// The operating system gives no thread.
pub fn spawn(
    recorder: Recorder,
    annotations: Option<AnnotationLog>,
    whereabouts: Option<Whereabouts>,
    observer: impl FnMut(RecorderEvent) + Send + 'static,
) -> std::io::Result<RecorderThread> {
    let (queue, messages) = channel();
    let (tell, outcome) = channel();
    let shared = Arc::new(Shared::new(recorder.rates_hz(), Box::new(observer)));
    let worker = Worker::new(recorder, annotations, whereabouts, shared.clone());
    std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
        // Nobody waits any longer: there is nobody to tell.
        let _ = tell.send(worker.run(&messages));
    })?;
    Ok(RecorderThread { queue, shared, outcome })
}

impl RecorderThread {
    /// Hands a block over. Never waits: when the memory for what waits is full, it is lost.
    pub fn push(&self, block: DigitalBlock) {
        if self.shared.hangs() {
            self.shared.wait("the disk does not answer".to_owned());
        }
        let is_losing = self.shared.is_losing.load(Ordering::Acquire);
        if is_losing || !self.shared.admit(cost(&block)) {
            self.shared.lose(&block);
            return;
        }
        let _ = self.queue.send(Message::Block(block));
    }

    /// Where marks and stages go; may be cloned.
    pub fn annotations(&self) -> Annotations {
        Annotations { queue: self.queue.clone() }
    }

    /// What comes is written, and does not wait in memory for the disk.
    pub fn is_recording(&self) -> bool {
        self.shared.state().outage.is_none()
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued.load(Ordering::Acquire)
    }

    /// Writes what is queued and closes the files; waits at most `within` for a disk that hangs.
    ///
    /// # Errors
    /// One sentence: what the disk refused, or that it does not answer.
    pub fn finish(self, within: Duration) -> Result<Written, String> {
        let _ = self.queue.send(Message::Finish);
        match self.outcome.recv_timeout(within) {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(RecvTimeoutError::Timeout) => {
                Err("the disk does not answer; the recording is not closed".to_owned())
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err("the recorder broke down; `sfm-stream recover` closes its files".to_owned())
            }
        }
    }
}

fn cost(block: &DigitalBlock) -> usize {
    BLOCK_BYTES + block.samples.len() * size_of::<i32>()
}

struct Worker {
    recorder: Recorder,
    annotations: Notes,
    whereabouts: Option<Whereabouts>,
    shared: Arc<Shared>,
    /// Blocks that wait for the disk, still part of the queue.
    held: VecDeque<DigitalBlock>,
    /// When the disk, which refused, is tried again.
    retry_at: Option<Instant>,
    /// When it is looked whether the files are under their names.
    check_at: Instant,
    /// They are not, and there is no other folder, which was reported.
    is_displaced: bool,
}

impl Worker {
    fn new(
        recorder: Recorder,
        annotations: Option<AnnotationLog>,
        whereabouts: Option<Whereabouts>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            recorder,
            annotations: Notes { log: annotations, waiting: VecDeque::new(), retry_at: None },
            whereabouts,
            shared,
            held: VecDeque::new(),
            retry_at: None,
            check_at: Instant::now() + CHECK,
            is_displaced: false,
        }
    }

    fn run(mut self, messages: &Receiver<Message>) -> Result<Written, RecorderError> {
        self.reserve();
        loop {
            let next = self.next(messages);
            self.shared.turned();
            match next {
                Some(Message::Block(block)) => self.take(block),
                Some(Message::Annotation(annotation)) => self.annotations.add(annotation),
                Some(Message::Finish) => break,
                None => {}
            }
            self.do_what_is_due();
        }
        self.finish()
    }

    /// The next message; `None` if something is due before it. The end of the queue is a
    /// [`Message::Finish`].
    fn next(&self, messages: &Receiver<Message>) -> Option<Message> {
        let check = self.whereabouts.as_ref().map(|_| self.check_at);
        let sync = self.recorder.sync_at().filter(|_| self.retry_at.is_none());
        let due = [check, sync, self.retry_at, self.annotations.due()].into_iter().flatten().min();
        let Some(due) = due else { return Some(messages.recv().unwrap_or(Message::Finish)) };
        let now = Instant::now();
        if due <= now {
            return None;
        }
        match messages.recv_timeout(due - now) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::Finish),
        }
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.retry_at) {
            self.retry();
        } else if self.retry_at.is_none() && is_due(self.recorder.sync_at()) {
            match self.recorder.sync() {
                Ok(()) => self.shared.report(RecorderEvent::Space(self.recorder.space())),
                Err(error) => self.wait(&error),
            }
        }
        if is_due(self.annotations.due()) {
            self.annotations.do_what_is_due(now);
        }
        if self.whereabouts.is_some() && self.check_at <= now {
            self.look_for_the_files();
            self.check_at = Instant::now() + CHECK;
        }
    }

    fn take(&mut self, block: DigitalBlock) {
        if self.retry_at.is_some() {
            self.held.push_back(block);
            return;
        }
        self.shared.release(cost(&block));
        match self.recorder.push(&block) {
            Err(error) => self.wait(&error),
            // Of a disk that was too slow or hung.
            Ok(()) if self.shared.queued.load(Ordering::Acquire) <= MAX_QUEUED / 2 => self.resume(),
            Ok(()) => {}
        }
    }

    fn wait(&mut self, error: &RecorderError) {
        self.retry_at = Some(Instant::now() + RETRY);
        self.shared.wait(error.to_string());
    }

    /// Tries to write what waits.
    fn retry(&mut self) {
        self.retry_at = None;
        let written = self.recorder.write_decided().and_then(|()| self.recorder.sync());
        if let Err(error) = written {
            return self.wait(&error);
        }
        while let Some(block) = self.held.pop_front() {
            self.shared.release(cost(&block));
            self.shared.turned();
            if let Err(error) = self.recorder.push(&block) {
                return self.wait(&error);
            }
        }
        self.reserve();
        self.resume();
    }

    /// All that waited is written.
    fn resume(&mut self) {
        if self.shared.state().outage.is_none() {
            return;
        }
        if let Some(lost) = self.shared.settle_loss() {
            let Unrecorded { from_s, to_s, .. } = lost;
            let text = "Not recorded".to_owned();
            let duration_s = Some(to_s - from_s);
            self.annotations.add(Annotation { onset_s: from_s, duration_s, text });
        }
        self.shared.resume();
    }

    fn reserve(&mut self) {
        if let Err(reason) = self.recorder.reserve() {
            self.shared.report(RecorderEvent::Unreserved { reason: reason.to_string() });
        }
        self.shared.report(RecorderEvent::Space(self.recorder.space()));
    }

    /// Goes on in another folder if the recording is not under its name any more.
    fn look_for_the_files(&mut self) {
        let Some(why) = self.recorder.displaced() else { return };
        let Some((folder, make)) = &mut self.whereabouts else { return };
        let reason = format!("{} {why}", self.recorder.path().display());
        let moved = make(&folder.path()).and_then(|path| {
            let hole_s = self.recorder.move_to(&path).map_err(|error| error.to_string())?;
            Ok((path, hole_s))
        });
        match moved {
            Ok((path, hole_s)) => {
                if hole_s > 0.0 {
                    let from_s = 0.0;
                    let reason = format!("{reason}, and cannot be copied");
                    let lost = Unrecorded { from_s, to_s: hole_s, samples: 0, reason };
                    self.shared.report(RecorderEvent::Lost(lost));
                }
                self.annotations.move_to(&path);
                folder.move_to(path.clone());
                self.is_displaced = false;
                self.shared.report(RecorderEvent::Moved { folder: path, reason });
                self.reserve();
            }
            Err(_) if self.is_displaced => {}
            Err(error) => {
                self.is_displaced = true;
                let reason = format!("{reason}; there is no other folder yet: {error}");
                self.shared.report(RecorderEvent::Displaced { reason });
            }
        }
    }

    /// The last try for what waits, then the files are closed.
    fn finish(mut self) -> Result<Written, RecorderError> {
        if self.whereabouts.is_some() {
            self.look_for_the_files();
        }
        if self.retry_at.is_some() {
            self.retry();
        }
        let outcome = match self.retry_at {
            None => self.recorder.write_rest(),
            Some(_) => self.recorder.write_decided(),
        };
        if let Err(error) = &outcome {
            self.shared.wait(error.to_string());
        }
        if let Some((from_s, to_s, samples)) = self.recorder.unwritten() {
            self.shared.lose_samples(from_s, to_s, samples);
        }
        for block in &self.held {
            self.shared.lose(block);
        }
        if self.held.is_empty() && outcome.is_ok() {
            self.resume();
        } else {
            self.shared.settle_loss();
        }
        self.annotations.finish();
        let closed = self.recorder.close();
        outcome.and(closed)
    }
}

/// The annotations, and those that wait for the disk.
struct Notes {
    log: Option<AnnotationLog>,
    waiting: VecDeque<Annotation>,
    retry_at: Option<Instant>,
}

impl Notes {
    fn add(&mut self, annotation: Annotation) {
        let Some(log) = &mut self.log else { return };
        if self.retry_at.is_none() && log.append(&annotation).is_ok() {
            return;
        }
        self.retry_at.get_or_insert_with(|| Instant::now() + RETRY);
        if self.waiting.len() < MAX_ANNOTATIONS {
            self.waiting.push_back(annotation);
        }
    }

    fn due(&self) -> Option<Instant> {
        match self.retry_at {
            Some(retry_at) => Some(retry_at),
            None => self.log.as_ref()?.sync_at(),
        }
    }

    /// Tries again, or syncs. What fails is what fails for the samples, and is reported with them.
    fn do_what_is_due(&mut self, now: Instant) {
        let Some(log) = &mut self.log else { return };
        while let Some(annotation) = self.waiting.front() {
            if log.append(annotation).is_err() {
                self.retry_at = Some(now + RETRY);
                return;
            }
            self.waiting.pop_front();
        }
        self.retry_at = None;
        let _ = log.sync();
    }

    fn move_to(&mut self, folder: &std::path::Path) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.move_to(folder)
        {
            tracing::error!("{error}; annotations go on where nobody finds them");
        }
    }

    fn finish(&mut self) {
        self.do_what_is_due(Instant::now());
    }
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
