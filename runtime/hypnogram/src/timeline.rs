//! The timeline of disagreement as SVG: both hypnograms above each other over the hours of the
//! night, and between them a mark at every epoch on which they differ.

use maud::{Markup, html};
use sfm_models::SleepStage;

use super::{Stages, runs};
use sfm_models::EPOCH_S;

const WIDTH: f64 = 1200.0;
/// Room for names at the left, and at the right.
const LEFT: f64 = 110.0;
const RIGHT: f64 = 20.0;
/// Height of one stage's line of a hypnogram.
const STEP: f64 = 22.0;
/// Where the reference, the marks and our hypnogram begin.
const REFERENCE_TOP: f64 = 50.0;
const MARKS_TOP: f64 = REFERENCE_TOP + 5.0 * STEP + 16.0;
const MARKS_HEIGHT: f64 = 26.0;
const OURS_TOP: f64 = MARKS_TOP + MARKS_HEIGHT + 30.0;
const HEIGHT: f64 = OURS_TOP + 5.0 * STEP + 50.0;
/// From top to bottom, as hypnograms are drawn.
const ORDER: [SleepStage; SleepStage::COUNT] =
    [SleepStage::Wake, SleepStage::Rem, SleepStage::N1, SleepStage::N2, SleepStage::N3];
const BLUE: &str = "#1f5f99";
const RED: &str = "#c0392b";

/// Draws the night; `title` and `names` (the reference's and ours) may be any text.
pub fn svg(title: &str, names: [&str; 2], reference: &Stages, ours: &Stages) -> String {
    let time = Time { epochs: reference.len().max(ours.len()).max(1) };
    let markup = html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" font-family="sans-serif" font-size="13"
            width=(WIDTH) height=(HEIGHT) viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) {
            title { (title) }
            rect width=(WIDTH) height=(HEIGHT) fill="white" {}
            text x=(LEFT) y="22" font-size="15" { (title) }
            (hours(&time))
            (hypnogram(&time, names[0], reference, REFERENCE_TOP))
            (marks(&time, reference, ours))
            (hypnogram(&time, names[1], ours, OURS_TOP))
        }
    };
    markup.into_string()
}

/// Epochs to pixels.
struct Time {
    epochs: usize,
}

impl Time {
    fn x(&self, epoch: usize) -> String {
        let x = LEFT + (WIDTH - LEFT - RIGHT) * epoch as f64 / self.epochs as f64;
        format!("{x:.2}")
    }

    /// Never so thin that an epoch cannot be seen.
    fn width(&self, epochs: usize) -> String {
        let width = (WIDTH - LEFT - RIGHT) * epochs as f64 / self.epochs as f64;
        format!("{:.2}", width.max(0.6))
    }
}

fn hours(time: &Time) -> Markup {
    let an_hour = (3600.0 / EPOCH_S) as usize;
    html! {
        @for hour in 0..=time.epochs / an_hour {
            @let x = time.x(hour * an_hour);
            line x1=(x) x2=(x) y1=(REFERENCE_TOP) y2=(OURS_TOP + 5.0 * STEP) stroke="#dddddd" {}
            text x=(x) y=(HEIGHT - 22.0) text-anchor="middle" { (hour) " h" }
        }
    }
}

/// One hypnogram: a bar a run of epochs, at the height of its stage.
fn hypnogram(time: &Time, name: &str, stages: &Stages, top: f64) -> Markup {
    html! {
        text x=(LEFT) y=(top - 5.0) font-weight="bold" { (name) }
        @for (row, stage) in ORDER.iter().enumerate() {
            @let y = top + STEP * row as f64;
            text x=(LEFT - 10.0) y=(y + 16.0) text-anchor="end" { (stage.as_str()) }
            line x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y + STEP) y2=(y + STEP) stroke="#eeeeee" {}
            @for (first, count, found) in runs(stages) {
                @if found == Some(*stage) {
                    rect x=(time.x(first)) y=(y + 4.0) width=(time.width(count)) height=(STEP - 8.0)
                        fill=(BLUE) {}
                }
            }
        }
    }
}

/// The epochs on which both differ, with the two stages as a tooltip.
fn marks(time: &Time, reference: &Stages, ours: &Stages) -> Markup {
    let pairs: Vec<_> = reference.iter().copied().zip(ours.iter().copied()).collect();
    let mut first = 0;
    let runs: Vec<_> = pairs
        .chunk_by(|a, b| a == b)
        .filter_map(|run| {
            let begin = first;
            first += run.len();
            match run.first()? {
                (Some(truth), Some(stage)) if truth != stage => {
                    Some((begin, run.len(), *truth, *stage))
                }
                _ => None,
            }
        })
        .collect();
    html! {
        text x=(LEFT - 10.0) y=(MARKS_TOP + 17.0) text-anchor="end" fill=(RED) { "differ" }
        @for (first, count, truth, stage) in runs {
            rect x=(time.x(first)) y=(MARKS_TOP) width=(time.width(count)) height=(MARKS_HEIGHT)
                fill=(RED) {
                title { (truth.as_str()) " / " (stage.as_str()) " from " (first as f64 * EPOCH_S)
                    " s, epochs: " (count) }
            }
        }
    }
}
