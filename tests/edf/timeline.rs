//! Where samples lie in time: record lengths, EDF+D holes and overlaps, sub-second starts, and
//! that no block length changes any of it.

use sfm_runtime::edf::{Continuity, RecordingSpec};
use sfm_runtime::signal::SampleBlock;
use sfm_runtime::source::Source;

use crate::files::*;

fn discontinuous(onsets_s: &[f64]) -> Vec<u8> {
    write(&spec(Continuity::Discontinuous, 1.0), onsets_s.len(), Some(onsets_s))
}

#[test]
fn holes_are_jumps_of_the_start() {
    for hole_s in [1.0, 95.0, 3.0 * 3600.0] {
        let mut source = open(discontinuous(&[0.0, 1.0, 2.0 + hole_s, 3.0 + hole_s]));
        assert_eq!(source.info().duration_s, Some(4.0 + hole_s));
        assert_eq!(
            source.info().warnings,
            [format!("1 hole(s) in the recording, {hole_s:.1} s in all")]
        );
        let behind = 2 + hole_s as u64;
        assert_eq!(
            read_all(&mut source),
            [[(0, ramp(0..8)), (4 * behind, ramp(8..16))], [(0, ramp(0..2)), (behind, ramp(2..4))]]
        );
    }
}

#[test]
fn overlaps_are_dropped() {
    // The third record lies on the second, the fifth reaches back by half a second.
    let mut source = open(discontinuous(&[0.0, 1.0, 1.0, 2.0, 2.5]));
    assert_eq!(source.info().warnings, ["2 record(s) overlap earlier ones; 1.5 s of them dropped"]);
    assert_eq!(source.info().duration_s, Some(3.5));
    let eeg: Vec<f32> = [ramp(0..8), ramp(12..16), ramp(18..20)].concat();
    assert_eq!(read_all(&mut source)[0], [(0, eeg)]);
}

#[test]
fn records_before_the_first_are_dropped() {
    let mut source = open(discontinuous(&[5.0, 3.0, 6.0]));
    let eeg: Vec<f32> = [ramp(0..4), ramp(8..12)].concat();
    assert_eq!(read_all(&mut source)[0], [(0, eeg)]);
}

#[test]
fn rounded_onsets_open_no_holes() {
    let third =
        RecordingSpec { record_duration_s: 1.0 / 3.0, ..spec(Continuity::Discontinuous, 1.0) };
    let onsets: Vec<f64> = (0..3000).map(|i| (i as f64 * 0.333333 * 1e3).round() / 1e3).collect();
    let mut source = open(write(&third, onsets.len(), Some(&onsets)));
    assert!(source.info().warnings.is_empty(), "{:?}", source.info().warnings);
    assert_eq!(read_all(&mut source)[0].len(), 1);
}

#[test]
fn damaged_onsets_follow_the_last_record() {
    for damage in
        [&b"+9e9\x14\x14\0"[..], b"+nan\x14\x14\0", b"\0\0\0\0\0\0\0", b"\xff\xff\xff\xff\xff"]
    {
        let mut bytes = discontinuous(&[0.0, 1.0, 2.0]);
        // Behind the 2nd record's 5 samples, in a file of three signals with 50-byte records.
        set_bytes(&mut bytes, 256 * 4 + 50 + 10, damage);
        let mut source = open(bytes);
        assert_eq!(
            source.info().warnings,
            ["1 record(s) without an onset; taken to follow the last"]
        );
        assert_eq!(read_all(&mut source)[0], [(0, ramp(0..12))]);
    }
}

#[test]
fn a_jump_that_no_other_record_bears_out_moves_nothing() {
    let in_order: Vec<f64> = (0..40).map(f64::from).collect();
    let far = 99.0 * 3600.0;
    // Damaged: the first, one in the middle, two in a row, the last.
    for damage in
        [&[(0, far)][..], &[(0, -far)], &[(20, far)], &[(20, far), (21, far + 1.0)], &[(39, far)]]
    {
        let mut bytes = discontinuous(&in_order);
        for &(record, onset_s) in damage {
            let onset = format!("+{onset_s}\x14\x14\0").replace("+-", "-");
            set_bytes(&mut bytes, 256 * 4 + record * 50 + 10, onset.as_bytes());
        }
        let mut source = open(bytes);
        let said = source.info().warnings.join(" ");
        assert!(said.contains("that no other bears out"), "{damage:?}: {said}");
        assert_eq!(source.info().duration_s, Some(40.0), "{damage:?}");
        assert_eq!(read_all(&mut source)[0], [(0, ramp(0..160))], "{damage:?}");
    }
    // A hole before the last record is believed as far as the file reaches.
    let mut onsets = in_order.clone();
    onsets[39] = 3000.0;
    assert_eq!(open(discontinuous(&onsets)).info().duration_s, Some(3001.0));
}

#[test]
fn a_start_within_a_second() {
    let mut subsecond = spec(Continuity::Continuous, 1.0);
    subsecond.start = subsecond.start.map(|start| start.plus_seconds(0.25));
    let mut source = open(write(&subsecond, 2, None));
    assert_eq!(source.info().start.as_deref(), Some("2024-02-29T22:58:41.250"));
    assert!(source.info().warnings.is_empty(), "{:?}", source.info().warnings);
    assert_eq!(read_all(&mut source)[0], [(0, ramp(0..8))]);
}

#[test]
fn a_continuous_file_with_holes_is_reported() {
    let mut bytes = discontinuous(&[0.0, 1.0, 97.0]);
    set_bytes(&mut bytes, 192, b"EDF+C");
    let warnings = open(bytes).info().warnings.clone();
    assert!(warnings.len() == 1 && warnings[0].contains("95.0 s off"), "{warnings:?}");
}

#[test]
fn any_block_length_yields_the_same_samples() {
    for (duration_s, samples) in [(0.5, 4), (2.5, 999), (30.0, 7680), (1.0, 77), (600.0, 1)] {
        let mut odd = spec(Continuity::Discontinuous, duration_s);
        odd.signals[0].samples_per_record = samples;
        let onsets = [0.0, duration_s, 2.0 * duration_s + 0.7, 2.5 * duration_s];
        let bytes = write(&odd, onsets.len(), Some(&onsets));
        let expected = read_all(&mut open(bytes.clone()));
        assert_eq!(expected[0][0].0, 0);
        for n in [1, 7, 128, 1_000_000] {
            let mut source = open(bytes.clone()).with_block_samples(n);
            assert_eq!(read_all(&mut source), expected, "{duration_s} s records, blocks of {n}");
        }
        for s in [0.001, 0.4, 1e9, 0.0, f64::NAN] {
            let mut source = open(bytes.clone()).with_block_seconds(s);
            assert_eq!(read_all(&mut source), expected, "{duration_s} s records, blocks of {s} s");
        }
    }
}

#[test]
fn channels_of_long_records_advance_together() {
    let mut long = spec(Continuity::Plain, 30.0);
    long.signals[0].samples_per_record = 30 * 256;
    long.signals[1].samples_per_record = 30 * 32;
    let mut source = open(write(&long, 3, None));
    let (mut block, mut ends_s) = (SampleBlock::default(), [0.0_f64; 2]);
    while source.next_block(&mut block).expect("reads") {
        let rate_hz = source.info().signals[block.channel].rate_hz;
        assert!(block.samples.len() as f64 <= rate_hz, "{} samples", block.samples.len());
        ends_s[block.channel] = (block.start as usize + block.samples.len()) as f64 / rate_hz;
        assert!((ends_s[0] - ends_s[1]).abs() <= 1.0, "{ends_s:?}");
    }
    assert_eq!(ends_s, [90.0, 90.0]);
}

#[test]
fn selected_channels_and_rewinding() {
    let mut source = open(night());
    source.select(&[1, 7]);
    assert_eq!(read_all(&mut source), [vec![], vec![(0, ramp(0..10))]]);
    source.rewind();
    assert_eq!(read_all(&mut source)[1], [(0, ramp(0..10))]);
    source.select(&[]);
    assert!(!source.next_block(&mut SampleBlock::default()).expect("reads"));
    source.select(&[0, 1]);
    assert_eq!(read_all(&mut source), [[(0, ramp(0..40))], [(0, ramp(0..10))]]);
}

#[test]
fn records_larger_than_what_is_held_are_read_in_slices() {
    let mut huge = spec(Continuity::Plain, 36_000.0);
    huge.signals[0].samples_per_record = 5 << 20;
    huge.signals[1].samples_per_record = 36_000;
    let samples: Vec<i32> = (0..5 << 20).map(|i| i % 30_000).collect();
    let slow: Vec<i32> = (0..36_000).map(|i| i % 30_000).collect();
    let output = std::io::Cursor::new(Vec::new());
    let mut writer = sfm_runtime::edf::EdfWriter::new(output, &huge).expect("header");
    writer.write_record(&[&samples, &slow], &[]).expect("record");
    let mut source = open(writer.finish().expect("finish").into_inner());
    let channels = read_all(&mut source);
    for (channel, written) in channels.iter().zip([samples, slow]) {
        let expected: Vec<f32> = written.iter().map(|&i| physical(i as usize)).collect();
        assert!(*channel == [(0, expected)]);
    }
}
