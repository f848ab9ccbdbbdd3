//! Lines above a table: when the recording began and how long an epoch is, where they say so.

use super::Start;
use super::clocks::{self, Timed};
use super::names::{plain, shown};
use super::table::Line;
use super::time::{Moment, number};

/// Names of the start in [`plain`] letters.
const START: [&str; 23] = [
    "orig time",
    "meas date",
    "measurement date",
    "start",
    "start time",
    "recording start",
    "recording start time",
    "recording started",
    "start of recording",
    "start date time",
    "start datetime",
    "start date and time",
    "startzeit",
    "aufnahmebeginn",
    "aufnahmestart",
    "beginn der aufnahme",
    "debut",
    "heure de debut",
    "debut de l enregistrement",
    "hora de inicio",
    "inicio",
    "inizio",
    "time",
];
const DATE: [&str; 9] = [
    "date",
    "start date",
    "recording date",
    "date of recording",
    "datum",
    "aufnahmedatum",
    "startdatum",
    "fecha",
    "data",
];
const EPOCH: [&str; 12] = [
    "epoch",
    "epoch length",
    "epoch duration",
    "epoch size",
    "epoch s",
    "rate",
    "epochenlange",
    "epochendauer",
    "epoche",
    "duree epoque",
    "duree de l epoque",
    "duracion de epoca",
];

/// What the lines say.
#[derive(Debug, Default)]
pub(super) struct Preamble {
    /// The start of the recording and its line.
    pub start: Option<(usize, Start)>,
    /// Where the first epoch begins, seconds behind the start of the recording.
    pub start_s: Option<f64>,
    pub epoch_s: Option<f64>,
    /// A date without a time of day.
    pub has_date_alone: bool,
}

impl Preamble {
    /// # Errors
    /// A line gives a start that is no time.
    pub fn of(lines: &[Line]) -> Result<Self, String> {
        let mut preamble = Self::default();
        let mut date: Option<String> = None;
        let mut start: Option<(usize, String)> = None;
        for line in lines {
            let text = line.text.trim_start_matches(['#', '%', '/', '*', ' ']);
            let Some(place) = text.find([':', '=', '\t', ';']) else { continue };
            let (key, value) = text.split_at(place);
            let value = value.trim_matches([':', '=', '\t', ';', ' ', '"']);
            let key = plain(key.split(['(', '[']).next().unwrap_or_default());
            if START.contains(&key.as_str()) {
                match number(&value.to_lowercase()) {
                    Some(seconds) => preamble.start_s = Some(seconds),
                    None if value.bytes().any(|b| b.is_ascii_digit()) => {
                        start.get_or_insert((line.number, value.to_owned()));
                    }
                    None => {}
                }
            } else if DATE.contains(&key.as_str()) {
                date = Some(value.to_owned());
            } else if EPOCH.contains(&key.as_str()) {
                let seconds = number(&value.to_lowercase());
                let usable = seconds.filter(|s| (0.5..=600.0).contains(s));
                if let (None, Some(s), true) = (usable, seconds, key.starts_with("epoch")) {
                    let line = line.number;
                    return Err(format!("line {line}: epochs of {s} s; possible are 0.5 to 600 s"));
                }
                preamble.epoch_s = usable.or(preamble.epoch_s);
            }
        }
        let Some((number, value)) = start else {
            let with_time = date.as_deref().and_then(Moment::parse);
            preamble.has_date_alone = date.is_some() && with_time.is_none();
            return Ok(preamble);
        };
        let dated = date.map(|date| format!("{date} {value}"));
        let moment = Moment::parse(&value);
        let moment = match moment {
            Some(Moment { date: None, .. }) => dated.as_deref().and_then(Moment::parse).or(moment),
            _ => moment,
        };
        let Some(moment) = moment else {
            let value = shown(&value);
            return Err(format!("line {number}: the start '{value}' is no time of day"));
        };
        preamble.start = Some((number, start_of(number, moment)?));
        Ok(preamble)
    }
}

/// The start that one time of day is, with its date where that is certain.
///
/// # Errors
/// There is no such date.
pub(super) fn start_of(line: usize, moment: Moment) -> Result<Start, String> {
    if moment.date.is_none() {
        return Ok(Start::Clock(moment.s));
    }
    let resolved = clocks::resolve(&[Timed { line, moment }])?;
    Ok(match resolved.midnight {
        Some(midnight) => Start::Date(midnight.plus_seconds(moment.s)),
        None => Start::Clock(moment.s),
    })
}
