//! `--tui`: the running night in the terminal. A sink that keeps a `State`, and a thread of its
//! own that draws it at most ten times a second and reads the keys. Never waits for the pipeline
//! and never holds it up; however the run ends, the terminal is as it was before. Refuses to start
//! where standard output is no terminal.

mod draw;
mod hypnogram;
mod screen;
mod state;
mod stderr;

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, KeyCode, KeyEventKind, KeyModifiers};
use serde::Deserialize;

use self::screen::Screen;
use self::state::State;
use self::stderr::HeldStderr;
use crate::event::Event;
use crate::health::Health;
use crate::service::stop as signals;
use crate::sink::{Place, Sink, SinkError};

/// Shortest time between two pictures.
const FRAME: Duration = Duration::from_millis(100);
/// Longest one: the clock goes on when nothing happens.
const IDLE_FRAME: Duration = Duration::from_secs(1);
/// How long the last picture may take: a terminal that was stopped takes none.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// Arguments.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TuiArgs {
    /// Show the running night in the terminal; q ends it
    #[arg(long)]
    pub tui: bool,
}

impl TuiArgs {
    /// These arguments, completed from a configuration file's.
    pub fn or(&self, file: Self) -> Self {
        Self { tui: self.tui || file.tui }
    }

    /// Whether the terminal can be drawn on; `json` wants standard output for itself, and of many
    /// `beds` there would be many pictures.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self, json: bool, beds: bool) -> Result<(), String> {
        let refuse = |reason: &str| Err(reason.to_owned());
        match () {
            () if !self.tui => Ok(()),
            () if json => refuse("--tui and --json exclude each other: both want standard output"),
            () if beds => refuse("--tui shows one session and --beds runs many; leave one out"),
            () if !std::io::stdout().is_terminal() => {
                refuse("--tui needs a terminal, and standard output is none; leave it out")
            }
            () => Ok(()),
        }
    }

    /// The sink that draws, if it was asked for. With `stay` the last picture stays until a key is
    /// pressed.
    ///
    /// # Errors
    /// The terminal takes no picture.
    pub fn sinks(&self, place: &Place<'_>, stay: bool) -> Result<Vec<Box<dyn Sink>>, SinkError> {
        if !self.tui {
            return Ok(Vec::new());
        }
        Ok(vec![Box::new(TuiSink::open(place, stay)?)])
    }
}

/// What the sink and the drawing thread share.
type Shared = Arc<Mutex<State>>;

fn locked(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the state that is drawn.
struct TuiSink {
    state: Shared,
    thread: Option<JoinHandle<()>>,
    stderr: Option<HeldStderr>,
    /// The last picture waits for a key.
    stay: bool,
}

impl TuiSink {
    fn open(place: &Place<'_>, stay: bool) -> Result<Self, SinkError> {
        let failed = |reason: std::io::Error| {
            SinkError(format!("the terminal takes no picture ({reason}); leave out --tui"))
        };
        let state = Arc::new(Mutex::new(State::new(place.study)));
        let screen = Screen::enter().map_err(failed)?;
        let to = state.clone();
        let stderr = HeldStderr::hold(move |line| locked(&to).log(line)).map_err(failed)?;
        let (drawn, health) = (state.clone(), place.health.cloned());
        let thread = std::thread::Builder::new()
            .name("screen".to_owned())
            .spawn(move || show(screen, &drawn, health.as_deref(), stay))
            .map_err(failed)?;
        Ok(Self { state, thread: Some(thread), stderr: Some(stderr), stay })
    }

    /// Ends the picture and lets go of the terminal; true if the thread panicked, or is left to a
    /// terminal that takes nothing.
    fn close(&mut self) -> bool {
        locked(&self.state).is_over = true;
        let waits_until = Instant::now() + LAST_WITHIN;
        let broke = self.thread.take().is_some_and(|thread| {
            while !self.stay && !thread.is_finished() && Instant::now() < waits_until {
                std::thread::sleep(Duration::from_millis(5));
            }
            !(self.stay || thread.is_finished()) || thread.join().is_err()
        });
        self.stderr = None;
        broke
    }
}

impl Sink for TuiSink {
    fn name(&self) -> String {
        "the terminal".to_owned()
    }

    fn is_output(&self) -> bool {
        false
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        locked(&self.state).take(event);
        Ok(())
    }

    fn publish(&mut self) -> Result<(), SinkError> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.close();
            return Err(SinkError(
                "the terminal takes no more pictures; the run goes on".to_owned(),
            ));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        if self.close() {
            return Err(SinkError("the terminal's picture broke down".to_owned()));
        }
        Ok(())
    }
}

impl Drop for TuiSink {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread: a picture when something changed, and keys in between.
fn show(mut screen: Screen, state: &Shared, health: Option<&Health>, stay: bool) {
    let mut drawn: Option<Instant> = None;
    loop {
        let since = drawn.map_or(IDLE_FRAME, |drawn| drawn.elapsed());
        let is_due = {
            let mut state = locked(state);
            let is_done = !stay || !state.is_whole() || signals::asked() || state.leaves;
            if state.is_over && is_done {
                return;
            }
            state.stays = state.is_over;
            since >= IDLE_FRAME || (since >= FRAME && std::mem::take(&mut state.changed))
        };
        if is_due {
            let trouble = health.map(Health::report).filter(|bed| !bed.reasons.is_empty());
            locked(state).trouble = trouble.map(|bed| (bed.status, bed.reasons.join("; ")));
            let state = locked(state).clone();
            if screen.draw(&state).is_err() {
                return;
            }
            drawn = Some(Instant::now());
        }
        if !keys(state) {
            return;
        }
    }
}

/// Waits for keys for as long as a picture stands; false if there is no keyboard.
fn keys(state: &Shared) -> bool {
    match event::poll(FRAME) {
        Ok(false) => return true,
        Ok(true) => {}
        Err(_) => return false,
    }
    match event::read() {
        Ok(event::Event::Key(key)) if key.kind == KeyEventKind::Press => {
            let is_break =
                key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if is_break || matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc) {
                leave(state);
            }
        }
        Ok(_) => {}
        Err(_) => return false,
    }
    locked(state).changed = true;
    true
}

/// A run under way is stopped as by Ctrl-C; one that is over is left.
fn leave(state: &Shared) {
    let mut state = locked(state);
    state.leaves = true;
    if !state.is_over {
        signals::ask();
    }
}
