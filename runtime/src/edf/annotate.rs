//! A copy of a recording with annotations of ours: its records byte for byte, each with one more
//! annotation signal behind it. Plain EDF becomes EDF+C. Who was recorded is left out unless asked
//! for; what the recording's own annotations say stays. The date stays too: without it recordings of
//! one night no longer match. Refuses plain files with an annotation signal, which keeps no time.

use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;

use super::annotation::Annotation;
use super::datetime::DateTime;
use super::field::{self, push_text};
use super::header::{Continuity, Header, SampleFormat};
use super::writer::push_tal;
use super::{EdfError, RecordReader};

/// Widths of the columns of a header's table of signals.
const COLUMNS: [usize; 10] = [16, 80, 8, 8, 8, 8, 8, 80, 8, 32];
/// The columns that hold numbers: physical and digital limits, samples per record.
const NUMBERS: [usize; 5] = [3, 4, 5, 6, 8];

/// The local patient and recording identification of the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// `X X X X`, and the date alone.
    Anonymous,
    /// As in the recording; plain EDF's free text becomes the name and the equipment of EDF+.
    Kept,
}

/// Copies `recording` to `output` with `annotations`, which are in order of time.
///
/// # Errors
/// [`EdfError`] of the recording or the output.
pub fn annotate<R: Read + Seek>(
    recording: R,
    output: &mut impl Write,
    annotations: &[Annotation],
    identity: Identity,
) -> Result<(), EdfError> {
    let mut reader = RecordReader::new(recording)?;
    let header = reader.header().clone();
    if header.continuity == Continuity::Plain && header.signals.iter().any(|s| s.is_annotation) {
        let reason = "plain EDF with an annotation signal; export the recording as EDF+";
        return Err(EdfError::Unwritable(reason.into()));
    }
    let onsets_s = record_onsets(&mut reader, &header)?;
    let first_s = onsets_s.first().copied().unwrap_or_default();
    let plan = plan(&onsets_s, header.record_duration_s, first_s, annotations);
    let block = |record: usize| {
        let mut block = Vec::new();
        if header.timekeeper().is_none() {
            push_tal(&mut block, onsets_s.get(record).copied().unwrap_or_default(), None, "");
        }
        let here = plan.get(record).cloned().unwrap_or_default();
        for Annotation { onset_s, duration_s, text } in annotations.get(here).unwrap_or_default() {
            push_tal(&mut block, onset_s + first_s, *duration_s, text);
        }
        block
    };
    let bytes = (0..onsets_s.len()).map(|record| block(record).len()).max().unwrap_or_default();
    let bytes = bytes.max(24).next_multiple_of(header.sample_format.bytes());

    let mut input = reader.into_inner();
    output.write_all(&header_of_copy(&mut input, &header, bytes, identity)?)?;
    input.seek(SeekFrom::Start(header.header_bytes))?;
    for record in 0..onsets_s.len() {
        // By streaming: a record may be the whole recording.
        let copied = std::io::copy(&mut input.by_ref().take(header.record_bytes), output)?;
        if copied < header.record_bytes {
            return Err(EdfError::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let mut block = block(record);
        block.resize(bytes, 0);
        output.write_all(&block)?;
    }
    output.flush()?;
    Ok(())
}

/// Onset of each record, seconds after the header's start. A record that does not say it follows
/// the one before.
fn record_onsets<R: Read + Seek>(
    reader: &mut RecordReader<R>,
    header: &Header,
) -> Result<Vec<f64>, EdfError> {
    let mut onsets_s = Vec::new();
    for record in 0..header.record_count {
        // Not by adding up: EDFbrowser and others compare record by record.
        let follows_s = match header.timekeeper() {
            None => record as f64 * header.record_duration_s,
            Some(_) => onsets_s.last().map_or(0.0, |last| last + header.record_duration_s),
        };
        onsets_s.push(reader.record_onset_s(record)?.unwrap_or(follows_s));
    }
    Ok(onsets_s)
}

/// Which annotations each record takes: those that begin in it or before, as many as a record has
/// room for. A hole of hours brings many at once, so the room grows until all are placed.
fn plan(
    onsets_s: &[f64],
    record_s: f64,
    first_s: f64,
    annotations: &[Annotation],
) -> Vec<Range<usize>> {
    let mut room = 1;
    loop {
        let mut next = 0;
        let plan: Vec<Range<usize>> = onsets_s
            .iter()
            .enumerate()
            .map(|(record, onset_s)| {
                let begin = next;
                let is_last = record + 1 == onsets_s.len();
                let is_due = |annotation: &&Annotation| {
                    is_last || annotation.onset_s + first_s < onset_s + record_s
                };
                let due = annotations.iter().skip(begin).take(room).take_while(is_due);
                next += due.count();
                begin..next
            })
            .collect();
        if next == annotations.len() || plan.is_empty() {
            return plan;
        }
        room *= 2;
    }
}

fn header_of_copy<R: Read + Seek>(
    input: &mut R,
    header: &Header,
    annotation_bytes: usize,
    identity: Identity,
) -> Result<Vec<u8>, EdfError> {
    // At most 1 MiB, as the header's reader has checked.
    let mut raw = vec![0; header.header_bytes as usize];
    input.seek(SeekFrom::Start(0))?;
    input.read_exact(&mut raw)?;
    let field = |place: Range<usize>| field::text(raw.get(place).unwrap_or_default());
    let number = |place: Range<usize>| field(place).replace(',', ".");
    let signals = header.signals.len();
    let (patient, recorded) = match identity {
        Identity::Anonymous => ("X X X X".into(), anonymous(header.start, "X")),
        Identity::Kept => identity_fields(header, &field(8..88), &field(88..168)),
    };
    let mut out = raw.get(..8).unwrap_or_default().to_vec();
    push_text(&mut out, &patient, 80);
    push_text(&mut out, &recorded, 80);
    push_text(&mut out, &field(168..176), 8);
    push_text(&mut out, &field(176..184), 8);
    push_text(&mut out, &(256 * (2 + signals)).to_string(), 8);
    push_text(&mut out, &reserved(header, &field(192..236)), 44);
    push_text(&mut out, &header.record_count.to_string(), 8);
    push_text(&mut out, &number(244..252), 8);
    push_text(&mut out, &(signals + 1).to_string(), 4);

    let mut place = 256;
    let ours = our_signal(header.sample_format, annotation_bytes);
    for (column, (width, ours)) in COLUMNS.into_iter().zip(ours).enumerate() {
        for _ in 0..signals {
            let written = place..place + width;
            let text = if NUMBERS.contains(&column) { number(written) } else { field(written) };
            push_text(&mut out, &text, width);
            place += width;
        }
        push_text(&mut out, &ours, width);
    }
    Ok(out)
}

/// Label, transducer, unit, limits, prefilter, samples, reserved.
fn our_signal(format: SampleFormat, annotation_bytes: usize) -> [String; 10] {
    let (min, max) = format.range();
    let label = match format {
        SampleFormat::I16 => "EDF Annotations",
        SampleFormat::I24 => "BDF Annotations",
    };
    let samples = annotation_bytes / format.bytes();
    let (min, max, samples) = (min.to_string(), max.to_string(), samples.to_string());
    let nothing = String::new;
    let limits = ("-1".to_owned(), "1".to_owned());
    let (low, high) = limits;
    [label.into(), nothing(), nothing(), low, high, min, max, nothing(), samples, nothing()]
}

fn reserved(header: &Header, written: &str) -> String {
    match (header.continuity, header.sample_format) {
        (Continuity::Plain, SampleFormat::I16) => "EDF+C".into(),
        (Continuity::Plain, SampleFormat::I24) => "BDF+C".into(),
        _ => written.into(),
    }
}

fn anonymous(start: Option<DateTime>, equipment: &str) -> String {
    let date = start.map_or("X".into(), DateTime::edf_plus_date);
    format!("Startdate {date} X X {equipment}")
}

/// Both fields as EDF+ wants them: there a space ends a subfield.
fn identity_fields(header: &Header, patient: &str, recorded: &str) -> (String, String) {
    if header.continuity != Continuity::Plain {
        return (patient.into(), recorded.into());
    }
    let subfield = |text: &str| match text.split_whitespace().collect::<Vec<_>>().join("_") {
        text if text.is_empty() => "X".into(),
        text => text,
    };
    (format!("X X X {}", subfield(patient)), anonymous(header.start, &subfield(recorded)))
}
