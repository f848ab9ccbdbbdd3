//! The words both sides share: modalities and sleep stages, in the order of the network's axes.

use serde::{Deserialize, Serialize};

/// A group of channels that one run of the encoder embeds, in the network's order.
///
/// Source: SleepFM, `modality_types` of the published configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Modality {
    /// Brain activity signals: EEG and EOG.
    Bas,
    /// Respiration: effort belts, airflow, snoring, oxygen saturation, pulse rate.
    Resp,
    /// Electrocardiogram.
    Ekg,
    /// Electromyogram: chin, legs, arms.
    Emg,
}

impl Modality {
    /// All modalities in the order of the network's modality axis.
    pub const ALL: [Modality; 4] = [Modality::Bas, Modality::Resp, Modality::Ekg, Modality::Emg];
    /// Length of the network's modality axis.
    pub const COUNT: usize = Self::ALL.len();

    /// Position on the network's modality axis.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name used in files: `BAS`, `RESP`, `EKG`, `EMG`.
    pub fn as_str(self) -> &'static str {
        match self {
            Modality::Bas => "BAS",
            Modality::Resp => "RESP",
            Modality::Ekg => "EKG",
            Modality::Emg => "EMG",
        }
    }
}

impl std::fmt::Display for Modality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Modality {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Modality::ALL
            .into_iter()
            .find(|m| m.as_str().eq_ignore_ascii_case(text.trim()))
            .ok_or_else(|| format!("'{text}' is no modality; use BAS, RESP, EKG or EMG"))
    }
}

/// Seconds of a scoring epoch (AASM).
pub const EPOCH_S: f64 = EPOCH_SECONDS as f64;
/// [`EPOCH_S`], for counts.
pub const EPOCH_SECONDS: usize = 30;

/// A sleep stage (AASM), in the order of the staging head's classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SleepStage {
    /// Wakefulness.
    #[serde(rename = "W")]
    Wake,
    /// Non-REM stage 1.
    N1,
    /// Non-REM stage 2.
    N2,
    /// Non-REM stage 3.
    N3,
    /// Rapid eye movement sleep.
    #[serde(rename = "R")]
    Rem,
}

impl SleepStage {
    /// All stages in the order of the staging head's logits.
    pub const ALL: [SleepStage; 5] =
        [SleepStage::Wake, SleepStage::N1, SleepStage::N2, SleepStage::N3, SleepStage::Rem];
    /// Number of classes.
    pub const COUNT: usize = Self::ALL.len();

    /// Position among the staging head's logits.
    pub fn index(self) -> usize {
        self as usize
    }

    /// AASM letter: `W`, `N1`, `N2`, `N3`, `R`.
    pub fn as_str(self) -> &'static str {
        match self {
            SleepStage::Wake => "W",
            SleepStage::N1 => "N1",
            SleepStage::N2 => "N2",
            SleepStage::N3 => "N3",
            SleepStage::Rem => "R",
        }
    }

    /// The standard text of EDF+ (edfplus.info, "Standard texts"), e.g. `Sleep stage N2`.
    pub fn edf_text(self) -> &'static str {
        match self {
            SleepStage::Wake => "Sleep stage W",
            SleepStage::N1 => "Sleep stage N1",
            SleepStage::N2 => "Sleep stage N2",
            SleepStage::N3 => "Sleep stage N3",
            SleepStage::Rem => "Sleep stage R",
        }
    }
}

impl std::fmt::Display for SleepStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
