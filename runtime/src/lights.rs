//! Lights off and on, where the recording says so: in the annotations of an EDF+ file, or in the
//! `annotations.edf` of a live session, which stands beside its recording. A night's statistics count
//! what lies between them. [`crate::hypnogram`] knows the words of seven languages; what only looks like
//! a mark, or lies outside the recording, is not used and named.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use crate::edf::annotation::{each_annotation, too_many};
use crate::edf::{EdfError, RecordReader};
use crate::hypnogram::{LightsText, lights_text};
use crate::session_folder;
use crate::text::escaped;
use sfm_models::EPOCH_S;

/// The standard texts of EDF+.
pub const LIGHTS_OFF: &str = "Lights off";
/// See [`LIGHTS_OFF`].
pub const LIGHTS_ON: &str = "Lights on";
/// Marks that are kept, to be drawn; the ends count all there are.
const MAX_MARKS: usize = 100;
/// More marks than that say nothing.
const MAX_READ: usize = 100_000;
/// Marks so far outside a recording are of its ends, seconds.
const BESIDE_S: f64 = 5.0;
/// Letters of an annotation that a note repeats.
const MAX_SHOWN: usize = 60;

/// The lights of a recording.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Lights {
    /// The first time that they go off, seconds behind the start of the recording; `None` if unknown.
    pub off_s: Option<f64>,
    /// The last time that they go on, behind that; `None` if unknown.
    pub on_s: Option<f64>,
    /// The marks, in order of time.
    pub marks: Vec<LightsMark>,
    /// What was not used, and why, one sentence each.
    #[serde(skip)]
    pub notes: Vec<String>,
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
        let beside = recording.parent().map(|dir| dir.join(session_folder::ANNOTATIONS));
        let beside = beside.filter(|path| path.is_file() && is_live(recording));
        match read_marks(beside.as_deref().unwrap_or(recording)) {
            Ok(found) => found.lights(),
            Err(reason) => Self {
                notes: vec![format!("when the lights went off and on is not known: {reason}")],
                ..Self::default()
            },
        }
    }

    /// What lies within the first `duration_s` seconds, which are the recording's, or a few seconds
    /// beside them: a button pressed as recording begins or ends.
    #[must_use]
    pub fn within(self, duration_s: f64) -> Self {
        let Self { marks, mut notes, .. } = self;
        let (inside, outside): (Vec<_>, Vec<_>) = marks
            .into_iter()
            .partition(|mark| (-BESIDE_S..=duration_s + BESIDE_S).contains(&mark.onset_s));
        notes.extend(outside.first().map(|mark| {
            let state = if mark.is_on { "on" } else { "off" };
            let more = match outside.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let onset_s = mark.onset_s;
            format!(
                "the mark of lights {state} at {onset_s:.0} s{more} lies outside the recording of {duration_s:.0} s: not used"
            )
        }));
        Self::of_marks(inside, notes)
    }

    fn of_marks(mut marks: Vec<LightsMark>, notes: Vec<String>) -> Self {
        marks.sort_by(|a, b| a.onset_s.total_cmp(&b.onset_s));
        let off_s = marks.iter().find(|mark| !mark.is_on).map(|mark| mark.onset_s);
        let is_behind = |at_s: f64| off_s.is_none_or(|off_s| at_s > off_s);
        let on = marks.iter().rfind(|mark| mark.is_on && is_behind(mark.onset_s));
        let on_s = on.map(|mark| mark.onset_s);
        Self { off_s, on_s, marks, notes }
    }

    /// The same with no more marks than are worth drawing.
    #[must_use]
    pub fn to_show(mut self) -> Self {
        self.marks.truncate(MAX_MARKS);
        self
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

/// What of a file's annotations is about lights.
#[derive(Debug, Default)]
struct Found {
    marks: Vec<LightsMark>,
    /// Texts that begin like a mark and go on as none, by the first of them.
    doubtful: Option<(f64, String)>,
    doubtful_count: usize,
}

impl Found {
    fn take(&mut self, onset_s: f64, text: &str) {
        if !onset_s.is_finite() {
            return;
        }
        match lights_text(text) {
            LightsText::Mark { is_on } => self.marks.push(LightsMark { onset_s, is_on }),
            LightsText::Doubtful => {
                self.doubtful_count += 1;
                let shown = || text.chars().take(MAX_SHOWN).collect::<String>();
                self.doubtful.get_or_insert_with(|| (onset_s, shown()));
            }
            LightsText::Other => {}
        }
    }

    fn lights(self) -> Lights {
        let note = self.doubtful.map(|(onset_s, text)| {
            let more = match self.doubtful_count - 1 {
                0 => String::new(),
                more => format!(" (and {more} like it)"),
            };
            let text = escaped(&text);
            format!(
                "the annotation '{text}' at {onset_s:.0} s{more} may be about the room's lights: not used"
            )
        });
        Lights::of_marks(self.marks, note.into_iter().collect())
    }
}

/// The marks of a file, among its other annotations.
fn read_marks(path: &Path) -> Result<Found, EdfError> {
    let mut found = Found::default();
    each_annotation(&mut RecordReader::new(File::open(path)?)?, |annotation| {
        if found.marks.len() == MAX_READ {
            return Err(too_many("marks of lights", MAX_READ));
        }
        found.take(annotation.onset_s, &annotation.text);
        Ok(())
    })?;
    Ok(found)
}

/// Whether a recording is a live session's, whose marks are not in it but beside it.
fn is_live(recording: &Path) -> bool {
    recording.file_stem().is_some_and(|stem| stem == "recording")
        && recording.with_file_name(session_folder::SESSION).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lights(found: &[(f64, &str)]) -> Lights {
        let mut about = Found::default();
        found.iter().for_each(|&(onset_s, text)| about.take(onset_s, text));
        about.lights()
    }

    #[test]
    fn from_the_first_off_to_the_last_on() {
        let found = [
            (900.0, " lights OUT "),
            (29_000.0, "Lights on"),
            (10.0, "Lights on"),
            (12_000.0, "Lights on"),
            (12_300.0, "Light off@@EEG F4-A1"),
            (400.0, "Snoring"),
            (f64::NAN, "Lights off"),
        ];
        let lights = lights(&found);
        assert_eq!(lights.marks.len(), 5);
        assert_eq!(lights.epochs(1_000), 30..967);
        assert_eq!(lights.epochs(500), 30..500);
    }

    #[test]
    fn the_recorders_own_words_are_marks() {
        assert_eq!(lights_text(LIGHTS_OFF), LightsText::Mark { is_on: false });
        assert_eq!(lights_text(LIGHTS_ON), LightsText::Mark { is_on: true });
    }

    #[test]
    fn many_marks_hide_neither_end() {
        let mut found = vec![(28_000.0, "Lights on"), (60.0, "Lights off")];
        found.extend(
            (0..1_000)
                .map(|n| (1_000.0 + f64::from(n), ["Lights on", "Lights off"][n as usize % 2])),
        );
        let lights = lights(&found);
        assert_eq!((lights.epochs(960), lights.to_show().marks.len()), (2..933, MAX_MARKS));
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
    fn what_is_not_used_is_named() {
        let lights = lights(&[
            (60.0, "Lights off"),
            (500.0, "Lights on"),
            (301.0, "Lights on"),
            (-9.0, "Lights off"),
            (200.0, "Lights off in 5 min"),
        ]);
        let lights = lights.within(300.0);
        assert_eq!((lights.off_s, lights.on_s), (Some(60.0), Some(301.0)));
        assert_eq!(
            lights.notes,
            [
                "the annotation 'Lights off in 5 min' at 200 s may be about the room's lights: not used",
                "the mark of lights off at -9 s and 1 more lies outside the recording of 300 s: not used",
            ]
        );
    }

    #[test]
    fn only_a_sessions_marks_are_beside_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let recording = dir.path().join("recording.edf");
        for name in ["recording.edf", "annotations.edf"] {
            std::fs::write(dir.path().join(name), name).expect("written");
        }
        assert!(!is_live(&recording));
        std::fs::write(dir.path().join(session_folder::SESSION), "{}").expect("written");
        assert!(is_live(&recording));
        assert!(Lights::of(&recording).notes[0].contains("not known"));
    }
}
