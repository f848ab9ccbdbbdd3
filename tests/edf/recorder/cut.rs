//! Sessions cut at any moment: the file opens, little is lost, and the recording goes on in it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sfm_runtime::edf::Header;
use sfm_runtime::recorder::{Recorder, RecorderError};
use sfm_runtime::signal::{DigitalBlock, SignalInfo};
use sfm_runtime::source::Source;
use sfm_runtime::source::edf::EdfSource;

use super::made::{Channel, Night, Noise, digital, folder, read_back, signal, start};
use super::thread::{FOLDER, child};

const KILLS: usize = 50;
/// Samples of the slow channel a block; of the fast one 256 times as many.
const BLOCK_S: u64 = 1;

fn signals() -> Vec<SignalInfo> {
    vec![signal("EEG", 256.0, false), signal("SpO2", 1.0, false)]
}

fn push_second(recorder: &mut Recorder, second: u64) {
    for (channel, rate) in [(0, 256), (1, 1)] {
        let start = second * rate;
        let samples = (start..start + rate * BLOCK_S).map(|s| digital(channel, s, false)).collect();
        recorder.push(&DigitalBlock { channel, start, samples }).expect("pushed");
    }
}

#[test]
#[ignore = "runs as the child of a_killed_session_loses_a_record_at_most_and_goes_on"]
fn record_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let (mut recorder, first) = match Recorder::reopen(folder) {
        // Some time has passed since the cut.
        Ok((recorder, recorded)) => (recorder, recorded.end_s as u64 + 60),
        Err(_) => {
            // Killed before it had a header, which no start takes for its own.
            let _ = std::fs::remove_file(folder.join("recording.edf"));
            (Recorder::create(folder, &signals(), start()).expect("created"), 0)
        }
    };
    for second in first..first + 100_000 {
        push_second(&mut recorder, second);
        if recorder.sync_at().is_some_and(|due| due <= Instant::now()) {
            recorder.sync().expect("on the disk");
        }
        println!("recorded {second}");
        std::io::stdout().flush().expect("is heard");
    }
}

/// Lets a child record, kills it, and returns the seconds that it had recorded.
fn killed_after(folder: &Path, wait: Duration) -> Vec<u64> {
    let arguments = child("recorder::cut::record_until_killed", folder);
    let mut child = Command::new(&arguments[0])
        .args(&arguments[1..])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("output")).lines();
    let second = |line: &str| line.split_once("recorded ").and_then(|(_, s)| s.parse().ok());
    let mut recorded = Vec::new();
    let mut begun: Option<Instant> = None;
    while begun.is_none_or(|begun| begun.elapsed() < wait) {
        let line = lines.next().expect("the child goes on").expect("a line");
        if let Some(second) = second(&line) {
            recorded.push(second);
            begun.get_or_insert_with(Instant::now);
        }
    }
    child.kill().expect("killed");
    // What it said before it died.
    recorded.extend(lines.map_while(Result::ok).filter_map(|line| second(&line)));
    child.wait().expect("status");
    recorded
}

#[test]
fn a_killed_session_loses_a_record_at_most_and_goes_on() {
    let dir = tempfile::tempdir().expect("folder");
    let mut noise = Noise::new(11);
    let mut recorded: Vec<u64> = Vec::new();
    for kill in 0..KILLS {
        let wait = Duration::from_micros(noise.below(20_000));
        let said = killed_after(dir.path(), wait);
        assert!(said.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        recorded.extend(&said);
        let source = EdfSource::open(&dir.path().join("recording.edf")).expect("opens");
        let read = read_back(source);
        for (channel, rate) in [(0, 256), (1, 1)] {
            let samples = &read[channel].0;
            let scale = signals()[channel].scale().expect("a scale");
            let right = |&(slot, value): &(u64, f32)| {
                value == scale.physical(digital(channel, slot, false)) as f32
            };
            assert!(samples.iter().all(right), "kill {kill}: a wrong sample");
            // Every second that a child had said was recorded, is. The one it was killed in may be.
            let seconds: Vec<u64> = samples.chunks(rate as usize).map(|c| c[0].0 / rate).collect();
            let missing = recorded.iter().filter(|s| seconds.binary_search(s).is_err()).count();
            let unsaid = seconds.iter().filter(|s| recorded.binary_search(s).is_err()).count();
            assert_eq!((missing, unsaid.min(kill + 2)), (0, unsaid), "kill {kill}");
        }
    }
    println!("{KILLS} kills, {} s recorded and none of them lost", recorded.len());
    // And the last of them can be closed as if nothing had been.
    let (recorder, _) = Recorder::reopen(dir.path()).expect("reopened");
    let written = recorder.finish().expect("finished");
    let mut file = std::fs::File::open(&written.path).expect("opens");
    assert!(Header::read(&mut file).expect("a header").warnings.is_empty());
}

fn night() -> Night {
    let fast = Channel::new(64.0, &[(0, 3500), (500, 2500), (20_000, 4000)], 700);
    let slow = Channel::new(1.0, &[(0, 7000), (19_000, 3000)], 0);
    Night { channels: vec![fast, slow], is_wide: false, start: start().plus_seconds(0.25), seed: 3 }
}

#[test]
fn a_cut_at_any_byte_keeps_the_whole_records_and_goes_on() {
    let dir = folder();
    let path = night().record(dir.path(), 1);
    let bytes = std::fs::read(&path).expect("reads");
    let whole = read_back(EdfSource::open(&path).expect("opens"));
    let mut header = std::io::Cursor::new(&bytes);
    let header = Header::read(&mut header).expect("a header");
    let record = header.record_bytes as usize;
    let mut cuts: Vec<usize> = (header.header_bytes as usize..bytes.len()).step_by(37).collect();
    cuts.extend(
        (0..header.record_count as usize).map(|r| header.header_bytes as usize + r * record),
    );
    for cut in cuts {
        std::fs::write(&path, &bytes[..cut]).expect("writes");
        let (mut recorder, recorded) = Recorder::reopen(dir.path()).expect("reopened");
        let kept = (cut - header.header_bytes as usize) / record;
        assert_eq!(recorded.signals, night().signals());
        assert_eq!(recorded.start, Some(if kept > 0 { night().start } else { start() }));
        let later = recorded.ends[0] + 64 * 100 + 7;
        let block = DigitalBlock { channel: 0, start: later, samples: vec![1; 64] };
        recorder.push(&block).expect("pushed");
        let written = recorder.finish().expect("finished");
        assert_eq!(written.lost, Default::default());
        let read = read_back(EdfSource::open(&path).expect("opens"));
        let before: Vec<_> =
            whole[0].0.iter().copied().filter(|&(slot, _)| slot < recorded.ends[0]).collect();
        assert_eq!(read[0].0[..before.len()], before);
        let behind: Vec<u64> = read[0].0[before.len()..].iter().map(|&(slot, _)| slot).collect();
        assert_eq!(behind, (later..later + 64).collect::<Vec<_>>());
    }
}

#[test]
fn zeros_that_a_power_cut_left_are_no_records() {
    let dir = tempfile::tempdir().expect("folder");
    let path = night().record(dir.path(), 1);
    let bytes = std::fs::read(&path).expect("reads");
    let record = Header::read(&mut std::io::Cursor::new(&bytes)).expect("header").record_bytes;
    for (zeroed, appended) in [(0, 3), (1, 0), (2, 1)] {
        let mut damaged = bytes.clone();
        let whole = bytes.len() - zeroed * record as usize;
        damaged[whole..].fill(0);
        damaged.extend(vec![0; appended * record as usize + 5]);
        std::fs::write(&path, damaged).expect("writes");
        let (recorder, _) = Recorder::reopen(dir.path()).expect("reopened");
        let written = recorder.finish().expect("finished");
        assert_eq!(written.bytes, whole as u64);
        assert_eq!(std::fs::read(&path).expect("reads")[256..], bytes[256..whole]);
    }
}

#[test]
fn a_session_that_ended_and_goes_on() {
    let dir = tempfile::tempdir().expect("folder");
    let path = night().record(dir.path(), 1);
    let before = read_back(EdfSource::open(&path).expect("opens"));
    let (mut recorder, recorded) = Recorder::reopen(dir.path()).expect("reopened");
    let count = |path: &Path| std::fs::read(path).expect("reads")[236..244].to_vec();
    assert_eq!(count(&path), format!("{:<8}", recorded.end_s).into_bytes());
    // The filled places of the last record stay what they are: too late.
    let late = DigitalBlock { channel: 0, start: recorded.ends[0] - 2, samples: vec![5; 10] };
    recorder.push(&late).expect("pushed");
    let written = recorder.finish().expect("finished");
    assert_eq!(written.lost.late, 2);
    let read = read_back(EdfSource::open(&path).expect("opens"));
    assert_eq!(read[0].0[..before[0].0.len()], before[0].0);
    assert_eq!(read[0].0.len(), before[0].0.len() + 8);
    assert_eq!(read[1].0, before[1].0);
}

#[test]
fn what_is_no_recording_of_ours_is_left_alone() {
    let dir = tempfile::tempdir().expect("folder");
    let refused = || {
        let error = Recorder::reopen(dir.path()).expect_err("refused");
        assert!(matches!(error, RecorderError::Refused { .. }), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    };
    refused();
    let path = dir.path().join("recording.edf");
    let others = [
        b"no EDF".to_vec(),
        crate::files::night(),
        crate::files::write(
            &crate::files::spec(sfm_runtime::edf::Continuity::Discontinuous, 1.0),
            3,
            None,
        ),
    ];
    for bytes in others {
        std::fs::write(&path, &bytes).expect("writes");
        refused();
        assert_eq!(std::fs::read(&path).expect("reads"), bytes);
    }
}

#[cfg(unix)]
#[test]
fn a_recording_that_is_there_is_never_replaced() {
    for name in ["recording.edf", "recording.bdf"] {
        let dir = tempfile::tempdir().expect("folder");
        std::fs::write(dir.path().join(name), "somebody else's").expect("writes");
        let error = Recorder::create(dir.path(), &signals(), start()).expect_err("refused");
        assert!(error.to_string().contains("is there already"), "{error}");
        let names: Vec<_> = std::fs::read_dir(dir.path()).expect("folder").flatten().collect();
        assert_eq!(names.len(), 1);
        let there = std::fs::read(dir.path().join(name)).expect("reads");
        assert_eq!(there, b"somebody else's");
    }
    let dir = tempfile::tempdir().expect("folder");
    let target = dir.path().join("target");
    std::os::unix::fs::symlink(&target, dir.path().join("recording.edf")).expect("linked");
    Recorder::create(dir.path(), &signals(), start()).expect_err("refused");
    assert!(!target.exists(), "a link is not followed");
}

#[test]
fn two_programs_do_not_record_into_one_file() {
    let dir = tempfile::tempdir().expect("folder");
    let recorder = Recorder::create(dir.path(), &signals(), start()).expect("created");
    let before = std::fs::read(recorder.path()).expect("reads");
    let message = Recorder::reopen(dir.path()).expect_err("refused").to_string();
    assert!(message.contains("another program is recording"), "{message}");
    assert!(Recorder::create(dir.path(), &signals(), start()).is_err());
    assert_eq!(std::fs::read(recorder.path()).expect("reads"), before);
}

/// The time of `record` becomes `onset_s`, as damage may have it.
fn damage_time(path: &Path, record: u64, onset_s: f64) {
    let mut bytes = std::fs::read(path).expect("the recording");
    let header = Header::read(&mut std::io::Cursor::new(&bytes)).expect("a header");
    let signal = &header.signals[header.timekeeper().expect("it keeps time")];
    let place = header.header_bytes + record * header.record_bytes + signal.record_offset;
    let onset = format!("+{onset_s}\x14\x14\0");
    bytes[place as usize..place as usize + onset.len()].copy_from_slice(onset.as_bytes());
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn one_damaged_time_does_not_move_what_follows_a_cut() {
    for record in [0, 40, 99] {
        let dir = tempfile::tempdir().expect("folder");
        let mut recorder = Recorder::create(dir.path(), &signals(), start()).expect("created");
        (0..100).for_each(|second| push_second(&mut recorder, second));
        let path = recorder.finish().expect("closed").path;
        damage_time(&path, record, 99.0 * 3600.0);
        let (mut recorder, found) = Recorder::reopen(dir.path()).expect("goes on");
        assert_eq!((found.end_s, found.ends[0]), (100.0, 25_600), "record {record}");
        assert!(found.warnings.len() == 1 && found.warnings[0].contains("1 record"), "{found:?}");
        (100..120).for_each(|second| push_second(&mut recorder, second));
        recorder.finish().expect("closed");
        let source = EdfSource::open(&path).expect("opens");
        assert_eq!(source.info().duration_s, Some(120.0), "record {record}");
    }
}
