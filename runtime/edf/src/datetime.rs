//! A recorder's local date and time: no time zone, as EDF knows none. Adds seconds, reads and
//! writes ISO 8601 and EDF's fields.

use std::fmt;
use std::str::FromStr;

const MICROS_PER_S: i64 = 1_000_000;
const S_PER_DAY: i64 = 86_400;
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// Local date and time of the recorder, Gregorian, to the microsecond; years 1 to 9999.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateTime {
    /// Days since 1970-01-01.
    day: i64,
    /// Microseconds since midnight.
    micros: i64,
}

impl DateTime {
    /// `None` if there is no such date or time.
    pub fn new(date: (i32, u8, u8), time: (u8, u8, u8)) -> Option<DateTime> {
        let (year, month, day) = date;
        let (hour, minute, second) = time;
        let real_date = (1..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day);
        if !real_date || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        Some(DateTime {
            day: days_from_civil(i64::from(year), i64::from(month), i64::from(day)),
            micros: seconds * MICROS_PER_S,
        })
    }

    /// The moment `seconds` later; the same moment if the result leaves the calendar.
    #[must_use]
    pub fn plus_seconds(self, seconds: f64) -> DateTime {
        let limit = 9999.0 * 366.0 * S_PER_DAY as f64;
        if !(-limit..=limit).contains(&seconds) {
            return self;
        }
        let micros = self.micros + (seconds * MICROS_PER_S as f64).round() as i64;
        let per_day = S_PER_DAY * MICROS_PER_S;
        let later = DateTime {
            day: self.day + micros.div_euclid(per_day),
            micros: micros.rem_euclid(per_day),
        };
        if (1..=9999).contains(&later.date().0) { later } else { self }
    }

    /// Seconds from an earlier moment to this one; negative if it is later.
    pub fn seconds_since(self, earlier: DateTime) -> f64 {
        (self.day - earlier.day) as f64 * S_PER_DAY as f64
            + (self.micros - earlier.micros) as f64 / MICROS_PER_S as f64
    }

    /// Year, month 1 to 12, day 1 to 31.
    pub fn date(self) -> (i64, u8, u8) {
        civil_from_days(self.day)
    }

    /// Hour, minute, second.
    pub fn time(self) -> (u8, u8, u8) {
        let second = self.micros / MICROS_PER_S;
        ((second / 3600) as u8, (second / 60 % 60) as u8, (second % 60) as u8)
    }

    /// The part of a second, 0 to below 1.
    pub fn fraction_s(self) -> f64 {
        (self.micros % MICROS_PER_S) as f64 / MICROS_PER_S as f64
    }

    /// `dd.mm.yy` of an EDF header; years outside 1985 to 2084 as `yy`, as EDF+ asks.
    pub fn edf_date(self) -> String {
        let (year, month, day) = self.date();
        if (1985..=2084).contains(&year) {
            format!("{day:02}.{month:02}.{:02}", year % 100)
        } else {
            format!("{day:02}.{month:02}.yy")
        }
    }

    /// `hh.mm.ss` of an EDF header.
    pub fn edf_time(self) -> String {
        let (hour, minute, second) = self.time();
        format!("{hour:02}.{minute:02}.{second:02}")
    }

    /// `dd-MMM-yyyy` of an EDF+ recording field.
    pub fn edf_plus_date(self) -> String {
        let (year, month, day) = self.date();
        let name = MONTHS.get(usize::from(month) - 1).unwrap_or(&"JAN");
        format!("{day:02}-{name}-{year:04}")
    }
}

/// `YYYY-MM-DDThh:mm:ss`, with milliseconds where they are not zero.
impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let (hour, minute, second) = self.time();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match self.micros % MICROS_PER_S / 1000 {
            0 => Ok(()),
            millis => write!(f, ".{millis:03}"),
        }
    }
}

/// Reads what [`DateTime`]'s `Display` writes; a space may stand for the `T`.
impl FromStr for DateTime {
    type Err = String;

    fn from_str(text: &str) -> Result<DateTime, String> {
        parse_iso(text).ok_or_else(|| format!("'{text}' is no date and time YYYY-MM-DDThh:mm:ss"))
    }
}

fn parse_iso(text: &str) -> Option<DateTime> {
    let (date, time) = text.trim().split_once(['T', ' '])?;
    let (time, fraction) = match time.split_once('.') {
        Some((time, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            (time, format!("0.{digits}").parse().ok()?)
        }
        Some(_) => return None,
        None => (time, 0.0),
    };
    let [year, month, day] = three_numbers(date, |c| c == '-')?;
    let [hour, minute, second] = three_numbers(time, |c| c == ':')?;
    let date = (year.into(), u8::try_from(month).ok()?, u8::try_from(day).ok()?);
    let time = (u8::try_from(hour).ok()?, u8::try_from(minute).ok()?, u8::try_from(second).ok()?);
    Some(DateTime::new(date, time)?.plus_seconds(fraction))
}

/// The date of an EDF header, two-digit years from 1985 to 2084, any separator recorders use.
pub fn parse_edf_date(text: &str) -> Option<(i32, u8, u8)> {
    let [day, month, year] = three_numbers(text, is_separator)?;
    let year = match year {
        0..=84 => 2000 + i32::from(year),
        85..=99 => 1900 + i32::from(year),
        _ => return None,
    };
    Some((year, u8::try_from(month).ok()?, u8::try_from(day).ok()?))
}

/// The time of an EDF header.
pub fn parse_edf_time(text: &str) -> Option<(u8, u8, u8)> {
    let [hour, minute, second] = three_numbers(text, is_separator)?;
    Some((u8::try_from(hour).ok()?, u8::try_from(minute).ok()?, u8::try_from(second).ok()?))
}

/// The `dd-MMM-yyyy` of an EDF+ recording field `Startdate dd-MMM-yyyy ...`.
pub fn parse_edf_plus_date(recording: &str) -> Option<(i32, u8, u8)> {
    let date = recording.strip_prefix("Startdate ")?.split(' ').next()?;
    let mut parts = date.split('-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? + 1;
    Some((year.parse().ok()?, u8::try_from(month).ok()?, day.parse().ok()?))
}

fn is_separator(c: char) -> bool {
    matches!(c, '.' | ':' | '-' | '/' | ',')
}

fn three_numbers(text: &str, separator: fn(char) -> bool) -> Option<[u16; 3]> {
    let mut parts = text.split(separator).map(|part| part.trim().parse::<u16>().ok());
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

fn days_in_month(year: i32, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

// Days since 1970-01-01 and back, counted from 1 March so that the leap day is a year's last.
// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month as u8, day as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_four_centuries_round_trips() {
        let first = days_from_civil(1900, 1, 1);
        for day in first..first + 146_097 {
            let (year, month, d) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month.into(), d.into()), day);
        }
        // Known instants of the Unix epoch.
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(days_from_civil(2000, 3, 1), 11_017);
        assert_eq!(days_from_civil(1989, 4, 24), 7_053);
    }

    #[test]
    fn seconds_carry_over_midnight_and_leap_days() {
        let start = DateTime::new((2024, 2, 28), (23, 59, 59)).expect("a date");
        assert_eq!(start.plus_seconds(1.25).to_string(), "2024-02-29T00:00:00.250");
        assert_eq!(start.plus_seconds(86_401.0).to_string(), "2024-03-01T00:00:00");
        assert_eq!(start.plus_seconds(f64::NAN), start);
        assert_eq!(start.plus_seconds(1e300), start);
    }

    #[test]
    fn edf_and_iso_texts() {
        let start: DateTime = "1989-04-24T16:13:00.5".parse().expect("ISO");
        assert_eq!(start.edf_date(), "24.04.89");
        assert_eq!(start.edf_time(), "16.13.00");
        assert_eq!(start.edf_plus_date(), "24-APR-1989");
        assert_eq!(start.fraction_s(), 0.5);
        assert_eq!(parse_edf_date("24.04.89"), Some((1989, 4, 24)));
        assert_eq!(parse_edf_date("24.04.19"), Some((2019, 4, 24)));
        assert_eq!(parse_edf_date("24/ 4/19"), Some((2019, 4, 24)));
        assert_eq!(parse_edf_plus_date("Startdate 24-APR-1989 X X X"), Some((1989, 4, 24)));
        assert_eq!(parse_edf_plus_date("Startdate X X X X"), None);
        assert!(DateTime::new((2023, 2, 29), (0, 0, 0)).is_none());
        assert!("yesterday".parse::<DateTime>().is_err());
        assert!("2024-01-01T00:00:00.nan".parse::<DateTime>().is_err());
    }
}
