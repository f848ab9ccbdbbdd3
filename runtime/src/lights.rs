//! Lights off and on, where the recording says so: in the annotations of an EDF+ file, or in the
//! `annotations.edf` of a live session, which stands beside its recording. A night's statistics count
//! what lies between them.

use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use crate::edf::annotation::annotations;
use crate::link::saved;
use crate::recorder::{LIGHTS_OFF, LIGHTS_ON};
use crate::staging::EPOCH_S;

/// Marks that are kept, to be drawn; the ends count all there are.
const MAX_MARKS: usize = 100;

/// The lights of a recording.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Lights {
    /// The first time that they go off, seconds behind the start of the recording; `None` if unknown.
    pub off_s: Option<f64>,
    /// The last time that they go on, behind that; `None` if unknown.
    pub on_s: Option<f64>,
    /// The marks, in order of time.
    pub marks: Vec<LightsMark>,
    /// Why the recording's annotations could not be read, one sentence.
    #[serde(skip)]
    pub unread: Option<String>,
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
    /// Of an EDF or BDF file, or of a live session's.
    pub fn of(recording: &Path) -> Self {
        let beside = recording.parent().map(|dir| dir.join("annotations.edf"));
        let beside = beside.filter(|path| path.exists() && is_live(recording));
        match annotations(beside.as_deref().unwrap_or(recording)) {
            Ok(found) => Self::among(found.iter().map(|a| (a.onset_s, a.text.as_str()))),
            Err(reason) => Self { unread: Some(reason.to_string()), ..Self::default() },
        }
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
        let mut marks: Vec<LightsMark> = found.filter_map(mark).collect();
        marks.sort_by(|a, b| a.onset_s.total_cmp(&b.onset_s));
        let off_s = marks.iter().find(|mark| !mark.is_on).map(|mark| mark.onset_s);
        let is_behind = |at_s: f64| off_s.is_none_or(|off_s| at_s > off_s);
        let on = marks.iter().rfind(|mark| mark.is_on && is_behind(mark.onset_s));
        let on_s = on.map(|mark| mark.onset_s);
        marks.truncate(MAX_MARKS);
        Self { off_s, on_s, marks, unread: None }
    }

    /// The epochs, of `count`, that lie for the most part between lights off and lights on; an end
    /// that nobody marked is the recording's. All of them without marks, with nothing between them, or
    /// with nothing but lights that go on in the first half, as they do while somebody is wired up.
    pub fn epochs(&self, count: usize) -> Range<usize> {
        let nearest = |at_s: f64| ((at_s / EPOCH_S).round().max(0.0) as usize).min(count);
        let epochs = self.off_s.map_or(0, nearest)..self.on_s.map_or(count, nearest);
        let is_early = self.off_s.is_none() && 2 * epochs.end < count;
        if epochs.is_empty() || is_early { 0..count } else { epochs }
    }
}

/// Whether a recording is a live session's, whose marks are not in it but beside it.
fn is_live(recording: &Path) -> bool {
    recording.file_stem().is_some_and(|stem| stem == "recording")
        && recording.with_file_name(saved::FILE_NAME).exists()
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
        assert_eq!(lights.epochs(1_000), 30..967);
        assert_eq!(lights.epochs(500), 30..500);
    }

    #[test]
    fn many_marks_hide_neither_end() {
        let mut found = vec![(28_000.0, "Lights on"), (60.0, "Lights off")];
        found.extend(
            (0..1_000)
                .map(|n| (1_000.0 + f64::from(n), ["Lights on", "Lights off"][n as usize % 2])),
        );
        let lights = lights(&found);
        assert_eq!((lights.epochs(960), lights.marks.len()), (2..933, MAX_MARKS));
    }

    #[test]
    fn an_end_without_a_mark_is_the_recordings() {
        assert_eq!(lights(&[]).epochs(10), 0..10);
        assert_eq!(lights(&[(44.0, "Lights off")]).epochs(10), 1..10);
        assert_eq!(lights(&[(254.0, "Lights on")]).epochs(10), 0..8);
        assert_eq!(lights(&[(-20.0, "Lights off")]).epochs(10), 0..10);
    }

    #[test]
    fn marks_that_cannot_be_meant_are_not_believed() {
        assert_eq!(lights(&[(600.0, "Lights off")]).epochs(10), 0..10);
        assert_eq!(lights(&[(0.0, "Lights off"), (5.0, "Lights on")]).epochs(10), 0..10);
        assert_eq!(lights(&[(46.0, "Lights on")]).epochs(10), 0..10);
    }

    #[test]
    fn only_a_sessions_marks_are_beside_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let recording = dir.path().join("recording.edf");
        for name in ["recording.edf", "annotations.edf"] {
            std::fs::write(dir.path().join(name), name).expect("written");
        }
        assert!(!is_live(&recording));
        std::fs::write(dir.path().join(saved::FILE_NAME), "{}").expect("written");
        assert!(is_live(&recording));
        assert!(Lights::of(&recording).unread.is_some());
    }
}
