//! The recorder and its way back: what is pushed is what the reader gives, sample by sample and
//! slot by slot, whatever is missing and however it was pushed.

mod annotations;
mod cut;
mod made;
mod thread;

use proptest::prelude::*;
use sfm_runtime::edf::annotations as read_annotations;
use sfm_runtime::edf::{DateTime, Header};
use sfm_runtime::recorder::{Recorder, recordable, storable};
use sfm_runtime::signal::DigitalBlock;
use sfm_runtime::source::Source;
use sfm_runtime::source::edf::EdfSource;
use sfm_tests::skip::skipped;

use self::made::{Channel, Night, folder, read_back, signal, start};

fn pieces() -> impl Strategy<Value = Vec<(u32, u32)>> {
    // Thousandths of a second of silence, then of signal; now and then a long silence, or one that
    // is not written.
    let silence = prop_oneof![
        8 => 0_u32..900,
        4 => Just(0_u32),
        2 => 900_u32..9000,
        1 => 3_600_000_u32..9_000_000,
    ];
    prop::collection::vec((silence, 0_u32..3000), 0..8)
}

fn silence_at_end() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0_u32..3000, 1 => 3_600_000_u32..4_000_000]
}

fn night() -> impl Strategy<Value = Night> {
    let rates = vec![1.0, 32.0, 100.0, 128.0, 200.0, 256.0, 500.0, 512.0];
    let odd = vec![1.0, 12.5, 0.5, 128.0, 256.0];
    let channel = |rates| {
        (prop::sample::select(rates), pieces(), silence_at_end())
            .prop_map(|(rate_hz, pieces, silent_ms)| Channel::new(rate_hz, &pieces, silent_ms))
    };
    let channels = prop_oneof![
        4 => prop::collection::vec(channel(rates), 1..7),
        1 => prop::collection::vec(channel(odd), 1..4),
    ];
    let part_s = prop_oneof![Just(0.0), Just(0.25), Just(0.987_654), Just(0.000_001)];
    (channels, any::<bool>(), part_s, any::<u32>()).prop_map(|(channels, is_wide, part_s, seed)| {
        Night { channels, is_wide, start: start().plus_seconds(part_s), seed }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_pushed_is_what_is_read(night in night()) {
        let dir = folder();
        let path = night.record(dir.path(), 1);
        let source = EdfSource::open(&path)?;
        prop_assert_eq!(source.info().start.clone(), Some(night.start.to_string()));
        prop_assert_eq!(source.info().signals.clone(), night.signals());
        // A night that is more hole than signal is marked as one.
        let warnings = source.info().warnings.iter();
        let others: Vec<_> = warnings.filter(|w| !w.contains("hole(s) in the recording")).collect();
        prop_assert!(others.is_empty(), "{others:?}");
        for source in [source, EdfSource::open(&path)?.with_block_samples(7)] {
            let read = read_back(source);
            for (index, (channel, (samples, end))) in night.channels.iter().zip(read).enumerate() {
                prop_assert_eq!(samples, night.physical(index));
                // Nothing is said about a channel behind what was decided, and all before it.
                prop_assert_eq!(end, channel.decided());
            }
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_how_samples_were_pushed(night in night()) {
        let mut files = Vec::new();
        for granularity in [1, 2, 3] {
            let dir = folder();
            files.push(std::fs::read(night.record(dir.path(), granularity))?);
        }
        prop_assert!(files.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

/// Half a second of silence of the first of two channels, and a longer one of both.
fn with_gaps(silence_s: u32) -> Night {
    let silence_ms = 1000 * silence_s;
    let eeg = Channel::new(256.0, &[(0, 1500), (500, 1250), (silence_ms, 3000)], 0);
    let pulse = Channel::new(1.0, &[(0, 3000), (silence_ms, 3000)], 0);
    Night { channels: vec![eeg, pulse], is_wide: false, start: start().plus_seconds(0.5), seed: 1 }
}

#[test]
fn gaps_are_annotations_of_their_channel_and_long_holes_are_not_written() {
    let dir = tempfile::tempdir().expect("folder");
    let path = with_gaps(3700).record(dir.path(), 1);
    let gaps: Vec<_> = read_annotations(&path)
        .expect("annotations")
        .into_iter()
        .map(|a| (a.onset_s, a.duration_s, a.text))
        .collect();
    let gap = |onset_s, duration_s, text: &str| (onset_s, Some(duration_s), text.to_owned());
    assert_eq!(
        gaps,
        [
            gap(1.5, 0.5, "Recording gap@@Channel 0"),
            gap(3.25, 0.75, "Recording gap@@Channel 0"),
            gap(3.0, 1.0, "Recording gap@@Channel 1"),
            gap(3703.0, 0.25, "Recording gap@@Channel 0"),
            gap(3706.25, 0.75, "Recording end@@Channel 0"),
            gap(3706.0, 1.0, "Recording end@@Channel 1"),
        ]
    );
    let mut file = std::fs::File::open(&path).expect("opens");
    let header = Header::read(&mut file).expect("header");
    assert_eq!(header.format_name(), "EDF+D");
    assert_eq!(header.record_count, 3 + 1 + 4);
    assert!(header.warnings.is_empty(), "{:?}", header.warnings);
    assert!(header.equipment.starts_with("sfm-stream_"));
}

#[test]
fn a_night_without_long_holes_is_contiguous() {
    let dir = tempfile::tempdir().expect("folder");
    let path = with_gaps(300).record(dir.path(), 1);
    let mut file = std::fs::File::open(&path).expect("opens");
    let header = Header::read(&mut file).expect("header");
    assert_eq!((header.format_name(), header.record_count), ("EDF+C", 307));
    // As long as it is; the first hole makes it EDF+D.
    let (mut recorder, recorded) = Recorder::reopen(dir.path()).expect("reopened");
    assert_eq!(Header::read(&mut file).expect("header").format_name(), "EDF+C");
    assert_eq!(recorded.end_s, 307.0);
    let later = DigitalBlock { channel: 0, start: 4000 * 256, samples: vec![1; 512] };
    recorder.push(&later).expect("pushed");
    assert_eq!(Header::read(&mut file).expect("header").format_name(), "EDF+C");
    let later = DigitalBlock { channel: 1, start: 4000, samples: vec![1; 2] };
    recorder.push(&later).expect("pushed");
    assert_eq!(Header::read(&mut file).expect("header").format_name(), "EDF+D");
    recorder.finish().expect("finished");
    let (_, recorded) = Recorder::reopen(dir.path()).expect("reopened");
    assert_eq!(Header::read(&mut file).expect("header").format_name(), "EDF+D");
    assert_eq!(recorded.end_s, 4002.0);
    assert_eq!(
        std::fs::read(&path).expect("reads").len() as u64,
        file.metadata().expect("there").len()
    );
}

#[test]
fn the_header_counts_what_is_on_the_disk() {
    let dir = tempfile::tempdir().expect("folder");
    let signals = vec![signal("EEG", 256.0, false)];
    let mut recorder = Recorder::create(dir.path(), &signals, start()).expect("created");
    let count = || {
        let bytes = std::fs::read(dir.path().join("recording.edf")).expect("reads");
        let count = String::from_utf8_lossy(&bytes[236..244]).into_owned();
        let patient = String::from_utf8_lossy(&bytes[8..88]).trim_end().to_owned();
        assert_eq!(patient, "X X X X");
        count
    };
    assert_eq!(count(), "-1      ");
    let block = |start, count| DigitalBlock { channel: 0, start, samples: vec![7; count] };
    recorder.push(&block(0, 700)).expect("pushed");
    assert_eq!(count(), "-1      ", "not synced");
    // The first records at once: until then other programs do not open it.
    assert!(recorder.sync_at().is_some_and(|at| at <= std::time::Instant::now()));
    recorder.sync().expect("synced");
    assert_eq!(count(), "2       ");
    recorder.push(&block(700, 700)).expect("pushed");
    assert_eq!(count(), "2       ", "not synced");
    recorder.sync().expect("synced");
    assert_eq!(count(), "5       ");
    let written = recorder.finish().expect("finished");
    assert_eq!((written.records, count().as_str()), (6, "6       "));
    assert_eq!(written.bytes, std::fs::metadata(&written.path).expect("there").len());
    assert_eq!(written.lost, Default::default());
}

#[test]
fn no_recording_is_written_over() {
    for name in ["recording.edf", "recording.bdf"] {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join(name);
        std::fs::write(&path, "another's").expect("written");
        let signals = vec![signal("EEG", 256.0, false)];
        let error = Recorder::create(dir.path(), &signals, start()).expect_err("refused");
        assert!(error.to_string().contains("is there already"), "{error}");
        assert_eq!(std::fs::read(&path).expect("reads"), b"another's");
        assert_eq!(std::fs::read_dir(dir.path()).expect("folder").count(), 1);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_set_aside_for_a_night_is_no_part_of_the_file() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("folder");
    let signals = vec![signal("EEG", 256.0, false)];
    let blocks = || 512 * dir.path().join("recording.edf").metadata().expect("there").blocks();
    let mut recorder = Recorder::create(dir.path(), &signals, start()).expect("created");
    if let Err(reason) = recorder.reserve() {
        skipped("fallocate", reason);
        return;
    }
    let space = recorder.space();
    assert!(space.bytes_per_s > 512.0 && space.reserved_bytes > 0, "{space:?}");
    assert!(blocks() >= space.reserved_bytes, "{space:?}");
    let block = DigitalBlock { channel: 0, start: 0, samples: vec![7; 2560] };
    recorder.push(&block).expect("pushed");
    recorder.sync().expect("synced");
    assert_eq!(recorder.space().recorded_s, 10.0);
    let header = Header::read(&mut std::fs::File::open(recorder.path()).expect("opens"));
    assert_eq!(header.expect("a header").warnings, [""; 0]);
    // A cut leaves it; who goes on or recovers gives it back.
    drop(recorder);
    assert!(blocks() >= space.reserved_bytes);
    let (recorder, recorded) = Recorder::reopen(dir.path()).expect("reopened");
    assert_eq!(recorded.end_s, 10.0);
    assert!(blocks() < 64 << 10, "{}", blocks());
    drop(recorder);
    let (mut recorder, _) = Recorder::reopen(dir.path()).expect("reopened");
    recorder.reserve().expect("set aside");
    recorder.finish().expect("finished");
    assert!(blocks() < 64 << 10, "{}", blocks());
}

#[test]
fn a_session_without_a_sample_still_opens() {
    let dir = tempfile::tempdir().expect("folder");
    let signals = vec![signal("EEG", 256.0, false), signal("SpO2", 1.0, false)];
    let recorder = Recorder::create(dir.path(), &signals, start()).expect("created");
    let written = recorder.finish().expect("finished");
    assert_eq!(written.records, 1);
    let read = read_back(EdfSource::open(&written.path).expect("opens"));
    assert!(read.iter().all(|(samples, end)| samples.is_empty() && *end == 0), "{read:?}");
}

#[test]
fn what_is_late_or_cannot_be_stored_is_counted_and_missing() {
    let dir = tempfile::tempdir().expect("folder");
    let signals = vec![signal("EEG", 4.0, false)];
    assert_eq!(storable(&signals), -0x8000..=0x7fff);
    let mut recorder = Recorder::create(dir.path(), &signals, start()).expect("created");
    let mut push = |start: u64, samples: &[i32]| {
        let block = DigitalBlock { channel: 0, start, samples: samples.to_vec() };
        recorder.push(&block).expect("pushed");
    };
    push(0, &[1, 2, 40_000, 4]);
    push(2, &[9, 9, 5]);
    push(8, &[-40_000, 50_000]);
    push(10, &[10]);
    // Eight days on: no reader of ours would take it.
    push(8 * 86_400 * 4, &[1, 1]);
    push(u64::MAX, &[1]);
    let written = recorder.finish().expect("finished");
    assert_eq!((written.lost.late, written.lost.unstorable), (2, 3 + 3));
    let read = read_back(EdfSource::open(&written.path).expect("opens"));
    let slots: Vec<u64> = read[0].0.iter().map(|&(slot, _)| slot).collect();
    assert_eq!(slots, [0, 1, 3, 4, 10]);
}

#[test]
fn gaps_beyond_the_room_are_merged_and_counted() {
    let dir = tempfile::tempdir().expect("folder");
    let signals = vec![signal("EEG", 200.0, false), signal("ECG", 200.0, false)];
    let mut recorder = Recorder::create(dir.path(), &signals, start()).expect("created");
    // Every second sample of a channel is lost, of the other none.
    for slot in (0..400).step_by(2) {
        let block = DigitalBlock { channel: 0, start: slot, samples: vec![3] };
        recorder.push(&block).expect("pushed");
    }
    let block = DigitalBlock { channel: 1, start: 0, samples: vec![5; 400] };
    recorder.push(&block).expect("pushed");
    let written = recorder.finish().expect("finished");
    let read = read_back(EdfSource::open(&written.path).expect("opens"));
    assert_eq!(read[1].0.len(), 400);
    let kept = read[0].0.len() as u64;
    assert!(kept > 0 && kept < 200, "{kept}");
    assert_eq!(written.lost.merged, 200 - kept);
    assert!(read[0].0.iter().all(|(slot, _)| slot % 2 == 0), "a gap was given as samples");
}

#[test]
fn signals_that_are_not_recordable_are_refused() {
    let dir = tempfile::tempdir().expect("folder");
    let twice = vec![signal("EEG", 4.0, false), signal("EEG", 4.0, false)];
    for signals in [vec![], vec![signal("EEG", 33.3, false)], twice.clone()] {
        let error = Recorder::create(dir.path(), &signals, start()).expect_err("refused");
        assert!(!error.to_string().contains('\n'), "{error}");
        assert!(std::fs::read_dir(dir.path()).expect("folder").next().is_none());
    }
    let signals: Vec<_> = recordable(&twice).into_iter().map(|s| s.expect("fits")).collect();
    assert!(Recorder::create(dir.path(), &signals, start()).is_ok());
}

#[test]
fn a_start_at_the_last_microsecond_of_a_second() {
    let dir = tempfile::tempdir().expect("folder");
    let late: DateTime = start().plus_seconds(0.999_999);
    let signals = vec![signal("Sound", 100_000.0, false)];
    let mut recorder = Recorder::create(dir.path(), &signals, late).expect("created");
    let day = 86_400 * 100_000;
    for (slot, count) in [(3, 1), (7, 2), (day + 99_998, 1), (day + 100_001, 1)] {
        let block = DigitalBlock { channel: 0, start: slot, samples: vec![1; count] };
        recorder.push(&block).expect("pushed");
    }
    let path = recorder.finish().expect("finished").path;
    let read = read_back(EdfSource::open(&path).expect("opens"));
    let slots: Vec<u64> = read[0].0.iter().map(|&(slot, _)| slot).collect();
    assert_eq!(slots, [3, 7, 8, day + 99_998, day + 100_001]);
}
