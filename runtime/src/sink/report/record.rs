//! What the report holds of a night: the stages of every epoch by how sure they were, the flaws of
//! every channel, gaps, warnings. A few bytes an epoch; longer recordings are cut at [`MAX_EPOCHS`].
//! Runs on the sinks' thread.

use std::collections::BTreeMap;

use sfm_models::SleepStage;

use crate::event::{ChannelQuality, EpochStatus, Event, Gap, Pass, SleepEpoch, Started};
use sfm_models::EPOCH_S;

/// Epochs that are drawn: 48 h.
pub(super) const MAX_EPOCHS: usize = 5_760;
/// Gaps that are drawn; the ledger counts them all.
const MAX_SPANS: usize = 20_000;
const MAX_WARNINGS: usize = 100;
/// Less of an epoch than this is no flaw to show.
const MIN_PART: f32 = 0.1;

/// What is known of one epoch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct EpochRow {
    /// The stage while it was provisional, settled, final; the inner `None` is `?`.
    pub stages: [Option<Option<SleepStage>>; 3],
    /// Of the best known stage.
    pub probabilities: Option<[f32; SleepStage::COUNT]>,
}

impl EpochRow {
    /// The best known stage; `None` where none was told or it is `?`.
    pub fn stage(&self) -> Option<SleepStage> {
        self.stages.iter().rev().find_map(|stage| *stage).flatten()
    }

    fn take(&mut self, epoch: &SleepEpoch) {
        self.stages[place(epoch.status)] = Some(epoch.stage);
        // NaN where no token is present.
        let probabilities = Some(epoch.probabilities);
        self.probabilities = probabilities.filter(|p| p.iter().all(|p| p.is_finite()));
    }
}

/// The place of a status in [`EpochRow::stages`].
pub(super) fn place(status: EpochStatus) -> usize {
    match status {
        EpochStatus::Provisional => 0,
        EpochStatus::Settled => 1,
        EpochStatus::Final => 2,
    }
}

/// What is most wrong with a channel in an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Nothing to report.
    #[default]
    None,
    /// Samples are missing.
    Missing,
    /// Flat, or the electrode is off.
    Flat,
    /// Clipped, or values no living person has.
    OutOfRange,
    /// Much of the power is 50 or 60 Hz.
    LineNoise,
}

impl Flaw {
    fn of(quality: &ChannelQuality) -> Self {
        let parts = [
            (quality.missing, Flaw::Missing),
            (quality.flat, Flaw::Flat),
            (quality.clipped.max(quality.implausible), Flaw::OutOfRange),
        ];
        let largest = parts.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        match largest.filter(|(part, _)| *part >= MIN_PART) {
            Some((_, flaw)) => flaw,
            None if quality.line_noise > 0.0 => Flaw::LineNoise,
            // Noise, which no other figure tells.
            None if quality.masked > 0.0 => Flaw::OutOfRange,
            None => Flaw::None,
        }
    }
}

/// A stretch of missing samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct GapSpan {
    /// Index in the source.
    pub channel: usize,
    /// Start behind the start of the recording, seconds.
    pub onset_s: f64,
    /// Length, seconds.
    pub duration_s: f64,
}

/// The night so far.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The pass that is told last.
    pub started: Option<Box<Started>>,
    /// By epoch from the start of the recording.
    pub epochs: Vec<EpochRow>,
    /// Number of epochs; more than what is drawn in a recording of days.
    pub scored: usize,
    /// Flaws by channel of the source, then by epoch; shorter where nothing more is wrong.
    pub flaws: BTreeMap<usize, Vec<Flaw>>,
    /// Gaps in order of time.
    pub gaps: Vec<GapSpan>,
    /// What the user was told, one sentence each.
    pub warnings: Vec<String>,
}

impl Record {
    /// Whether the pictures end before the night does.
    pub fn is_cut(&self) -> bool {
        self.scored > MAX_EPOCHS
    }

    /// Length of what was scored, seconds.
    pub fn scored_s(&self) -> f64 {
        self.scored as f64 * EPOCH_S
    }

    /// Takes what an event says; signals do not concern it.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Started(started) => self.begin(started),
            Event::Epoch(epoch) => self.take_epoch(epoch),
            Event::Gap(gap) => self.take_gap(gap),
            Event::Quality(quality) => {
                let channels = &quality.channels;
                channels.iter().for_each(|c| self.take_flaw(quality.epoch as usize, c));
            }
            Event::Warning { message } if self.warnings.len() < MAX_WARNINGS => {
                self.warnings.push(message.clone());
            }
            _ => {}
        }
    }

    /// Every pass tells gaps and flaws anew. Stages of the pass before stay, to be compared.
    fn begin(&mut self, started: &Started) {
        if started.pass == Pass::Live {
            self.epochs.clear();
        }
        self.flaws.clear();
        self.gaps.clear();
        self.warnings.clear();
        self.scored = 0;
        self.started = Some(Box::new(started.clone()));
    }

    fn take_epoch(&mut self, epoch: &SleepEpoch) {
        let index = epoch.epoch as usize;
        self.scored = self.scored.max(index + 1);
        if index >= MAX_EPOCHS {
            return;
        }
        if self.epochs.len() <= index {
            self.epochs.resize(index + 1, EpochRow::default());
        }
        self.epochs[index].take(epoch);
    }

    fn take_gap(&mut self, gap: &Gap) {
        if self.gaps.len() < MAX_SPANS {
            let Gap { channel, onset_s, duration_s, .. } = *gap;
            self.gaps.push(GapSpan { channel, onset_s, duration_s });
        }
    }

    fn take_flaw(&mut self, epoch: usize, quality: &ChannelQuality) {
        let flaw = Flaw::of(quality);
        if flaw == Flaw::None || epoch >= MAX_EPOCHS {
            return;
        }
        let flaws = self.flaws.entry(quality.channel).or_default();
        if flaws.len() <= epoch {
            flaws.resize(epoch + 1, Flaw::None);
        }
        flaws[epoch] = flaw;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_flaw_is_shown() {
        let flaw = |missing, flat, clipped, line_noise| {
            Flaw::of(&ChannelQuality { missing, flat, clipped, line_noise, ..Default::default() })
        };
        assert_eq!(flaw(0.05, 0.0, 0.0, 0.0), Flaw::None);
        assert_eq!(flaw(0.2, 0.5, 0.3, 0.4), Flaw::Flat);
        assert_eq!(flaw(0.2, 0.0, 0.3, 0.0), Flaw::OutOfRange);
        assert_eq!(flaw(0.0, 0.0, 0.0, 0.4), Flaw::LineNoise);
    }
}
