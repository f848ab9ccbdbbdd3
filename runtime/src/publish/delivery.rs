//! From the sinks' thread to a server: the sink appends to the outbox and never waits; a thread of
//! its own, with tokio on it, delivers. What a server's outage, a full disk or a refusal took from
//! the user is told when the run ends.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::message::Messages;
use super::outbox::{Appended, Beginning, Message, Outbox};
use super::topic::Topics;
use crate::event::{Event, Pass};
use crate::sink::{Sink, SinkError};

/// Room for what waits: weeks of a night's messages.
const CAPACITY_BYTES: u64 = 64 << 20;

/// How long the end of a run waits for a server.
const DELIVER_WITHIN: Duration = Duration::from_secs(2);

/// For the server to be told that the run is over, at the end.
pub const GOODBYE_WITHIN: Duration = Duration::from_millis(500);

/// First and longest pause before another attempt to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// What both sides share. Locks are held for single steps.
#[derive(Debug)]
pub struct Shared {
    outbox: Mutex<Outbox>,
    state: Mutex<State>,
    wake: Notify,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The run is over: deliver until then.
    deadline: Option<Instant>,
    /// Why nothing is delivered at the moment.
    problem: Option<String>,
    /// Messages that the server refused, and why the last one.
    refused: u64,
    refusal: String,
    connected: bool,
}

impl Shared {
    fn new(outbox: Outbox) -> Self {
        Self {
            outbox: Mutex::new(outbox),
            state: Mutex::default(),
            wake: Notify::new(),
            ended: Notify::new(),
        }
    }

    /// One that nobody delivers from.
    #[cfg(test)]
    pub(super) fn for_test(path: &Path) -> Arc<Self> {
        Arc::new(Self::new(Outbox::open(path, Beginning::Anew, CAPACITY_BYTES).expect("opens")))
    }

    /// The outbox, for a step.
    pub fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first message at or behind `position`; the position behind it.
    pub fn next(&self, position: u64) -> Option<(Message, u64)> {
        let next = self.outbox().next(position);
        next.unwrap_or_else(|reason| {
            self.problem(format!("{reason}"));
            None
        })
    }

    /// The message that ends at `position` has arrived.
    pub fn delivered(&self, position: u64) {
        // Not written down, it would be delivered again after a restart, with the same id.
        let _ = self.outbox().acknowledge(position);
        self.state().problem = None;
    }

    /// The server does not take the message that ends at `position`, now or later.
    pub fn refused(&self, position: u64, why: String) {
        let _ = self.outbox().acknowledge(position);
        let mut state = self.state();
        if state.refused == 0 {
            tracing::warn!("a message was refused: {why}");
        }
        state.refused += 1;
        state.refusal = why;
    }

    /// The server is there.
    pub fn connected(&self) {
        let mut state = self.state();
        state.connected = true;
        state.problem = None;
    }

    /// Nothing is delivered, for this reason. Logged when it begins.
    pub fn problem(&self, why: String) {
        let mut state = self.state();
        if std::mem::take(&mut state.connected) || state.problem.is_none() {
            tracing::warn!("messages wait: {why}");
        }
        state.problem = Some(why);
    }

    /// Whether the thread should end: nothing is left, or there is no more time.
    pub fn is_over(&self) -> bool {
        let deadline = self.state().deadline;
        deadline.is_some_and(|deadline| Instant::now() >= deadline || self.outbox().waiting() == 0)
    }

    /// Something was appended, or the run is over, or its last moment has come.
    pub async fn woken(&self) {
        let deadline = self.state().deadline;
        match deadline {
            Some(deadline) => {
                let _ = tokio::time::timeout_at(deadline, self.wake.notified()).await;
            }
            None => self.wake.notified().await,
        }
    }

    /// Lets somebody who waits look again.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Sleeps, but not over the end of the run: then it is worth another attempt at once.
    pub async fn pause(&self, pause: &mut Pause) {
        let ending = self.state().deadline.is_some();
        let until = Instant::now() + if ending { PAUSES.0 } else { pause.longer() };
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.woken() => (),
            }
            if self.state().deadline.is_some() != ending {
                return;
            }
        }
    }

    fn end(&self, within: Duration) {
        self.state().deadline = Some(Instant::now() + within);
        self.wake.notify_one();
        self.ended.notify_one();
    }

    /// Returns when the end of the run can wait no longer, whatever the server does.
    async fn out_of_time(&self) {
        self.ended.notified().await;
        let deadline = self.state().deadline.unwrap_or_else(Instant::now);
        tokio::time::sleep_until(deadline + GOODBYE_WITHIN).await;
    }
}

/// The pause before the next attempt, longer each time.
#[derive(Debug)]
pub struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(PAUSES.0)
    }
}

impl Pause {
    fn longer(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (2 * pause).min(PAUSES.1);
        pause
    }
}

/// What delivers: ends soon after [`Shared::is_over`].
pub type Delivering = Pin<Box<dyn Future<Output = ()>>>;

/// Starts `deliver` on a thread of its own, which ends with the run.
fn spawn(
    name: &str,
    shared: Arc<Shared>,
    deliver: impl FnOnce() -> Delivering + Send + 'static,
) -> Result<JoinHandle<()>, SinkError> {
    let refuse = |reason: std::io::Error| {
        SinkError(format!("messages cannot be delivered (no thread: {reason})"))
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refuse)?;
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = deliver() => (),
                    () = shared.out_of_time() => (),
                }
            });
            // A name that is being looked up does not hold the end of the run.
            runtime.shutdown_background();
        })
        .map_err(refuse)
}

/// Delivers a session's events through an outbox.
pub struct MessageSink {
    server: String,
    shared: Arc<Shared>,
    messages: Messages,
    thread: Option<JoinHandle<()>>,
    /// The session may go on after this run, which has to know then what was said.
    may_go_on: bool,
    disk: Option<String>,
}

impl MessageSink {
    /// Opens the outbox at `path` and starts what `deliver` returns. `server` is its name for
    /// people.
    ///
    /// # Errors
    /// The outbox cannot be opened, or there is no thread.
    pub fn start(
        path: &Path,
        beginning: Beginning,
        topics: Topics,
        server: String,
        deliver: impl FnOnce(Arc<Shared>) -> Delivering + Send + 'static,
    ) -> Result<Self, SinkError> {
        let outbox = Outbox::open(path, beginning, CAPACITY_BYTES)?;
        let messages = Messages::new(outbox.session(), topics);
        let shared = Arc::new(Shared::new(outbox));
        let theirs = shared.clone();
        let thread = spawn("messages", shared.clone(), move || deliver(theirs))?;
        Ok(Self { server, shared, messages, thread: Some(thread), may_go_on: false, disk: None })
    }

    /// The outbox stays after the last message: the session may be interrupted and go on.
    pub fn that_may_go_on(mut self, may_go_on: bool) -> Self {
        self.may_go_on = may_go_on;
        self
    }

    /// Whoever puts things on the way beside the outbox wakes the thread through this.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Waits until everything is delivered, at most `within`.
    pub fn conclude(&mut self, within: Duration) -> Result<(), SinkError> {
        self.shared.end(within);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            self.shared.problem("the thread that delivers broke down".to_owned());
        }
        let mut outbox = self.shared.outbox();
        if outbox.waiting() > 0 {
            return Err(self.left(&outbox));
        }
        let closed = if self.may_go_on { outbox.compact() } else { outbox.delete() };
        if let Err(reason) = closed {
            tracing::warn!("{}: {reason}", outbox.path().display());
        }
        let refused = self.shared.state().refused;
        if outbox.left_out() + refused > 0 { Err(self.left(&outbox)) } else { Ok(()) }
    }

    /// What was not delivered, and why.
    fn left(&self, outbox: &Outbox) -> SinkError {
        let state = self.shared.state();
        let (waiting, path) = (outbox.waiting(), outbox.path());
        let mut parts = Vec::new();
        if waiting > 0 {
            let why = state.problem.as_deref().unwrap_or("there was no more time");
            let folder = path.parent().unwrap_or(path).display();
            // `mqtt.outbox`, `nats.outbox`
            let kind = path.file_stem().unwrap_or_default().display();
            parts.push(format!(
                "{waiting} messages wait in {} ({why}); 'sfm-stream deliver {folder} --{kind} {}' sends them, and so does the next run there",
                path.display(),
                self.server
            ));
        }
        if outbox.left_out() > 0 {
            let why = self.disk.as_deref().unwrap_or("the outbox was full");
            parts.push(format!(
                "{} messages were left out ({why}); events.jsonl has them",
                outbox.left_out()
            ));
        }
        if state.refused > 0 {
            parts.push(format!("{} messages were refused ({})", state.refused, state.refusal));
        }
        SinkError(format!("{}: {}", self.server, parts.join("; ")))
    }

    fn append(&mut self, message: Message) {
        let appended = self.shared.outbox().append(message);
        match appended {
            Ok(Appended::New | Appended::Known) => {}
            Ok(Appended::LeftOut) if self.shared.outbox().left_out() > 1 => {}
            Ok(Appended::LeftOut) => {
                tracing::warn!("{}: the outbox is full; messages are left out", self.server);
            }
            Err(reason) => {
                if self.disk.is_none() {
                    tracing::warn!("{}: the outbox takes no message ({reason})", self.server);
                }
                self.disk = Some(reason.to_string());
            }
        }
    }
}

impl Sink for MessageSink {
    fn name(&self) -> String {
        self.server.clone()
    }

    fn is_output(&self) -> bool {
        false
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        if matches!(event, Event::Night(night) if night.pass == Pass::Final) {
            self.may_go_on = false;
        }
        let messages = self.messages.of(event);
        for message in messages.map_err(|e| SinkError(format!("{}: {e}", self.server)))? {
            self.append(message);
        }
        self.shared.wake();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.conclude(DELIVER_WITHIN)
    }
}

impl Drop for MessageSink {
    /// A run that ends early leaves the outbox as it is.
    fn drop(&mut self) {
        self.shared.end(Duration::ZERO);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
