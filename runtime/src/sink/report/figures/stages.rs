//! Hypnogram and hypnodensity.

use plotters::prelude::*;
use sfm_models::SleepStage;

use super::super::record::{EpochRow, Record};
use super::super::text::{Text, fill};
use super::{Axis, DrawError, Figure, HATCH, INK, N1, N2, N3, PAPER, Plane, REM, WAKE, y_label};
use sfm_models::EPOCH_S;

/// Columns a picture can tell apart.
pub(super) const MAX_COLUMNS: usize = 960;

/// The stages as a line, wake above; REM as a bar of its own color, `?` hatched.
pub(in super::super) fn hypnogram(
    record: &Record,
    axis: &Axis,
    text: &Text,
) -> Result<Figure, DrawError> {
    let about = ("hypnogram", text.hypnogram.to_owned(), described(record, axis, text));
    Figure::draw(about, 330, axis, 0.4..5.6, |plane| {
        for stage in SleepStage::ALL {
            y_label(plane, level(stage), stage.as_str())?;
        }
        let area = plane.plotting_area();
        for (stage, from, to) in runs(&record.epochs) {
            let (from, to) = (from as f64 * EPOCH_S, (to as f64 * EPOCH_S).min(axis.end_s()));
            if stage.is_none() {
                area.draw(&Rectangle::new([(from, 0.4), (to, 5.6)], HATCH.filled()))?;
            }
        }
        let mut line = Vec::new();
        for (stage, from, to) in runs(&record.epochs) {
            let (from, to) = (from as f64 * EPOCH_S, to as f64 * EPOCH_S);
            match stage {
                Some(stage) => line.extend([(from, level(stage)), (to, level(stage))]),
                None => {
                    area.draw(&PathElement::new(std::mem::take(&mut line), INK.stroke_width(3)))?
                }
            }
        }
        area.draw(&PathElement::new(line, INK.stroke_width(3)))?;
        for (_, from, to) in runs(&record.epochs).filter(|run| run.0 == Some(SleepStage::Rem)) {
            let at = level(SleepStage::Rem);
            let corners = [(from as f64 * EPOCH_S, at + 0.2), (to as f64 * EPOCH_S, at - 0.2)];
            area.draw(&Rectangle::new(corners, REM.filled()))?;
        }
        Ok(())
    })
}

/// The probabilities of the stages, one upon the other: N3 below, wake above.
pub(in super::super) fn hypnodensity(
    record: &Record,
    axis: &Axis,
    text: &Text,
) -> Result<Figure, DrawError> {
    let about =
        ("hypnodensity", text.hypnodensity.to_owned(), text.hypnodensity_described.to_owned());
    Figure::draw(about, 270, axis, 0.0..1.0, |plane| {
        y_label(plane, 1.0, "100 %")?;
        y_label(plane, 0.0, "0 %")?;
        let columns = densities(&record.epochs);
        let step = record.epochs.len().div_ceil(MAX_COLUMNS).max(1) as f64 * EPOCH_S;
        let area = plane.plotting_area();
        for stretch in columns.chunk_by(|a, b| a.1.is_some() == b.1.is_some()) {
            let span = |n: usize| (n as f64 * step, ((n + 1) as f64 * step).min(axis.end_s()));
            if stretch.iter().all(|(_, column)| column.is_none()) {
                let ends = stretch.first().zip(stretch.last());
                if let Some(((first, _), (last, _))) = ends {
                    let corners = [(span(*first).0, 0.0), (span(*last).1, 1.0)];
                    area.draw(&Rectangle::new(corners, HATCH.filled()))?;
                }
                continue;
            }
            stack(plane, stretch, &span)?;
        }
        Ok(())
    })
}

/// The areas of one stretch without `?`, each upon those before it; `span` is a column's time.
fn stack(
    plane: &Plane<'_, '_>,
    stretch: &[(usize, Option<[f32; SleepStage::COUNT]>)],
    span: &dyn Fn(usize) -> (f64, f64),
) -> Result<(), DrawError> {
    const FROM_BELOW: [(SleepStage, RGBColor); SleepStage::COUNT] = [
        (SleepStage::N3, N3),
        (SleepStage::N2, N2),
        (SleepStage::N1, N1),
        (SleepStage::Rem, REM),
        (SleepStage::Wake, WAKE),
    ];
    let area = plane.plotting_area();
    let mut below = vec![0.0; stretch.len()];
    for (stage, color) in FROM_BELOW {
        let above: Vec<f64> = stretch
            .iter()
            .zip(&below)
            .map(|((_, column), below)| {
                below + f64::from(column.map_or(0.0, |column| column[stage.index()]))
            })
            .collect();
        let edge = |heights: &[f64]| -> Vec<(f64, f64)> {
            let both = stretch.iter().zip(heights);
            both.flat_map(|((n, _), y)| [(span(*n).0, *y), (span(*n).1, *y)]).collect()
        };
        let mut outline = edge(&above);
        area.draw(&PathElement::new(outline.clone(), PAPER.stroke_width(1)))?;
        outline.extend(edge(&below).into_iter().rev());
        area.draw(&Polygon::new(outline, color.filled()))?;
        below = above;
    }
    Ok(())
}

/// Mean probabilities by column of the picture; `None` where all of its epochs are `?`.
fn densities(epochs: &[EpochRow]) -> Vec<(usize, Option<[f32; SleepStage::COUNT]>)> {
    let size = epochs.len().div_ceil(MAX_COLUMNS).max(1);
    let mean = |epochs: &[EpochRow]| {
        let known: Vec<_> = epochs.iter().filter_map(|epoch| epoch.probabilities).collect();
        let of = |k: usize| known.iter().map(|p| p[k]).sum::<f32>() / known.len() as f32;
        (!known.is_empty()).then(|| std::array::from_fn(of))
    };
    epochs.chunks(size).map(mean).enumerate().collect()
}

/// Stretches of one stage: stage, first epoch, epoch behind the last.
fn runs(epochs: &[EpochRow]) -> impl Iterator<Item = (Option<SleepStage>, usize, usize)> {
    let mut from = 0;
    epochs.chunk_by(|a, b| a.stage() == b.stage()).map(move |run| {
        let first = from;
        from += run.len();
        (run[0].stage(), first, from)
    })
}

fn level(stage: SleepStage) -> f64 {
    match stage {
        SleepStage::Wake => 5.0,
        SleepStage::Rem => 4.0,
        SleepStage::N1 => 3.0,
        SleepStage::N2 => 2.0,
        SleepStage::N3 => 1.0,
    }
}

/// Stretches that are named, of each kind.
const MAX_SPANS: usize = 12;

/// The hypnogram in words: how many epochs of what, and when REM sleep and what is not staged were.
fn described(record: &Record, axis: &Axis, text: &Text) -> String {
    let count = |stage| record.epochs.iter().filter(|epoch| epoch.stage() == stage).count();
    let stages = SleepStage::ALL.map(|stage| format!("{stage} {}", count(Some(stage))));
    let mut words = format!("{}: {}, ? {}", text.epochs_of, stages.join(", "), count(None));
    for stage in [Some(SleepStage::Rem), None] {
        let of_stage = runs(&record.epochs).filter(|run| run.0 == stage);
        let time = |epoch: usize| axis.time(epoch as f64 * EPOCH_S);
        let mut spans: Vec<String> =
            of_stage.map(|(_, from, to)| format!("{}–{}", time(from), time(to))).collect();
        if spans.len() > MAX_SPANS {
            spans.truncate(MAX_SPANS);
            spans.push("…".to_owned());
        }
        if !spans.is_empty() {
            let name = stage.map_or("?", SleepStage::as_str);
            words += &format!("; {}", fill(text.stretches_of, &[name, &spans.join(", ")]));
        }
    }
    words
}
