//! Times of day by row as seconds on one scale: over midnight, with dates of either order. A clock
//! that was put forward or back by an hour makes times ambiguous; such a table is refused.

use super::TOLERANCE_S;
use super::time::{DAY_S, Moment, Order};
use sfm_edf::DateTime;

const HOUR_S: f64 = 3600.0;
/// Clocks are written in whole seconds.
pub(super) const CLOCK_TOLERANCE_S: f64 = 1.0;
/// Where a table has clock times alone, what to do about them.
const ADVICE: &str = "write seconds since the start of the recording instead of times of day";

/// A time of day with its row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timed {
    pub line: usize,
    pub moment: Moment,
}

/// Times of day on one scale.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// By row, seconds since the moment below.
    pub s: Vec<f64>,
    /// Where the scale begins, seconds since the midnight before the first row.
    pub zero_s: f64,
    /// The midnight before the first row, where the date is known.
    pub midnight: Option<DateTime>,
    /// The hours have elapsed since the start, and are no time of day.
    pub are_elapsed: bool,
    /// They have a time zone: no change of the clock touches them.
    pub are_zoned: bool,
    /// That zone is UTC, which says nothing about the recorder's clock.
    pub are_utc: bool,
    /// What was taken for what, for the user.
    pub notes: Vec<String>,
}

/// Puts times on one scale.
///
/// # Errors
/// With the line: dates on some rows only, dates that are none, a clock that goes back.
pub(super) fn resolve(times: &[Timed]) -> Result<Resolved, String> {
    let Some(first) = times.first() else { return Err("holds no times".into()) };
    let odd = |is_odd: fn(&Moment) -> bool| {
        times.iter().find(|time| is_odd(&time.moment) != is_odd(&first.moment))
    };
    if let Some(odd) = odd(|m| m.date.is_some()).or(odd(|m| m.utc_offset_s.is_some())) {
        return Err(format!("line {}: a date or time zone is in some rows only", odd.line));
    }
    if first.moment.date.is_some() { dated(times) } else { undated(times) }
}

fn undated(times: &[Timed]) -> Result<Resolved, String> {
    let mut resolved = Resolved::default();
    let begins_at_0 = times.first().is_some_and(|time| time.moment.s == 0.0);
    if begins_at_0 || times.iter().any(|time| time.moment.s >= DAY_S) {
        resolved.are_elapsed = true;
        resolved.s = times.iter().map(|time| time.moment.s).collect();
        resolved.notes.push("hours, minutes and seconds taken as time since the start".into());
        return Ok(resolved);
    }
    let mut midnight_s = 0.0;
    let mut before_s = f64::NEG_INFINITY;
    for time in times {
        let mut s = midnight_s + time.moment.s;
        if s < before_s {
            // Half a day back is midnight; less is no night that went on.
            if before_s - s < DAY_S / 2.0 {
                let minutes = (before_s - s) / 60.0;
                return Err(format!(
                    "line {}: the clock goes back by {minutes:.1} min; if it was put back an hour, or \
                     the rows are not in order, {ADVICE}",
                    time.line
                ));
            }
            midnight_s += DAY_S;
            s += DAY_S;
        }
        before_s = s;
        resolved.s.push(s);
    }
    Ok(resolved)
}

/// Times of day without dates as near as they can be to `onsets`, seconds by row.
pub(super) fn follow(times: &[Timed], onsets: &[f64]) -> Resolved {
    let first = times.first().zip(onsets.first());
    let zero_s = first.map_or(0.0, |(time, onset_s)| time.moment.s - onset_s);
    let near = |(time, onset_s): (&Timed, &f64)| {
        let expected_s = zero_s + onset_s;
        let apart_s = (time.moment.s - expected_s + DAY_S / 2.0).rem_euclid(DAY_S) - DAY_S / 2.0;
        expected_s + apart_s
    };
    Resolved { s: times.iter().zip(onsets).map(near).collect(), ..Resolved::default() }
}

fn dated(times: &[Timed]) -> Result<Resolved, String> {
    let mut fits = [Order::DayMonth, Order::MonthDay]
        .into_iter()
        .filter_map(|order| Some((order, days(times, order)?)))
        .collect::<Vec<_>>();
    let is_open = times.iter().any(|t| t.moment.date.is_some_and(|date| date.is_open()));
    let is_either = is_open && fits.len() == 2;
    if is_either && !same_steps(&fits[0].1, &fits[1].1) {
        let line = times.first().map_or(1, |time| time.line);
        return Err(format!(
            "line {line}: day and month of the dates could be either; write them as 2024-03-01"
        ));
    }
    let Some((_, midnights)) = fits.drain(..).next() else {
        return Err(undatable(times));
    };
    let Some(&first) = midnights.first() else { return Err("holds no times".into()) };
    let s: Vec<f64> = times
        .iter()
        .zip(&midnights)
        .map(|(time, midnight)| {
            let utc_s = time.moment.utc_offset_s.unwrap_or(0.0);
            midnight.seconds_since(first) + time.moment.s - utc_s
        })
        .collect();
    // What has no date counts from the first day of Unix time, as in MNE's tables.
    let is_unix_zero = first.date() == (1970, 1, 1);
    let first_s = times.first().map_or(0.0, |time| time.moment.s);
    if is_unix_zero && first_s < DAY_S / 2.0 {
        let notes = vec!["times of 1970-01-01 taken as time since the start".into()];
        let s = s
            .into_iter()
            .map(|s| s + times.first().and_then(|t| t.moment.utc_offset_s).unwrap_or(0.0));
        return Ok(Resolved { s: s.collect(), are_elapsed: true, notes, ..Resolved::default() });
    }
    // The scale is the local time of the first row.
    let local_s = times.first().and_then(|time| time.moment.utc_offset_s);
    let s: Vec<f64> = s.into_iter().map(|s| s + local_s.unwrap_or(0.0)).collect();
    let mut notes = Vec::new();
    if is_either {
        notes.push("day and month of the dates could be either: only times of day are used".into());
    }
    // Spreadsheets and anonymized files have dates before any digital recording.
    let is_real = first.date().0 > 1985;
    let midnight = (is_real && !is_either).then_some(first);
    Ok(Resolved {
        s,
        zero_s: 0.0,
        midnight,
        are_elapsed: false,
        are_zoned: local_s.is_some(),
        are_utc: local_s == Some(0.0),
        notes,
    })
}

/// The midnights of all rows, if their dates exist in this order and lie within a week.
fn days(times: &[Timed], order: Order) -> Option<Vec<DateTime>> {
    let days: Option<Vec<DateTime>> =
        times.iter().map(|time| time.moment.date?.midnight(order)).collect();
    let days = days?;
    let (first, last) = (days.iter().min()?, days.iter().max()?);
    (last.seconds_since(*first) <= super::MAX_S).then_some(days)
}

fn same_steps(a: &[DateTime], b: &[DateTime]) -> bool {
    let steps = |days: &[DateTime]| -> Vec<f64> {
        let first = days.first().copied().unwrap_or_default();
        days.iter().map(|day| day.seconds_since(first)).collect()
    };
    steps(a) == steps(b)
}

fn undatable(times: &[Timed]) -> String {
    let orders = [Order::DayMonth, Order::MonthDay];
    let wrong = times.iter().find(|time| {
        let date = time.moment.date;
        orders.iter().all(|order| date.and_then(|date| date.midnight(*order)).is_none())
    });
    match wrong {
        Some(time) => format!("line {}: there is no such date", time.line),
        None => "has dates that are more than a week apart".into(),
    }
}

/// Start and end of a stretch of one clock, with its row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub line: usize,
    pub from_s: f64,
    pub to_s: f64,
}

/// Refuses a table in which the clock may have been put back or forward by an hour between two
/// rows. Times are seconds since midnight.
///
/// # Errors
/// With the line.
pub(super) fn refuse_changed_clock(spans: &[Span]) -> Result<(), String> {
    for pair in spans.windows(2) {
        let [before, after] = pair else { continue };
        let step_s = after.from_s - before.to_s;
        if (step_s + HOUR_S).abs() <= CLOCK_TOLERANCE_S {
            return Err(format!(
                "line {}: the clock goes back by an hour, as at the end of summer time; {ADVICE}",
                after.line
            ));
        }
        let hour = (before.from_s / HOUR_S).floor() + 1.0;
        let is_night = (0.0..=4.0).contains(&(hour % 24.0));
        let at_full_hour = hour * HOUR_S <= before.to_s + TOLERANCE_S;
        if (step_s - HOUR_S).abs() <= CLOCK_TOLERANCE_S && is_night && at_full_hour {
            return Err(format!(
                "line {}: an hour is missing at a full hour of the night, as at the start of summer \
                 time; {ADVICE}",
                after.line
            ));
        }
    }
    Ok(())
}
