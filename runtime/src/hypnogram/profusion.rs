//! The XML of Compumedics Profusion: `CMPStudyConfig` with one `SleepStage` an epoch from the start
//! of the recording: 0 wake, 1 to 4 NREM, 5 REM, 6 movement, 9 unscored (NSRR's page "Compumedics
//! Annotation Format").

use sfm_models::SleepStage;

use super::names::shown;
use super::xml::Element;
use super::{Scoring, Stages, table};
use crate::staging::EPOCH_S;

/// The root element.
pub(super) const ROOT: &str = "CMPStudyConfig";

/// The night as a Profusion file.
pub fn text(stages: &Stages) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{ROOT}>\n<EpochLength>{EPOCH_S}</EpochLength>\n\
         <ScoredEvents/>\n<SleepStages>\n"
    );
    for stage in stages {
        let code = match stage {
            Some(SleepStage::Wake) => 0,
            Some(SleepStage::N1) => 1,
            Some(SleepStage::N2) => 2,
            Some(SleepStage::N3) => 3,
            Some(SleepStage::Rem) => 5,
            None => 9,
        };
        text.push_str(&format!("<SleepStage>{code}</SleepStage>\n"));
    }
    text.push_str("</SleepStages>\n</CMPStudyConfig>\n");
    text
}

/// Reads the stages, of epochs as long as the file says.
pub(super) fn read(elements: &[Element]) -> Result<Scoring, String> {
    let mut stages = Vec::new();
    let mut epoch_s = EPOCH_S;
    for element in elements {
        match element.name.as_str() {
            "EpochLength" => epoch_s = epoch_length(element)?,
            "SleepStage" => stages.push(stage(element)?),
            _ => {}
        }
    }
    if stages.len() as f64 * epoch_s > super::MAX_S {
        return Err(format!("{} epochs are more than a week", stages.len()));
    }
    Scoring::of_epochs("Profusion XML", epoch_s, stages)
}

fn epoch_length(element: &Element) -> Result<f64, String> {
    let seconds = table::seconds(&element.text).map_err(|e| element.refused(e))?;
    if seconds < 1.0 {
        return Err(element.refused(format!("epochs of {seconds} s")));
    }
    Ok(seconds)
}

fn stage(element: &Element) -> Result<Option<SleepStage>, String> {
    Ok(match element.text.as_str() {
        "0" => Some(SleepStage::Wake),
        "1" => Some(SleepStage::N1),
        "2" => Some(SleepStage::N2),
        "3" | "4" => Some(SleepStage::N3),
        "5" => Some(SleepStage::Rem),
        "6" | "9" => None,
        other => return Err(element.refused(format!("'{}' is no sleep stage", shown(other)))),
    })
}
