//! The XML of Compumedics Profusion: `CMPStudyConfig` with one `SleepStage` an epoch from the start
//! of the recording: 0 wake, 1 to 4 NREM, 5 REM, 6 movement, 9 unscored (NSRR's page "Compumedics
//! Annotation Format").

use sfm_models::SleepStage;

use super::codes::{Decoder, RK};
use super::draft::{Draft, Place};
use super::xml::Element;
use super::{EpochLength, MAX_S, ReadOptions, Scoring, Stages, Timing, time};
use sfm_models::EPOCH_S;

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
pub(super) fn read(elements: &[Element], options: &ReadOptions) -> Result<Scoring, String> {
    let mut draft = Draft::new("Profusion XML", Timing::EpochNumber);
    let mut decoder = Decoder::defined(options.codes.as_ref(), &RK);
    let mut epoch = EpochLength {
        s: options.epoch_s.unwrap_or(EPOCH_S),
        is_assumed: options.epoch_s.is_none(),
    };
    let mut stages = Vec::new();
    for element in elements {
        match element.local_name() {
            "EpochLength" => epoch = EpochLength { s: epoch_length(element)?, is_assumed: false },
            "SleepStage" => {
                let stage = decoder.stage(&element.text).map_err(|e| element.refused(e))?;
                stages.push((Place::Line(element.line), stage));
            }
            _ => {}
        }
    }
    if stages.len() as f64 * epoch.s > MAX_S {
        return Err(format!("{} epochs are more than a week", stages.len()));
    }
    draft.push_epochs(0.0, epoch, stages);
    draft.finish()
}

fn epoch_length(element: &Element) -> Result<f64, String> {
    let seconds = time::seconds(&element.text).map_err(|e| element.refused(e))?;
    if seconds < 1.0 {
        return Err(element.refused(format!("epochs of {seconds} s")));
    }
    Ok(seconds)
}
