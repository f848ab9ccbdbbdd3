//! One bed on the page: what it shows, and the messages to those who look. A message that changes
//! the night has a number, so that who was cut off gets what came meanwhile; who was away for too
//! long, or looked at another run, is told to fetch everything anew. Nobody waits here: a browser
//! that is too slow loses messages and is told so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use sfm_models::{Modality, SleepStage};
use tokio::sync::broadcast;

use super::session::{SessionState, ShownMark};
use super::signals::{Extent, ShownPatch, Signals};
use super::state::{State, Stretch, push_last};
use crate::event::{Event, SleepEpoch};
use crate::health::BedReport;
use crate::link::log::LogLine;
use crate::link::mark::{Mark, MarkButton};
use crate::link::types::Totals;
use crate::text::escaped;
use crate::text::json_text;

/// Messages that are kept for who was cut off; an hour of an ordinary night and more.
const KEPT: usize = 512;
/// Messages on their way to one browser.
const ON_THE_WAY: usize = 256;
/// Epochs of the overview: two hours.
const RECENT: usize = 240;
/// Time between two counts that say nothing new.
const COUNTS_EVERY: Duration = Duration::from_secs(5);

/// Where a bed's samples come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A file.
    Replay,
    /// Sensors.
    Sensors,
}

/// A message to those who look.
#[derive(Debug)]
pub struct Message {
    /// Its number, where it changes the night.
    pub number: Option<u64>,
    /// What kind of message.
    pub name: &'static str,
    /// JSON.
    pub data: String,
}

/// One bed.
#[derive(Debug)]
pub struct Room {
    /// The bed's label.
    pub bed: String,
    title: String,
    origin: Origin,
    /// Names this run: numbers of messages begin anew with each.
    run: String,
    button: Option<MarkButton>,
    inner: Mutex<Inner>,
    sender: broadcast::Sender<Arc<Message>>,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    signals: Signals,
    /// Signals came that nobody was told of.
    untold: bool,
    counted: Option<Instant>,
    number: u64,
    kept: VecDeque<Arc<Message>>,
}

/// What a browser gets from now on.
pub struct Subscription {
    /// What it missed, or that it has to fetch everything anew; and how things stand.
    pub missed: Vec<Arc<Message>>,
    /// What comes.
    pub coming: broadcast::Receiver<Arc<Message>>,
}

/// Everything about a bed but its signals, as JSON.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    bed: String,
    title: String,
    origin: Origin,
    run: String,
    /// The last message that this contains.
    last_id: String,
    /// Why no marks can be made; `null` if they can.
    marks_refused: Option<&'static str>,
    signals: Extent,
    #[serde(flatten)]
    state: State,
}

/// A bed on the overview.
#[derive(Debug, Serialize)]
pub struct Summary {
    bed: String,
    title: String,
    origin: Origin,
    run: String,
    stretch: Stretch,
    /// Start as written in the source.
    start: Option<String>,
    /// The newest epoch.
    newest: Option<SleepEpoch>,
    /// Stages of the last two hours, one of `W123R?` an epoch.
    recent: String,
    /// Modalities that say nothing.
    lost: Vec<Modality>,
    /// Missing samples of all channels, seconds.
    missing_s: f64,
    last_mark: Option<ShownMark>,
    health: Option<BedReport>,
}

impl Room {
    /// A bed that waits. `title` is untrusted text; without a `button` no marks are taken.
    pub fn new(bed: &str, title: &str, origin: Origin, button: Option<MarkButton>) -> Self {
        let run = format!("{:x}", jiff::Timestamp::now().as_nanosecond());
        let (bed, title) = (escaped(bed), escaped(title));
        let sender = broadcast::Sender::new(ON_THE_WAY);
        Self { bed, title, origin, run, button, inner: Mutex::default(), sender }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event of the pipeline.
    pub fn take(&self, event: &Event) {
        let mut inner = self.inner();
        if let Event::Signals(patch) = event {
            if !inner.state.repeats() {
                inner.signals.push(patch);
                inner.untold = true;
            }
        } else if let Some(change) = inner.state.take(event) {
            self.tell_all(&mut inner, change.name(), &change);
        }
    }

    /// Tells of signals that came; twice a second is enough.
    pub fn publish(&self) {
        let mut inner = self.inner();
        if std::mem::take(&mut inner.untold) {
            self.tell("signals", &inner.signals.extent());
        }
    }

    /// Takes a line of the session log.
    pub fn line(&self, line: &LogLine) {
        let mut inner = self.inner();
        if let Some(mark) = inner.state.session.mark(line) {
            self.tell_all(&mut inner, "mark", &mark);
        } else if let Some(line) = inner.state.session.line(line) {
            self.tell_all(&mut inner, "log", &line);
        }
    }

    /// Marks of before a restart.
    pub fn restore_marks(&self, marks: impl IntoIterator<Item = (f64, String)>) {
        self.inner().state.session.restore_marks(marks);
    }

    /// Takes the session's counts.
    pub fn totals(&self, totals: &Totals) {
        let mut inner = self.inner();
        let due = inner.counted.is_none_or(|at| at.elapsed() >= COUNTS_EVERY);
        let (links, changed) = inner.state.session.count(totals);
        if changed || due {
            self.tell("links", links);
            inner.counted = Some(Instant::now());
        }
    }

    /// Takes how the bed is, from the service.
    pub fn health(&self, report: BedReport) {
        let mut inner = self.inner();
        let known = inner.state.session.health.as_ref();
        if known
            .is_none_or(|known| known.status != report.status || known.reasons != report.reasons)
        {
            self.tell("health", &report);
        }
        inner.state.session.health = Some(report);
    }

    /// Nothing more comes, for this reason.
    pub fn end(&self, reason: &str) {
        let mut inner = self.inner();
        if inner.state.stretch == Stretch::Ended {
            return;
        }
        let reason = escaped(reason);
        inner.state.stretch = Stretch::Ended;
        inner.state.ended = Some(reason.clone());
        self.tell_all(&mut inner, "ended", &serde_json::json!({ "reason": reason }));
    }

    /// Whether nothing more comes.
    pub fn is_over(&self) -> bool {
        self.inner().state.stretch == Stretch::Ended
    }

    /// Makes a mark at this moment.
    ///
    /// # Errors
    /// One sentence: this bed takes none, or not now.
    pub fn mark(&self, mark: Mark) -> Result<(), &'static str> {
        let stretch = self.inner().state.stretch;
        match (self.marks_refused(stretch), &self.button) {
            (None, Some(button)) => button.press(mark),
            (refused, _) => Err(refused.unwrap_or("no marks can be made here")),
        }
    }

    fn marks_refused(&self, stretch: Stretch) -> Option<&'static str> {
        match (stretch, self.origin) {
            (_, Origin::Replay) => {
                Some("this is a replay of a file; marks are made in live sessions")
            }
            (Stretch::Waiting, _) => Some("the session has not begun; no sensor has come yet"),
            (Stretch::Final | Stretch::Ended, _) => Some("the session is over"),
            (Stretch::Live, Origin::Sensors) => {
                self.button.is_none().then_some("no marks can be made here")
            }
        }
    }

    /// A message that changes the night; the state has it already.
    fn tell_all(&self, inner: &mut Inner, name: &'static str, data: &impl Serialize) {
        inner.number += 1;
        if let Some(message) = message(Some(inner.number), name, data) {
            push_last(&mut inner.kept, message.clone(), KEPT);
            // Nobody looks at the moment.
            let _ = self.sender.send(message);
        }
    }

    /// A message of the moment.
    fn tell(&self, name: &'static str, data: &impl Serialize) {
        if let Some(message) = message(None, name, data) {
            let _ = self.sender.send(message);
        }
    }

    /// A message's number as browsers repeat it.
    pub fn id(&self, number: u64) -> String {
        format!("{}.{number}", self.run)
    }

    /// What comes from now on; before it what came after message `last`, and how things stand.
    pub fn subscribe(&self, last: Option<&str>) -> Subscription {
        let inner = self.inner();
        let coming = self.sender.subscribe();
        let mut missed = match last {
            None => Vec::new(),
            Some(last) => self.missed(&inner, last).unwrap_or_else(|| vec![reset()]),
        };
        let SessionState { links, health, .. } = &inner.state.session;
        missed.extend(message(None, "signals", &inner.signals.extent()));
        missed.extend(links.as_ref().and_then(|links| message(None, "links", links)));
        missed.extend(health.as_ref().and_then(|health| message(None, "health", health)));
        if inner.state.stretch == Stretch::Ended {
            // The last word; nothing will come behind it.
            missed.extend(inner.kept.back().cloned());
        }
        Subscription { missed, coming }
    }

    /// The messages after `last`; `None` if it is of another run or too long ago.
    fn missed(&self, inner: &Inner, last: &str) -> Option<Vec<Arc<Message>>> {
        let last = self.number_of(last).filter(|&last| last <= inner.number)?;
        let newer = |message: &&Arc<Message>| message.number > Some(last);
        let missed: Vec<_> = inner.kept.iter().filter(newer).cloned().collect();
        (missed.len() as u64 == inner.number - last).then_some(missed)
    }

    fn number_of(&self, id: &str) -> Option<u64> {
        let (run, number) = id.split_once('.')?;
        (run == self.run).then(|| number.parse().ok()).flatten()
    }

    /// The patches of signals from `from` on.
    pub fn signals(&self, from: u32) -> (Extent, Vec<Arc<ShownPatch>>) {
        let inner = self.inner();
        (inner.signals.extent(), inner.signals.since(from))
    }

    /// Everything at this moment. Copied under the lock, written as JSON outside of it.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.inner();
        Snapshot {
            bed: self.bed.clone(),
            title: self.title.clone(),
            origin: self.origin,
            run: self.run.clone(),
            last_id: self.id(inner.number),
            marks_refused: self.marks_refused(inner.state.stretch),
            signals: inner.signals.extent(),
            state: inner.state.clone(),
        }
    }

    /// The bed on the overview.
    pub fn summary(&self) -> Summary {
        let inner = self.inner();
        let state = &inner.state;
        Summary {
            bed: self.bed.clone(),
            title: self.title.clone(),
            origin: self.origin,
            run: self.run.clone(),
            stretch: state.stretch,
            start: state.about.as_ref().and_then(|about| about.start.clone()),
            newest: state.newest().cloned(),
            recent: recent(state),
            lost: state.lost.clone(),
            missing_s: state
                .gaps
                .channels
                .values()
                .fold(0.0, |sum, channel| sum + channel.missing_s),
            last_mark: state.session.marks.back().cloned(),
            health: state.session.health.clone(),
        }
    }
}

/// Stages of the last two hours.
fn recent(state: &State) -> String {
    let skip = state.epochs.len().saturating_sub(RECENT);
    state.epochs.iter().skip(skip).map(|epoch| epoch.stage.map_or('?', letter)).collect()
}

fn letter(stage: SleepStage) -> char {
    match stage {
        SleepStage::Wake => 'W',
        SleepStage::N1 => '1',
        SleepStage::N2 => '2',
        SleepStage::N3 => '3',
        SleepStage::Rem => 'R',
    }
}

fn message(number: Option<u64>, name: &'static str, data: &impl Serialize) -> Option<Arc<Message>> {
    // What JSON cannot hold is not there.
    let mut data = json_text(data).ok()?;
    data.truncate(data.trim_end().len());
    Some(Arc::new(Message { number, name, data }))
}

/// Tells a browser to fetch everything anew.
pub fn reset() -> Arc<Message> {
    Arc::new(Message { number: None, name: "reset", data: "{}".to_owned() })
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
