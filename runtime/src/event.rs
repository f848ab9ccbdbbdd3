//! What leaves the pipeline, and the only thing that does. Sinks read events; nothing else of
//! the pipeline is visible to them. No event holds a wall-clock time or a patient field, so a
//! replay at any speed gives the same events, byte for byte.

use std::ops::Range;

use serde::Serialize;
use sfm_models::{Modality, SleepStage};

use crate::lights::Lights;
use crate::statistics::SleepStatistics;

impl Event {
    /// Whether it belongs into files and messages. Signals are for pictures alone.
    pub fn is_kept(&self) -> bool {
        !matches!(self, Event::Signals(_))
    }
}

/// Something the pipeline has to say, in the order of the recording.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A pass begins.
    Started(Box<Started>),
    /// 5 s of the signals themselves, as soon as they are there: for pictures. In no file, so that
    /// its place among the other events is the only one that depends on when samples came.
    Signals(Box<SignalPatch>),
    /// A 30-s epoch was staged, or staged anew with more context.
    Epoch(SleepEpoch),
    /// A 5-min window is complete and its embeddings will not change in this pass.
    Window(Box<WindowEmbedding>),
    /// Samples of one channel are missing. Told when the gap has ended.
    Gap(Gap),
    /// What is wrong with the signals of an epoch; comes before the epoch, and not at all where
    /// nothing is wrong.
    Quality(Box<EpochQuality>),
    /// A modality was lost or is back.
    Modality(ModalityChange),
    /// Something the user should know that stops nothing.
    Warning {
        /// One sentence.
        message: String,
    },
    /// A pass is over.
    Night(Box<Night>),
}

/// Which way the recording goes through the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// Causal: running mean and variance, provisional and settled epochs.
    Live,
    /// Over the whole recording: whole-night mean and variance, whole-night staging.
    Final,
}

/// How sure an epoch's stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochStatus {
    /// The epoch's 30 s are in; its window is still open.
    Provisional,
    /// The epoch's 5-min window is closed.
    Settled,
    /// Staged with the whole recording as context, as the offline reference does.
    Final,
}

impl EpochStatus {
    /// `provisional`, `settled` or `final`.
    pub fn as_str(self) -> &'static str {
        match self {
            EpochStatus::Provisional => "provisional",
            EpochStatus::Settled => "settled",
            EpochStatus::Final => "final",
        }
    }
}

/// The beginning of a pass: what is read, how it is mapped, what runs it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Started {
    /// Which pass.
    pub pass: Pass,
    /// Format of the source in words.
    pub format: String,
    /// Start as written in the source (local time), ISO 8601.
    pub start: Option<String>,
    /// Length of the recording, seconds, where it is known.
    pub duration_s: Option<f64>,
    /// Every channel of the source and what becomes of it.
    pub channels: Vec<ChannelUse>,
    /// Modalities that no channel serves; the network runs with them masked.
    pub modalities_absent: Vec<Modality>,
    /// The bundle's name.
    pub bundle: String,
    /// SHA-256 of the bundle file, hexadecimal.
    pub bundle_sha256: String,
    /// What the weights were trained on.
    pub training_data: String,
    /// What has to be said wherever results are shown: random weights, simulated training data.
    pub caution: Option<String>,
    /// Engine, device and why, in one line.
    pub backend: String,
}

/// What becomes of one channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelUse {
    /// Index in the source.
    pub channel: usize,
    /// Label as written.
    pub label: String,
    /// Nominal rate, Hz.
    pub rate_hz: f64,
    /// Physical unit as written; empty if none is, or if the source is preprocessed.
    pub unit: String,
    /// Modality it serves; `None` if left out.
    pub modality: Option<Modality>,
    /// The rule that matched, or why it is left out.
    pub rule: String,
}

/// One patch of every mapped channel, filtered and at the network's rate, not yet z-scored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignalPatch {
    /// Which pass.
    pub pass: Pass,
    /// Index from the start of the recording.
    pub patch: u32,
    /// Start behind the start of the recording, seconds.
    pub onset_s: f64,
    /// Rate of all channels, Hz.
    pub rate_hz: f64,
    /// The mapped channels, by modality.
    pub channels: Vec<ChannelPatch>,
}

/// One channel's part of a [`SignalPatch`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelPatch {
    /// Index in the source.
    pub channel: usize,
    /// Physical values, NaN where there is none; empty if there is none at all.
    pub samples: Vec<f32>,
}

/// One scored 30-s epoch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SleepEpoch {
    /// Which pass scored it.
    pub pass: Pass,
    /// Index from the start of the recording.
    pub epoch: u32,
    /// Start of the epoch behind the start of the recording, seconds.
    pub onset_s: f64,
    /// The most probable stage; `None` (written `?`) when too little signal is present.
    pub stage: Option<SleepStage>,
    /// Mean of the softmaxes of the epoch's present 5-s tokens, in the order W, N1, N2, N3, R;
    /// NaN where no token is present.
    pub probabilities: [f32; SleepStage::COUNT],
    /// Part of the epoch's signal that the network had, 0 to 1: the mean over its patches and the
    /// mapped modalities, of each patch what was measured of it; 0 of one that is absent.
    pub quality: f32,
    /// The largest probability times `quality` times [`EpochQuality::sound`], 0 to 1; 0 where no
    /// token is present. Lower where signals are missing or bad: a figure to sort by, no
    /// probability that the stage is right.
    pub confidence: f32,
    /// How sure it is.
    pub status: EpochStatus,
}

/// The embeddings of one closed 5-min window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WindowEmbedding {
    /// Which pass.
    pub pass: Pass,
    /// Index of the window from the start of the recording.
    pub window: u32,
    /// Index of its first patch.
    pub first_patch: u32,
    /// Number of patches: 60, fewer in the last window.
    pub patches: u32,
    /// E, the length of one embedding.
    pub embed_dim: usize,
    /// Per modality [patches, E]: contextual 5-s embeddings, NaN rows where the patch is absent;
    /// `None` where the modality is absent throughout the window.
    #[serde(skip)]
    pub tokens: [Option<Vec<f32>>; Modality::COUNT],
    /// Per modality `[E]`: the window's embedding.
    #[serde(skip)]
    pub pooled: [Option<Vec<f32>>; Modality::COUNT],
}

/// Missing samples of one channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gap {
    /// Which pass met it.
    pub pass: Pass,
    /// Index in the source.
    pub channel: usize,
    /// Label as written.
    pub label: String,
    /// First missing sample on the channel's own axis.
    pub start: u64,
    /// Number of missing samples.
    pub samples: u64,
    /// Start of the gap behind the start of the recording, seconds.
    pub onset_s: f64,
    /// Length, seconds.
    pub duration_s: f64,
}

/// The signals of one epoch that are not as they should be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EpochQuality {
    /// Which pass.
    pub pass: Pass,
    /// The epoch.
    pub epoch: u32,
    /// Part of the signal that is sound where it is present, 0 to 1: the mean over the channels
    /// of each modality and over the modalities.
    pub sound: f32,
    /// The channels with something to report, in the source's order.
    pub channels: Vec<ChannelQuality>,
}

/// What is wrong with one channel in one epoch. Parts of the epoch's time, 0 to 1; those that are
/// zero are left out of JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChannelQuality {
    /// Index in the source.
    pub channel: usize,
    /// Label as written.
    pub label: String,
    /// Samples that are missing.
    #[serde(skip_serializing_if = "is_zero")]
    pub missing: f32,
    /// Constant, or smaller than this kind of signal ever is.
    #[serde(skip_serializing_if = "is_zero")]
    pub flat: f32,
    /// At the limits of the converter.
    #[serde(skip_serializing_if = "is_zero")]
    pub clipped: f32,
    /// Values that no living person has: SpO2 outside 50 to 100 %, absurd amplitudes.
    #[serde(skip_serializing_if = "is_zero")]
    pub implausible: f32,
    /// Share of 50 or 60 Hz, the larger, in the signal's power.
    #[serde(skip_serializing_if = "is_zero")]
    pub line_noise: f32,
    /// Kept from the network, in 5-s pieces: a lead that is off, and for bundles that say so mains,
    /// noise, and what is clipped or implausible.
    #[serde(skip_serializing_if = "is_zero")]
    pub masked: f32,
    /// Flat or clipped for most of the epoch: the electrode is off, or its cable.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lead_off: bool,
}

fn is_zero(part: &f32) -> bool {
    *part == 0.0
}

/// A modality that has channels begins or ceases to say anything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModalityChange {
    /// Which pass met it.
    pub pass: Pass,
    /// The modality.
    pub modality: Modality,
    /// It is back; else it is lost: no patch of it is present in the epoch, and it is masked.
    pub present: bool,
    /// The first epoch of which this is so.
    pub epoch: u32,
    /// Start of that epoch behind the start of the recording, seconds.
    pub onset_s: f64,
}

/// The gap ledger's line of one channel.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChannelLedger {
    /// Index in the source.
    pub channel: usize,
    /// Label as written.
    pub label: String,
    /// Samples that reached the pipeline.
    pub received: u64,
    /// Samples missing before the last one, and those behind it that the source has given up.
    pub missing: u64,
    /// Number of gaps.
    pub gaps: u64,
    /// Samples that reached the pipeline but are no numbers; they make their patches absent.
    pub not_finite: u64,
    /// Samples dropped because the channel's ring was full; they are among `missing`.
    pub overflow: u64,
    /// Samples dropped because an earlier block already covered their time.
    pub overlapping: u64,
    /// Longest stretch of one value, seconds, when longer than a minute: a lead off or a dead
    /// sensor; else 0.
    pub flat_s: f64,
}

impl ChannelLedger {
    /// Samples that are not there or are no numbers, and all there should be.
    pub fn missing_of(&self) -> (u64, u64) {
        (self.missing + self.not_finite, self.received + self.missing)
    }
}

/// The end of a pass: the night as a whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Night {
    /// Which pass.
    pub pass: Pass,
    /// Sleep statistics by AASM definitions, of the epochs `counted`.
    pub statistics: SleepStatistics,
    /// When the lights went off and on, as far as the recording says so.
    pub lights: Lights,
    /// The epochs from lights off to lights on; all where that is unknown or cannot be meant.
    pub counted: Range<usize>,
    /// Modalities without a channel, and those lost for more than half of the epochs.
    pub missing: Vec<Modality>,
    /// Overnight risk; `None` with a note where the bundle has no risk head.
    pub risk: Option<OvernightRisk>,
    /// Sleep apnea; `None` where the bundle has no apnea head or nothing was recorded.
    pub apnea: Option<ApneaEstimate>,
    /// One line a mapped channel.
    pub ledger: Vec<ChannelLedger>,
    /// What was left out or done differently and why, one sentence each.
    pub notes: Vec<String>,
}

impl Night {
    /// A night of which nothing is known: no epoch, no modality missing.
    pub fn empty(pass: Pass) -> Self {
        Self {
            pass,
            statistics: SleepStatistics::default(),
            lights: Lights::default(),
            counted: 0..0,
            missing: Vec::new(),
            risk: None,
            apnea: None,
            ledger: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// The apnea head's view of the night: how sure the network is, no diagnosis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ApneaEstimate {
    /// Probability of an apnea-hypopnea index of at least 5 per hour of sleep.
    pub ahi_5: f32,
    /// Of at least 15.
    pub ahi_15: f32,
    /// Probabilities of none (below 5), mild (below 15), moderate (below 30), severe.
    pub severity: [f32; 4],
    /// 5-s tokens that went in.
    pub tokens: u32,
}

/// The risk head's view of the night: relative log-hazards, no probabilities, no diagnosis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OvernightRisk {
    /// `[E]`: the night's risk embedding, the mean over the night's tokens.
    pub embedding: Vec<f32>,
    /// `[K]`: one relative log-hazard a label; empty when age or sex was not given.
    pub log_hazards: Vec<f32>,
    /// `[K]`: percentile of each hazard in the bundle's reference cohort, if it brings one.
    pub percentiles: Option<Vec<f32>>,
    /// 5-s tokens that went in.
    pub tokens: u32,
    /// 5-s tokens behind the head's longest sequence, left out as the reference does.
    pub tokens_left_out: u32,
}
