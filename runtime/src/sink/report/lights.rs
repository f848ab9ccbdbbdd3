//! Lights off and on, where the recording says so: in the annotations of an EDF+ file, or in the
//! `annotations.edf` of a live session, which stands beside its recording. Events have no such thing.

use std::path::Path;

use super::text::Text;
use crate::edf::annotation::annotations;
use crate::recorder::{LIGHTS_OFF, LIGHTS_ON};

/// More marks than this are no lights.
const MAX_MARKS: usize = 20;

/// Place and name of each mark, in order of time; none where the recording cannot be read so.
pub(super) fn marks(recording: &Path, text: &Text) -> Vec<(f64, String)> {
    let is_session = recording.parent().map(|dir| dir.join("annotations.edf"));
    let beside = is_session.filter(|path| path.exists() && is_live(recording));
    let found = annotations(beside.as_deref().unwrap_or(recording)).unwrap_or_default();
    let name = |written: &str| {
        let is = |mark: &str| written.trim().eq_ignore_ascii_case(mark);
        // The manual's words, and those of EDF+.
        if is(LIGHTS_OFF) || is("Lights out") {
            Some(text.lights_off)
        } else {
            is(LIGHTS_ON).then_some(text.lights_on)
        }
    };
    let marks = found.iter().filter_map(|a| Some((a.onset_s, name(&a.text)?.to_owned())));
    let mut marks: Vec<_> = marks.take(MAX_MARKS).collect();
    marks.sort_by(|a, b| a.0.total_cmp(&b.0));
    marks
}

/// A file of this name is a live session's.
fn is_live(recording: &Path) -> bool {
    recording.file_stem().is_some_and(|stem| stem == "recording")
}
