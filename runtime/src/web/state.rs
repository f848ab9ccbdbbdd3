//! What the page shows of one bed, kept from its events so that a page that is loaded late has the
//! whole night. Labels and messages are escaped as they come in, lists have a longest length.
//! Plain data; the room that owns it keeps it under a lock.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use sfm_models::Modality;

use crate::event::{
    ChannelUse, EpochQuality, EpochStatus, Event, Gap, ModalityChange, Night, Pass, SleepEpoch,
    Started,
};
use crate::statistics::SleepStatistics;
use crate::text::escaped;

use super::session::SessionState;

/// Epochs of two days; the oldest ones go.
const MAX_EPOCHS: usize = 5760;
/// Gaps that are listed one by one.
const MAX_GAPS: usize = 100;
/// Warnings that are kept.
const MAX_WARNINGS: usize = 50;

/// What a bed is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stretch {
    /// No pass has begun.
    #[default]
    Waiting,
    /// The live pass.
    Live,
    /// The pass over the whole recording.
    Final,
    /// Nothing more comes.
    Ended,
}

/// Everything the page shows of a bed but its signals.
#[derive(Debug, Clone, Default, Serialize)]
pub struct State {
    /// What the bed is at.
    pub stretch: Stretch,
    /// Why nothing more comes.
    pub ended: Option<String>,
    /// What is read and what runs it.
    pub about: Option<About>,
    /// By index; `null` probabilities where an epoch was not staged.
    pub epochs: VecDeque<SleepEpoch>,
    /// What was wrong with the newest epoch's signals, if anything was.
    pub quality: Option<EpochQuality>,
    /// Modalities with channels that say nothing at the moment.
    pub lost: Vec<Modality>,
    /// Missing samples.
    pub gaps: GapLedger,
    /// What is odd about the recording.
    pub warnings: Vec<String>,
    /// Sleep statistics of the last pass that is over.
    pub statistics: Option<SleepStatistics>,
    /// Of a live session: links, clocks, marks, health.
    pub session: SessionState,
    /// What a final pass says of the signals was said by a live one before it.
    #[serde(skip)]
    repeats: bool,
}

/// The beginning of a pass, as the page shows it.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// Start as written in the source (local time), ISO 8601.
    pub start: Option<String>,
    /// Length of the recording, seconds, where it is known.
    pub duration_s: Option<f64>,
    /// The channels that serve a modality.
    pub channels: Vec<ChannelUse>,
    /// Modalities without a channel.
    pub modalities_absent: Vec<Modality>,
    /// The bundle's name.
    pub bundle: String,
    /// What the weights were trained on.
    pub training_data: String,
    /// What has to be said wherever results are shown.
    pub caution: Option<String>,
    /// Engine, device and why.
    pub backend: String,
}

impl About {
    fn of(started: &Started) -> Self {
        let channels = started.channels.iter().filter(|channel| channel.modality.is_some());
        Self {
            start: started.start.as_deref().map(escaped),
            duration_s: started.duration_s,
            channels: channels
                .map(|channel| ChannelUse {
                    label: escaped(&channel.label),
                    unit: escaped(&channel.unit),
                    rule: escaped(&channel.rule),
                    ..channel.clone()
                })
                .collect(),
            modalities_absent: started.modalities_absent.clone(),
            bundle: escaped(&started.bundle),
            training_data: escaped(&started.training_data),
            caution: started.caution.as_deref().map(escaped),
            backend: escaped(&started.backend),
        }
    }
}

/// Missing samples by channel, and the last gaps one by one.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GapLedger {
    /// By index in the source; channels without a gap are not there.
    pub channels: BTreeMap<usize, ChannelGaps>,
    /// The newest ones, in the order they ended.
    pub newest: VecDeque<ShownGap>,
}

/// The gaps of one channel.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChannelGaps {
    /// Label.
    pub label: String,
    /// How many.
    pub gaps: u64,
    /// Their length in all, seconds.
    pub missing_s: f64,
}

/// One gap.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownGap {
    /// Index in the source.
    pub channel: usize,
    /// Label.
    pub label: String,
    /// Start behind the start of the recording, seconds.
    pub onset_s: f64,
    /// Length, seconds.
    pub duration_s: f64,
}

impl GapLedger {
    fn add(&mut self, gap: &Gap) -> ShownGap {
        let label = escaped(&gap.label);
        let channel = self.channels.entry(gap.channel).or_default();
        channel.label.clone_from(&label);
        channel.gaps += 1;
        channel.missing_s += gap.duration_s;
        let shown = ShownGap {
            channel: gap.channel,
            label,
            onset_s: gap.onset_s,
            duration_s: gap.duration_s,
        };
        push_last(&mut self.newest, shown.clone(), MAX_GAPS);
        shown
    }
}

/// What an event changed, as it is told to those who look.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Change {
    /// A pass began; what is shown is to be fetched anew.
    Started {
        /// Which one.
        pass: Pass,
    },
    /// An epoch was staged.
    Epoch(SleepEpoch),
    /// Something is wrong with an epoch's signals.
    Quality(EpochQuality),
    /// A modality was lost or is back.
    Modality(ModalityChange),
    /// A gap ended.
    Gap(ShownGap),
    /// Something to know.
    Warning {
        /// One sentence.
        message: String,
    },
    /// A pass is over.
    Night {
        /// Which one.
        pass: Pass,
        /// Its figures.
        statistics: SleepStatistics,
    },
}

impl Change {
    /// The change's name in the stream.
    pub fn name(&self) -> &'static str {
        match self {
            Change::Started { .. } => "started",
            Change::Epoch(_) => "epoch",
            Change::Quality(_) => "quality",
            Change::Modality(_) => "modality",
            Change::Gap(_) => "gap",
            Change::Warning { .. } => "warning",
            Change::Night { .. } => "night",
        }
    }
}

impl State {
    /// Takes an event; `None` for those that change nothing here.
    pub fn take(&mut self, event: &Event) -> Option<Change> {
        match event {
            Event::Started(started) => Some(self.started(started)),
            Event::Epoch(epoch) => self.epoch(epoch),
            Event::Quality(quality) if !self.repeats => Some(self.quality(quality)),
            Event::Modality(change) if !self.repeats => Some(self.modality(change)),
            Event::Gap(gap) if !self.repeats => Some(Change::Gap(self.gaps.add(gap))),
            Event::Warning { message } => self.warning(message),
            Event::Night(night) => Some(self.night(night)),
            Event::Quality(_)
            | Event::Modality(_)
            | Event::Gap(_)
            | Event::Signals(_)
            | Event::Window(_) => None,
        }
    }

    /// Whether signals are a repetition.
    pub fn repeats(&self) -> bool {
        self.repeats
    }

    /// The newest epoch.
    pub fn newest(&self) -> Option<&SleepEpoch> {
        self.epochs.back()
    }

    fn started(&mut self, started: &Started) -> Change {
        self.repeats = started.pass == Pass::Final && self.about.is_some();
        self.about = Some(About::of(started));
        self.stretch = match started.pass {
            Pass::Live => Stretch::Live,
            Pass::Final => Stretch::Final,
        };
        Change::Started { pass: started.pass }
    }

    /// A settled stage is not taken back by a provisional one.
    fn epoch(&mut self, epoch: &SleepEpoch) -> Option<Change> {
        match self.epochs.binary_search_by_key(&epoch.epoch, |known| known.epoch) {
            Ok(place) => {
                let known = self.epochs.get_mut(place)?;
                if epoch.status == EpochStatus::Provisional
                    && known.status != EpochStatus::Provisional
                {
                    return None;
                }
                known.clone_from(epoch);
            }
            Err(place) => self.epochs.insert(place, epoch.clone()),
        }
        if self.epochs.len() > MAX_EPOCHS {
            self.epochs.pop_front();
        }
        // Comes before its epoch, and only where something is wrong.
        if self.quality.as_ref().is_some_and(|quality| quality.epoch < epoch.epoch) {
            self.quality = None;
        }
        Some(Change::Epoch(epoch.clone()))
    }

    fn quality(&mut self, quality: &EpochQuality) -> Change {
        let mut quality = quality.clone();
        for channel in &mut quality.channels {
            channel.label = escaped(&channel.label);
        }
        self.quality = Some(quality.clone());
        Change::Quality(quality)
    }

    fn modality(&mut self, change: &ModalityChange) -> Change {
        self.lost.retain(|modality| *modality != change.modality);
        if !change.present {
            self.lost.push(change.modality);
        }
        Change::Modality(change.clone())
    }

    fn warning(&mut self, message: &str) -> Option<Change> {
        let message = escaped(message);
        if self.warnings.contains(&message) || self.warnings.len() == MAX_WARNINGS {
            return None;
        }
        self.warnings.push(message.clone());
        Some(Change::Warning { message })
    }

    fn night(&mut self, night: &Night) -> Change {
        self.statistics = Some(night.statistics.clone());
        Change::Night { pass: night.pass, statistics: night.statistics.clone() }
    }
}

/// Appends to a list of the last `most`.
pub(super) fn push_last<T>(list: &mut VecDeque<T>, item: T, most: usize) {
    if list.len() >= most {
        list.pop_front();
    }
    list.push_back(item);
}
