//! The XML of the National Sleep Research Resource: `PSGAnnotation` with a `ScoredEvent` a run of
//! one stage, event type `Stages|Stages`, concept and code (`Stage 2 sleep|2`), start and duration
//! in seconds. Other event types are passed over.

use std::fmt::Write;

use sfm_models::SleepStage;

use super::xml::Element;
use super::{Scoring, Stages, Stretch, runs, stage_named, table};
use crate::edf::DateTime;
use crate::staging::EPOCH_S;

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

/// Reads the events that are stages.
pub(super) fn read(elements: &[Element]) -> Result<Scoring, String> {
    let mut stretches = Vec::new();
    // What was said inside the event that is open.
    let (mut kind, mut concept, mut start, mut duration) = (None, None, None, None);
    for element in elements {
        match element.name.as_str() {
            "EventType" => kind = Some(element),
            "EventConcept" => concept = Some(element),
            "Start" => start = Some(element),
            "Duration" => duration = Some(element),
            "ScoredEvent" => {
                let said = (kind.take(), concept.take(), start.take(), duration.take());
                stretches.extend(stage(element, said)?);
            }
            _ => {}
        }
    }
    Scoring::of("NSRR XML", stretches)
}

type Said<'a> =
    (Option<&'a Element>, Option<&'a Element>, Option<&'a Element>, Option<&'a Element>);

/// The stage an event says; `None` for an event of another type.
fn stage(event: &Element, said: Said<'_>) -> Result<Option<Stretch>, String> {
    let (kind, concept, start, duration) = said;
    if !kind.is_some_and(|kind| kind.text.split('|').any(|part| part == "Stages")) {
        return Ok(None);
    }
    let (Some(concept), Some(start), Some(duration)) = (concept, start, duration) else {
        return Err(event.refused("a stage without EventConcept, Start or Duration"));
    };
    let time = |element: &Element| table::seconds(&element.text).map_err(|e| element.refused(e));
    Ok(Some(Stretch {
        onset_s: time(start)?,
        duration_s: time(duration)?.max(0.0),
        stage: stage_named(&concept.text).map_err(|e| concept.refused(e))?,
    }))
}
