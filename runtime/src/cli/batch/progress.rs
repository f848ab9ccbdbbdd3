//! Progress of a batch on stderr: a line a recording, below it a bar where stderr is a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::super::progress::{NIGHT_S, clock, figure, print, terminal};
use super::{Failure, shown};

/// How the run of a recording ended.
pub(super) enum Ended {
    /// Its length, seconds.
    Done(f64),
    /// The reason.
    Failed(String),
    /// Stopped by the user.
    Cut,
}

impl Ended {
    pub fn of(result: &Result<f64, Failure>) -> Self {
        match result {
            Ok(recorded_s) => Ended::Done(*recorded_s),
            Err(failure) => Ended::Failed(super::super::one_line(&failure.message)),
        }
    }
}

/// The recordings of a batch as they end.
pub(super) struct Nights {
    total: usize,
    begun: Instant,
    /// Ended so far, and the recorded seconds of those that are done.
    ended: std::cell::Cell<(usize, f64)>,
    bar: Option<ProgressBar>,
}

impl Nights {
    /// Of `total` recordings.
    pub fn new(total: usize, begun: Instant) -> Self {
        use std::io::IsTerminal;
        let bar = std::io::stderr().is_terminal().then(|| bar(total));
        Self { total, begun, ended: std::cell::Cell::default(), bar }
    }

    /// A line for the recording `name`.
    pub fn ended(&self, name: &str, how: Ended) {
        let (count, recorded_s) = self.ended.get();
        let recorded_s = recorded_s + if let Ended::Done(s) = how { s } else { 0.0 };
        self.ended.set((count + 1, recorded_s));
        let how = match how {
            Ended::Done(s) => format!("done, {}", clock(s)),
            Ended::Failed(reason) => format!("failed: {}", shown(&reason)),
            Ended::Cut => "interrupted".to_owned(),
        };
        let line = format!("[{}/{}] {}: {how}", count + 1, self.total, shown(name));
        match &self.bar {
            Some(bar) => {
                bar.println(line);
                bar.set_position(count as u64 + 1);
                bar.set_message(self.message());
            }
            None => print(&line),
        }
    }

    /// Keeps the bar's clock going.
    pub fn tick(&self) {
        self.bar.iter().for_each(ProgressBar::tick);
    }

    /// The last one has ended.
    pub fn finish(self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }

    /// `41.2 nights/h, about 02:10:00 left`
    fn message(&self) -> String {
        let (count, recorded_s) = self.ended.get();
        let elapsed_s = self.begun.elapsed().max(Duration::from_millis(1)).as_secs_f64();
        let left_s = elapsed_s / count.max(1) as f64 * (self.total - count) as f64;
        let per_hour = recorded_s / elapsed_s * 3600.0 / NIGHT_S;
        format!("{} nights/h, about {} left", figure(per_hour), clock(left_s))
    }
}

fn bar(total: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total as u64), terminal());
    let template = "{bar:20} {pos}/{len} recordings, {elapsed} {wide_msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.tick();
    bar
}
