//! The same work on every recording of a folder: several at once, with progress, and a list of
//! those that failed, which stop nobody else. What one recording needs in memory is its own matter;
//! no more than `workers` are under way.

use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::{FAILED, Failure, USAGE, named, say};
use crate::data::{read_capped, replace_bytes};

/// Plain lines are at least this far apart, and a tenth of the time that has passed.
const LINE_EVERY: Duration = Duration::from_secs(5);
const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// How one recording went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// It had been done before.
    pub already: bool,
    /// What the user should know, one sentence each.
    pub notes: Vec<String>,
}

/// How all of them went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Done now.
    pub done: usize,
    /// Done by an earlier run.
    pub already: usize,
    /// The reasons of those that failed, in the order of the recordings.
    pub failed: Vec<String>,
}

/// Recordings at once, if the user does not say: one a core. More than this are waiting for the
/// disk.
pub fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(16)
}

/// Writes to `path` with what settings a folder is being filled; a later run with others is refused,
/// since it would leave what is there as it is: `otherwise` says what to do.
///
/// # Errors
/// [`USAGE`] for other settings, [`FAILED`] if they cannot be written.
pub fn keep_settings<T: Serialize + DeserializeOwned + PartialEq>(
    path: &Path,
    settings: &T,
    otherwise: &str,
) -> Result<(), Failure> {
    if !path.exists() {
        let text = serde_json::to_vec_pretty(settings).map_err(|e| (FAILED, named(path, &e)))?;
        return replace_bytes(path, &text).map_err(|e| (e.exit_code(), e.to_string()));
    }
    let bytes =
        read_capped(path, MAX_SETTINGS_BYTES).map_err(|e| (e.exit_code(), e.to_string()))?;
    match serde_json::from_slice::<T>(&bytes) {
        Ok(found) if found == *settings => Ok(()),
        _ => Err((USAGE, named(path, &otherwise))),
    }
}

/// Does `job` for every item, `workers` at once; `verb` names the work in progress and notes.
pub fn run<T: Sync>(
    verb: &str,
    items: &[T],
    workers: usize,
    job: impl Fn(&T) -> Result<Done, String> + Sync,
) -> Tally {
    let next = AtomicUsize::new(0);
    let shown = Mutex::new(Shown::new(verb, items.len()));
    let results: Mutex<Vec<(usize, Result<Done, String>)>> = Mutex::default();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            // A file made to break a reader ends its own job and no other.
            let result = catch_unwind(AssertUnwindSafe(|| job(item)))
                .unwrap_or_else(|_| Err("an internal error; please report it".to_owned()));
            shown.lock().unwrap_or_else(PoisonError::into_inner).one_more(&result);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, items.len().max(1)) {
            scope.spawn(work);
        }
    });
    shown.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    let mut tally = Tally::default();
    for (_, result) in results {
        match result {
            Ok(Done { already: true, .. }) => tally.already += 1,
            Ok(_) => tally.done += 1,
            Err(reason) => tally.failed.push(reason),
        }
    }
    tally
}

impl Tally {
    /// Lists the failures on stderr and says on stdout how many were done. Some failures in a
    /// cohort are normal: only if nothing is there at all has the command failed.
    ///
    /// # Errors
    /// [`FAILED`] if every recording failed.
    pub fn conclude(self, participle: &str) -> Result<(), Failure> {
        for reason in &self.failed {
            print(&format!("failed: {reason}"));
        }
        let Tally { done, already, failed } = self;
        let failed = failed.len();
        if done + already == 0 {
            let reason = format!("none of {failed} recording(s) could be {participle}; see above");
            return Err((FAILED, reason));
        }
        say(format_args!("{participle} {done}, there already {already}, failed {failed}"));
        Ok(())
    }
}

/// Progress on stderr: a bar on a terminal, a plain line now and then elsewhere.
struct Shown {
    verb: String,
    total: usize,
    finished: usize,
    failed: usize,
    begun: Instant,
    last: Duration,
    bar: Option<ProgressBar>,
}

impl Shown {
    fn new(verb: &str, total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let bar = ProgressBar::with_draw_target(Some(total as u64), target);
            match ProgressStyle::with_template("{bar:20} {msg}, {eta} left") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        let (begun, last) = (Instant::now(), Duration::ZERO);
        Shown { verb: verb.to_owned(), total, finished: 0, failed: 0, begun, last, bar }
    }

    fn one_more(&mut self, result: &Result<Done, String>) {
        self.finished += 1;
        self.failed += usize::from(result.is_err());
        for note in result.iter().flat_map(|done| &done.notes) {
            self.line(&format!("note: {note}"));
        }
        let elapsed = self.begun.elapsed();
        match &self.bar {
            Some(bar) => {
                bar.set_message(self.text());
                bar.set_position(self.finished as u64);
            }
            // The end is reported once, when everything is done.
            None if self.finished == self.total => {}
            None if elapsed - self.last >= LINE_EVERY.max(elapsed / 10) => {
                self.last = elapsed;
                print(&self.text());
            }
            None => {}
        }
    }

    fn text(&self) -> String {
        let Shown { verb, finished, total, failed, .. } = self;
        let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
        let per_hour = *finished as f64 * 3600.0 / self.begun.elapsed().as_secs_f64().max(1e-3);
        format!("{verb} {finished} of {total}{failed}, {per_hour:.0} an hour")
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(sfm_runtime::text::escaped(text)),
            None => print(text),
        }
    }

    fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        print(&self.text());
    }
}

/// A line on stderr. A closed one stops nothing; nothing that a file brought in reaches the terminal as control
/// characters.
pub fn print(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", sfm_runtime::text::escaped(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_or_a_panic_stops_nobody_else() {
        let items: Vec<u32> = (0..20).collect();
        let tally = run("count", &items, 3, |&item| match item {
            7 => Err("seven".to_owned()),
            11 => panic!("a job may fail in any way"),
            _ => Ok(Done { already: item % 2 == 0, notes: Vec::new() }),
        });
        assert_eq!((tally.done, tally.already), (8, 10));
        assert_eq!(tally.failed.len(), 2);
        assert_eq!(tally.failed[0], "seven");
    }

    #[test]
    fn nothing_done_is_a_failure() {
        let tally = run("count", &[1, 2], 1, |_| Err("no".to_owned()));
        assert_eq!(tally.conclude("counted").map_err(|(code, _)| code), Err(FAILED));
    }
}
