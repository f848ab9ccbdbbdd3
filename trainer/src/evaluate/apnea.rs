//! Figures of the apnea head: each threshold's AUROC, accuracy and F1, and the severity class.

use serde::Serialize;

use super::classification::{Confusion, auroc};
use super::plots;
use super::report::{Report, cell};
use crate::finetune::apnea::Scores;
use crate::nn::apnea::{PRESENCE_AHI, SEVERITIES, severity};
use crate::run::RunError;

/// Figures of a threshold.
#[derive(Debug, Clone, Serialize)]
pub struct PresenceFigures {
    /// Apnea counts as present from this AHI on, events per hour.
    pub ahi: f64,
    /// Recordings with it.
    pub positive: usize,
    /// Area under the ROC curve; `None` if all or none have it.
    pub auroc: Option<f64>,
    /// At a probability of 0.5.
    pub accuracy: f64,
    /// Of those with it, at a probability of 0.5.
    pub f1: f64,
}

/// All figures.
#[derive(Debug, Clone, Serialize)]
pub struct ApneaFigures {
    /// Recordings.
    pub recordings: usize,
    /// By threshold.
    pub presence: Vec<PresenceFigures>,
    /// Share of severities that is right.
    pub severity_accuracy: f64,
    /// Cohen's kappa of the severities.
    pub severity_kappa: f64,
    /// Their macro-F1.
    pub severity_macro_f1: f64,
    /// Rows: by AHI; columns: predicted.
    pub confusion: Vec<Vec<u64>>,
}

/// Figures of nights' `scores` against their `ahi`.
pub fn figures(scores: &[Scores], ahi: &[f64]) -> ApneaFigures {
    let mut confusion = Confusion::new(SEVERITIES.len());
    for (scores, &ahi) in scores.iter().zip(ahi) {
        confusion.add(severity(ahi), scores.severity());
    }
    let presence = |(place, threshold): (usize, &f64)| {
        let logits: Vec<f64> = scores.iter().map(|s| s.presence[place]).collect();
        let positive: Vec<bool> = ahi.iter().map(|ahi| ahi >= threshold).collect();
        let mut counts = Confusion::new(2);
        for (&logit, &positive) in logits.iter().zip(&positive) {
            counts.add(usize::from(positive), usize::from(logit > 0.0));
        }
        PresenceFigures {
            ahi: *threshold,
            positive: positive.iter().filter(|&&p| p).count(),
            auroc: auroc(&logits, &positive),
            accuracy: counts.accuracy(),
            f1: counts.class(1).f1,
        }
    };
    ApneaFigures {
        recordings: ahi.len(),
        presence: PRESENCE_AHI.iter().enumerate().map(presence).collect(),
        severity_accuracy: confusion.accuracy(),
        severity_kappa: confusion.kappa(),
        severity_macro_f1: confusion.macro_f1(),
        confusion: confusion.rows(),
    }
}

/// Writes `by_recording.csv` and the severities' confusion matrix.
///
/// # Errors
/// [`RunError::Write`].
pub fn write(
    report: &Report,
    ids: &[&str],
    scores: &[Scores],
    ahi: &[f64],
    figures: &ApneaFigures,
) -> Result<(), RunError> {
    plots::confusion(&report.file("confusion.svg"), &SEVERITIES, &figures.confusion)?;
    let rows: Vec<Vec<String>> = ids
        .iter()
        .zip(scores)
        .zip(ahi)
        .map(|((id, scores), &ahi)| {
            let probability = |logit: &f64| cell(1.0 / (1.0 + (-logit).exp()));
            let mut row = vec![(*id).to_owned(), cell(ahi), SEVERITIES[severity(ahi)].to_owned()];
            row.extend(scores.presence.iter().map(probability));
            row.push(SEVERITIES[scores.severity()].to_owned());
            row
        })
        .collect();
    let header = ["id", "ahi", "severity", "p_ahi_5", "p_ahi_15", "predicted"];
    report.table("by_recording.csv", &header, &rows)
}
