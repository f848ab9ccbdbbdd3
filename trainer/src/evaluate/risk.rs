//! Figures of hazards by label, with what they need to be judged: events, interval, ceiling.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::plots::{self, Mark, Row};
use super::report::{Report, cell};
use super::survival::{auroc_at, bootstrap, c_index, calibration_slope, members};
use crate::data::{DataError, read_capped};
use crate::finetune::followed::Followed;
use crate::finetune::random;
use crate::run::RunError;

/// A simulated cohort of 100,000 nights has less.
const MAX_TRUTH_BYTES: u64 = 1 << 30;

/// Figures of one label; `None` where there is none, such as without events.
#[derive(Debug, Clone, Serialize)]
pub struct LabelFigures {
    /// Column of `is_event.csv`.
    pub label: String,
    /// Recordings whose outcome is known.
    pub recordings: usize,
    /// Events among them.
    pub events: usize,
    /// Whether the label had an event in training.
    pub learned: bool,
    /// Harrell's C-index.
    pub c_index: Option<f64>,
    /// Its 95 % bootstrap interval over subjects.
    pub c_index_95: Option<(f64, f64)>,
    /// C-index of the true log-hazards of a simulated cohort: no model does better but by chance.
    pub ceiling_c_index: Option<f64>,
    /// Cumulative/dynamic AUROC at the horizon, weighed for censoring.
    pub auroc: Option<f64>,
    /// The horizon, in the unit of `time_to_event.csv`.
    pub horizon: f64,
    /// 1 is calibrated, less is overconfident.
    pub calibration_slope: Option<f64>,
}

/// What the truth of a simulated cohort has for this.
#[derive(Deserialize)]
struct Register {
    nights: BTreeMap<String, Known>,
}

#[derive(Deserialize)]
struct Known {
    log_hazards: Vec<f64>,
}

/// True log-hazards [N, K] of recordings of a simulated cohort.
///
/// # Errors
/// [`DataError`] if the file cannot be read or lacks a recording.
pub fn read_truth(path: &Path, ids: &[&str], labels: usize) -> Result<Vec<f64>, DataError> {
    let bytes = read_capped(path, MAX_TRUTH_BYTES)?;
    let register: Register = serde_json::from_slice(&bytes)
        .map_err(|e| DataError::refused(path, format!("is no truth.json of a simulation: {e}")))?;
    let mut log_hazards = Vec::with_capacity(ids.len() * labels);
    for id in ids {
        match register.nights.get(*id) {
            Some(known) if known.log_hazards.len() == labels => {
                log_hazards.extend(&known.log_hazards);
            }
            _ => {
                let reason =
                    format!("has no {labels} log-hazards of '{id}'; is it of this cohort?");
                return Err(DataError::refused(path, reason));
            }
        }
    }
    Ok(log_hazards)
}

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub struct Measures {
    /// Bootstrap samples.
    pub draws: usize,
    /// When the AUROC is taken.
    pub horizon: f64,
    /// Seed of the bootstrap.
    pub seed: u64,
}

/// Figures of every label from log-hazards [N, K].
pub fn figures(
    (labels, learned): (&[String], &[bool]),
    log_hazards: &[f64],
    truth: Option<&[f64]>,
    followed: &Followed,
    measures: Measures,
) -> Vec<LabelFigures> {
    let outcomes = followed.rows();
    let of_label = |(label, name): (usize, &String)| {
        let (rows, members) = members(log_hazards, &outcomes, label);
        let subjects: Vec<&str> = rows.iter().map(|&row| followed.subjects[row].as_str()).collect();
        let mut rng = random(measures.seed, b"resample", label as u64);
        let ceiling =
            truth.and_then(|truth| c_index(&super::survival::members(truth, &outcomes, label).1));
        LabelFigures {
            label: name.clone(),
            recordings: members.len(),
            events: members.iter().filter(|m| m.event).count(),
            learned: learned.get(label).copied().unwrap_or(false),
            c_index: c_index(&members),
            c_index_95: bootstrap(&members, &subjects, measures.draws, &mut rng),
            ceiling_c_index: ceiling,
            auroc: auroc_at(&members, measures.horizon),
            horizon: measures.horizon,
            calibration_slope: calibration_slope(&members),
        }
    };
    labels.iter().enumerate().map(of_label).collect()
}

/// Median time to the events of all labels: a horizon that has cases and controls.
pub fn median_event_time(followed: &Followed) -> f64 {
    let events = followed.outcomes.iter().flatten().flatten().filter(|o| o.event);
    let mut times: Vec<f64> = events.map(|o| f64::from(o.years)).collect();
    times.sort_by(f64::total_cmp);
    super::classification::quantile(&times, 0.5).unwrap_or(f64::NAN)
}

/// Writes `by_label.csv` and the forest plot `c_index.svg`.
///
/// # Errors
/// [`RunError::Write`].
pub fn write(report: &Report, figures: &[LabelFigures]) -> Result<(), RunError> {
    let rows: Vec<Vec<String>> = figures
        .iter()
        .map(|f| {
            let counts = vec![f.label.clone(), f.recordings.to_string(), f.events.to_string()];
            let (low, high) = f.c_index_95.unzip();
            let figures = [f.c_index, low, high, f.ceiling_c_index, f.auroc, f.calibration_slope];
            [counts, figures.map(cell).to_vec()].concat()
        })
        .collect();
    let header = [
        "label",
        "recordings",
        "events",
        "c_index",
        "c_index_low",
        "c_index_high",
        "ceiling_c_index",
        "auroc",
        "calibration_slope",
    ];
    report.table("by_label.csv", &header, &rows)?;
    let forest: Vec<Row> = figures
        .iter()
        .map(|f| Row {
            name: format!("{} ({} events)", f.label, f.events),
            mark: Mark::Interval {
                value: f.c_index.unwrap_or(f64::NAN),
                interval: f.c_index_95,
                ceiling: f.ceiling_c_index,
            },
        })
        .collect();
    let title = "C-index with 95 % interval";
    plots::rows(&report.file("c_index.svg"), title, (0.0, 1.0), Some(0.5), &forest)
}
