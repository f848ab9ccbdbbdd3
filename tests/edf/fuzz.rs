//! Properties: any bytes are read or refused without a panic, and what is written is read back.

use std::io::Cursor;

use proptest::prelude::*;
use sfm_runtime::edf::{
    Annotation, Continuity, EdfWriter, RecordReader, RecordingSpec, SampleFormat, SignalSpec,
    annotation::read_annotations,
};
use sfm_runtime::signal::SampleBlock;
use sfm_runtime::source::Source;
use sfm_runtime::source::edf::EdfSource;

use crate::files;

/// Reads everything there is; the reads must come to an end and stay within the file.
fn read_whatever_it_is(bytes: &[u8]) {
    if let Ok(mut reader) = RecordReader::new(Cursor::new(bytes)) {
        let _ = read_annotations(&mut reader);
    }
    let Ok(mut source) = EdfSource::new(Cursor::new(bytes), "any") else { return };
    let mut block = SampleBlock::default();
    let mut samples = 0;
    while source.next_block(&mut block).expect("the length was checked") {
        samples += block.samples.len();
        assert!(block.samples.iter().all(|value| value.is_finite()));
    }
    assert!(2 * samples <= bytes.len(), "{samples} samples from {} bytes", bytes.len());
}

/// A header field's worth of characters that matter to the reader.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::sample::select(vec![
        "0",
        "-1",
        "1",
        "-5",
        "2",
        "9999",
        "99999999",
        "NaN",
        "inf",
        "1e308",
        "1e-300",
        "0,5",
        "  3",
        "EDF+D",
        "EDF+C",
        "BDF+D",
        "EDF Annotations",
        "+1\x14\x14\0",
        "+1e9\x14\x14\0",
        "\0",
    ]);
    prop_oneof![text.prop_map(|t| t.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 1..9),]
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        read_whatever_it_is(&bytes);
    }

    #[test]
    fn any_damage_to_a_good_file(
        discontinuous in any::<bool>(),
        damage in prop::collection::vec((0_usize..1200, field()), 1..6),
        length in 0_usize..2000,
    ) {
        let mut bytes = if discontinuous {
            let onsets = [0.0, 1.0, 60.0, 61.0];
            files::write(&files::spec(Continuity::Discontinuous, 1.0), 4, Some(&onsets))
        } else {
            files::night()
        };
        for (place, field) in damage {
            for (byte, new) in bytes.iter_mut().skip(place).zip(field) {
                *byte = new;
            }
        }
        bytes.truncate(length.max(400));
        read_whatever_it_is(&bytes);
    }

    #[test]
    fn what_is_written_is_read(
        sample_format in prop::sample::select(vec![SampleFormat::I16, SampleFormat::I24]),
        lengths in prop::collection::vec(1_usize..40, 1..5),
        records in 1_usize..6,
        record_duration_s in prop::sample::select(vec![0.1, 0.5, 1.0, 2.5, 30.0]),
        seed in any::<u32>(),
        texts in prop::collection::vec("[a-zA-Zäß中 ]{1,12}", 0..4),
    ) {
        let (digital_min, digital_max) = sample_format.range();
        let signals: Vec<SignalSpec> = lengths
            .iter()
            .map(|&n| SignalSpec { digital_min, digital_max, ..files::signal("EEG", n) })
            .collect();
        let continuity = Continuity::Continuous;
        let spec = RecordingSpec {
            sample_format,
            continuity,
            record_duration_s,
            signals,
            annotation_bytes: 400,
            ..files::spec(continuity, 1.0)
        };
        let written: Vec<Annotation> = texts
            .iter()
            .map(|t| t.trim())
            .filter(|t| !t.is_empty())
            .zip(1..)
            .map(|(t, i)| Annotation {
                onset_s: f64::from(i) / 8.0,
                duration_s: (i % 2 == 0).then_some(0.5),
                text: t.to_owned(),
            })
            .collect();
        let mut random = seed;
        let mut sample = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            digital_min + (random >> 8) as i32 % (digital_max - digital_min)
        };
        let mut expected = vec![Vec::<i32>::new(); lengths.len()];
        let mut writer = EdfWriter::new(Cursor::new(Vec::new()), &spec)?;
        for record in 0..records {
            let samples: Vec<Vec<i32>> =
                lengths.iter().map(|&n| (0..n).map(|_| sample()).collect()).collect();
            for (all, new) in expected.iter_mut().zip(&samples) {
                all.extend(new);
            }
            let samples: Vec<&[i32]> = samples.iter().map(Vec::as_slice).collect();
            writer.write_record(&samples, if record == 0 { &written } else { &[] })?;
        }
        let mut reader = RecordReader::new(writer.finish()?)?;
        prop_assert_eq!(reader.header().warnings.len(), usize::from(lengths.len() > 1));
        prop_assert_eq!(reader.header().record_count, records as u64);
        for (signal, expected) in expected.iter().enumerate() {
            let mut digital = Vec::new();
            for record in 0..records as u64 {
                reader.digital(record, signal, 0..usize::MAX, &mut digital)?;
            }
            prop_assert_eq!(&digital, expected);
        }
        prop_assert_eq!(read_annotations(&mut reader)?, written);
    }
}
