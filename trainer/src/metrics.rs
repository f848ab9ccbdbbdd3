//! What a run has logged: read back for its curves, cut back to the checkpoint that it goes on
//! from, and shown while it runs: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::chart::{self, Panel, Series};
use crate::cli::say;
use crate::run::{CURVES, METRICS_JSONL, METRICS_TSV, RunError, replace};

/// One logged value.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// The step.
    pub step: u64,
    /// `train`, `validation`, ...
    pub split: String,
    /// Its name.
    pub metric: String,
    /// The value.
    pub value: f64,
}

/// Reads `metrics.tsv` of the run in `folder`; lines that a kill cut short are left out.
///
/// # Errors
/// [`RunError::Read`].
pub fn read(folder: &Path) -> Result<Vec<Logged>, RunError> {
    let path = folder.join(METRICS_TSV);
    let text = read_text(&path)?;
    Ok(text.lines().filter_map(logged).collect())
}

fn logged(line: &str) -> Option<Logged> {
    let mut columns = line.split('\t');
    let (step, split, metric, value) =
        (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    Some(Logged {
        step: step.parse().ok()?,
        split: split.to_owned(),
        metric: metric.to_owned(),
        value: value.parse().ok()?,
    })
}

/// Drops what the run in `folder` logged after `step`, since it is going to do that again.
///
/// # Errors
/// [`RunError`].
pub fn rewind(folder: &Path, step: u64) -> Result<(), RunError> {
    let of_tsv = |line: &str| logged(line).map(|logged| logged.step);
    let of_json = |line: &str| {
        let object: serde_json::Value = serde_json::from_str(line).ok()?;
        object.get("step")?.as_u64()
    };
    rewind_file(&folder.join(METRICS_TSV), step, of_tsv)?;
    rewind_file(&folder.join(METRICS_JSONL), step, of_json)
}

fn rewind_file(
    path: &Path,
    step: u64,
    step_of: impl Fn(&str) -> Option<u64>,
) -> Result<(), RunError> {
    if !path.exists() {
        return Ok(());
    }
    let text = read_text(path)?;
    let keeps = |line: &&str| step_of(line).is_some_and(|logged| logged <= step);
    let kept: String = text.lines().filter(keeps).flat_map(|line| [line, "\n"]).collect();
    if kept == text { Ok(()) } else { replace(path, kept.as_bytes()) }
}

fn read_text(path: &Path) -> Result<String, RunError> {
    // Written by us, some 100 bytes a logged step.
    std::fs::read_to_string(path).map_err(|source| RunError::Read { path: path.to_owned(), source })
}

/// A panel of `metric` over the steps, one line for each split that has it.
pub fn panel(logged: &[Logged], metric: &str, title: &str, y_label: &str) -> Panel {
    let mut series: Vec<Series> = Vec::new();
    for logged in logged.iter().filter(|logged| logged.metric == metric) {
        let point = (logged.step as f64, logged.value);
        match series.iter_mut().find(|series| series.name == logged.split) {
            Some(series) => series.points.push(point),
            None => series.push(Series { name: logged.split.clone(), points: vec![point] }),
        }
    }
    Panel { title: title.into(), x_label: "step".into(), y_label: y_label.into(), series }
}

/// Writes `curves.svg` of the run in `folder`: a panel for each (metric, title, label of y).
///
/// # Errors
/// [`RunError`].
pub fn curves(folder: &Path, metrics: &[(&str, &str, &str)]) -> Result<(), RunError> {
    let logged = read(folder)?;
    let panels: Vec<Panel> = metrics
        .iter()
        .map(|&(metric, title, label)| panel(&logged, metric, title, label))
        .filter(|panel| !panel.series.is_empty())
        .collect();
    chart::lines(&folder.join(CURVES), &panels)
}

/// Shows how far a run is.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    steps: u64,
}

impl Progress {
    /// At `step` of `steps`.
    pub fn new(step: u64, steps: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            // Static, and correct as long as the bar shows in a test by hand.
            if let Ok(style) =
                ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {eta} left  {msg}")
            {
                bar.set_style(style);
            }
            bar.with_position(step)
        });
        Self { bar, steps }
    }

    /// `step` is done.
    pub fn step(&self, step: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        }
    }

    /// Shows `text` beside the step: on the bar, or as a line.
    pub fn note(&self, step: u64, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => say(format_args!("step {step}/{}  {text}", self.steps)),
        }
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(format_args!("{text}"))),
            None => say(format_args!("{text}")),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::RunFolder;

    #[test]
    fn a_run_is_cut_back_to_its_checkpoint() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut run = RunFolder::open(folder.path(), false).expect("opens");
        for step in [5, 10, 15] {
            run.log(step, "train", &[("loss", step as f64), ("rate", 0.5)]).expect("logs");
        }
        // A kill in the midst of a line.
        let path = folder.path().join(METRICS_TSV);
        let cut = std::fs::read_to_string(&path).expect("reads") + "20\ttrain\tlo";
        std::fs::write(&path, cut).expect("writes");
        assert_eq!(read(folder.path()).expect("reads").len(), 6);

        rewind(folder.path(), 10).expect("rewinds");
        let steps: Vec<u64> =
            read(folder.path()).expect("reads").iter().map(|logged| logged.step).collect();
        assert_eq!(steps, [5, 5, 10, 10]);
        let json = std::fs::read_to_string(folder.path().join(METRICS_JSONL)).expect("reads");
        assert_eq!(json.lines().count(), 2);
    }
}
