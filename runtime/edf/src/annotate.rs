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
use super::tal::push_tal;
use super::{EdfError, RecordReader};

/// Widths of the columns of a header's table of signals.
const COLUMNS: [usize; 10] = [16, 80, 8, 8, 8, 8, 8, 80, 8, 32];
/// Recorders give their first sample's time to 100 ns, and ours are measured from there.
const DECIMALS: usize = 7;
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
    let blocks = Blocks {
        plan: plan(&onsets_s, header.record_duration_s, annotations),
        keeps_time: header.timekeeper().is_none(),
        annotations,
        onsets_s,
    };
    let bytes = blocks.longest().max(24).next_multiple_of(header.sample_format.bytes());
    let mut input = reader.into_inner();
    output.write_all(&header_of_copy(&mut input, &header, bytes, identity)?)?;
    input.seek(SeekFrom::Start(header.header_bytes))?;
    for record in 0..blocks.onsets_s.len() {
        // By streaming: a record may be the whole recording.
        let copied = std::io::copy(&mut input.by_ref().take(header.record_bytes), output)?;
        if copied < header.record_bytes {
            return Err(EdfError::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let mut block = blocks.of(record);
        block.resize(bytes, 0);
        output.write_all(&block)?;
    }
    output.flush()?;
    Ok(())
}

/// What the added signal holds in each record.
struct Blocks<'a> {
    annotations: &'a [Annotation],
    /// Which of them are in each record.
    plan: Vec<Range<usize>>,
    /// Onset of each record, seconds after the header's start.
    onsets_s: Vec<f64>,
    /// The file's only annotation signal says when its records begin.
    keeps_time: bool,
}

impl Blocks<'_> {
    fn of(&self, record: usize) -> Vec<u8> {
        let mut block = Vec::new();
        if self.keeps_time {
            let onset_s = self.onsets_s.get(record).copied().unwrap_or_default();
            push_tal(&mut block, DECIMALS, onset_s, None, "");
        }
        // Annotations count from the first sample.
        let first_s = self.onsets_s.first().copied().unwrap_or_default();
        let here = self.plan.get(record).cloned().unwrap_or_default();
        for annotation in self.annotations.get(here).unwrap_or_default() {
            let Annotation { onset_s, duration_s, text } = annotation;
            push_tal(&mut block, DECIMALS, onset_s + first_s, *duration_s, text);
        }
        block
    }

    fn longest(&self) -> usize {
        (0..self.onsets_s.len()).map(|record| self.of(record).len()).max().unwrap_or_default()
    }
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
fn plan(onsets_s: &[f64], record_s: f64, annotations: &[Annotation]) -> Vec<Range<usize>> {
    let first_s = onsets_s.first().copied().unwrap_or_default();
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
    push_text(&mut out, &field(244..252).replace(',', "."), 8);
    push_text(&mut out, &(signals + 1).to_string(), 4);

    push_table(&mut out, &raw, header, annotation_bytes);
    Ok(out)
}

/// The table of signals, stored by field, with ours as the last of each.
fn push_table(out: &mut Vec<u8>, raw: &[u8], header: &Header, annotation_bytes: usize) {
    let mut place = 256;
    let ours = our_signal(header.sample_format, annotation_bytes);
    for (column, (width, ours)) in COLUMNS.into_iter().zip(ours).enumerate() {
        for _ in 0..header.signals.len() {
            let written = field::text(raw.get(place..place + width).unwrap_or_default());
            // Decimal commas are for the lenient.
            let is_number = NUMBERS.contains(&column);
            push_text(out, &if is_number { written.replace(',', ".") } else { written }, width);
            place += width;
        }
        push_text(out, &ours, width);
    }
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
    let (low, high) = ("-1".to_owned(), "1".to_owned());
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::annotation::read_annotations;
    use super::super::{EdfWriter, RecordingSpec, SignalSpec};
    use super::*;

    fn recording(continuity: Continuity, onsets_s: &[f64]) -> Vec<u8> {
        let spec = RecordingSpec {
            sample_format: SampleFormat::I16,
            continuity,
            start: "2024-02-28T22:00:00".parse().ok(),
            record_duration_s: 10.0,
            signals: vec![SignalSpec {
                label: "C4-M1".into(),
                unit: "uV".into(),
                prefilter: String::new(),
                physical_min: -100.0,
                physical_max: 100.0,
                digital_min: -100,
                digital_max: 100,
                samples_per_record: 4,
            }],
            annotation_bytes: 64,
        };
        let mut writer = EdfWriter::new(Cursor::new(Vec::new()), &spec).expect("a header");
        for (record, onset_s) in (0..).zip(onsets_s) {
            writer.write_record_at(*onset_s, &[&[record; 4]], &[]).expect("a record");
        }
        writer.finish().expect("closed").into_inner()
    }

    fn stages(count: u32) -> Vec<Annotation> {
        let stage = |epoch| Annotation {
            onset_s: 30.0 * f64::from(epoch),
            duration_s: Some(30.0),
            text: "Sleep stage N2".into(),
        };
        (0..count).map(stage).collect()
    }

    fn copied(recording: &[u8], count: u32, identity: Identity) -> Vec<u8> {
        let mut copy = Vec::new();
        annotate(Cursor::new(recording), &mut copy, &stages(count), identity).expect("copied");
        let mut reader = RecordReader::new(Cursor::new(&copy)).expect("opens");
        assert_eq!(reader.header().warnings, Vec::<String>::new());
        assert_eq!(read_annotations(&mut reader).expect("read"), stages(count));
        for record in 0..reader.header().record_count {
            let mut samples = Vec::new();
            reader.digital(record, 0, 0..4, &mut samples).expect("read");
            assert_eq!(samples, [record as i32; 4]);
        }
        copy
    }

    #[test]
    fn plain_edf_becomes_edf_plus_without_the_person() {
        let mut plain = recording(Continuity::Plain, &[0.0, 10.0, 20.0, 30.0, 40.0]);
        plain[8..88].copy_from_slice(format!("{:<80}", "Erika <script> Mustermann").as_bytes());
        plain[88..168].copy_from_slice(format!("{:<80}", "Ward 7, Dr. Who").as_bytes());
        // Padding by NUL and a Latin-1 micro sign, as recorders write them.
        let unit = 256 + 16 + 80;
        plain[unit..unit + 8].copy_from_slice(b"\xb5V\0\0\0\0\0\0");
        let copy = copied(&plain, 2, Identity::Anonymous);
        let header = String::from_utf8(copy[..256].to_vec()).expect("ASCII");
        assert!(header[8..].starts_with("X X X X   "), "{header}");
        assert!(header[88..].starts_with("Startdate 28-FEB-2024 X X X   "), "{header}");
        assert!(header[168..].starts_with("28.02.2422.00.00768     EDF+C"), "{header}");
        assert!(copy[..768].iter().all(|byte| (b' '..=b'~').contains(byte)));
        let kept = copied(&plain, 2, Identity::Kept);
        let header = String::from_utf8(kept[..256].to_vec()).expect("ASCII");
        assert!(header[8..].starts_with("X X X Erika_<script>_Mustermann "), "{header}");
        assert!(header[88..].starts_with("Startdate 28-FEB-2024 X X Ward_7,_Dr._Who "), "{header}");
    }

    #[test]
    fn records_keep_their_times_and_a_hole_its_stages() {
        let continuous = recording(Continuity::Continuous, &[0.0, 10.0, 20.0, 30.0]);
        let copy = copied(&continuous, 2, Identity::Anonymous);
        // Header and samples but for what is added are the recording's.
        assert_eq!(copy[192..197], *b"EDF+C");
        // 100 minutes of hole bring 200 epochs at once.
        let holes = recording(Continuity::Discontinuous, &[0.0, 10.0, 6010.0, 6020.0]);
        copied(&holes, 201, Identity::Anonymous);
    }

    #[test]
    fn every_annotation_finds_a_place() {
        for count in [0, 1, 5, 700] {
            let plan = plan(&[0.0, 10.0, 20.0], 10.0, &stages(count));
            assert_eq!(plan.iter().map(Range::len).sum::<usize>(), count as usize);
        }
        assert!(plan(&[], 10.0, &stages(3)).is_empty());
    }

    #[test]
    fn a_plain_file_with_annotations_is_refused() {
        let mut odd = recording(Continuity::Continuous, &[0.0]);
        odd[192..197].copy_from_slice(b"     ");
        let refused = annotate(Cursor::new(odd), &mut Vec::new(), &[], Identity::Anonymous);
        assert!(matches!(refused, Err(EdfError::Unwritable(_))), "{refused:?}");
    }
}
