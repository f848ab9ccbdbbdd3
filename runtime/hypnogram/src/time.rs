//! Times as scorings write them: seconds, `0+hh:mm:ss`, epochs `e:N`, times of day with and without
//! a date, on 12 and 24 hours, with points, commas and time zones. Nothing here guesses: a date
//! whose day and month could be swapped stays open until the column decides.

use super::MAX_S;
use super::names::shown;
use sfm_edf::DateTime;

pub(super) const DAY_S: f64 = 86_400.0;

/// What a cell says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    /// Seconds since the start of the recording, or a length.
    Seconds(f64),
    /// A time of day, or hours, minutes and seconds elapsed.
    Moment(Moment),
    /// Luna's `e:N`: an epoch by its number, from 1.
    Epoch { onset_s: f64, length_s: f64 },
}

/// Hours, minutes and seconds, perhaps with a date.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moment {
    pub date: Option<Date>,
    /// Since midnight; beyond a day only where hours have elapsed.
    pub s: f64,
    /// East of Greenwich.
    pub utc_offset_s: Option<f64>,
    /// Two numbers alone, such as `22:30`: hours and minutes, or minutes and seconds.
    pub is_open: bool,
}

/// A date as written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Date {
    year: i32,
    /// Day and month, in this order unless `is_open`.
    parts: [u8; 2],
    /// Whether day or month comes first is not known.
    is_open: bool,
}

/// Which of two numbers of a date is the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    DayMonth,
    MonthDay,
}

impl Date {
    /// Midnight of the date; `None` if there is no such date.
    pub fn midnight(self, order: Order) -> Option<DateTime> {
        let [first, second] = self.parts;
        let (day, month) = match order {
            Order::MonthDay if self.is_open => (second, first),
            _ => (first, second),
        };
        DateTime::new((self.year, month, day), (0, 0, 0))
    }

    pub fn is_open(self) -> bool {
        self.is_open
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches(',');
        let separator = text.chars().find(|c| matches!(c, '-' | '/' | '.'))?;
        let parts: Vec<&str> = text.split(separator).filter(|part| !part.is_empty()).collect();
        let [a, b, c] = parts[..] else { return None };
        let number = |text: &str| text.parse::<u8>().ok().filter(|_| text.len() <= 2);
        if a.len() == 4 {
            let date =
                Self { year: a.parse().ok()?, parts: [number(c)?, number(b)?], is_open: false };
            return Some(date);
        }
        let year: i32 = c.parse().ok().filter(|year| *year >= 0)?;
        let year = match c.len() {
            4 => year,
            2 => year + if year < 85 { 2000 } else { 1900 },
            _ => return None,
        };
        if let Some(month) = month_named(b) {
            return Some(Self { year, parts: [number(a)?, month], is_open: false });
        }
        // Dates with points have the day first wherever they are written.
        let parts = [number(a)?, number(b)?];
        Some(Self { year, parts, is_open: separator != '.' && parts[0] != parts[1] })
    }
}

/// Of a date `01-Mar-2024`.
fn month_named(text: &str) -> Option<u8> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let place = MONTHS.iter().position(|month| text.to_lowercase() == *month)?;
    u8::try_from(place + 1).ok()
}

impl Moment {
    /// `22:30`, `22:30:00,000`, `22.30.00`, `10:30:00 PM`, with a date before it or behind it.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.trim().to_lowercase();
        // A long text is no time: the parts below are few.
        if lower.len() > 48 || !lower.bytes().any(|b| b.is_ascii_digit()) {
            return None;
        }
        let compact = lower.replace("a.m.", "am").replace("p.m.", "pm");
        let (body, half) = match (compact.strip_suffix("am"), compact.strip_suffix("pm")) {
            (Some(body), _) => (body.trim_end(), Some(0.0)),
            (_, Some(body)) => (body.trim_end(), Some(12.0)),
            _ => (compact.as_str(), None),
        };
        let (body, utc_offset_s) = without_zone(body)?;
        let mut tokens: Vec<&str> = body.split_whitespace().collect();
        // Luna's `01-03-24-22:30:00`
        if let [only] = tokens[..]
            && only.matches('-').count() == 3
            && let Some((date, time)) = only.rsplit_once('-')
        {
            tokens = vec![date, time];
        }
        // `2024-03-01T22:30:00`
        if let [only] = tokens[..]
            && let Some((date, time)) = only.split_once('t')
        {
            tokens = vec![date, time];
        }
        let (date, time) = match tokens[..] {
            [time] => (None, time),
            [a, b] => match Date::parse(a) {
                Some(date) => (Some(date), b),
                None => (Some(Date::parse(b)?), a),
            },
            _ => return None,
        };
        let mut s = clock_s(time)?;
        let is_open = time.split(':').count() == 2 && date.is_none() && half.is_none();
        if let Some(half) = half {
            if !(3600.0..46_800.0).contains(&s) {
                return None;
            }
            s = s % 43_200.0 + half * 3600.0;
        }
        if date.is_some() && s >= DAY_S {
            return None;
        }
        Some(Self { date, s, utc_offset_s, is_open })
    }
}

/// The text without `Z` or `+01:00`, and that in seconds.
fn without_zone(text: &str) -> Option<(&str, Option<f64>)> {
    if let Some(rest) = text.strip_suffix('z') {
        return Some((rest, Some(0.0)));
    }
    let Some(time) = text.find(':') else { return Some((text, None)) };
    let Some(sign) = text[time..].rfind(['+', '-']).map(|place| place + time) else {
        return Some((text, None));
    };
    let (rest, zone) = text.split_at(sign);
    // A date may stand behind the time, with its own dashes.
    if Date::parse(text.split_whitespace().last().unwrap_or_default()).is_some() {
        return Some((text, None));
    }
    let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
    let (h, m) = digits.split_at_checked(2)?;
    let minutes = if m.is_empty() { 0.0 } else { m.parse::<f64>().ok()? };
    let s = h.parse::<f64>().ok()? * 3600.0 + minutes * 60.0;
    Some((rest.trim_end(), Some(if zone.starts_with('-') { -s } else { s })))
}

/// `hh:mm`, `hh:mm:ss`, `hh.mm.ss`, seconds with a fraction.
fn clock_s(text: &str) -> Option<f64> {
    let separator = if text.contains(':') { ':' } else { '.' };
    let parts: Vec<&str> = text.split(separator).collect();
    let digits = |text: &str, most: usize| {
        let is_number = text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<f64>().ok().filter(|_| is_number)
    };
    let (h, m, s) = match parts[..] {
        [h, m] if separator == ':' => (digits(h, 3)?, digits(m, 2)?, 0.0),
        [h, m, s] => {
            let (whole, fraction) = s.split_once(['.', ',']).unwrap_or((s, "0"));
            digits(fraction, 9)?;
            let s = digits(whole, 2)? + format!("0.{fraction}").parse::<f64>().ok()?;
            (digits(h, 3)?, digits(m, 2)?, s)
        }
        _ => return None,
    };
    let in_range = m < 60.0 && s < 60.0;
    in_range.then_some(h * 3600.0 + m * 60.0 + s)
}

impl Value {
    /// `None` for what is no time.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(seconds) = number(text) {
            return Some(Value::Seconds(seconds));
        }
        if let Some(elapsed) = text.strip_prefix("0+") {
            return Some(Value::Seconds(clock_s(elapsed)?));
        }
        if let Some(epoch) = text.strip_prefix("e:") {
            let parts: Option<Vec<f64>> = epoch.split(':').map(number).collect();
            let (length_s, step_s, number) = match parts?[..] {
                [number] => (30.0, 30.0, number),
                [length_s, number] => (length_s, length_s, number),
                [length_s, step_s, number] => (length_s, step_s, number),
                _ => return None,
            };
            let is_epoch = number >= 1.0 && length_s > 0.0 && step_s > 0.0;
            return is_epoch.then_some(Value::Epoch { onset_s: (number - 1.0) * step_s, length_s });
        }
        Moment::parse(text).map(Value::Moment)
    }
}

/// A number, also with a sign, a decimal comma or seconds as unit.
pub(super) fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let text = ["seconds", "sec", "s"].iter().find_map(|u| text.strip_suffix(u)).unwrap_or(text);
    let text = text.trim_end();
    if !text.bytes().next_back()?.is_ascii_digit() && !text.ends_with('.') {
        return None;
    }
    let comma = text.contains(',') && !text.contains('.');
    let number = if comma { text.replacen(',', ".", 1).parse() } else { text.parse::<f64>() };
    number.ok().filter(|number| number.is_finite())
}

/// A time within a week of the start of the recording, seconds.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match number(text) {
        Some(seconds) => within_a_week(seconds),
        None => Err(format!("'{}' is no time in seconds", shown(text))),
    }
}

/// The same time, if it is one: memory grows with it.
pub(super) fn within_a_week(seconds: f64) -> Result<f64, String> {
    if seconds.abs() <= MAX_S { Ok(seconds) } else { Err(format!("{seconds} s is beyond a week")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_in_many_spellings() {
        for (text, s) in [
            ("22:30:00", 81_000.0),
            ("22:30", 81_000.0),
            ("22.30.00", 81_000.0),
            ("22:30:00,500", 81_000.5),
            ("10:30:00 PM", 81_000.0),
            ("10:30:00p.m.", 81_000.0),
            ("12:00:30 am", 30.0),
            ("12:00:30 PM", 43_230.0),
            ("2024-03-01T22:30:00.25", 81_000.25),
            ("2024-03-01 22:30:00+01:00", 81_000.0),
            ("01.03.2024 22:30:00", 81_000.0),
            ("22:30:00 01/03/2024", 81_000.0),
            ("01-Mar-2024 22:30:00", 81_000.0),
            ("3/1/2024, 10:30:00 PM", 81_000.0),
        ] {
            let moment = Moment::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert!((moment.s - s).abs() < 1e-9, "{text}: {moment:?}");
        }
        let zone = Moment::parse("2024-03-01T22:30:00-05:30").and_then(|m| m.utc_offset_s);
        assert_eq!(zone, Some(-19_800.0));
        for text in
            ["", "22", "22:61:00", "13:00:00 PM", "22:30:00:00", "noon", "2024-03-01", "30.0"]
        {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }

    #[test]
    fn dates_that_could_be_swapped_stay_open() {
        let open = |text| Date::parse(text).map(Date::is_open);
        assert_eq!(open("03/04/2024"), Some(true));
        assert_eq!(open("03.04.2024"), Some(false));
        assert_eq!(open("2024-04-03"), Some(false));
        assert_eq!(open("03-APR-24"), Some(false));
        assert_eq!(open("3/4"), None);
        let date = Date::parse("3/14/2024").expect("a date");
        assert!(
            date.midnight(Order::DayMonth).is_none() && date.midnight(Order::MonthDay).is_some()
        );
    }

    #[test]
    fn numbers_and_other_values() {
        for (text, s) in
            [("30", 30.0), ("+30.5", 30.5), ("30,5", 30.5), ("30 s", 30.0), ("1e1", 10.0)]
        {
            assert_eq!(Value::parse(text), Some(Value::Seconds(s)), "{text}");
        }
        assert_eq!(Value::parse("0+00:01:30"), Some(Value::Seconds(90.0)));
        assert_eq!(Value::parse("e:3"), Some(Value::Epoch { onset_s: 60.0, length_s: 30.0 }));
        for text in ["nan", "inf", "s", "", "1,2,3", "W", "e:0", "e:x", "-", "0x10"] {
            assert_eq!(Value::parse(text), None, "{text}");
        }
    }
}
