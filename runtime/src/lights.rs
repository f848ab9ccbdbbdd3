//! Lights off and on, where the recording says so: in the annotations of an EDF+ file, or in the
//! `annotations.edf` of a live session, which stands beside its recording. A night's statistics count
//! what lies between them.

use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use crate::edf::annotation::annotations;
use crate::recorder::{LIGHTS_OFF, LIGHTS_ON};
use crate::staging::EPOCH_S;

/// More marks than this are no lights.
const MAX_MARKS: usize = 20;

/// The lights of a recording.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Lights {
    /// The first time that they go off, seconds behind the start of the recording; `None` if unknown.
    pub off_s: Option<f64>,
    /// The last time that they go on, behind that; `None` if unknown.
    pub on_s: Option<f64>,
    /// Every mark, in order of time.
    pub marks: Vec<LightsMark>,
}

/// The lights go off or on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LightsMark {
    /// When, seconds behind the start of the recording.
    pub onset_s: f64,
    /// On; else off.
    pub is_on: bool,
}

impl Lights {
    /// Of a recording; unknown where it cannot be read or has no annotations.
    pub fn of(recording: &Path) -> Self {
        let is_session = recording.parent().map(|dir| dir.join("annotations.edf"));
        let beside = is_session.filter(|path| path.exists() && is_live(recording));
        let found = annotations(beside.as_deref().unwrap_or(recording)).unwrap_or_default();
        Self::among(found.iter().map(|a| (a.onset_s, a.text.as_str())))
    }

    /// Among annotations: onset in seconds, text.
    fn among<'a>(found: impl Iterator<Item = (f64, &'a str)>) -> Self {
        let is = |written: &str, mark: &str| written.trim().eq_ignore_ascii_case(mark);
        // The manual's words, and those of EDF+.
        let goes_off = |written: &str| is(written, LIGHTS_OFF) || is(written, "Lights out");
        let mark = |(onset_s, written): (f64, &str)| {
            let is_on = is(written, LIGHTS_ON);
            let is_mark = onset_s.is_finite() && (is_on || goes_off(written));
            is_mark.then_some(LightsMark { onset_s, is_on })
        };
        let mut marks: Vec<LightsMark> = found.filter_map(mark).take(MAX_MARKS).collect();
        marks.sort_by(|a, b| a.onset_s.total_cmp(&b.onset_s));
        let off_s = marks.iter().find(|mark| !mark.is_on).map(|mark| mark.onset_s);
        let is_behind = |at_s: f64| off_s.is_none_or(|off_s| at_s > off_s);
        let on = marks.iter().rfind(|mark| mark.is_on && is_behind(mark.onset_s));
        let on_s = on.map(|mark| mark.onset_s);
        Self { off_s, on_s, marks }
    }

    /// The epochs, of `count`, that lie for the most part between lights off and lights on; an end
    /// that nobody marked is the recording's. `None` without marks, or with nothing between them.
    pub fn epochs(&self, count: usize) -> Option<Range<usize>> {
        self.off_s.or(self.on_s)?;
        let nearest = |at_s: f64| ((at_s / EPOCH_S).round().max(0.0) as usize).min(count);
        let epochs = self.off_s.map_or(0, nearest)..self.on_s.map_or(count, nearest);
        (!epochs.is_empty()).then_some(epochs)
    }
}

/// A file of this name is a live session's.
fn is_live(recording: &Path) -> bool {
    recording.file_stem().is_some_and(|stem| stem == "recording")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lights(found: &[(f64, &str)]) -> Lights {
        Lights::among(found.iter().copied())
    }

    #[test]
    fn from_the_first_off_to_the_last_on() {
        let found = [
            (900.0, " lights OUT "),
            (29_000.0, "Lights on"),
            (10.0, "Lights on"),
            (12_000.0, "Lights on"),
            (12_300.0, "Lights off"),
            (400.0, "Snoring"),
            (f64::NAN, "Lights off"),
        ];
        let lights = lights(&found);
        assert_eq!(lights.marks.len(), 5);
        assert_eq!(lights.epochs(1_000), Some(30..967));
        assert_eq!(lights.epochs(500), Some(30..500));
    }

    #[test]
    fn an_end_without_a_mark_is_the_recordings() {
        assert_eq!(lights(&[]).epochs(10), None);
        assert_eq!(lights(&[(44.0, "Lights off")]).epochs(10), Some(1..10));
        assert_eq!(lights(&[(46.0, "Lights on")]).epochs(10), Some(0..2));
        assert_eq!(lights(&[(-20.0, "Lights off")]).epochs(10), Some(0..10));
    }

    #[test]
    fn marks_with_nothing_between_them_are_not_believed() {
        assert_eq!(lights(&[(600.0, "Lights off")]).epochs(10), None);
        assert_eq!(lights(&[(0.0, "Lights off"), (5.0, "Lights on")]).epochs(10), None);
    }
}
