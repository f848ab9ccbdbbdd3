//! The terminal while it holds a picture: other screen, no echo, no cursor. Given back when this is
//! dropped, also by a panic, and before the process exits on a second signal.

use std::io::{Stdout, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::draw;
use super::state::State;
use crate::service::stop;

static IS_HELD: AtomicBool = AtomicBool::new(false);

/// The terminal, held.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    pub fn enter() -> std::io::Result<Self> {
        IS_HELD.store(true, Ordering::Relaxed);
        stop::before_exit(give_back);
        let entered = enable_raw_mode()
            // Not every terminal has another screen, and what is drawn takes an empty one for granted.
            .and_then(|()| execute!(stdout(), EnterAlternateScreen, Clear(ClearType::All)))
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        match entered {
            Ok(terminal) => Ok(Self { terminal }),
            Err(e) => {
                give_back();
                Err(e)
            }
        }
    }

    /// Draws `state` at the terminal's size.
    pub fn draw(&mut self, state: &State) -> std::io::Result<()> {
        self.terminal.draw(|frame| draw::draw(frame, state)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back, once. What it refuses cannot be helped.
fn give_back() {
    if IS_HELD.swap(false, Ordering::Relaxed) {
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
