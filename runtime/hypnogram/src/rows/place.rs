//! The places of a table's rows in time: by seconds, numbers of epochs, times of day, ends or lengths,
//! whatever the rows say; by their order only where they say nothing.

use super::super::clocks::{self, CLOCK_TOLERANCE_S, Resolved, Span, Timed};
use super::super::draft::{Draft, Entry, Place};
use super::super::time::{DAY_S, Value, within_a_week};
use super::super::{EpochLength, MAX_S, Start, Timing};
use super::{Cells, Reader};
use sfm_models::EPOCH_S;

impl Reader<'_> {
    /// Gives every row its place in time.
    pub(super) fn place(&self, rows: &[Cells], draft: &mut Draft) -> Result<(), String> {
        self.check_even(rows)?;
        let clock = self.clock(rows, draft)?;
        let first = rows.first().copied().unwrap_or_default();
        let mut is_by_clock = false;
        let onsets = if first.start_s.is_some() {
            let is_numbered = first.length_s.is_some();
            draft.timing = if is_numbered { Timing::EpochNumber } else { Timing::Seconds };
            let onsets: Vec<f64> = rows.iter().filter_map(|row| row.start_s).collect();
            self.compare_with_clock(rows, &onsets, clock.as_ref(), draft)?;
            onsets
        } else if first.epoch.is_some() {
            draft.timing = Timing::EpochNumber;
            let onsets = self.by_number(rows, clock.as_ref(), draft)?;
            self.compare_with_clock(rows, &onsets, clock.as_ref(), draft)?;
            onsets
        } else if let Some(clock) = &clock {
            is_by_clock = !clock.are_elapsed && !clock.are_zoned;
            self.by_clock(clock, draft)
        } else if self.columns.stop.is_some() {
            draft.timing = Timing::Seconds;
            self.by_ends(rows)?
        } else if self.columns.duration.is_some() {
            draft.notes.push("stages placed one after the other by their lengths".into());
            self.by_lengths(rows)?
        } else {
            return self.by_row(rows, draft);
        };
        let mut entries = Vec::with_capacity(rows.len());
        for (index, (row, &onset_s)) in rows.iter().zip(&onsets).enumerate() {
            let onset_s = within_a_week(onset_s).map_err(|e| row.refused(e))?;
            let clock_s = clock.as_ref().and_then(|clock| clock.s.get(index)).copied();
            let end_s = self.end_s(row, onset_s, clock_s, draft)?;
            let place = Place::Line(row.line);
            entries.push(Entry { place, onset_s, end_s, stage: row.stage });
        }
        if let Some(clock) = clock.filter(|_| is_by_clock) {
            refuse_changed_clock(&entries, &onsets, &clock)?;
        }
        draft.entries = entries;
        Ok(())
    }

    /// Every row says what the first one does.
    fn check_even(&self, rows: &[Cells]) -> Result<(), String> {
        let kinds =
            |row: &Cells| (row.start_s.is_some(), row.clock.is_some(), row.length_s.is_some());
        let Some(first) = rows.first() else { return Ok(()) };
        match rows.iter().find(|row| kinds(row) != kinds(first)) {
            Some(row) => {
                Err(row.refused("its start is written in another way than in the rows before"))
            }
            None => Ok(()),
        }
    }

    /// The times of day on one scale, if there are any; sets the start where the file itself has it.
    fn clock(&self, rows: &[Cells], draft: &mut Draft) -> Result<Option<Resolved>, String> {
        let mut times: Vec<Timed> = Vec::with_capacity(rows.len() + 1);
        let timed =
            rows.iter().filter_map(|row| Some(Timed { line: row.line, moment: row.clock? }));
        times.extend(timed);
        let Some(first) = times.first().copied() else {
            draft.start = self.preamble.start.map(|start| start.1);
            return Ok(None);
        };
        if times.len() < rows.len() {
            return Err(format!("line {}: it has no time of day", first.line));
        }
        // Seconds beside a clock that goes back say how the night went on.
        let onsets: Option<Vec<f64>> = rows.iter().map(|row| row.start_s).collect();
        let mut resolved = match (clocks::resolve(&times), onsets) {
            (Err(_), Some(onsets)) if first.moment.date.is_none() => {
                clocks::follow(&times, &onsets)
            }
            (resolved, _) => resolved?,
        };
        if resolved.are_elapsed {
            draft.start = self.preamble.start.map(|start| start.1);
            draft.notes.append(&mut resolved.notes);
            return Ok(Some(resolved));
        }
        // Where the file says when the recording began, times count from there.
        if let Some((line, start)) = self.preamble.start {
            let zero_s = match (resolved.midnight, start) {
                (Some(midnight), Start::Date(start)) => start.seconds_since(midnight),
                _ => {
                    let first_s = resolved.s.first().copied().unwrap_or_default();
                    let clock_s = start.clock_s();
                    // The first row is not before the start.
                    let ahead_s = (first_s - clock_s + CLOCK_TOLERANCE_S).rem_euclid(DAY_S);
                    first_s - (ahead_s - CLOCK_TOLERANCE_S)
                }
            };
            let ahead_s = resolved.s.first().copied().unwrap_or_default() - zero_s;
            if !(-CLOCK_TOLERANCE_S..=DAY_S).contains(&ahead_s) {
                return Err(format!(
                    "line {line}: the recording starts {:.0} s behind the first stage; correct one of them",
                    -ahead_s
                ));
            }
            resolved.s.iter_mut().for_each(|s| *s -= zero_s);
            resolved.zero_s = zero_s;
            draft.start = Some(match (resolved.midnight, start) {
                (Some(_), Start::Clock(_)) => start_at(&resolved, 0.0),
                _ => start,
            });
        }
        draft.notes.append(&mut resolved.notes);
        Ok(Some(resolved))
    }

    /// Onsets by times of day: from the file's own start, else from the first row.
    fn by_clock(&self, clock: &Resolved, draft: &mut Draft) -> Vec<f64> {
        if clock.are_elapsed || draft.start.is_some() {
            draft.timing = Timing::Seconds;
            return clock.s.clone();
        }
        draft.timing = Timing::Clock;
        let zero_s = clock.s.iter().copied().fold(f64::INFINITY, f64::min);
        draft.start = Some(start_at(clock, zero_s));
        if clock.are_utc {
            draft.start = None;
            draft.notes.push("times are UTC: the local time of the start is not known".into());
        }
        if self.preamble.has_date_alone && clock.midnight.is_none() {
            draft
                .notes
                .push("the date above the table is not used: rows have times of day alone".into());
        }
        clock.s.iter().map(|s| s - zero_s).collect()
    }

    /// Onsets by number of epoch; its length by the clock, a column, the file's head, the user or 30 s.
    fn by_number(
        &self,
        rows: &[Cells],
        clock: Option<&Resolved>,
        draft: &mut Draft,
    ) -> Result<Vec<f64>, String> {
        let numbers: Vec<f64> = rows.iter().filter_map(|row| row.epoch).collect();
        let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let counted_from = if self.columns.is_index { Some(0.0) } else { self.dialect.first_epoch };
        let first = match (least, counted_from) {
            (0.0, _) => 0.0,
            (1.0, Some(0.0)) => {
                draft.warnings.push(
                    "its epochs begin at 1, although this format counts from 0: taken as the first"
                        .into(),
                );
                1.0
            }
            (_, Some(first)) => first,
            (_, None) => 1.0,
        };
        draft.notes.push(format!("epochs numbered from {first}"));
        if least > 1.0 {
            let (other, way) = if first == 0.0 { (1, "earlier") } else { (0, "later") };
            draft.warnings.push(format!(
                "its first epoch is number {least}: counted from {first}; if they count from {other}, all \
                 of it is an epoch {way}"
            ));
        }
        let epoch = match clock.and_then(|clock| step_by_clock(&numbers, &clock.s)) {
            Some(s) => EpochLength { s, is_assumed: false },
            None => self.epoch_length(rows),
        };
        check_epoch(epoch.s, rows.len())?;
        draft.epoch = Some(epoch);
        Ok(numbers.into_iter().map(|number| (number - first) * epoch.s).collect())
    }

    fn epoch_length(&self, rows: &[Cells]) -> EpochLength {
        let stated = |s| EpochLength { s, is_assumed: false };
        let lengths = rows.iter().map(|row| row.duration_s);
        let first = rows.first().and_then(|row| row.duration_s).filter(|s| *s > 0.0);
        if let Some(s) = first.filter(|_| lengths.clone().all(|length| length == first)) {
            return stated(s);
        }
        if let Some(s) = self.preamble.epoch_s.or(self.options.epoch_s) {
            return stated(s);
        }
        EpochLength { s: self.dialect.epoch_s.unwrap_or(EPOCH_S), is_assumed: true }
    }

    /// Onsets of stages of which only the ends are known.
    fn by_ends(&self, rows: &[Cells]) -> Result<Vec<f64>, String> {
        let mut onset_s = 0.0;
        let mut onsets = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(Value::Seconds(end_s)) = row.stop else {
                return Err(row.refused("its end is not in seconds"));
            };
            if end_s < onset_s {
                return Err(row.refused(format!("it ends at {end_s} s, before the row above does")));
            }
            onsets.push(onset_s);
            onset_s = end_s;
        }
        Ok(onsets)
    }

    fn by_lengths(&self, rows: &[Cells]) -> Result<Vec<f64>, String> {
        let mut onset_s = 0.0;
        rows.iter()
            .map(|row| {
                let length_s = row.duration_s.ok_or_else(|| row.refused("it has no length"))?;
                onset_s += length_s;
                Ok(onset_s - length_s)
            })
            .collect()
    }

    fn by_row(&self, rows: &[Cells], draft: &mut Draft) -> Result<(), String> {
        if let Some(line) = self.table.gap_line {
            return Err(format!(
                "line {line}: it is empty, in a list that has no times; write ? for an epoch that is \
                 not scored"
            ));
        }
        let epoch = self.epoch_length(rows);
        check_epoch(epoch.s, rows.len())?;
        if self.preamble.start_s.is_some() {
            draft.timing = Timing::Seconds;
        }
        let onset_s = self.preamble.start_s.unwrap_or(0.0);
        draft.push_epochs(
            within_a_week(onset_s)?,
            epoch,
            rows.iter().map(|row| (Place::Line(row.line), row.stage)),
        );
        Ok(())
    }

    /// Where a row ends, if it says so; all that it says must agree.
    fn end_s(
        &self,
        row: &Cells,
        onset_s: f64,
        clock_s: Option<f64>,
        draft: &Draft,
    ) -> Result<Option<f64>, String> {
        let stop_s = match row.stop {
            None => None,
            Some(Value::Seconds(s)) if row.start_s.is_some() || row.clock.is_none() => Some(s),
            Some(Value::Epoch { onset_s, length_s }) => Some(onset_s + length_s),
            Some(Value::Moment(stop)) if row.clock.is_some() && clock_s.is_some() => {
                let start_s = row.clock.map_or(0.0, |clock| clock.s);
                let is_elapsed = draft.timing == Timing::Seconds && row.start_s.is_none();
                let length_s = stop.s - start_s;
                Some(onset_s + if is_elapsed { length_s } else { length_s.rem_euclid(DAY_S) })
            }
            Some(_) => {
                return Err(row.refused("its start and its stop are written in different ways"));
            }
        };
        let of_epoch = row.epoch.and(draft.epoch).map(|epoch| epoch.s).or(row.length_s);
        let length_s = row.duration_s.filter(|s| *s > 0.0);
        let ends = [stop_s, length_s.map(|s| onset_s + s), of_epoch.map(|s| onset_s + s)];
        let mut said = ends.into_iter().flatten();
        let Some(first) = said.next() else { return Ok(None) };
        match said.find(|other| (other - first).abs() > CLOCK_TOLERANCE_S) {
            Some(other) if row.length_s.is_none() => {
                let reason = format!("it ends at {first} s and at {other} s; correct one of them");
                Err(row.refused(reason))
            }
            _ => Ok(Some(first)),
        }
    }

    /// Seconds or numbers of epochs beside times of day: they must go on together.
    fn compare_with_clock(
        &self,
        rows: &[Cells],
        onsets: &[f64],
        clock: Option<&Resolved>,
        draft: &mut Draft,
    ) -> Result<(), String> {
        let Some(clock) = clock.filter(|clock| !clock.are_elapsed) else { return Ok(()) };
        let (Some(&onset_s), Some(&clock_s)) = (onsets.first(), clock.s.first()) else {
            return Ok(());
        };
        let mut changed_s = 0.0;
        for ((row, onset), time) in rows.iter().zip(onsets).zip(&clock.s) {
            let apart_s = (time - clock_s) - (onset - onset_s) - changed_s;
            if apart_s.abs() <= CLOCK_TOLERANCE_S {
                continue;
            }
            if (apart_s.abs() - 3600.0).abs() > CLOCK_TOLERANCE_S {
                return Err(row.refused(format!(
                    "its time of day is {apart_s:.0} s apart from its place in the recording; \
                     correct one of them"
                )));
            }
            changed_s += apart_s;
            draft.notes.push(format!(
                "the clock is changed by an hour at line {}; times are those of the recording",
                row.line
            ));
        }
        if draft.start.is_none() {
            draft.start = Some(start_at(clock, clock_s - onset_s));
        }
        Ok(())
    }
}

/// The start of a scoring that begins at `s` of a clock's scale.
fn start_at(clock: &Resolved, s: f64) -> Start {
    let s = s + clock.zero_s;
    match clock.midnight {
        Some(midnight) => Start::Date(midnight.plus_seconds(s)),
        None => Start::Clock(s.rem_euclid(DAY_S)),
    }
}

/// The length of an epoch: what most pairs of rows say whose numbers follow each other.
fn step_by_clock(numbers: &[f64], clock: &[f64]) -> Option<f64> {
    let pairs = numbers.windows(2).zip(clock.windows(2));
    let mut steps: Vec<f64> = pairs
        .filter(|(number, _)| number[1] - number[0] == 1.0)
        .map(|(_, time)| time[1] - time[0])
        .filter(|s| *s > 0.0)
        .collect();
    steps.sort_by(f64::total_cmp);
    let middle = steps.get(steps.len().saturating_sub(1) / 2).copied()?;
    // Clocks may be written in whole seconds: the mean of what the middle stands for.
    let near: Vec<f64> =
        steps.into_iter().filter(|s| (s - middle).abs() <= CLOCK_TOLERANCE_S).collect();
    let mean = near.iter().sum::<f64>() / near.len() as f64;
    Some(if (mean - mean.round()).abs() < 0.05 { mean.round() } else { mean })
}

fn check_epoch(epoch_s: f64, rows: usize) -> Result<(), String> {
    if !(0.5..=600.0).contains(&epoch_s) {
        return Err(format!("has epochs of {epoch_s} s"));
    }
    if rows as f64 * epoch_s > MAX_S {
        return Err(format!("{rows} epochs of {epoch_s} s are more than a week"));
    }
    Ok(())
}

/// As [`clocks::refuse_changed_clock`], in the file's order and in that of time.
fn refuse_changed_clock(entries: &[Entry], onsets: &[f64], clock: &Resolved) -> Result<(), String> {
    let first = clock.s.first().zip(onsets.first());
    let midnight_s = first.map_or(0.0, |(clock, onset)| clock - onset) + clock.zero_s;
    let steps = onsets.windows(2).map(|pair| pair[1] - pair[0]).filter(|s| *s > 0.0);
    let step_s = steps.fold(f64::INFINITY, f64::min);
    let spans = entries.iter().filter_map(|entry| {
        let Place::Line(line) = entry.place else { return None };
        let end_s = entry.end_s.filter(|end_s| *end_s > entry.onset_s);
        let to_s = end_s.unwrap_or(entry.onset_s + if step_s.is_finite() { step_s } else { 0.0 });
        Some(Span { line, from_s: entry.onset_s + midnight_s, to_s: to_s + midnight_s })
    });
    let mut spans: Vec<Span> = spans.collect();
    clocks::refuse_changed_clock(&spans)?;
    spans.sort_by(|a, b| a.from_s.total_cmp(&b.from_s));
    clocks::refuse_changed_clock(&spans)
}
