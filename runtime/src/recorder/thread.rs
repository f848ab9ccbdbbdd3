//! The recorder's thread and the queue before it, bounded by the memory it holds: 64 MB are the
//! better part of an hour. Nobody who hands samples over ever waits. What ends the recording, a
//! queue that is full, a full disk, a read-only file system, is reported once; the annotations
//! go on as far as the disk lets them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::annotations::{AnnotationLog, Annotations};
use super::{Recorder, RecorderError, Written};
use crate::edf::Annotation;
use crate::signal::DigitalBlock;

/// The queue's bound, bytes.
const MAX_QUEUED: usize = 64 << 20;
/// What a block costs beside its samples, so that a million empty ones are not free.
const BLOCK_BYTES: usize = 64;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Message {
    Block(DigitalBlock),
    Annotation(Annotation),
    /// Blocks were dropped: the recording ends with those before.
    Overrun,
    Finish,
}

/// Takes the one sentence about why the recording ended early.
type Report = Box<dyn FnOnce(String) + Send>;

struct Shared {
    queued: AtomicUsize,
    /// Nothing more is recorded.
    stopped: AtomicBool,
    report: Mutex<Option<Report>>,
}

impl Shared {
    fn stop(&self, reason: String) {
        self.stopped.store(true, Ordering::Release);
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(report) = report {
            report(reason);
        }
    }
}

/// A session's recorder at work.
pub struct RecorderThread {
    queue: Sender<Message>,
    shared: Arc<Shared>,
    outcome: Receiver<Result<Written, RecorderError>>,
}

/// Starts the thread. `on_stop` is called at most once, from any thread, when the recording ends
/// early: staging goes on without it.
///
/// # Errors
/// The operating system gives no thread.
pub fn spawn(
    recorder: Recorder,
    annotations: Option<AnnotationLog>,
    on_stop: impl FnOnce(String) + Send + 'static,
) -> std::io::Result<RecorderThread> {
    let (queue, messages) = channel();
    let (tell, outcome) = channel();
    let shared = Arc::new(Shared {
        queued: AtomicUsize::new(0),
        stopped: AtomicBool::new(false),
        report: Mutex::new(Some(Box::new(on_stop))),
    });
    let worker =
        Worker { recording: Recording::Open(recorder), annotations, shared: shared.clone() };
    std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
        // Nobody waits any longer: there is nobody to tell.
        let _ = tell.send(worker.run(&messages));
    })?;
    Ok(RecorderThread { queue, shared, outcome })
}

impl RecorderThread {
    /// Hands a block over. Never waits: when the queue is full the recording ends.
    pub fn push(&self, block: DigitalBlock) {
        if self.shared.stopped.load(Ordering::Acquire) {
            return;
        }
        let cost = cost(&block);
        if self.shared.queued.fetch_add(cost, Ordering::AcqRel) + cost > MAX_QUEUED {
            let reason = "the disk is too slow for the recording; it ends here".to_owned();
            let _ = self.queue.send(Message::Overrun);
            self.shared.stop(reason);
            return;
        }
        let _ = self.queue.send(Message::Block(block));
    }

    /// Where marks and stages go; may be cloned.
    pub fn annotations(&self) -> Annotations {
        Annotations { queue: self.queue.clone() }
    }

    /// Something is still being recorded.
    pub fn is_recording(&self) -> bool {
        !self.shared.stopped.load(Ordering::Acquire)
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued.load(Ordering::Acquire)
    }

    /// Writes what is queued and closes the files; waits at most `within` for a disk that hangs.
    ///
    /// # Errors
    /// One sentence: what the disk refused, now or earlier, or that it does not answer.
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
    recording: Recording,
    annotations: Option<AnnotationLog>,
    shared: Arc<Shared>,
}

// One a session, so its size does not matter.
#[allow(clippy::large_enum_variant)]
enum Recording {
    Open(Recorder),
    Ended(Result<Written, RecorderError>),
}

impl Worker {
    fn run(mut self, messages: &Receiver<Message>) -> Result<Written, RecorderError> {
        loop {
            match self.next(messages) {
                Next::Message(Message::Block(block)) => {
                    self.shared.queued.fetch_sub(cost(&block), Ordering::AcqRel);
                    self.record(|recorder| recorder.push(&block));
                }
                Next::Message(Message::Annotation(annotation)) => {
                    self.annotate(|log| log.append(&annotation));
                }
                Next::Message(Message::Overrun) => self = self.ended(),
                Next::SyncDue => self.sync(),
                Next::Message(Message::Finish) | Next::Gone => break,
            }
        }
        self.annotate(AnnotationLog::sync);
        match self.ended().recording {
            Recording::Ended(outcome) => outcome,
            Recording::Open(recorder) => recorder.finish(),
        }
    }

    fn next(&self, messages: &Receiver<Message>) -> Next {
        let recording = match &self.recording {
            Recording::Open(recorder) => recorder.sync_at(),
            Recording::Ended(_) => None,
        };
        let annotations = self.annotations.as_ref().and_then(AnnotationLog::sync_at);
        let Some(due) = recording.into_iter().chain(annotations).min() else {
            return messages.recv().map_or(Next::Gone, Next::Message);
        };
        let now = Instant::now();
        if due <= now {
            return Next::SyncDue;
        }
        match messages.recv_timeout(due - now) {
            Ok(message) => Next::Message(message),
            Err(RecvTimeoutError::Timeout) => Next::SyncDue,
            Err(RecvTimeoutError::Disconnected) => Next::Gone,
        }
    }

    fn sync(&mut self) {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        self.record(|recorder| if due(recorder.sync_at()) { recorder.sync() } else { Ok(()) });
        self.annotate(|log| if due(log.sync_at()) { log.sync() } else { Ok(()) });
    }

    /// Does something with the recording; its failure ends it and is reported.
    fn record(&mut self, act: impl FnOnce(&mut Recorder) -> Result<(), RecorderError>) {
        let Recording::Open(recorder) = &mut self.recording else { return };
        let Err(error) = act(recorder) else { return };
        self.shared.stop(error.to_string());
        let ended = std::mem::replace(&mut self.recording, Recording::Ended(Err(error)));
        if let Recording::Open(recorder) = ended {
            // Best effort: the disk has just failed.
            let _ = recorder.close();
        }
    }

    /// The annotations are no reason to end a recording. If a full disk ends them, it ends the
    /// recording just as well, and that is reported.
    fn annotate(&mut self, act: impl FnOnce(&mut AnnotationLog) -> Result<(), RecorderError>) {
        if let Some(log) = &mut self.annotations
            && act(log).is_err()
        {
            self.annotations = None;
        }
    }

    /// With the recording finished, if it is still open.
    fn ended(self) -> Self {
        let recording = match self.recording {
            Recording::Open(recorder) => Recording::Ended(recorder.finish()),
            ended @ Recording::Ended(_) => ended,
        };
        Self { recording, ..self }
    }
}

enum Next {
    Message(Message),
    /// Something written has to reach the disk now.
    SyncDue,
    /// Nobody is there any longer.
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edf::{DateTime, Header};
    use crate::signal::SignalInfo;

    fn start() -> DateTime {
        "2026-11-24T22:58:41".parse().expect("a date")
    }

    fn recorder(dir: &std::path::Path) -> Recorder {
        let signal = SignalInfo {
            label: "EEG".to_owned(),
            rate_hz: 100.0,
            unit: "uV".to_owned(),
            physical_min: -100.0,
            physical_max: 100.0,
            digital_min: -1000,
            digital_max: 1000,
        };
        Recorder::create(dir, &[signal], start()).expect("created")
    }

    fn block(start: u64, count: usize) -> DigitalBlock {
        DigitalBlock { channel: 0, start, samples: vec![3; count] }
    }

    /// A thread that never takes anything from the queue, and what it reports.
    fn stuck() -> (RecorderThread, Receiver<Message>, Receiver<String>) {
        let (queue, messages) = channel();
        let (report, reports) = channel();
        let report = move |reason| drop(report.send(reason));
        let shared = Shared {
            queued: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            report: Mutex::new(Some(Box::new(report))),
        };
        let outcome = channel().1;
        (RecorderThread { queue, shared: Arc::new(shared), outcome }, messages, reports)
    }

    #[test]
    fn a_full_queue_ends_the_recording_with_one_report() {
        let (thread, messages, reports) = stuck();
        for index in 0..2000 {
            thread.push(block(index * 20_000, 20_000));
        }
        assert!(!thread.is_recording());
        let reports: Vec<String> = reports.try_iter().collect();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].contains("too slow"), "{reports:?}");
        let messages: Vec<Message> = messages.try_iter().collect();
        let queued = messages.iter().filter(|m| matches!(m, Message::Block(_))).count();
        assert_eq!(queued, MAX_QUEUED / (20_000 * 4 + BLOCK_BYTES));
        assert!(matches!(messages.last(), Some(Message::Overrun)));
    }

    #[test]
    fn what_was_queued_before_an_overrun_is_recorded() {
        let dir = tempfile::tempdir().expect("folder");
        let (thread, _, _) = stuck();
        let (queue, messages) = channel();
        for message in [
            Message::Block(block(0, 250)),
            Message::Overrun,
            Message::Block(block(250, 500)),
            Message::Finish,
        ] {
            queue.send(message).expect("queued");
        }
        let recording = Recording::Open(recorder(dir.path()));
        let worker = Worker { recording, annotations: None, shared: thread.shared.clone() };
        let written = worker.run(&messages).expect("recorded");
        assert_eq!(written.records, 3);
    }

    #[test]
    fn the_thread_records_and_says_what() {
        let dir = tempfile::tempdir().expect("folder");
        let log = AnnotationLog::create(dir.path(), start()).expect("created");
        let thread =
            spawn(recorder(dir.path()), Some(log), |reason| panic!("{reason}")).expect("a thread");
        for index in 0..100 {
            thread.push(block(index * 50, 50));
        }
        thread.annotations().add(1.5, None, super::super::LIGHTS_OFF);
        let written = thread.finish(Duration::from_secs(60)).expect("finished");
        assert_eq!((written.records, written.lost.late), (50, 0));
        let mut file = std::fs::File::open(&written.path).expect("opens");
        assert_eq!(Header::read(&mut file).expect("a header").warnings, [""; 0]);
        let said = crate::edf::annotations(&dir.path().join("annotations.edf")).expect("opens");
        assert_eq!(said.len(), 1);
    }

    #[test]
    fn a_thread_that_is_left_alone_closes_its_files() {
        let dir = tempfile::tempdir().expect("folder");
        let thread = spawn(recorder(dir.path()), None, |reason| panic!("{reason}"));
        let thread = thread.expect("a thread");
        thread.push(block(0, 1000));
        let RecorderThread { queue, outcome, .. } = thread;
        drop(queue);
        let written = outcome.recv_timeout(Duration::from_secs(60)).expect("ends");
        assert_eq!(written.expect("closed").records, 10);
    }
}
