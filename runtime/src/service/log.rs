//! The log: one line an event on stderr, control characters escaped. Under systemd a line begins
//! with its priority for the journal, which has its own clock; elsewhere with the local time. It
//! shows what the program's code wrote and of libraries warnings only. Any thread may log; none waits
//! for stderr. Lines of one kind beyond a limit a minute are counted instead, except for our errors and
//! events with `essential = true`. An event's kind is its place in the code, or its field `kind`.

use std::fmt::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use clap::ValueEnum;
use serde::Deserialize;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::console::{self, Weight};
use crate::rate::{LeftOut, RateLimit};
use crate::text::escaped;

/// The environment's variable for the level; `--log` goes before it.
pub const VARIABLE: &str = "SFM_LOG";

/// `--log`: the least important events that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What stops part of the work.
    Error,
    /// What loses data or needs somebody.
    Warn,
    /// What one wants to read the next morning.
    Info,
    /// Single steps.
    Debug,
    /// Single messages.
    Trace,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}

/// Lines of one kind in a minute; debug and trace have a limit of their own, since they were asked for.
const PER_MINUTE: u32 = 60;
const DETAILS_PER_MINUTE: u32 = 6000;

static LOG: OnceLock<Arc<Lines>> = OnceLock::new();

/// Sends the process' events to stderr: those of `--log`, else of SFM_LOG, else from info up.
///
/// # Errors
/// One sentence, if SFM_LOG is no level or there is a log already.
pub fn init(level: Option<LogLevel>) -> Result<(), String> {
    let level = match level {
        Some(level) => level,
        None => level_of(std::env::var_os(VARIABLE))?,
    };
    let lines = Arc::new(Lines::new(Style::of_stderr(), console::say));
    tracing::subscriber::set_global_default(subscriber(level, lines.clone()))
        .map_err(|e| format!("the log cannot be set up: {e}"))?;
    LOG.get_or_init(|| lines);
    Ok(())
}

/// Reports how many lines were left out in minutes that are over.
pub fn tell_left_out() {
    if let Some(lines) = LOG.get() {
        lines.tell(RateLimit::over);
    }
}

/// Reports how many lines were left out and flushes stderr, as [`console::flush`]. For the end of the
/// process.
pub fn finish() {
    if let Some(lines) = LOG.get() {
        lines.tell(|limit, _| limit.rest());
    }
    console::flush();
}

fn level_of(variable: Option<std::ffi::OsString>) -> Result<LogLevel, String> {
    let Some(text) = variable.filter(|text| !text.is_empty()) else { return Ok(LogLevel::Info) };
    let text = text.to_string_lossy();
    LogLevel::from_str(&text, true).map_err(|_| {
        format!("{VARIABLE}={text} is no level; use error, warn, info, debug or trace")
    })
}

fn subscriber(level: LogLevel, lines: Arc<Lines>) -> impl Subscriber + Send + Sync {
    let ours = level.filter();
    let shown = Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), ours)
        .with_default(ours.min(LevelFilter::WARN));
    tracing_subscriber::registry().with(shown).with(ToLines(lines))
}

/// How a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// With the time of day: somebody looks at it.
    Terminal,
    /// With date, time and zone: a file.
    File,
    /// With the priority of sd-daemon(3).
    Journal,
}

impl Style {
    fn of_stderr() -> Self {
        use std::io::IsTerminal;
        if journal_is_stderr() {
            Style::Journal
        } else if std::io::stderr().is_terminal() {
            Style::Terminal
        } else {
            Style::File
        }
    }

    fn begin(self, line: &mut String, level: Level) -> std::fmt::Result {
        let now = jiff::ZonedDateTime::now;
        match self {
            Style::Journal => write!(line, "<{}>", priority(level)),
            Style::Terminal => write!(line, "{} {:<5} ", now().strftime("%T"), word(level)),
            Style::File => write!(line, "{} {:<5} ", now().strftime("%FT%T%:z"), word(level)),
        }
    }
}

/// Whether stderr is the stream that the journal reads: systemd names it by device and inode, and
/// a redirected stderr inherits the variable without being it.
#[cfg(unix)]
fn journal_is_stderr() -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let about = rustix::fs::fstat(std::io::stderr()).ok();
    named
        .zip(about)
        .is_some_and(|(named, about)| named == format!("{}:{}", about.st_dev, about.st_ino))
}

#[cfg(not(unix))]
fn journal_is_stderr() -> bool {
    false
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// What lines are counted by: level, place in the code and field `kind`, of which there are as many as
/// kinds and beds.
type Kind = (Level, Identifier, String);

/// Makes lines of events.
struct Lines {
    style: Style,
    born: Instant,
    limit: Mutex<RateLimit<Kind>>,
    write: Box<dyn Fn(String, Weight) + Send + Sync>,
}

impl Lines {
    fn new(style: Style, write: impl Fn(String, Weight) + Send + Sync + 'static) -> Self {
        Self { style, born: Instant::now(), limit: Mutex::default(), write: Box::new(write) }
    }

    fn take(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let level = *event.metadata().level();
        let text = format!("{}{}", escaped(&words.message), escaped(&words.fields));
        let is_ours = event.metadata().target().starts_with(env!("CARGO_CRATE_NAME"));
        if words.is_essential || (is_ours && level == Level::ERROR) {
            return self.write(level, &text, Weight::Essential);
        }
        self.tell(RateLimit::over);
        let most = if level <= Level::INFO { PER_MINUTE } else { DETAILS_PER_MINUTE };
        let kind = (level, event.metadata().callsite(), words.kind);
        let now_s = self.born.elapsed().as_secs_f64();
        let is_shown = {
            let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
            limit.admits(&kind, most, now_s, &text)
        };
        if is_shown {
            self.write(level, &text, Weight::Ordinary);
        }
    }

    /// Reports what was left out of the kinds that `which` selects.
    fn tell(&self, which: impl Fn(&mut RateLimit<Kind>, f64) -> Vec<LeftOut<Kind>>) {
        let now_s = self.born.elapsed().as_secs_f64();
        let left_out = which(&mut self.limit.lock().unwrap_or_else(PoisonError::into_inner), now_s);
        for LeftOut { kind: (level, ..), lines, last } in left_out {
            let text = format!("{lines} more lines of this kind within a minute, the last: {last}");
            self.write(level, &text, Weight::Essential);
        }
    }

    fn write(&self, level: Level, text: &str, weight: Weight) {
        let mut line = String::new();
        // Writing into a String cannot fail.
        let _ = self.style.begin(&mut line, level);
        line.push_str(text);
        line.push('\n');
        (self.write)(line, weight);
    }
}

/// The subscriber's part.
struct ToLines(Arc<Lines>);

impl<S> Layer<S> for ToLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.take(event);
    }
}

/// An event's message followed by its other fields, without those for the limits.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
    kind: String,
    is_essential: bool,
}

impl Words {
    fn push(&mut self, field: &Field, value: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            "kind" => self.kind.write_fmt(value),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.push(field, format_args!("{value:?}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "essential" => self.is_essential = value,
            _ => self.push(field, format_args!("{value}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if matches!(field.name(), "message" | "kind") || !value.contains([' ', '"']) {
            self.push(field, format_args!("{value}"));
        } else {
            self.push(field, format_args!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written while `work` runs, and the counts of left-out lines after it.
    fn logged(level: LogLevel, style: Style, work: impl FnOnce()) -> String {
        let (to, written) = std::sync::mpsc::channel();
        let lines = Arc::new(Lines::new(style, move |line, _| drop(to.send(line))));
        tracing::subscriber::with_default(subscriber(level, lines.clone()), work);
        lines.tell(|limit, _| limit.rest());
        written.try_iter().collect()
    }

    #[test]
    fn a_storm_is_counted_and_what_is_essential_is_not() {
        let text = logged(LogLevel::Info, Style::Journal, || {
            for n in 0..1000 {
                tracing::warn!(kind = if n % 2 == 0 { "up" } else { "down" }, "storm {n}");
                tracing::info!(essential = true, "mark {n}");
                tracing::error!("error {n}");
            }
        });
        let count = |of: &str| text.lines().filter(|line| line.contains(of)).count();
        assert_eq!((count("<4>storm"), count("<6>mark"), count("<3>error")), (120, 1000, 1000));
        for n in [998, 999] {
            let told =
                format!("<4>440 more lines of this kind within a minute, the last: storm {n}");
            assert_eq!(count(&told), 1, "{text}");
        }
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let text = logged(LogLevel::Trace, Style::Journal, || {
            tracing::error!("the recording stopped");
            tracing::warn!(bed = "3", free_bytes = 17, "the disk is nearly full");
            tracing::info!(path = "a b", "ready");
            tracing::debug!("a step");
            tracing::trace!("a message");
        });
        let want = "<3>the recording stopped\n\
                    <4>the disk is nearly full bed=3 free_bytes=17\n\
                    <6>ready path=\"a b\"\n\
                    <7>a step\n\
                    <7>a message\n";
        assert_eq!(text, want);
    }

    #[test]
    fn an_event_is_one_line_that_no_terminal_obeys() {
        let text = logged(LogLevel::Info, Style::Journal, || {
            let label = "EEG\u{1b}[31m\n<0>forged\u{202e}";
            tracing::info!(label, error = %"two\nlines", "channel {label}");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().chars().any(crate::text::is_hidden), "{text:?}");
        assert!(text.starts_with("<6>channel EEG\\u{1b}[31m\\u{a}<0>forged"), "{text}");
    }

    #[test]
    fn people_get_the_local_time() {
        let warn = || tracing::warn!("the disk is nearly full");
        let text = logged(LogLevel::Info, Style::Terminal, warn);
        let (time, rest) = text.split_at(9);
        assert_eq!(rest, "warn  the disk is nearly full\n");
        assert!(time.trim_end().parse::<jiff::civil::Time>().is_ok(), "{time}");
        let text = logged(LogLevel::Info, Style::File, warn);
        let (time, rest) = text.split_once(' ').expect("a time");
        assert_eq!(rest, "warn  the disk is nearly full\n");
        let time: jiff::Timestamp = time.parse().expect("a time with its zone");
        assert!(time.duration_until(jiff::Timestamp::now()).as_secs().abs() < 60, "{time}");
    }

    #[test]
    fn less_important_events_are_left_out_and_libraries_only_warn() {
        let work = || {
            tracing::info!("ours");
            tracing::info!(target: "hyper::proto", "theirs");
            tracing::warn!(target: "hyper::proto", "their warning");
            tracing::error!("our error");
        };
        let count = |level| logged(level, Style::Journal, work).lines().count();
        assert_eq!(logged(LogLevel::Info, Style::Journal, work).matches("theirs").count(), 0);
        assert_eq!(count(LogLevel::Trace), 3);
        assert_eq!(count(LogLevel::Warn), 2);
        assert_eq!(count(LogLevel::Error), 1);
    }

    #[test]
    fn the_variable_is_a_level_or_refused() {
        let level = |text: &str| level_of(Some(text.into()));
        assert_eq!(level_of(None), Ok(LogLevel::Info));
        assert_eq!(level(""), Ok(LogLevel::Info));
        assert_eq!(level("debug"), Ok(LogLevel::Debug));
        assert_eq!(level("WARN"), Ok(LogLevel::Warn));
        let refused = level("loud").expect_err("refused");
        assert!(refused.contains("SFM_LOG=loud"), "{refused}");
    }
}
