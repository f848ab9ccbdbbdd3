//! Events as the Brain Imaging Data Structure has them (bids-specification, "Events"): a table with
//! tabs, `onset`, `duration`, `trial_type`, seconds behind the first sample, and a JSON file that
//! says what the columns are. Stages have EDF+'s standard texts, as MNE-BIDS writes them.

use std::fmt::Write;

use serde_json::{Value, json};
use sfm_models::SleepStage;

use super::Stages;
use sfm_models::EPOCH_S;

/// The text of an epoch that is not scored.
const UNSCORED: &str = "Sleep stage ?";

/// The night as an `events.tsv`, an epoch a line.
pub fn tsv(stages: &Stages) -> String {
    let mut text = String::from("onset\tduration\ttrial_type\n");
    for (epoch, stage) in stages.iter().enumerate() {
        let name = stage.map_or(UNSCORED, SleepStage::edf_text);
        // Writing into a string does not fail.
        let _ = writeln!(text, "{}\t{EPOCH_S}\t{name}", epoch as f64 * EPOCH_S);
    }
    text
}

/// The `events.json` beside it.
pub fn sidecar() -> Value {
    let mut levels = serde_json::Map::new();
    for stage in SleepStage::ALL {
        let what = match stage {
            SleepStage::Wake => "wakefulness",
            SleepStage::N1 => "non-REM sleep, stage 1",
            SleepStage::N2 => "non-REM sleep, stage 2",
            SleepStage::N3 => "non-REM sleep, stage 3",
            SleepStage::Rem => "REM sleep",
        };
        levels.insert(stage.edf_text().to_owned(), json!(what));
    }
    levels.insert(UNSCORED.to_owned(), json!("not scored: too little signal"));
    json!({
        "onset": {"Description": "start of the epoch behind the first sample", "Units": "s"},
        "duration": {"Description": "length of the epoch", "Units": "s"},
        "trial_type": {
            "LongName": "sleep stage",
            "Description": concat!(
                "sleep stage by AASM, scored by sfm-stream ", env!("CARGO_PKG_VERSION"),
                "; research software, not a medical device"
            ),
            "Levels": levels,
        },
    })
}
