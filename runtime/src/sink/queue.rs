//! The thread the sinks run on and the bounded queue before it. The pipeline hands events over
//! and goes on; a slow disk delays files, not sleep stages.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::replace::Home;
use super::{Sink, SinkError};
use crate::event::Event;

/// Events the queue holds. Were all of them windows (123 kB at E = 128), it would hold 31 MB.
const QUEUE: usize = 256;

/// Of them, signals for pictures at most: they must not take the place of results. Of a live session
/// on a disk that does not keep up, further ones are left out.
const SIGNALS: usize = QUEUE / 4;

/// Longest time from an event to its place in the files that are replaced as a whole.
const PUBLISH_AFTER: Duration = Duration::from_millis(500);

/// What the pipeline does when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Wait: a file being replayed can wait.
    Wait,
    /// Drop the event and count it: sensors do not wait. The beginning and the end of a pass are
    /// never dropped.
    Drop,
}

/// What goes through the queue.
enum Message {
    Take(Event),
    Restore(Event),
    /// The output folder is this one, which may be renamed or removed.
    StayIn(PathBuf),
    /// The output folder is this one from now on.
    MoveTo(PathBuf),
    /// Everything before it has been taken.
    CaughtUp(Sender<()>),
}

/// A sink that failed: what the user is told, once a sink, and whether a file of the output is
/// lost.
struct Failed {
    line: Option<String>,
    is_lost: bool,
}

/// A sink at work.
struct Running {
    sink: Box<dyn Sink>,
    /// A failure of it was told.
    is_told: bool,
}

/// The running sinks.
#[derive(Debug)]
pub struct Sinks {
    queue: Option<SyncSender<Message>>,
    failures: Receiver<Failed>,
    is_whole: bool,
    thread: Option<JoinHandle<()>>,
    when_full: WhenFull,
    dropped: u64,
    /// Signals in the queue.
    signals: Arc<AtomicUsize>,
}

impl Sinks {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(sinks: Vec<Box<dyn Sink>>, when_full: WhenFull) -> Result<Self, SinkError> {
        let (queue, events) = sync_channel(QUEUE);
        let (report, failures) = channel();
        let signals = Arc::new(AtomicUsize::new(0));
        let thread = std::thread::Builder::new()
            .name("sinks".to_owned())
            .spawn({
                let signals = signals.clone();
                move || run(sinks, &events, &report, &signals)
            })
            .map_err(|reason| SinkError(format!("the sinks' thread cannot start ({reason})")))?;
        Ok(Sinks {
            queue: Some(queue),
            failures,
            is_whole: true,
            thread: Some(thread),
            when_full,
            dropped: 0,
            signals,
        })
    }

    /// Hands an event to every sink that still runs.
    pub fn send(&mut self, event: Event) {
        let Some(queue) = &self.queue else { return };
        let must_arrive = matches!(event, Event::Started(_) | Event::Night(_));
        let is_result = event.is_kept();
        if !is_result {
            let waiting = self.signals.load(Ordering::Relaxed);
            if self.when_full == WhenFull::Drop && waiting >= SIGNALS {
                return;
            }
            self.signals.fetch_add(1, Ordering::Relaxed);
        }
        // A closed queue means that the thread is gone: `finish` says so.
        if self.when_full == WhenFull::Wait || must_arrive {
            let _ = queue.send(Message::Take(event));
        } else if let Err(TrySendError::Full(_)) = queue.try_send(Message::Take(event)) {
            match is_result {
                true => self.dropped += 1,
                false => drop(self.signals.fetch_sub(1, Ordering::Relaxed)),
            }
        }
    }

    /// Hands over an event that was emitted before a restart: [`Sink::restore`]. Waits while the
    /// queue is full, since what is restored was recorded.
    pub fn restore(&mut self, event: Event) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(Message::Restore(event));
        }
    }

    /// Nothing is published as long as the folder at `out_dir` is not the one that is there now.
    pub fn stay_in(&mut self, out_dir: PathBuf) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(Message::StayIn(out_dir));
        }
    }

    /// The output folder is `out_dir` from now on. Waits while the queue is full.
    pub fn move_to(&mut self, out_dir: PathBuf) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(Message::MoveTo(out_dir));
        }
    }

    /// Events that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Waits until every sink has taken what was sent so far, at most `within`.
    pub fn catch_up(&mut self, within: Duration) {
        let (tell, told) = channel();
        if let Some(queue) = &self.queue
            && queue.send(Message::CaughtUp(tell)).is_ok()
        {
            let _ = told.recv_timeout(within);
        }
    }

    /// From now on no event is dropped: what follows comes from a file, which can wait.
    pub fn wait_when_full(&mut self) {
        self.when_full = WhenFull::Wait;
    }

    /// What failed since the last call, one line a sink.
    pub fn failures(&mut self) -> Vec<String> {
        let failed: Vec<Failed> = self.failures.try_iter().collect();
        self.is_whole &= !failed.iter().any(|failed| failed.is_lost);
        failed.into_iter().filter_map(|failed| failed.line).collect()
    }

    /// Sinks could not be opened, for these reasons, so that the output lacks their files.
    pub fn leave_out(&mut self, reasons: Vec<String>) {
        self.is_whole &= reasons.is_empty();
    }

    /// Whether every file of the output got all that belongs into it, as far as it is known.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Waits until every event is written and returns what failed and was not yet reported.
    pub fn finish(&mut self) -> Vec<String> {
        let died = self.join();
        let mut lines = self.failures();
        if died {
            lines.push("the sinks' thread ended early; the output is incomplete".to_owned());
        }
        self.is_whole &= !died && self.dropped == 0;
        if self.dropped > 0 {
            lines.push(format!(
                "the disk was too slow: {} events are missing in the output",
                self.dropped
            ));
        }
        lines
    }

    /// Closes the queue and waits for the thread; true if it panicked.
    fn join(&mut self) -> bool {
        self.queue = None;
        self.thread.take().is_some_and(|thread| thread.join().is_err())
    }
}

impl Drop for Sinks {
    /// A run that ends early still writes what it has.
    fn drop(&mut self) {
        self.join();
    }
}

/// The thread: takes events until the queue closes and publishes half a second after the first
/// event that is not published yet.
fn run(
    sinks: Vec<Box<dyn Sink>>,
    events: &Receiver<Message>,
    report: &Sender<Failed>,
    signals: &AtomicUsize,
) {
    let mut sinks: Vec<Running> =
        sinks.into_iter().map(|sink| Running { sink, is_told: false }).collect();
    let mut due: Option<Instant> = None;
    let mut home: Option<Home> = None;
    loop {
        let next = match due {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => events.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        match next {
            Ok(message) => {
                if matches!(&message, Message::Take(event) if !event.is_kept()) {
                    signals.fetch_sub(1, Ordering::Relaxed);
                }
                if let Message::StayIn(out_dir) | Message::MoveTo(out_dir) = &message {
                    home = Some(Home::new(out_dir.clone()));
                }
                each(&mut sinks, report, false, |sink| match &message {
                    Message::Take(event) => sink.take(event),
                    Message::Restore(event) => sink.restore(event),
                    Message::MoveTo(out_dir) => sink.move_to(out_dir),
                    Message::StayIn(_) | Message::CaughtUp(_) => Ok(()),
                });
                if let Message::CaughtUp(tell) = &message {
                    let _ = tell.send(());
                }
                due.get_or_insert_with(|| Instant::now() + PUBLISH_AFTER);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if due.is_some_and(|due| Instant::now() >= due) {
            let is_there = home.as_ref().is_none_or(Home::is_there);
            each(&mut sinks, report, false, |sink| match is_there || !sink.is_output() {
                true => sink.publish(),
                false => Ok(()),
            });
            due = (!is_there).then(|| Instant::now() + PUBLISH_AFTER);
        }
    }
    let is_there = home.as_ref().is_none_or(Home::is_there);
    each(&mut sinks, report, true, |sink| match is_there || !sink.is_output() {
        true => sink.finish(),
        false => Err(SinkError(format!("{}: not written, its folder is gone", sink.name()))),
    });
}

/// Calls every sink and reports the ones that fail; those that cannot try again, or not any more at
/// the end, are dropped. A panic of a sink is a failure of this sink alone.
fn each(
    sinks: &mut Vec<Running>,
    report: &Sender<Failed>,
    is_end: bool,
    mut call: impl FnMut(&mut dyn Sink) -> Result<(), SinkError>,
) {
    sinks.retain_mut(|Running { sink, is_told }| {
        let (line, tries_again) = match catch_unwind(AssertUnwindSafe(|| call(sink.as_mut()))) {
            Ok(Ok(())) => return true,
            Ok(Err(failure)) => (failure.to_string(), sink.can_try_again() && !is_end),
            Err(_) => {
                (format!("{}: its writer broke down; nothing more goes there", sink.name()), false)
            }
        };
        let line = (!std::mem::replace(is_told, true)).then_some(line);
        // Nobody listens any more: there is nobody to tell.
        let _ = report.send(Failed { line, is_lost: sink.is_output() && !tries_again });
        tries_again
    });
}
