//! The best known row of every epoch, as both hypnogram files hold it.

use std::collections::BTreeMap;

use sfm_models::SleepStage;

use crate::edf::Annotation;
use crate::event::{Event, SleepEpoch};
use sfm_models::EPOCH_S;

/// Epochs by index. A later event about an epoch replaces the earlier one: the pipeline speaks
/// again only when it knows better.
#[derive(Debug, Default)]
pub(super) struct Hypnogram {
    epochs: BTreeMap<u32, SleepEpoch>,
    changed: bool,
}

impl Hypnogram {
    /// Takes the epoch of an epoch event; other events do not concern it.
    pub fn take(&mut self, event: &Event) {
        if let Event::Epoch(epoch) = event {
            self.changed = true;
            self.epochs.insert(epoch.epoch, epoch.clone());
        }
    }

    /// Whether anything was taken since the last call.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What was taken could not be written.
    pub fn keep_change(&mut self) {
        self.changed = true;
    }

    /// The stages from the first epoch on; `None` also for an epoch that was lost on the way.
    pub fn stages(&self) -> Vec<Option<SleepStage>> {
        let count = self.epochs.last_key_value().map_or(0, |(last, _)| *last as usize + 1);
        let mut stages = vec![None; count];
        for (index, stage) in (0..).zip(&mut stages) {
            *stage = self.epochs.get(&index).and_then(|epoch| epoch.stage);
        }
        stages
    }

    /// The rows in order of time.
    pub fn epochs(&self) -> impl Iterator<Item = &SleepEpoch> {
        self.epochs.values()
    }
}

/// An epoch as an EDF+ annotation with the standard text.
pub(super) fn annotation(epoch: &SleepEpoch) -> Annotation {
    Annotation {
        onset_s: epoch.onset_s,
        duration_s: Some(EPOCH_S),
        text: epoch.stage.map_or("Sleep stage ?", SleepStage::edf_text).to_owned(),
    }
}
