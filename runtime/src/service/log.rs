//! The log: one line an event on stderr, control characters escaped. Under systemd a line begins
//! with its priority for the journal, which has its own clock; elsewhere with the local time. It
//! shows what the program's code wrote and of libraries warnings only. Written by any thread.

use std::fmt::Write;

use clap::ValueEnum;
use serde::Deserialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use crate::montage::escaped;

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

/// Sends the process' events to stderr: those of `--log`, else of SFM_LOG, else from info up.
///
/// # Errors
/// One sentence, if SFM_LOG is no level or there is a log already.
pub fn init(level: Option<LogLevel>) -> Result<(), String> {
    let level = match level {
        Some(level) => level,
        None => level_of(std::env::var_os(VARIABLE))?,
    };
    tracing::subscriber::set_global_default(subscriber(level, Style::of_stderr(), std::io::stderr))
        .map_err(|e| format!("the log cannot be set up: {e}"))
}

fn level_of(variable: Option<std::ffi::OsString>) -> Result<LogLevel, String> {
    let Some(text) = variable.filter(|text| !text.is_empty()) else { return Ok(LogLevel::Info) };
    let text = text.to_string_lossy();
    LogLevel::from_str(&text, true).map_err(|_| {
        format!("{VARIABLE}={text} is no level; use error, warn, info, debug or trace")
    })
}

fn subscriber<W>(level: LogLevel, style: Style, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let ours = level.filter();
    let shown = Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), ours)
        .with_default(ours.min(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer().event_format(style).with_writer(writer);
    tracing_subscriber::registry().with(shown).with(lines)
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

impl<S, N> FormatEvent<S, N> for Style
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut begin = String::new();
        self.begin(&mut begin, *event.metadata().level())?;
        let mut words = Words::default();
        event.record(&mut words);
        writeln!(writer, "{begin}{}{}", escaped(&words.message), escaped(&words.fields))
    }
}

/// An event's sentence, and its other fields behind it.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn push(&mut self, field: &Field, value: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.push(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" || !value.contains([' ', '"']) {
            self.push(field, format_args!("{value}"));
        } else {
            self.push(field, format_args!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, style: Style, work: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = subscriber(level, style, move || writer.clone());
        tracing::subscriber::with_default(subscriber, work);
        let bytes = kept.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
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
        assert!(!text.trim_end().chars().any(crate::montage::is_hidden), "{text:?}");
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
