//! Stages as annotations of an EDF+ or BDF+ file: a hypnogram of its own, as Sleep-EDF and our
//! `hypnogram.edf` are, or a recording that has been scored.

use std::path::Path;

use super::names::stage_among_events;
use super::{Scoring, Stretch, table};
use crate::edf::annotations;

/// Reads the annotations that are stages.
pub(super) fn read(path: &Path) -> Result<Scoring, String> {
    let annotations = annotations(path).map_err(|e| e.to_string())?;
    let mut stretches = Vec::new();
    for annotation in &annotations {
        let at = |reason: String| format!("annotation at {} s: {reason}", annotation.onset_s);
        let Some(stage) = stage_among_events(&annotation.text).map_err(at)? else { continue };
        let Some(duration_s) = annotation.duration_s else {
            return Err(at("a sleep stage without a duration".into()));
        };
        let onset_s = table::within_a_week(annotation.onset_s).map_err(at)?;
        let duration_s = table::within_a_week(duration_s).map_err(at)?.max(0.0);
        stretches.push(Stretch { onset_s, duration_s, stage });
    }
    let others = annotations.len() - stretches.len();
    let mut scoring = Scoring::of("EDF+ annotations", stretches)?;
    scoring.note_others(others);
    Ok(scoring)
}
