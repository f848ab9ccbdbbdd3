//! YASA (github.com/raphaelvallat/yasa): `Epoch,Stage`, counted from 0, as `Hypnogram.hypno.to_csv()`
//! writes it.

use sfm_models::SleepStage;

use super::Stages;

/// The night as `Epoch,Stage` with YASA's names, `UNS` for what is not scored.
pub fn text(stages: &Stages) -> String {
    let mut text = String::from("Epoch,Stage\n");
    for (epoch, stage) in stages.iter().enumerate() {
        let name = match stage {
            Some(SleepStage::Wake) => "WAKE",
            Some(SleepStage::Rem) => "REM",
            Some(stage) => stage.as_str(),
            None => "UNS",
        };
        text.push_str(&format!("{epoch},{name}\n"));
    }
    text
}
