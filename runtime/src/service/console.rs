//! Standard error and standard output without waiting for their readers: a bounded queue and a thread
//! for each stream. A stopped terminal or an unread pipe costs lines, which are counted and reported
//! in their place, but neither samples nor an orderly end. At the end of the process the queues are
//! flushed for as long as a reader makes progress.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::telemetry;
use crate::text::json_text;

/// How long a reader may make no progress before a flush, or a replay that could wait for it, gives up.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// A flush takes at most this many times [`PATIENCE`], however slow the reader.
const MOST_WAITS: u32 = 5;
/// A stream that took nothing for this long counts as not read.
const STALLED: Duration = Duration::from_secs(10);

/// Bytes that may wait for standard error: some thousand lines.
const STDERR_BYTES: usize = 1 << 20;
/// Bytes that may wait for standard output: the events of a night are about 2 MB.
const STDOUT_BYTES: usize = 8 << 20;
/// A progress bar is drawn again soon, so it is left out where more than this waits, in bytes.
const PICTURE_BYTES: usize = 1 << 16;

/// How important a text is when there is little room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// A progress bar: left out without being counted.
    Picture,
    /// A line like others.
    Ordinary,
    /// A line that may use the last quarter of the queue.
    Essential,
}

/// A stream and its queue.
#[derive(Debug)]
pub struct Outlet {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stream: &'static str,
    max_bytes: usize,
    /// The text that stands where others are missing, by their number.
    gap: fn(u64) -> String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<String>,
    bytes: usize,
    /// The thread is writing a text that is no longer in the queue.
    is_writing: bool,
    /// Texts that were left out and not reported yet.
    missing: u64,
    /// Texts that were left out in all.
    dropped: u64,
    /// When the stream last took something, or something began to wait.
    progress: Instant,
    /// Why the stream did not take the last text.
    failure: Option<io::Error>,
}

impl State {
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_writing
    }

    /// Its reader closed it: nothing more is written.
    fn is_closed(&self) -> bool {
        self.failure.as_ref().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    }

    fn put(&mut self, text: String) {
        if self.is_idle() {
            self.progress = Instant::now();
        }
        self.bytes += text.len();
        self.queue.push_back(text);
    }

    fn tell_gap(&mut self, gap: fn(u64) -> String) {
        let missing = std::mem::take(&mut self.missing);
        if missing > 0 {
            self.put(gap(missing));
        }
    }
}

impl Outlet {
    /// Starts the thread; `write` may take as long as it likes.
    ///
    /// # Errors
    /// The operating system gives no thread.
    fn start(
        stream: &'static str,
        max_bytes: usize,
        gap: fn(u64) -> String,
        write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let state = State {
            queue: VecDeque::new(),
            bytes: 0,
            is_writing: false,
            missing: 0,
            dropped: 0,
            progress: Instant::now(),
            failure: None,
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        let shared = Arc::new(Shared { stream, max_bytes, gap, state, changed });
        let taken = shared.clone();
        std::thread::Builder::new().name(stream.to_owned()).spawn(move || run(&taken, write))?;
        Ok(Self { shared })
    }

    /// Queues `text`, a line or more with their newlines; false if there is no room for it. Never
    /// waits.
    pub fn push(&self, text: String, weight: Weight) -> bool {
        let mut state = self.shared.state();
        let most = match weight {
            Weight::Picture => PICTURE_BYTES,
            Weight::Ordinary => self.shared.max_bytes / 4 * 3,
            Weight::Essential => self.shared.max_bytes,
        };
        // A reader that closed a pipe loses nothing.
        if state.is_closed() {
            return true;
        }
        if state.bytes + text.len() <= most {
            if state.failure.is_none() {
                state.tell_gap(self.shared.gap);
            }
            state.put(text);
            self.shared.changed.notify_all();
            return true;
        }
        if weight != Weight::Picture {
            state.missing += 1;
            state.dropped += 1;
            drop(state);
            telemetry::console_dropped(self.shared.stream);
        }
        false
    }

    /// Like [`push`](Self::push), but waits for room as long as the reader makes progress.
    pub fn push_patiently(&self, text: String) -> bool {
        let mut state = self.shared.state();
        let room = self.shared.max_bytes / 4 * 3;
        while state.bytes + text.len() > room && !state.is_closed() {
            let left = PATIENCE.saturating_sub(state.progress.elapsed());
            if left.is_zero() {
                break;
            }
            state = self.shared.wait(state, left);
        }
        drop(state);
        self.push(text, Weight::Ordinary)
    }

    /// Waits until everything is written, as long as the reader makes progress. Returns whether it is.
    pub fn flush(&self) -> bool {
        let begun = Instant::now();
        let mut state = self.shared.state();
        loop {
            if state.is_closed() || (state.is_idle() && state.missing == 0) {
                return true;
            }
            let left = PATIENCE.saturating_sub(state.progress.elapsed());
            let is_failing = state.failure.is_some() && state.is_idle();
            if is_failing || left.is_zero() || begun.elapsed() > PATIENCE * MOST_WAITS {
                return false;
            }
            state = self.shared.wait(state, left);
        }
    }

    /// Texts that were left out so far.
    pub fn dropped(&self) -> u64 {
        self.shared.state().dropped
    }

    /// Why the stream did not take the last text; a reader that closed it is no failure.
    pub fn failure(&self) -> Option<String> {
        let state = self.shared.state();
        let failure = state.failure.as_ref().filter(|e| e.kind() != io::ErrorKind::BrokenPipe);
        failure.map(ToString::to_string)
    }

    /// A sentence for `/healthz` while the stream is not read.
    pub fn trouble(&self) -> Option<String> {
        let state = self.shared.state();
        if let Some(failure) = state.failure.as_ref().filter(|_| !state.is_closed()) {
            let (stream, missing) = (self.shared.stream, state.missing);
            return Some(format!(
                "{stream} cannot be written ({failure}): {missing} lines were left out so far, the session goes on"
            ));
        }
        let is_stalled = !state.is_idle() && state.progress.elapsed() >= STALLED;
        let (stream, missing) = (self.shared.stream, state.missing);
        (is_stalled || missing > 0).then(|| {
            format!(
                "{stream} is not read: {missing} lines were left out so far, the session goes on"
            )
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The thread: writes what is queued, for as long as the process lives or the stream takes it.
fn run(shared: &Shared, mut write: impl FnMut(&[u8]) -> io::Result<()>) {
    let mut state = shared.state();
    loop {
        // After a failure the gap is reported once the stream has taken a text again.
        if state.queue.is_empty() && state.failure.is_none() {
            state.tell_gap(shared.gap);
        }
        let Some(text) = state.queue.pop_front() else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.bytes -= text.len();
        state.is_writing = true;
        drop(state);
        let written = write(text.as_bytes());
        state = shared.state();
        state.is_writing = false;
        state.progress = Instant::now();
        state.failure = written.err();
        if state.is_closed() {
            state.queue.clear();
            (state.bytes, state.missing) = (0, 0);
            shared.changed.notify_all();
            return;
        }
        if state.failure.is_some() {
            // A disk may have room again: the next text is tried.
            state.missing += 1;
            state.dropped += 1;
            telemetry::console_dropped(shared.stream);
        }
        shared.changed.notify_all();
    }
}

static STDERR: OnceLock<Option<Outlet>> = OnceLock::new();
static STDOUT: OnceLock<Option<Outlet>> = OnceLock::new();

/// Standard error; `None` if there is no thread for it.
pub fn stderr() -> Option<&'static Outlet> {
    let start = || Outlet::start("standard error", STDERR_BYTES, lines_missing, descriptor::stderr);
    STDERR.get_or_init(|| start().ok()).as_ref()
}

/// Standard output, for what must not wait for its reader; `None` if there is no thread for it.
pub fn stdout() -> Option<&'static Outlet> {
    let start =
        || Outlet::start("standard output", STDOUT_BYTES, events_missing, descriptor::stdout);
    STDOUT.get_or_init(|| start().ok()).as_ref()
}

/// Queues lines for standard error.
pub fn say(text: String, weight: Weight) {
    match stderr() {
        Some(stderr) => drop(stderr.push(text, weight)),
        // What cannot be queued is written at once; a closed stream stops nothing.
        None => drop(descriptor::stderr(text.as_bytes())),
    }
}

/// Columns of the terminal on standard error; 80 where that is not known.
pub fn columns() -> u16 {
    #[cfg(unix)]
    let columns = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok().map(|s| s.ws_col);
    #[cfg(not(unix))]
    let columns = None;
    columns.filter(|&columns| columns > 0).unwrap_or(80)
}

/// Flushes both streams, as [`Outlet::flush`].
pub fn flush() {
    for outlet in [&STDERR, &STDOUT].into_iter().filter_map(OnceLock::get).flatten() {
        outlet.flush();
    }
}

/// Installs a panic hook that queues its message like any other line. That of the standard library
/// would wait for the stream.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        use std::backtrace::{Backtrace, BacktraceStatus};
        let thread = std::thread::current();
        let mut text = format!("thread '{}' {panic}\n", thread.name().unwrap_or("unnamed"));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            text += &trace.to_string();
        }
        say(text, Weight::Essential);
    }));
}

fn lines_missing(lines: u64) -> String {
    format!("{lines} lines are missing here: standard error was not read\n")
}

fn events_missing(events: u64) -> String {
    let message = format!(
        "{events} events are missing here: standard output was not read; events.jsonl has them"
    );
    json_text(&Event::Warning { message }).unwrap_or_default()
}

/// The streams themselves, without the standard library's locks: a blocked thread would hold them.
#[cfg(unix)]
mod descriptor {
    use std::io;
    use std::os::fd::BorrowedFd;
    use std::time::Duration;

    use rustix::io::Errno;

    /// Another process may have made a stream that it shares with this one non-blocking.
    const AGAIN: Duration = Duration::from_millis(20);

    pub fn stderr(bytes: &[u8]) -> io::Result<()> {
        // A terminal that hung up may be replaced by another one (`--tui` borrows the stream).
        let written = write(rustix::stdio::stderr(), bytes);
        written.or_else(|e| if has_hung_up(&e) { Ok(()) } else { Err(e) })
    }

    fn has_hung_up(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::BrokenPipe
            || error.raw_os_error() == Some(Errno::IO.raw_os_error())
    }

    pub fn stdout(bytes: &[u8]) -> io::Result<()> {
        write(rustix::stdio::stdout(), bytes)
    }

    fn write(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(to, bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => std::thread::sleep(AGAIN),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

#[cfg(not(unix))]
mod descriptor {
    use std::io::{self, Write};

    pub fn stderr(bytes: &[u8]) -> io::Result<()> {
        io::stderr().write_all(bytes).or(Ok(()))
    }

    pub fn stdout(bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout();
        stdout.write_all(bytes).and_then(|()| stdout.flush())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// An outlet of so many bytes whose reader takes a text when asked.
    fn outlet(max_bytes: usize) -> (Outlet, Receiver<String>) {
        let (to, taken): (SyncSender<String>, _) = sync_channel(0);
        let write = move |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            to.send(text).map_err(|_| io::ErrorKind::BrokenPipe.into())
        };
        let gap = |lines| format!("[{lines} missing]");
        (Outlet::start("test", max_bytes, gap, write).expect("a thread"), taken)
    }

    /// Waits until the thread is at the first text and the queue is empty.
    fn settled(outlet: &Outlet) {
        let mut state = outlet.shared.state();
        while state.bytes > 0 {
            state = outlet.shared.wait(state, Duration::from_millis(1));
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_that_are_told_in_their_place() {
        let (outlet, taken) = outlet(8);
        assert!(outlet.push("first".to_owned(), Weight::Ordinary));
        settled(&outlet);
        let sent: Vec<bool> = ["aa", "bb", "cc", "dd", "ee"]
            .map(|t| outlet.push(t.to_owned(), Weight::Ordinary))
            .into();
        assert_eq!(sent, [true, true, true, false, false]);
        assert!(outlet.push("!!".to_owned(), Weight::Essential), "a quarter is kept for it");
        assert!(!outlet.push("??".to_owned(), Weight::Essential));
        assert_eq!(outlet.dropped(), 3);
        assert!(!outlet.flush(), "nobody reads");
        let read: Vec<String> = (0..7).map(|_| taken.recv().expect("it flows")).collect();
        assert_eq!(read, ["first", "aa", "bb", "cc", "[2 missing]", "!!", "[1 missing]"]);
        assert!(outlet.push("later".to_owned(), Weight::Ordinary));
        assert_eq!(taken.recv().as_deref(), Ok("later"));
        assert!(outlet.flush() && outlet.trouble().is_none());
    }

    #[test]
    fn a_closed_stream_takes_everything_and_a_slow_one_is_waited_for() {
        let (closed, taken) = outlet(4);
        drop(taken);
        closed.push("a".to_owned(), Weight::Ordinary);
        assert!(closed.flush());
        assert!(closed.push("longer than the queue".to_owned(), Weight::Ordinary));
        assert_eq!((closed.dropped(), closed.failure()), (0, None));
        let (slow, taken) = outlet(4);
        let reader = std::thread::spawn(move || taken.iter().take(20).count());
        for _ in 0..20 {
            assert!(slow.push_patiently("abc".to_owned()));
        }
        assert!(slow.flush());
        assert_eq!((reader.join().expect("reads"), slow.dropped()), (20, 0));
    }

    #[test]
    fn a_stream_that_fails_is_tried_again_and_its_gap_is_told() {
        let is_full = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let written = Arc::new(Mutex::new(Vec::new()));
        let (full, taken) = (is_full.clone(), written.clone());
        let write = move |bytes: &[u8]| {
            if full.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let text = String::from_utf8_lossy(bytes).into_owned();
            taken.lock().expect("whole").push(text);
            Ok(())
        };
        let gap = |lines| format!("[{lines} missing]");
        let outlet = Outlet::start("test", 100, gap, write).expect("a thread");
        for _ in 0..3 {
            assert!(outlet.push("lost".to_owned(), Weight::Ordinary));
            assert!(!outlet.flush(), "it is not written");
        }
        assert_eq!(outlet.dropped(), 3);
        assert!(outlet.trouble().is_some_and(|why| why.contains("cannot be written")));
        is_full.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(outlet.push("later".to_owned(), Weight::Ordinary));
        assert!(outlet.flush() && outlet.trouble().is_none());
        assert_eq!(*written.lock().expect("whole"), ["later", "[3 missing]"]);
    }
}
