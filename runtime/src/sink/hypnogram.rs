//! The best known row of every epoch, as both hypnogram files hold it.

use std::collections::BTreeMap;

use crate::event::{Event, SleepEpoch};

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

    /// The rows in order of time.
    pub fn epochs(&self) -> impl Iterator<Item = &SleepEpoch> {
        self.epochs.values()
    }
}
