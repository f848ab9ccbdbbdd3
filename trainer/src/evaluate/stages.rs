//! Figures of staging: per class, over all epochs, by recording with quartiles, by subset of the
//! modalities.

use serde::Serialize;
use sfm_models::SleepStage;

use super::classification::{ClassFigures, Confusion, Quartiles};
use super::plots::{self, Mark, Row};
use super::report::{Report, cell};
use crate::run::RunError;

/// One recording's epochs.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Its id.
    pub id: String,
    /// Of the epochs that are scored in truth and by the head.
    pub confusion: Confusion,
    /// Epochs that are scored in truth, but not by the head: too little signal.
    pub unstaged: u64,
}

/// Figures of a set of epochs.
#[derive(Debug, Clone, Serialize)]
pub struct StageFigures {
    /// Epochs.
    pub epochs: u64,
    /// Epochs that the head left without a stage; they are in no other figure.
    pub unstaged: u64,
    /// Share that is right.
    pub accuracy: f64,
    /// Mean of the classes' F1.
    pub macro_f1: f64,
    /// Cohen's kappa.
    pub kappa: f64,
    /// Wake, N1, N2, N3, REM.
    pub classes: Vec<StageClass>,
    /// Rows: scored; columns: predicted.
    pub confusion: Vec<Vec<u64>>,
    /// Quartiles of the recordings' figures.
    pub by_recording: ByRecording,
}

/// Figures of a stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageClass {
    /// Its letter.
    pub stage: &'static str,
    /// Its figures.
    #[serde(flatten)]
    pub figures: ClassFigures,
}

/// Quartiles over recordings.
#[derive(Debug, Clone, Serialize)]
pub struct ByRecording {
    /// Recordings.
    pub recordings: usize,
    /// Of the accuracy.
    pub accuracy: Option<Quartiles>,
    /// Of macro-F1.
    pub macro_f1: Option<Quartiles>,
    /// Of kappa.
    pub kappa: Option<Quartiles>,
}

impl Recording {
    /// Compares true and predicted stages, epoch by epoch; those without a true one are left out.
    pub fn new(
        id: &str,
        epochs: impl IntoIterator<Item = (Option<SleepStage>, Option<SleepStage>)>,
    ) -> Self {
        let mut recording = Recording {
            id: id.to_owned(),
            confusion: Confusion::new(SleepStage::COUNT),
            unstaged: 0,
        };
        for (truth, scored) in epochs {
            match (truth, scored) {
                (Some(truth), Some(scored)) => {
                    recording.confusion.add(truth.index(), scored.index());
                }
                (Some(_), None) => recording.unstaged += 1,
                (None, _) => {}
            }
        }
        recording
    }
}

/// Figures of all epochs of `recordings`.
pub fn figures(recordings: &[Recording]) -> StageFigures {
    let mut all = Confusion::new(SleepStage::COUNT);
    recordings.iter().for_each(|recording| all.merge(&recording.confusion));
    let quartiles = |figure: fn(&Confusion) -> f64| {
        Quartiles::of(recordings.iter().map(|r| figure(&r.confusion)))
    };
    StageFigures {
        epochs: all.total(),
        unstaged: recordings.iter().map(|recording| recording.unstaged).sum(),
        accuracy: all.accuracy(),
        macro_f1: all.macro_f1(),
        kappa: all.kappa(),
        classes: SleepStage::ALL
            .iter()
            .map(|stage| StageClass { stage: stage.as_str(), figures: all.class(stage.index()) })
            .collect(),
        confusion: all.rows(),
        by_recording: ByRecording {
            recordings: recordings.len(),
            accuracy: quartiles(Confusion::accuracy),
            macro_f1: quartiles(Confusion::macro_f1),
            kappa: quartiles(Confusion::kappa),
        },
    }
}

/// Writes tables and charts of one set of recordings, their names beginning with `prefix`.
///
/// # Errors
/// [`RunError::Write`].
pub fn write(
    report: &Report,
    prefix: &str,
    recordings: &[Recording],
    figures: &StageFigures,
) -> Result<(), RunError> {
    let names = SleepStage::ALL.map(SleepStage::as_str);
    let file = |name: &str| report.file(&format!("{prefix}{name}"));
    plots::confusion(&file("confusion.svg"), &names, &figures.confusion)?;
    let box_of = |name: &str, quartiles: Option<Quartiles>| {
        quartiles.map(|q| Row { name: name.to_owned(), mark: Mark::Quartiles(q) })
    };
    let by = &figures.by_recording;
    let boxes: Vec<Row> = [
        box_of("accuracy", by.accuracy),
        box_of("macro-F1", by.macro_f1),
        box_of("kappa", by.kappa),
    ]
    .into_iter()
    .flatten()
    .collect();
    let title = format!("staging by recording ({})", by.recordings);
    plots::rows(&file("by_recording.svg"), &title, (0.0, 1.0), None, &boxes)?;
    let rows: Vec<Vec<String>> = recordings
        .iter()
        .map(|r| {
            let c = &r.confusion;
            let epochs = c.total().to_string();
            let figures = [c.accuracy(), c.macro_f1(), c.kappa()].map(cell);
            [vec![r.id.clone(), epochs, r.unstaged.to_string()], figures.to_vec()].concat()
        })
        .collect();
    let header = ["id", "epochs", "unstaged", "accuracy", "macro_f1", "kappa"];
    report.table(&format!("{prefix}by_recording.csv"), &header, &rows)?;
    let rows: Vec<Vec<String>> = figures
        .classes
        .iter()
        .map(|class| {
            let f = class.figures;
            let figures = [f.precision, f.recall, f.f1].map(cell);
            [vec![class.stage.to_owned()], figures.to_vec(), vec![f.support.to_string()]].concat()
        })
        .collect();
    let header = ["stage", "precision", "recall", "f1", "epochs"];
    report.table(&format!("{prefix}by_stage.csv"), &header, &rows)
}

/// Writes the figures by subset of the modalities.
///
/// # Errors
/// [`RunError::Write`].
pub fn write_subsets(report: &Report, subsets: &[(String, StageFigures)]) -> Result<(), RunError> {
    let bars: Vec<Row> = subsets
        .iter()
        .map(|(name, f)| Row { name: name.clone(), mark: Mark::Bar(f.macro_f1) })
        .collect();
    let path = report.file("subsets.svg");
    plots::rows(&path, "macro-F1 by subset of modalities", (0.0, 1.0), None, &bars)?;
    let rows: Vec<Vec<String>> = subsets
        .iter()
        .map(|(name, f)| {
            let counts = vec![name.clone(), f.epochs.to_string(), f.unstaged.to_string()];
            [counts, [f.accuracy, f.macro_f1, f.kappa].map(cell).to_vec()].concat()
        })
        .collect();
    let header = ["modalities", "epochs", "unstaged", "accuracy", "macro_f1", "kappa"];
    report.table("subsets.csv", &header, &rows)
}
