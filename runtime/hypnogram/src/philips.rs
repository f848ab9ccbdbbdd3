//! The RML of Philips Respironics: `PatientStudy` with `Stage Type="NonREM2" Start="270"`, seconds
//! since `RecordingStart`, each until the next, the last until the recording's `Duration`. A
//! person's staging counts before the machine's.

use super::draft::{Draft, Entry, Place};
use super::preamble::start_of;
use super::time::{self, Moment};
use super::xml::Element;
use super::{ReadOptions, Scoring, Timing, stage_named};

/// The root element.
pub(super) const ROOT: &str = "PatientStudy";

/// Reads the stages.
pub(super) fn read(elements: &[Element], _: &ReadOptions) -> Result<Scoring, String> {
    let mut draft = Draft::new("Philips RML", Timing::Seconds);
    let (mut open, mut by_person, mut by_machine) = (Vec::new(), Vec::new(), Vec::new());
    let (mut starts, mut durations, mut duration) = (Vec::new(), Vec::new(), None);
    // Inner elements come before the ones around them.
    for element in elements {
        match element.local_name() {
            "Stage" => open.push(entry(element)?),
            "UserStaging" => by_person.append(&mut open),
            "MachineStaging" => by_machine.append(&mut open),
            "RecordingStart" => starts.push(element),
            "Duration" => duration = Some(element),
            "Session" => durations.extend(duration.take()),
            _ => {}
        }
    }
    by_person.append(&mut open);
    if by_person.is_empty() && !by_machine.is_empty() {
        draft.notes.push("the machine's staging: no person has staged it".into());
        by_person = by_machine;
    }
    draft.entries = by_person;
    if let Some(start) = starts.first() {
        let moment = Moment::parse(&start.text).ok_or_else(|| {
            start.refused(format!("'{}' is no start", super::names::shown(&start.text)))
        })?;
        draft.start = Some(start_of(start.line, moment)?);
    }
    match (&starts[..], &durations[..]) {
        ([_], [duration]) => {
            let seconds = time::seconds(&duration.text).map_err(|e| duration.refused(e))?;
            draft.end_s = Some(seconds);
        }
        ([_, _, ..], _) => draft.notes.push("several sessions; times count from the first".into()),
        _ => {}
    }
    draft.finish()
}

fn entry(element: &Element) -> Result<Entry, String> {
    let (Some(kind), Some(start)) = (element.attribute("Type"), element.attribute("Start")) else {
        return Err(element.refused("a stage without Type or Start"));
    };
    let stage = stage_named(kind).map_err(|e| element.refused(e))?;
    let onset_s = time::seconds(start).map_err(|e| element.refused(e))?;
    Ok(Entry { place: Place::Line(element.line), onset_s, end_s: None, stage })
}
