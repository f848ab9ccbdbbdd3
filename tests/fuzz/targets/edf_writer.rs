//! Any sequence of records, holes, annotations and restarts through the EDF writer: what it has
//! accepted is read back to the digit, and what it refuses leaves the file as it was.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use sfm_edf::{
    Annotation, Continuity, EdfWriter, RecordReader, RecordingSpec, SampleFormat, SignalSpec,
};

/// What was accepted: digital samples by record and signal, and the texts of annotations.
#[derive(Default)]
struct Accepted {
    records: Vec<Vec<Vec<i32>>>,
    texts: Vec<String>,
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let spec = spec(&mut input);
    let Ok(mut writer) = EdfWriter::open_ended(Cursor::new(Vec::new()), &spec, "fuzz") else {
        return;
    };
    let mut accepted = Accepted::default();
    while !input.0.is_empty() {
        if input.byte() % 16 == 0 {
            writer = reopened(writer, &spec);
            continue;
        }
        let samples: Vec<Vec<i32>> = spec
            .signals
            .iter()
            .map(|s| (0..s.samples_per_record).map(|_| input.sample(spec.sample_format)).collect())
            .collect();
        let annotations = annotations(&mut input, &writer);
        let hole_s = f64::from(input.byte() % 4) * f64::from(input.byte());
        let onset_s = writer.next_onset_s() + hole_s;
        let slices: Vec<&[i32]> = samples.iter().map(Vec::as_slice).collect();
        let before = (writer.record_count(), writer.output().get_ref().len());
        if writer.write_record_at(onset_s, &slices, &annotations).is_ok() {
            accepted.records.push(samples);
            accepted.texts.extend(annotations.into_iter().map(|a| a.text));
        } else {
            assert_eq!((writer.record_count(), writer.output().get_ref().len()), before);
        }
    }
    let Ok(file) = writer.finish() else { unreachable!("memory takes everything") };
    if !accepted.records.is_empty() {
        compare(file.into_inner(), &spec, &accepted);
    }
});

fn compare(bytes: Vec<u8>, spec: &RecordingSpec, accepted: &Accepted) {
    let mut reader = RecordReader::new(Cursor::new(&bytes)).expect("what was written is read");
    for (record, samples) in accepted.records.iter().enumerate() {
        for (signal, samples) in samples.iter().enumerate() {
            let mut read = Vec::new();
            reader
                .digital(record as u64, signal, 0..samples.len(), &mut read)
                .expect("the record is there");
            assert_eq!(&read, samples);
        }
    }
    if spec.continuity != Continuity::Plain {
        let read =
            sfm_edf::annotation::read_annotations(&mut reader).expect("annotations are read");
        let texts: Vec<&str> = read.iter().map(|a| a.text.as_str()).collect();
        // White space at the ends says nothing: readers leave it out.
        let said = |text: &String| text.replace(char::is_control, " ").trim().to_owned();
        let mut wanted: Vec<String> =
            accepted.texts.iter().map(said).filter(|t| !t.is_empty()).collect();
        let mut texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
        (wanted.sort(), texts.sort());
        assert_eq!(texts, wanted);
    }
}

fn reopened(
    writer: EdfWriter<Cursor<Vec<u8>>>,
    spec: &RecordingSpec,
) -> EdfWriter<Cursor<Vec<u8>>> {
    let (records, next_s) = (writer.record_count(), writer.next_onset_s());
    let file = writer.finish().expect("memory takes everything");
    let mut writer = EdfWriter::reopened(file, spec, records, next_s);
    writer.leave_open().expect("memory takes everything");
    writer
}

fn spec(input: &mut Input<'_>) -> RecordingSpec {
    let sample_format = [SampleFormat::I16, SampleFormat::I24][usize::from(input.byte() % 2)];
    let continuity = [Continuity::Plain, Continuity::Continuous, Continuity::Discontinuous]
        [usize::from(input.byte() % 3)];
    let (digital_min, digital_max) = sample_format.range();
    let signals = (0..1 + input.byte() % 4).map(|_| SignalSpec {
        label: input.text(20),
        unit: input.text(10),
        prefilter: input.text(3),
        physical_min: -f64::from(input.byte()) - 1.0,
        physical_max: f64::from(input.byte()) + 1.0,
        digital_min,
        digital_max,
        samples_per_record: 1 + usize::from(input.byte() % 8),
    });
    RecordingSpec {
        sample_format,
        continuity,
        start: None,
        signals: signals.collect(),
        record_duration_s: f64::from(1 + input.byte() % 60) / 4.0,
        annotation_bytes: 2 * usize::from(input.byte()),
    }
}

fn annotations(input: &mut Input<'_>, writer: &EdfWriter<Cursor<Vec<u8>>>) -> Vec<Annotation> {
    (0..input.byte() % 3)
        .map(|_| Annotation {
            onset_s: writer.next_onset_s() + f64::from(input.byte()) / 8.0,
            duration_s: (input.byte() % 2 == 0).then(|| f64::from(input.byte()) / 8.0),
            text: input.text(12),
        })
        .collect()
}

/// The bytes that decide; zeros behind their end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn sample(&mut self, format: SampleFormat) -> i32 {
        let wide = i32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()]);
        let (min, max) = format.range();
        // Mostly in range; sometimes just beyond it.
        if wide % 64 == 0 { max.saturating_add(wide % 2) } else { min + wide.rem_euclid(max - min) }
    }

    fn text(&mut self, longest: u8) -> String {
        let length = usize::from(self.byte() % (longest + 1)).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}
