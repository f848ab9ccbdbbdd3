//! The formats, a line each: what they are called, how their files are known by content, and what
//! reads them. The first that fits reads the file; the last takes any table with a column of stages.

use super::codes::{DREAMS, YASA};
use super::columns;
use super::rows::{self, Dialect};
use super::table::Table;
use super::xml::Element;
use super::{ReadOptions, Scoring, luna, native, nsrr, philips, profusion, usleep};

/// A format that is read.
pub struct Format {
    /// For the user.
    pub name: &'static str,
    /// Where files of it come from and what they look like.
    pub about: &'static str,
    pub(super) reader: Reader,
}

type ReadArray = fn(&[u8], &ReadOptions) -> Result<Scoring, String>;
type ReadXml = fn(&[Element], &ReadOptions) -> Result<Scoring, String>;
type ReadTable = fn(&Table, &ReadOptions) -> Result<Scoring, String>;
type Sniff = fn(&Table) -> bool;

/// How a format is known and read.
pub(super) enum Reader {
    /// By its first bytes; from the file itself.
    Edf,
    /// By its first bytes.
    Array(ReadArray),
    /// By its root element.
    Xml(&'static str, ReadXml),
    /// A table for the common reader.
    Rows(Sniff, Dialect),
    /// A table with rules of its own.
    Table(Sniff, ReadTable),
}

const fn rows(name: &'static str, about: &'static str, sniff: Sniff) -> Format {
    Format { name, about, reader: Reader::Rows(sniff, Dialect::plain(name)) }
}

const fn dialect(about: &'static str, sniff: Sniff, dialect: Dialect) -> Format {
    Format { name: dialect.format, about, reader: Reader::Rows(sniff, dialect) }
}

const fn table(name: &'static str, about: &'static str, sniff: Sniff, read: ReadTable) -> Format {
    Format { name, about, reader: Reader::Table(sniff, read) }
}

const fn xml(name: &'static str, about: &'static str, root: &'static str, read: ReadXml) -> Format {
    Format { name, about, reader: Reader::Xml(root, read) }
}

/// All of them, the particular before the general.
pub static FORMATS: [Format; 24] = [
    Format {
        name: "EDF+ annotations",
        about: "EDF+ or BDF+; stages without a length last until the next",
        reader: Reader::Edf,
    },
    Format {
        name: "a NumPy array of stages",
        about: "U-Sleep .npy",
        reader: Reader::Array(usleep::read_npy),
    },
    xml(
        "NSRR XML",
        "PSGAnnotation of the National Sleep Research Resource",
        nsrr::ROOT,
        nsrr::read,
    ),
    xml("Profusion XML", "CMPStudyConfig of Compumedics", profusion::ROOT, profusion::read),
    xml(
        "Philips RML",
        "PatientStudy of Philips Respironics Sleepware",
        philips::ROOT,
        philips::read,
    ),
    table(native::FORMAT, "epoch,onset_s,stage,...,status", native::is_it, native::read),
    dialect(
        "DREAMS, [HypnogramAASM] and a number every 5 s",
        |t| t.is_headed_as("[hypnogram") && t.width() == 1,
        Dialect {
            preset: &DREAMS,
            is_defined: true,
            epoch_s: Some(5.0),
            ..Dialect::plain("a DREAMS hypnogram")
        },
    ),
    rows("U-Sleep's text", "of its web page: EPOCH= and START= above a stage a line", |t| {
        t.is_headed("epoch") && t.width() == 1
    }),
    dialect(
        "Visbrain: *Duration_sec above a stage and its end a line",
        |t| t.is_headed("duration sec"),
        Dialect { has_ends: true, ..Dialect::plain("a Visbrain hypnogram") },
    ),
    rows("a Domino profile", "Somnomedics: Signal ID, Start Time above `22:30:00,000; N2`", |t| {
        t.is_headed("signal id")
    }),
    table(
        "a Luna .annot file",
        "class, instance, channel, start, stop, meta; seconds, clock times, ..., e:N",
        luna::is_it,
        luna::read,
    ),
    rows(
        "a REMlogic event export",
        "CAP Sleep Database: Sleep Stage, Time, Event, Duration",
        |t| t.has(&["sleep stage", "event"]),
    ),
    rows(
        "HMC's scoring",
        "_sleepscoring.txt: Date, Time, Recording onset, Duration, Annotation",
        |t| t.has(&["recording onset", "annotation"]),
    ),
    dialect(
        "Start,Stop,StageName,StageNumber, of SleepFM",
        |t| t.has(&["start", "stop"]) && (t.has(&["stagename"]) || t.has(&["stagenumber"])),
        Dialect { is_defined: true, ..Dialect::plain("the reference's table of stages") },
    ),
    rows("a U-Sleep table", "init_sec, duration_sec, stage; .ids without names", |t| {
        t.has(&["init sec", "duration sec", "stage"])
    }),
    rows("BIDS events", "onset, duration, trial_type or stage", |t| {
        t.has(&["onset", "duration"]) && (t.has(&["trial type"]) || t.has(&["stage"]))
    }),
    rows("a table of annotations", "EDFbrowser CSV: Onset,Duration,Annotation", |t| {
        t.has(&["onset", "annotation"])
    }),
    rows("YASA's events", "as_events(): onset, duration, value, description", |t| {
        t.has(&["onset", "duration", "description"])
    }),
    rows("a STAGES scoring", "Start Time,Duration (seconds),Event", |t| {
        t.has(&["start time", "event"])
    }),
    rows("a Wonambi scoring", "clock start time,start,end,stage", |t| {
        t.has(&["clock start time", "start", "end", "stage"])
    }),
    dialect(
        "Epoch,Stage, with names or numbers, counted from 0; Time,Stage",
        |t| {
            let is_short = t.names().len() == 2 && (t.has(&["epoch"]) || t.has(&["time"]));
            t.has(&["stage"]) && (is_short || (t.has(&["epoch"]) && !columns::has_times(t)))
        },
        Dialect { first_epoch: Some(0.0), preset: &YASA, ..Dialect::plain("a YASA hypnogram") },
    ),
    rows("a Philips Alice table", "Epoch Number, Start Time, Sleep Stage", |t| {
        t.has(&["epoch number", "start time", "sleep stage"])
    }),
    rows("a list of stages", "a name or number a line: YASA, U-Sleep .hyp, ISRUC, ZMax", |t| {
        t.names().len() <= 1 && t.width() == 1
    }),
    rows(
        "a table of stages",
        "any columns of stages and times: start, stop, duration, epoch, clock times (ANPHY and others)",
        |_| true,
    ),
];

/// Reads a table by the first format that fits.
///
/// # Errors
/// Of the reader.
pub(super) fn read_table(table: &Table, options: &ReadOptions) -> Result<Scoring, String> {
    for format in &FORMATS {
        match &format.reader {
            Reader::Rows(sniff, dialect) if sniff(table) => {
                return rows::read(table, dialect, options);
            }
            Reader::Table(sniff, read) if sniff(table) => return read(table, options),
            _ => {}
        }
    }
    // The last format takes every table.
    Err("is no hypnogram of a known format; README lists them".into())
}

/// Reads a NumPy array.
///
/// # Errors
/// Of the reader.
pub(super) fn read_array(bytes: &[u8], options: &ReadOptions) -> Result<Scoring, String> {
    let arrays = FORMATS.iter().filter_map(|format| match &format.reader {
        Reader::Array(read) => Some(read),
        _ => None,
    });
    arrays.map(|read| read(bytes, options)).next().unwrap_or_else(|| Err("is an array".into()))
}

/// Reads an XML document by its root element.
///
/// # Errors
/// Of the reader; no format has this root.
pub(super) fn read_xml(elements: &[Element], options: &ReadOptions) -> Result<Scoring, String> {
    let found = elements.last().map_or("", |root| root.local_name());
    let mut roots = Vec::new();
    for format in &FORMATS {
        let Reader::Xml(root, read) = &format.reader else { continue };
        if *root == found {
            return read(elements, options);
        }
        roots.push(*root);
    }
    let roots = roots.join(" nor ");
    Err(format!("is XML, but neither {roots}; export the scoring as a table or as EDF+"))
}

/// The formats, a line each, for `--help`.
pub fn list() -> String {
    FORMATS.iter().map(|format| format!("  {}: {}\n", format.name, format.about)).collect()
}
