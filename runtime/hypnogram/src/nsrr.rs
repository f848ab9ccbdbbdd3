//! The XML of the National Sleep Research Resource: `PSGAnnotation` with a `ScoredEvent` a run of
//! one stage, event type `Stages|Stages`, concept and code (`Stage 2 sleep|2`), start and duration
//! in seconds. Other event types are passed over.

use std::fmt::Write;

use sfm_models::SleepStage;

use super::draft::{Draft, Entry, Place};
use super::time::{self, Moment};
use super::xml::Element;
use super::{ReadOptions, Scoring, Stages, Start, Timing, runs, stage_named};
use sfm_edf::DateTime;
use sfm_models::EPOCH_S;

/// The root element.
pub(super) const ROOT: &str = "PSGAnnotation";

/// The night as an NSRR file. The clock time of `start` is given without its date, as the
/// resource does.
pub fn text(stages: &Stages, start: Option<DateTime>) -> String {
    let clock = start.map_or("00.00.00".into(), DateTime::edf_time);
    let duration_s = stages.len() as f64 * EPOCH_S;
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"no\"?>\n<{ROOT}>\n\
         <SoftwareVersion>sfm-stream {}</SoftwareVersion>\n<EpochLength>{EPOCH_S}</EpochLength>\n\
         <ScoredEvents>\n<ScoredEvent>\n<EventType/>\n\
         <EventConcept>Recording Start Time</EventConcept>\n<Start>0</Start>\n\
         <Duration>{duration_s:.1}</Duration>\n<ClockTime>00.00.00 {clock}</ClockTime>\n\
         </ScoredEvent>\n",
        env!("CARGO_PKG_VERSION")
    );
    for (first, count, stage) in runs(stages) {
        let (onset_s, duration_s) = (first as f64 * EPOCH_S, count as f64 * EPOCH_S);
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "<ScoredEvent>\n<EventType>Stages|Stages</EventType>\n\
             <EventConcept>{}</EventConcept>\n<Start>{onset_s:.1}</Start>\n\
             <Duration>{duration_s:.1}</Duration>\n</ScoredEvent>",
            concept(stage)
        );
    }
    text.push_str("</ScoredEvents>\n</PSGAnnotation>\n");
    text
}

fn concept(stage: Option<SleepStage>) -> &'static str {
    match stage {
        Some(SleepStage::Wake) => "Wake|0",
        Some(SleepStage::N1) => "Stage 1 sleep|1",
        Some(SleepStage::N2) => "Stage 2 sleep|2",
        Some(SleepStage::N3) => "Stage 3 sleep|3",
        Some(SleepStage::Rem) => "REM sleep|5",
        None => "Unscored|9",
    }
}

/// What an event says.
#[derive(Default)]
struct ScoredEvent<'a> {
    kind: Option<&'a Element>,
    concept: Option<&'a Element>,
    start: Option<&'a Element>,
    duration: Option<&'a Element>,
    clock: Option<&'a Element>,
}

/// Reads the events that are stages.
pub(super) fn read(elements: &[Element], _: &ReadOptions) -> Result<Scoring, String> {
    let mut draft = Draft::new("NSRR XML", Timing::Seconds);
    let mut event = ScoredEvent::default();
    for element in elements {
        match element.local_name() {
            "EventType" => event.kind = Some(element),
            "EventConcept" => event.concept = Some(element),
            "Start" => event.start = Some(element),
            "Duration" => event.duration = Some(element),
            "ClockTime" => event.clock = Some(element),
            "ScoredEvent" => {
                let event = std::mem::take(&mut event);
                if let Some(clock) = event.recording_start() {
                    draft.start = clock_of(&clock.text).map(Start::Clock);
                }
                draft.entries.extend(event.stage(element)?);
            }
            _ => {}
        }
    }
    draft.finish()
}

/// The time of day in `00.00.00 22.30.00`; the date is always anonymous, and a time of zeros says
/// that it is not known.
fn clock_of(text: &str) -> Option<f64> {
    let moment = Moment::parse(text.split_whitespace().last()?)?;
    (moment.s > 0.0).then_some(moment.s)
}

impl<'a> ScoredEvent<'a> {
    fn recording_start(&self) -> Option<&'a Element> {
        let concept = self.concept?;
        concept.text.eq_ignore_ascii_case("Recording Start Time").then_some(self.clock).flatten()
    }

    /// The stage that it is; `None` for an event of another type.
    fn stage(&self, whole: &Element) -> Result<Option<Entry>, String> {
        let is_stage = |kind: &Element| kind.text.split('|').any(|part| part == "Stages");
        if !self.kind.is_some_and(is_stage) {
            return Ok(None);
        }
        let (Some(concept), Some(start), Some(duration)) =
            (self.concept, self.start, self.duration)
        else {
            return Err(whole.refused("a stage without EventConcept, Start or Duration"));
        };
        let time = |element: &Element| time::seconds(&element.text).map_err(|e| element.refused(e));
        let (onset_s, duration_s) = (time(start)?, time(duration)?);
        Ok(Some(Entry {
            place: Place::Line(concept.line),
            onset_s,
            end_s: Some(onset_s + duration_s.max(0.0)),
            stage: stage_named(&concept.text).map_err(|e| concept.refused(e))?,
        }))
    }
}
