//! Sleep statistics of one night by the definitions of the AASM manual (Berry et al., *The AASM
//! Manual for the Scoring of Sleep and Associated Events*, "Recommended parameters to be
//! reported"). Lights out and lights on are the ends of the hypnogram: it is cut there before.
//!
//! Epochs that were not staged (`?`) are neither sleep nor wake: they count in the recording
//! time, the sleep period and the latencies, which are spans of time, and in no stage.

use serde::{Deserialize, Serialize};
use sfm_models::SleepStage;

/// Length of an epoch, minutes.
const EPOCH_MIN: f64 = sfm_models::EPOCH_S / 60.0;

/// Statistics of a hypnogram of 30-s epochs. Times are minutes, exact to half a minute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SleepStatistics {
    /// Total recording time (TRT): lights out to lights on, every epoch of it, `?` included.
    pub trt_min: f64,
    /// Total sleep time (TST): epochs staged N1, N2, N3 or R.
    pub tst_min: f64,
    /// Sleep period time (SPT): from the start of the first to the end of the last epoch of
    /// sleep, with the wake and the `?` between them; 0 without sleep.
    pub spt_min: f64,
    /// Sleep efficiency: 100 TST / TRT. As `?` epochs are in TRT and not in TST, it is a lower
    /// bound where some are. `None` where no epoch was staged.
    pub sleep_efficiency_pct: Option<f64>,
    /// Sleep onset latency (SOL): lights out to the start of the first epoch of any sleep stage.
    /// `None` without sleep.
    pub sol_min: Option<f64>,
    /// REM latency: from sleep onset (not from lights out) to the start of the first epoch of R.
    /// `None` without R.
    pub rem_latency_min: Option<f64>,
    /// Wake after sleep onset (WASO): epochs staged W between sleep onset and lights on. Where no
    /// epoch is `?` this is TRT less SOL less TST. Some programs stop at the last epoch of sleep:
    /// theirs is this less [`Self::terminal_wake_min`]. `None` without sleep.
    pub waso_min: Option<f64>,
    /// The part of WASO behind the last epoch of sleep. `None` without sleep.
    pub terminal_wake_min: Option<f64>,
    /// Epochs that were not staged.
    pub unscored_min: f64,
    /// Time in each stage; W is the whole recording's wake.
    pub stage_min: PerStage<f64>,
    /// Time in each sleep stage as a percentage of TST. `None` for W, which is no part of TST,
    /// and without sleep.
    pub stage_pct_of_tst: PerStage<Option<f64>>,
    /// Awakenings: changes from a sleep stage to W, the last one of the night included. `?` epochs
    /// between the two are passed over.
    pub awakenings: u32,
    /// Stage changes: staged epochs whose stage differs from that of the staged epoch before.
    pub stage_changes: u32,
}

/// One value a sleep stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PerStage<T> {
    /// Wakefulness.
    #[serde(rename = "W")]
    pub wake: T,
    /// Non-REM stage 1.
    #[serde(rename = "N1")]
    pub n1: T,
    /// Non-REM stage 2.
    #[serde(rename = "N2")]
    pub n2: T,
    /// Non-REM stage 3.
    #[serde(rename = "N3")]
    pub n3: T,
    /// Rapid eye movement sleep.
    #[serde(rename = "R")]
    pub rem: T,
}

impl<T> PerStage<T> {
    /// Computes one value a stage.
    pub fn from_fn(mut value: impl FnMut(SleepStage) -> T) -> Self {
        PerStage {
            wake: value(SleepStage::Wake),
            n1: value(SleepStage::N1),
            n2: value(SleepStage::N2),
            n3: value(SleepStage::N3),
            rem: value(SleepStage::Rem),
        }
    }
}

impl<T> std::ops::Index<SleepStage> for PerStage<T> {
    type Output = T;

    fn index(&self, stage: SleepStage) -> &T {
        match stage {
            SleepStage::Wake => &self.wake,
            SleepStage::N1 => &self.n1,
            SleepStage::N2 => &self.n2,
            SleepStage::N3 => &self.n3,
            SleepStage::Rem => &self.rem,
        }
    }
}

impl SleepStatistics {
    /// The statistics of a hypnogram: one entry a 30-s epoch, from lights out to lights on;
    /// `None` is an epoch that was not staged.
    pub fn from_hypnogram(hypnogram: &[Option<SleepStage>]) -> Self {
        let trt_min = minutes(hypnogram.len());
        let unscored_min = minutes(hypnogram.iter().filter(|s| s.is_none()).count());
        let in_stage = |stage| minutes(hypnogram.iter().filter(|s| **s == Some(stage)).count());
        let stage_min = PerStage::from_fn(in_stage);
        let tst_min = stage_min.n1 + stage_min.n2 + stage_min.n3 + stage_min.rem;
        let share = |stage| {
            (stage != SleepStage::Wake && tst_min > 0.0).then(|| 100.0 * stage_min[stage] / tst_min)
        };
        let (awakenings, stage_changes) = changes(hypnogram);
        let mut statistics = SleepStatistics {
            trt_min,
            tst_min,
            sleep_efficiency_pct: (trt_min > unscored_min).then(|| 100.0 * tst_min / trt_min),
            unscored_min,
            stage_min,
            stage_pct_of_tst: PerStage::from_fn(share),
            awakenings,
            stage_changes,
            ..SleepStatistics::default()
        };
        let onset = hypnogram.iter().position(|s| is_sleep(*s));
        let last = hypnogram.iter().rposition(|s| is_sleep(*s));
        if let (Some(onset), Some(last)) = (onset, last) {
            let wake_from =
                |first| minutes(hypnogram.iter().skip(first).filter(|s| is_wake(**s)).count());
            let rem = hypnogram.iter().position(|s| *s == Some(SleepStage::Rem));
            statistics.spt_min = minutes(last + 1 - onset);
            statistics.sol_min = Some(minutes(onset));
            statistics.rem_latency_min = rem.map(|rem| minutes(rem - onset));
            statistics.waso_min = Some(wake_from(onset));
            statistics.terminal_wake_min = Some(wake_from(last + 1));
        }
        statistics
    }
}

fn minutes(epochs: usize) -> f64 {
    epochs as f64 * EPOCH_MIN
}

fn is_wake(stage: Option<SleepStage>) -> bool {
    stage == Some(SleepStage::Wake)
}

fn is_sleep(stage: Option<SleepStage>) -> bool {
    stage.is_some_and(|stage| stage != SleepStage::Wake)
}

/// Awakenings and stage changes among the staged epochs.
fn changes(hypnogram: &[Option<SleepStage>]) -> (u32, u32) {
    let mut awakenings = 0;
    let mut stage_changes = 0;
    let mut before = None;
    for stage in hypnogram.iter().flatten() {
        if before.is_some_and(|before| before != stage) {
            stage_changes += 1;
            awakenings += u32::from(*stage == SleepStage::Wake);
        }
        before = Some(stage);
    }
    (awakenings, stage_changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::stages as hypnogram;

    fn of(letters: &str) -> SleepStatistics {
        SleepStatistics::from_hypnogram(&hypnogram(letters))
    }

    /// The example in the documentation of `yasa.sleep_statistics` (YASA 0.8.1) with its figures.
    #[test]
    fn yasa_documentation_example() {
        let s = of("WW111222333233RRRRWW");
        assert_eq!((s.trt_min, s.spt_min, s.tst_min), (10.0, 8.0, 8.0));
        assert_eq!((s.stage_min.n1, s.stage_min.n2), (1.5, 2.0));
        assert_eq!((s.stage_min.n3, s.stage_min.rem), (2.5, 2.0));
        assert_eq!(s.sol_min, Some(1.0));
        assert_eq!(s.rem_latency_min, Some(7.0 - 1.0));
        assert_eq!(s.sleep_efficiency_pct, Some(80.0));
        assert_eq!(s.stage_pct_of_tst.n1, Some(18.75));
        assert_eq!(s.stage_pct_of_tst.n3, Some(31.25));
        assert_eq!(s.stage_pct_of_tst.wake, None);
        // YASA stops counting wake at the last epoch of sleep, the manual at lights on.
        assert_eq!(s.waso_min.zip(s.terminal_wake_min), Some((1.0, 1.0)));
    }

    #[test]
    fn waso_is_trt_less_sol_less_tst_when_every_epoch_is_staged() {
        let s = of("WWWW1W2233WWRR2W");
        assert_eq!(s.waso_min, Some(s.trt_min - 2.0 - s.tst_min));
        assert_eq!(s.waso_min, Some(2.0));
        assert_eq!(s.terminal_wake_min, Some(0.5));
        assert_eq!(s.awakenings, 3);
        assert_eq!(s.stage_changes, 8);
    }

    #[test]
    fn unstaged_epochs_are_time_but_no_stage() {
        let s = of("?W?12?WR?W?");
        assert_eq!((s.trt_min, s.tst_min, s.spt_min), (5.5, 1.5, 2.5));
        assert_eq!(s.unscored_min, 2.5);
        assert_eq!(s.sol_min, Some(1.5));
        assert_eq!(s.rem_latency_min, Some(2.0));
        assert_eq!(s.waso_min, Some(1.0));
        assert_eq!(s.awakenings, 2);
    }

    #[test]
    fn nothing_is_made_up_without_sleep_or_without_epochs() {
        let awake = of("WW?W");
        assert_eq!(awake.trt_min, 2.0);
        assert_eq!(awake.sleep_efficiency_pct, Some(0.0));
        assert_eq!((awake.sol_min, awake.waso_min, awake.rem_latency_min), (None, None, None));
        assert_eq!(awake.stage_pct_of_tst, PerStage::default());
        assert_eq!(of("12").rem_latency_min, None);
        assert_eq!(of("????").sleep_efficiency_pct, None);
        assert_eq!(of(""), SleepStatistics::default());
    }
}
