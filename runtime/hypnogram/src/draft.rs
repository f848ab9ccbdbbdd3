//! From the rows of a file to a [`Scoring`]: order, ends that are not given, repeats and overlaps.
//! Every reader ends here.

use std::fmt;

use sfm_models::SleepStage;

use super::codes::CodeUsed;
use super::names::shown;
use super::{EpochLength, MAX_STRETCHES, Scoring, Start, Stretch, TOLERANCE_S, Timing};
use sfm_models::EPOCH_S;

/// Different texts of events that are counted.
const MAX_TEXTS: usize = 200;
/// So many events of one text in the place of stages are stages by another name.
const FILLERS: usize = 3;

/// Where in a file something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A line, from 1.
    Line(usize),
    /// An annotation of an EDF file.
    Annotation,
    /// An element of an array, from 0.
    Index(usize),
}

impl Place {
    /// A refusal with the place; `onset_s` is where annotations are known by.
    pub fn refused(self, onset_s: f64, reason: impl fmt::Display) -> String {
        match self {
            Place::Line(line) => format!("line {line}: {reason}"),
            Place::Annotation => format!("annotation at {onset_s} s: {reason}"),
            Place::Index(index) => format!("epoch {index}: {reason}"),
        }
    }
}

/// A stage as a file says it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub place: Place,
    pub onset_s: f64,
    /// `None` where the file does not say.
    pub end_s: Option<f64>,
    pub stage: Option<SleepStage>,
}

/// What a reader has found.
#[derive(Debug)]
pub(super) struct Draft {
    pub format: &'static str,
    pub entries: Vec<Entry>,
    pub start: Option<Start>,
    pub timing: Timing,
    pub epoch: Option<EpochLength>,
    pub code: Option<CodeUsed>,
    /// Where the recording ends, if the file says so.
    pub end_s: Option<f64>,
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
    others: Others,
}

/// Events that are no stages.
#[derive(Debug, Default)]
struct Others {
    count: usize,
    /// How often each text, in order of appearance; the first [`MAX_TEXTS`] of them.
    texts: Vec<(String, usize)>,
    /// Of those that say it, the number of the text, start and end, seconds.
    spans: Vec<(usize, f64, f64)>,
}

impl Draft {
    /// Nothing is known but the format and what its times count from.
    pub fn new(format: &'static str, timing: Timing) -> Self {
        Self {
            format,
            entries: Vec::new(),
            start: None,
            timing,
            epoch: None,
            code: None,
            end_s: None,
            notes: Vec::new(),
            warnings: Vec::new(),
            others: Others::default(),
        }
    }

    /// Stages of equal length one after the other, from `onset_s` on.
    pub fn push_epochs(
        &mut self,
        onset_s: f64,
        epoch: EpochLength,
        stages: impl IntoIterator<Item = (Place, Option<SleepStage>)>,
    ) {
        self.epoch = Some(epoch);
        self.entries.extend((0_u32..).zip(stages).map(|(number, (place, stage))| {
            let onset_s = onset_s + f64::from(number) * epoch.s;
            Entry { place, onset_s, end_s: Some(onset_s + epoch.s), stage }
        }));
    }

    /// An event that is no stage, with its start and end in seconds if they are known.
    pub fn pass_over(&mut self, text: &str, span_s: Option<(f64, f64)>) {
        let others = &mut self.others;
        others.count += 1;
        let text = shown(text);
        let place = others.texts.iter().position(|(known, _)| *known == text);
        let place = place.or_else(|| {
            let is_room = others.texts.len() < MAX_TEXTS;
            is_room.then(|| others.texts.push((text, 0)))?;
            Some(others.texts.len() - 1)
        });
        let Some(place) = place else { return };
        if let Some((_, count)) = others.texts.get_mut(place) {
            *count += 1;
        }
        if let Some((start_s, end_s)) = span_s
            && others.spans.len() < MAX_STRETCHES
        {
            others.spans.push((place, start_s, end_s));
        }
    }

    /// Says how many events were no stages, and which were the most frequent.
    fn note_others(&mut self) {
        let Others { count, texts, .. } = &mut self.others;
        if *count == 0 {
            return;
        }
        texts.retain(|(text, _)| !text.is_empty());
        texts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let most: Vec<_> = texts.iter().take(3).map(|(text, n)| format!("'{text}' {n}")).collect();
        let most = if most.is_empty() { String::new() } else { format!(": {}", most.join(", ")) };
        self.notes.push(format!("{count} events that are no stages were passed over{most}"));
    }

    /// Refuses a file in which events of whole epochs stand where stages are missing: they are stages
    /// by another name.
    fn refuse_stages_by_other_names(&self, stretches: &[Stretch]) -> Result<(), String> {
        let shortest = stretches.iter().map(|s| s.duration_s).filter(|s| *s >= 1.0);
        let epoch_s = shortest.fold(f64::INFINITY, f64::min).min(EPOCH_S);
        let is_whole = |s: f64| {
            s >= epoch_s - TOLERANCE_S && (s - (s / epoch_s).round() * epoch_s).abs() <= TOLERANCE_S
        };
        // Between two stages: before the first and after the last there may be anything.
        let is_free = |start_s: f64, end_s: f64| {
            let next = stretches.partition_point(|s| s.end_s() <= start_s + TOLERANCE_S);
            next > 0 && stretches.get(next).is_some_and(|s| s.onset_s >= end_s - TOLERANCE_S)
        };
        let mut counts = vec![0; self.others.texts.len()];
        for &(place, start_s, end_s) in &self.others.spans {
            if is_whole(end_s - start_s)
                && is_free(start_s, end_s)
                && let Some(count) = counts.get_mut(place)
            {
                *count += 1;
            }
        }
        let most = counts.iter().zip(&self.others.texts).max_by_key(|(count, _)| **count);
        match most {
            Some((&count, (text, _))) if count >= FILLERS && !text.is_empty() => Err(format!(
                "{count} events '{text}' of whole epochs stand where no stage does; if they are stages, \
                 say which: --codes '{text}=N2'; if not: --codes '{text}=?'"
            )),
            _ => Ok(()),
        }
    }

    /// Puts the stages in order and checks them.
    ///
    /// # Errors
    /// No epoch at all; stretches that overlap or end before they begin, with their places.
    pub fn finish(mut self) -> Result<Scoring, String> {
        if self.entries.is_empty() {
            return Err(format!("is {}, but holds no sleep stages", self.format));
        }
        if self.entries.len() > MAX_STRETCHES {
            return Err(format!("has over {MAX_STRETCHES} stages, which no scoring has"));
        }
        for entry in &self.entries {
            if entry.end_s.is_some_and(|end_s| end_s < entry.onset_s - TOLERANCE_S) {
                return Err(entry.place.refused(entry.onset_s, "it stops before it starts"));
            }
        }
        self.entries.sort_by(|a, b| a.onset_s.total_cmp(&b.onset_s));
        self.drop_repeats();
        self.close();
        let mut stretches = Vec::with_capacity(self.entries.len());
        let mut before: Option<Entry> = None;
        for entry in &self.entries {
            let Some(end_s) = entry.end_s else { continue };
            if let Some(before) = before
                && before.end_s.is_some_and(|end_s| entry.onset_s < end_s - TOLERANCE_S)
            {
                let reason = format!(
                    "the stage at {} s overlaps the one at {} s; leave one scorer's in it",
                    entry.onset_s, before.onset_s
                );
                return Err(entry.place.refused(entry.onset_s, reason));
            }
            before = Some(*entry);
            let duration_s = (end_s - entry.onset_s).max(0.0);
            stretches.push(Stretch { onset_s: entry.onset_s, duration_s, stage: entry.stage });
        }
        if stretches.is_empty() {
            return Err(format!("is {}, but no stage in it has an end", self.format));
        }
        self.refuse_stages_by_other_names(&stretches)?;
        self.note_others();
        let Self { format, start, timing, epoch, code, notes, warnings, .. } = self;
        Ok(Scoring { format, stretches, start, timing, epoch, code, notes, warnings })
    }

    /// A row that says the same as the one before it, times and all, adds nothing.
    fn drop_repeats(&mut self) {
        let count = self.entries.len();
        self.entries.dedup_by(|b, a| {
            let close = |a: f64, b: f64| (a - b).abs() <= TOLERANCE_S;
            let ends = a.end_s.zip(b.end_s);
            let is_same = ends.is_some_and(|(a, b)| close(a, b)) && close(a.onset_s, b.onset_s);
            is_same && a.stage == b.stage && self.timing == Timing::Seconds
        });
        let repeats = count - self.entries.len();
        if repeats > 0 {
            self.notes.push(format!("{repeats} repeated rows count once"));
        }
    }

    /// Gives an end to stages without one. Where stages repeat in equal steps each lasts a step,
    /// and longer steps are holes; else each lasts until the next.
    fn close(&mut self) {
        let is_open = |entry: &Entry| entry.end_s.is_none_or(|end_s| end_s <= entry.onset_s);
        if !self.entries.iter().any(is_open) {
            return;
        }
        let step_s = self.step_s();
        let (mut count, mut later_s, mut before_s) = (0, None, f64::INFINITY);
        for entry in self.entries.iter_mut().rev() {
            if entry.onset_s < before_s {
                later_s = before_s.is_finite().then_some(before_s);
                before_s = entry.onset_s;
            }
            if !is_open(entry) {
                continue;
            }
            count += 1;
            let end_s = self.end_s.filter(|end_s| *end_s > entry.onset_s);
            entry.end_s = match (step_s, later_s.or(end_s)) {
                (Some(step_s), Some(next_s)) => Some(next_s.min(entry.onset_s + step_s)),
                (Some(step_s), None) => Some(entry.onset_s + step_s),
                (None, next_s) => next_s,
            };
        }
        if let Some(step_s) = step_s {
            self.epoch.get_or_insert(EpochLength { s: step_s, is_assumed: false });
            self.notes
                .push(format!("stages without a length last {step_s} s, the step of the rows"));
            return;
        }
        self.notes.push(format!("{count} stages without a length last until the next one"));
        if let Some(last) = self.entries.last()
            && last.end_s.is_none()
            && last.stage.is_some()
        {
            let onset_s = last.onset_s;
            self.warnings
                .push(format!("the last stage, at {onset_s} s, has no end and is left out"));
        }
    }

    /// The length of an epoch, if stages without an end come epoch by epoch: all steps are one, or
    /// most are and most of these say again the stage that did not change.
    fn step_s(&self) -> Option<f64> {
        let steps =
            || self.entries.windows(2).map(|pair| (pair[1].onset_s - pair[0].onset_s, pair));
        let positive = steps().map(|(step_s, _)| step_s).filter(|step_s| *step_s > TOLERANCE_S);
        let smallest = positive.min_by(f64::total_cmp)?;
        let is_step = |step_s: f64| (step_s - smallest).abs() <= TOLERANCE_S;
        // Sleep goes on for some epochs in one stage; a list of changes hardly ever repeats one.
        let repeats = steps()
            .filter(|(step_s, pair)| is_step(*step_s) && pair[0].stage == pair[1].stage)
            .count();
        let (count, equal) = (steps().count(), steps().filter(|(s, _)| is_step(*s)).count());
        let is_even = count > 1 && equal == count && smallest <= 2.0 * EPOCH_S;
        (is_even || (2 * repeats >= equal && 2 * equal >= count))
            .then_some((smallest * 1e6).round() / 1e6)
    }
}
