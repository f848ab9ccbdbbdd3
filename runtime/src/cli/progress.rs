//! Progress of a pass on stderr: a bar where stderr is a terminal, a plain line now and then
//! where it is not. Shows positions and speeds, nothing of the recording's content.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::event::Pass;
use crate::service::console::{self, Weight};

/// The night that nights per hour are counted in, seconds.
pub(super) const NIGHT_S: f64 = 8.0 * 3600.0;

/// Plain lines are at least this far apart, and at least a tenth of the time that has passed, so
/// that a whole night at the bedside is some 80 lines; a tenth of a known length is reported too.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress of one pass.
#[derive(Debug)]
pub struct Progress {
    pass: Pass,
    total_s: Option<f64>,
    begun: Instant,
    position_s: f64,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines { last: Duration, last_tenth: u32 },
}

impl Progress {
    /// A pass over `total_s` seconds of recording, or over an unknown length, with all that is
    /// done for it since `begun`.
    pub fn new(total_s: Option<f64>, pass: Pass, begun: Instant) -> Self {
        let total_s = total_s.filter(|total_s| *total_s > 0.0);
        let shown = if std::io::stderr().is_terminal() {
            Shown::Bar(bar(total_s))
        } else {
            Shown::Lines { last: Duration::ZERO, last_tenth: 0 }
        };
        Progress { pass, total_s, begun, position_s: 0.0, shown }
    }

    /// The pass has come to `position_s` seconds of the recording.
    pub fn at(&mut self, position_s: f64) {
        self.position_s = position_s;
        let elapsed = self.begun.elapsed();
        let text = line(self.pass, position_s, self.total_s, elapsed);
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_position(position_s.max(0.0) as u64);
                bar.set_message(text);
            }
            Shown::Lines { last, last_tenth } => {
                let tenth = self.total_s.map_or(0, |total_s| (10.0 * position_s / total_s) as u32);
                // The end is reported once, when the night's own work is done too.
                let tenth = tenth.min(9);
                if line_is_due(elapsed, *last, tenth > *last_tenth) {
                    (*last, *last_tenth) = (elapsed, tenth.max(*last_tenth));
                    print(&text);
                }
            }
        }
    }

    /// Prints a line of its own, above the bar where there is one.
    pub fn say(&self, text: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.println(text),
            Shown::Lines { .. } => print(text),
        }
    }

    /// The pass is over: the last figures stay on the screen.
    pub fn finish(self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
        print(&line(self.pass, self.position_s, self.total_s, self.begun.elapsed()));
    }
}

fn bar(total_s: Option<f64>) -> ProgressBar {
    let bar =
        ProgressBar::with_draw_target(total_s.map(|total_s| total_s.ceil() as u64), terminal());
    if let Ok(style) = ProgressStyle::with_template(template(total_s)) {
        bar.set_style(style);
    }
    bar
}

/// The text is at most 72 columns; bar and text share a line of 80.
fn template(total_s: Option<f64>) -> &'static str {
    if total_s.is_some() { "{bar:7} {wide_msg}" } else { "{spinner} {wide_msg}" }
}

/// A line among others on stderr.
pub(super) fn print(text: &str) {
    console::say(format!("{text}\n"), Weight::Ordinary);
}

/// Where bars are drawn: stderr, in turn with its lines and as little waited for.
pub(super) fn terminal() -> ProgressDrawTarget {
    ProgressDrawTarget::term_like_with_hz(Box::new(Terminal::default()), 10)
}

/// What the next picture is drawn with, in the terminal's language.
#[derive(Debug, Default)]
struct Terminal(Mutex<String>);

impl Terminal {
    fn put(&self, text: std::fmt::Arguments<'_>) -> std::io::Result<()> {
        let mut picture = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        picture.write_fmt(text).map_err(std::io::Error::other)
    }

    fn go(&self, n: usize, direction: char) -> std::io::Result<()> {
        if n == 0 { Ok(()) } else { self.put(format_args!("\x1b[{n}{direction}")) }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        console::columns()
    }

    fn move_cursor_up(&self, n: usize) -> std::io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> std::io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> std::io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> std::io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, text: &str) -> std::io::Result<()> {
        self.put(format_args!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> std::io::Result<()> {
        self.put(format_args!("{text}"))
    }

    fn clear_line(&self) -> std::io::Result<()> {
        self.put(format_args!("\r\x1b[2K"))
    }

    fn flush(&self) -> std::io::Result<()> {
        let picture = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if !picture.is_empty() {
            console::say(picture, Weight::Picture);
        }
        Ok(())
    }
}

fn line_is_due(elapsed: Duration, last: Duration, next_tenth: bool) -> bool {
    next_tenth || elapsed.saturating_sub(last) >= LINE_EVERY.max(elapsed / 10)
}

/// `live pass 02:30:00 of 08:00:00 (31 %), 1230 x real time, 154 nights/h`
fn line(pass: Pass, position_s: f64, total_s: Option<f64>, elapsed: Duration) -> String {
    let name = match pass {
        Pass::Live => "live",
        Pass::Final => "final",
    };
    let mut text = format!("{name} pass {}", clock(position_s));
    if let Some(total_s) = total_s {
        let percent = (100.0 * position_s / total_s).clamp(0.0, 100.0);
        let _ = write!(text, " of {} ({percent:.0} %)", clock(total_s));
    }
    let elapsed_s = elapsed.as_secs_f64();
    if elapsed_s > 0.0 && position_s > 0.0 {
        let speed = position_s / elapsed_s;
        let nights = speed * 3600.0 / NIGHT_S;
        let _ = write!(text, ", {} x real time, {} nights/h", figure(speed), figure(nights));
    }
    text
}

/// Three digits at least.
pub(super) fn figure(value: f64) -> String {
    let decimals = if value >= 100.0 { 0 } else { 2 };
    format!("{value:.decimals$}")
}

pub(super) fn clock(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_and_how_fast() {
        // 2.5 h in 9 s: 1000 x real time, and 1000 h of recording an hour are 125 nights of 8 h.
        let text = line(Pass::Live, 9000.0, Some(28_800.0), Duration::from_secs(9));
        assert_eq!(text, "live pass 02:30:00 of 08:00:00 (31 %), 1000 x real time, 125 nights/h");
        let text = line(Pass::Final, 30.0, None, Duration::from_secs(30));
        assert_eq!(text, "final pass 00:00:30, 1.00 x real time, 0.12 nights/h");
        assert_eq!(line(Pass::Live, 0.0, None, Duration::ZERO), "live pass 00:00:00");
    }

    #[test]
    fn a_terminal_of_80_columns_shows_it_all() {
        for total_s in [None, Some(1.0)] {
            assert!(ProgressStyle::with_template(template(total_s)).is_ok());
        }
        let text = line(Pass::Final, 86_399.0, Some(86_400.0), Duration::from_secs(9));
        assert!(text.len() <= 72, "{text}");
    }

    #[test]
    fn plain_lines_are_few() {
        let s = Duration::from_secs;
        assert!(!line_is_due(s(4), s(0), false));
        assert!(line_is_due(s(5), s(0), false));
        assert!(!line_is_due(s(28_000), s(27_000), false));
        assert!(line_is_due(s(28_000), s(27_999), true));
        let mut last = s(0);
        let lines = (1..=28_800).map(s).filter(|now| {
            let due = line_is_due(*now, last, false);
            last = if due { *now } else { last };
            due
        });
        assert!((50..100).contains(&lines.count()));
    }
}
