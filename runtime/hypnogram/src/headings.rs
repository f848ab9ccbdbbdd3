//! The names of columns: what each says, in the languages of common recorders, and in which unit.

use super::names::plain;
use super::time::{Moment, number};

/// What a column says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Start,
    /// A start that is no time of day, however it is written.
    Elapsed,
    Stop,
    Duration,
    Epoch,
    Date,
    Stage,
    /// The stage again, as a number.
    Number,
    Event,
}

/// Names in [`plain`] letters, without units.
const NAMES: [(Role, &[&str]); 9] = [
    (
        Role::Elapsed,
        &[
            "elapsed",
            "elapsed time",
            "time elapsed",
            "relative time",
            "time from start",
            "time since start",
        ],
    ),
    (
        Role::Start,
        &[
            "start",
            "start time",
            "time start",
            "onset",
            "onset time",
            "begin",
            "begin time",
            "beginning",
            "recording onset",
            "init",
            "from",
            "von",
            "beginn",
            "anfang",
            "startzeit",
            "debut",
            "heure debut",
            "heure de debut",
            "inicio",
            "hora inicio",
            "hora de inicio",
            "inizio",
            "ora inizio",
            "time",
            "clock time",
            "clock",
            "clock start time",
            "start clock",
            "uhrzeit",
            "zeit",
            "heure",
            "temps",
            "hora",
            "ora",
            "tempo",
            "tiempo",
            "tijd",
            "time of day",
            "timestamp",
            "time stamp",
            "datetime",
            "date time",
            "t",
            "event start",
            "epoch start",
            "start epoch time",
            "begintijd",
            "starttid",
            "epoch time",
            "start datetime",
            "starttime",
            "sec",
            "seconds",
        ],
    ),
    (
        Role::Stop,
        &[
            "stop",
            "stop time",
            "time stop",
            "end",
            "end time",
            "to",
            "until",
            "bis",
            "ende",
            "endzeit",
            "fin",
            "heure fin",
            "heure de fin",
            "hora fin",
            "hora de fin",
            "fine",
            "ora fine",
            "finish",
            "clock stop time",
            "clock end time",
            "event end",
            "epoch end",
            "eindtijd",
            "endtime",
            "stoptime",
            "offset",
        ],
    ),
    (
        Role::Duration,
        &[
            "duration",
            "dur",
            "length",
            "dauer",
            "lange",
            "duree",
            "duracion",
            "durata",
            "duur",
            "duracao",
            "epoch length",
            "epoch duration",
            "event duration",
            "duration time",
        ],
    ),
    (
        Role::Epoch,
        &[
            "epoch",
            "epoch number",
            "epoch no",
            "epoch nr",
            "epoch num",
            "epoch index",
            "epoch id",
            "epoch #",
            "epochs",
            "epochnumber",
            "epoche",
            "epochennummer",
            "epochen nr",
            "epoche nr",
            "epoque",
            "numero epoque",
            "epoca",
            "numero de epoca",
            "n epoca",
        ],
    ),
    (Role::Date, &["date", "datum", "fecha", "data", "start date", "recording date", "jour"]),
    (
        Role::Stage,
        &[
            "stage",
            "stages",
            "sleep stage",
            "sleep stages",
            "stagename",
            "stage name",
            "sleepstage",
            "sleepstages",
            "hypnogram",
            "hypno",
            "score",
            "scores",
            "scoring",
            "sleep score",
            "schlafstadium",
            "schlafstadien",
            "stadium",
            "stadien",
            "schlafphase",
            "stade",
            "stades",
            "stade de sommeil",
            "stade sommeil",
            "stades de sommeil",
            "fase",
            "fases",
            "fase del sueno",
            "fase de sueno",
            "etapa",
            "etapas",
            "etapa de sueno",
            "estadio",
            "estadio de sueno",
            "stadio",
            "stadio del sonno",
            "slaapstadium",
            "class",
            "state",
            "sleep state",
            "label",
            "labels",
            "prediction",
            "staging",
            "hipnograma",
            "hypnogramm",
            "hypnogramme",
        ],
    ),
    (Role::Number, &["stagenumber", "stage number", "stage code", "stage num", "stage no"]),
    (
        Role::Event,
        &[
            "event",
            "events",
            "annotation",
            "annotations",
            "description",
            "trial type",
            "event type",
            "event name",
            "eventname",
            "eventtype",
            "ereignis",
            "ereignisse",
            "evenement",
            "evenements",
            "evento",
            "eventos",
            "marker",
            "text",
            "type",
        ],
    ),
];

/// Words of a name that promises a time.
const TIME_WORDS: [&str; 30] = [
    "time", "start", "stop", "onset", "end", "begin", "duration", "epoch", "clock", "sec", "secs",
    "seconds", "second", "zeit", "uhrzeit", "dauer", "beginn", "ende", "epoche", "heure", "debut",
    "duree", "epoque", "hora", "inicio", "duracion", "epoca", "ora", "inizio", "durata",
];

/// A name and its unit.
pub(super) struct Name {
    /// In [`plain`] letters, without its unit.
    pub plain: String,
    /// Seconds of the unit; `None` of one that is not known.
    pub unit_s: Option<f64>,
}

impl Name {
    pub fn of(written: &str) -> Self {
        let (bare, unit) = match written.find(['(', '[']) {
            Some(place) => written.split_at(place),
            None => (written, ""),
        };
        let plain_unit = plain(unit);
        let mut name = plain(bare);
        let mut unit_s = if plain_unit.is_empty() { Some(1.0) } else { unit_of(&plain_unit) };
        let last = name.rsplit_once(' ').map(|(rest, last)| (rest.to_owned(), last.to_owned()));
        if let Some((rest, last)) = last
            && let Some(s) = unit_of(&last)
        {
            (name, unit_s) = (rest, Some(s));
        }
        Self { plain: name, unit_s }
    }

    pub fn role(&self) -> Option<Role> {
        let is_it = |(_, names): &&(Role, &[&str])| names.contains(&self.plain.as_str());
        NAMES.iter().find(is_it).map(|(role, _)| *role)
    }

    pub fn promises_time(&self) -> bool {
        self.plain.split(' ').any(|word| TIME_WORDS.contains(&word))
    }
}

/// Seconds of a unit; `None` for samples and what is none.
fn unit_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "s" | "sec" | "secs" | "second" | "seconds" | "sek" | "sekunden" | "secondes"
        | "segundos" | "secondi" | "hh mm ss" | "h m s" | "hms" | "clock" | "local" | "hh mm" => {
            1.0
        }
        "ms" | "msec" | "milliseconds" => 1e-3,
        "min" | "mins" | "minutes" | "minuten" | "minutos" | "minuti" => 60.0,
        "h" | "hours" | "stunden" | "heures" | "horas" | "ore" => 3600.0,
        _ => return None,
    })
}

/// Whether a line holds the names of columns: one of stages or events, and no number or time.
pub(super) fn is_header(fields: &[&str]) -> bool {
    let is_stage = |field: &&str| {
        !field.trim_end().ends_with(':')
            && matches!(Name::of(field).role(), Some(Role::Stage | Role::Number | Role::Event))
    };
    let has_value = |field: &&str| number(field).is_some() || Moment::parse(field).is_some();
    fields.iter().any(is_stage) && !fields.iter().any(has_value)
}
