//! Two scorings of one night side by side: where one lies on the other, how far they agree, stage by
//! stage, and what only one of them has. Epochs are compared by time, never by row, unless a file has
//! no time at all.

use std::ops::Range;

use sfm_models::SleepStage;

use super::confusion::Confusion;
use super::time::DAY_S;
use super::{MAX_S, Scoring, Start, TOLERANCE_S, Timing};
use sfm_models::EPOCH_S;

/// Lengths of epochs that files have and do not say, seconds, with what they are called.
const LENGTHS: [(f64, &str); 9] = [
    (20.0, "20-s epochs"),
    (10.0, "10-s epochs"),
    (5.0, "5-s epochs"),
    (1.0, "a value per second"),
    (15.0, "15-s epochs"),
    (4.0, "4-s epochs"),
    (2.0, "2-s epochs"),
    (60.0, "60-s epochs"),
    (30.0, "30-s epochs"),
];

/// By what two scorings were laid on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlignedBy {
    /// The user's offset.
    Given,
    /// Date and time of day of both starts.
    Start,
    /// Times of day of both starts; the nearest.
    Clock,
    /// Time or number of epochs since the start of the recording, which both are taken to share.
    Epoch,
    /// One has times of day and the other none: its first row is taken as the start of the recording.
    FirstRow,
    /// One has no times: its first value is taken as the first epoch.
    Row,
}

impl AlignedBy {
    /// The word for it in files.
    pub fn as_str(self) -> &'static str {
        match self {
            AlignedBy::Given => "given",
            AlignedBy::Start => "start",
            AlignedBy::Clock => "clock",
            AlignedBy::Epoch => "epoch",
            AlignedBy::FirstRow => "first_row",
            AlignedBy::Row => "row",
        }
    }

    /// What it means, for the user.
    pub fn about(self) -> &'static str {
        match self {
            AlignedBy::Given => "by the offset given",
            AlignedBy::Start => "by date and time of both starts",
            AlignedBy::Clock => "by time of day of both starts",
            AlignedBy::Epoch => "by epoch; both are taken to count from the same start",
            AlignedBy::FirstRow => {
                "by the first row of the one with times of day, taken as the first epoch of the other"
            }
            AlignedBy::Row => {
                "by row, since one has no times: its first value is taken as the first epoch"
            }
        }
    }
}

/// How the reference lies on the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alignment {
    /// What says so.
    pub by: AlignedBy,
    /// The reference's zero behind the run's, seconds.
    pub offset_s: f64,
}

impl Alignment {
    /// By the starts of both if they have any; else by epoch. `given_s` is the user's word.
    pub fn of(reference: &Scoring, run: &Scoring, given_s: Option<f64>) -> Self {
        if let Some(offset_s) = given_s {
            return Self { by: AlignedBy::Given, offset_s };
        }
        match (reference.start, run.start) {
            (Some(Start::Date(theirs)), Some(Start::Date(ours))) => {
                Self { by: AlignedBy::Start, offset_s: theirs.seconds_since(ours) }
            }
            (Some(theirs), Some(ours)) => {
                let apart_s = theirs.clock_s() - ours.clock_s() + DAY_S / 2.0;
                let offset_s = apart_s.rem_euclid(DAY_S) - DAY_S / 2.0;
                Self { by: AlignedBy::Clock, offset_s }
            }
            _ => {
                let is_any = |timing| reference.timing == timing || run.timing == timing;
                let by = match () {
                    () if is_any(Timing::RowNumber) => AlignedBy::Row,
                    () if is_any(Timing::Clock) => AlignedBy::FirstRow,
                    () => AlignedBy::Epoch,
                };
                Self { by, offset_s: 0.0 }
            }
        }
    }
}

/// Refuses a scoring whose epochs have no length of their own and fit the other's night only with
/// another length than the one that was assumed. `names` are the reference and the run.
///
/// # Errors
/// What the values are, and the option that says so.
pub fn check_epoch_lengths(
    reference: &Scoring,
    run: &Scoring,
    names: [&str; 2],
) -> Result<(), String> {
    let options = ["--epoch-s", "--run-epoch-s"];
    let pairs = [(reference, run, names[0], options[0]), (run, reference, names[1], options[1])];
    for (one, other, name, option) in pairs {
        let other_s = other.span_s().1.max(other.span_s().1 - other.span_s().0);
        if let Some(reason) = epochs_of_another_length(one, other_s, option) {
            return Err(format!("{name}: {reason}"));
        }
    }
    Ok(())
}

/// Why the epochs of a scoring cannot be as long as was assumed, next to a night of `night_s`;
/// `option` is what says how long they are.
pub fn epochs_of_another_length(scoring: &Scoring, night_s: f64, option: &str) -> Option<String> {
    let epoch = scoring.epoch.filter(|epoch| epoch.is_assumed)?;
    let tolerance_s = (night_s / 100.0).max(EPOCH_S);
    let count = scoring.span_s().1 / epoch.s;
    let fits = |s: f64| (count * s - night_s).abs() <= tolerance_s + TOLERANCE_S;
    if fits(epoch.s) {
        return None;
    }
    let (s, what) = LENGTHS.iter().find(|(s, _)| fits(*s))?;
    Some(format!(
        "its {count:.0} values beside {night_s:.0} s of the other look like {what}, but it does not say \
         so; give {option} {s}, or {option} {} if they are that long",
        epoch.s
    ))
}

/// A night scored twice, epoch by epoch on one grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// How they were laid on each other.
    pub alignment: Alignment,
    /// Both from the first epoch of either on.
    pub reference: Vec<Option<SleepStage>>,
    /// As many epochs.
    pub run: Vec<Option<SleepStage>>,
    /// The epochs of that grid which the reference covers.
    pub reference_range: Range<usize>,
    /// The same of the run.
    pub run_range: Range<usize>,
    /// Epochs by the reference's stage (rows) and ours (columns), W to R.
    pub confusion: Confusion,
    /// Epochs of both that the reference has not scored, whatever ours is.
    pub unscored_reference: usize,
    /// Epochs of both that ours alone has not scored.
    pub unscored_run: usize,
    /// What may be wrong, one sentence each.
    pub warnings: Vec<String>,
}

impl Agreement {
    /// Lays the reference on the run and compares the epochs that both cover, on the run's grid.
    ///
    /// # Errors
    /// They do not lie within a week of each other.
    pub fn of(reference: &Scoring, run: &Scoring, alignment: Alignment) -> Result<Self, String> {
        let shift_s = alignment.offset_s;
        let (ours, theirs) = (run.span_s(), reference.span_s());
        let theirs = (theirs.0 + shift_s, theirs.1 + shift_s);
        if !(-MAX_S..=MAX_S).contains(&shift_s) {
            return Err(format!(
                "the two begin {:.1} days apart; if they are of one night, say where the reference \
                 begins behind the run: --offset-s",
                shift_s / DAY_S
            ));
        }
        let phase_s = if run.is_on_grid() { ours.0.rem_euclid(EPOCH_S) } else { 0.0 };
        let epoch = |s: f64| ((s - phase_s + TOLERANCE_S) / EPOCH_S).floor();
        let first = epoch(ours.0).min(epoch(theirs.0));
        let range = |(from_s, to_s): (f64, f64)| {
            let last = ((to_s - phase_s - TOLERANCE_S) / EPOCH_S).ceil();
            // Two scorings of a week each, a week apart at most.
            ((epoch(from_s) - first) as usize)..((last - first).max(0.0) as usize)
        };
        let (reference_range, run_range) = (range(theirs), range(ours));
        let count = reference_range.end.max(run_range.end);
        let origin_s = first * EPOCH_S + phase_s;
        let mut agreement = Self {
            alignment,
            reference: reference.epochs_from(origin_s - shift_s, count),
            run: run.epochs_from(origin_s, count),
            reference_range,
            run_range,
            confusion: Confusion::new(SleepStage::COUNT),
            unscored_reference: 0,
            unscored_run: 0,
            warnings: Vec::new(),
        };
        agreement.count();
        agreement.warn_of_lengths(theirs.1 - theirs.0, ours.1 - ours.0);
        Ok(agreement)
    }

    /// The epochs that both cover.
    pub fn both(&self) -> Range<usize> {
        let begin = self.reference_range.start.max(self.run_range.start);
        begin..self.reference_range.end.min(self.run_range.end).max(begin)
    }

    /// Epochs that only the reference covers.
    pub fn only_reference(&self) -> usize {
        self.reference_range.len() - self.both().len()
    }

    /// Epochs that only the run covers.
    pub fn only_run(&self) -> usize {
        self.run_range.len() - self.both().len()
    }

    fn count(&mut self) {
        for epoch in self.both() {
            let truth = self.reference.get(epoch).copied().flatten();
            let stage = self.run.get(epoch).copied().flatten();
            match (truth, stage) {
                (Some(truth), Some(stage)) => self.confusion.add(truth.index(), stage.index()),
                (None, _) => self.unscored_reference += 1,
                (Some(_), None) => self.unscored_run += 1,
            }
        }
    }

    fn warn_of_lengths(&mut self, reference_s: f64, run_s: f64) {
        if (reference_s - run_s).abs() > EPOCH_S + TOLERANCE_S {
            self.warnings.push(format!(
                "the reference has {reference_s:.0} s ({} epochs), the run {run_s:.0} s ({} epochs)",
                self.reference_range.len(),
                self.run_range.len()
            ));
        }
    }
}
