use super::*;
use crate::edf::{DateTime, Header};
use crate::signal::SignalInfo;

fn start() -> DateTime {
    "2026-11-24T22:58:41".parse().expect("a date")
}

fn recorder(dir: &std::path::Path) -> Recorder {
    recorder_of(dir, 100.0)
}

fn recorder_of(dir: &std::path::Path, rate_hz: f64) -> Recorder {
    let signal = SignalInfo {
        label: "EEG".to_owned(),
        rate_hz,
        unit: "uV".to_owned(),
        physical_min: -100.0,
        physical_max: 100.0,
        digital_min: -1000,
        digital_max: 1000,
    };
    Recorder::create(dir, &[signal], start()).expect("created")
}

fn block(start: u64, count: usize) -> DigitalBlock {
    DigitalBlock { channel: 0, start, samples: vec![3; count] }
}

/// What is reported besides the space.
fn observed() -> (impl FnMut(RecorderEvent) + Send, Receiver<RecorderEvent>) {
    let (report, reports) = channel();
    let observer = move |event| {
        if !matches!(event, RecorderEvent::Space(_) | RecorderEvent::Unreserved { .. }) {
            let _ = report.send(event);
        }
    };
    (observer, reports)
}

/// A thread that takes nothing from the queue, and what it reports.
fn stuck() -> (RecorderThread, Receiver<Message>, Receiver<RecorderEvent>) {
    let (queue, messages) = channel();
    let (observer, reports) = observed();
    let shared = Arc::new(Shared::new(&[COUNT as f64], Box::new(observer)));
    (RecorderThread { queue, shared, outcome: channel().1 }, messages, reports)
}

/// Samples of a block, such that a thousand do not fit into the queue, and of a second.
const COUNT: usize = 20_000;

#[test]
fn a_full_queue_loses_what_comes_until_half_of_it_is_free() {
    let dir = tempfile::tempdir().expect("folder");
    let (thread, messages, reports) = stuck();
    let fits = (MAX_QUEUED / (COUNT * 4 + BLOCK_BYTES)) as u64;
    for index in 0..1200 {
        thread.push(block(index * COUNT as u64, COUNT));
    }
    assert!(!thread.is_recording());
    let told: Vec<RecorderEvent> = reports.try_iter().collect();
    assert!(matches!(&told[..], [RecorderEvent::Losing { reason }] if reason.contains("too slow")));
    let shared = thread.shared.clone();
    let mut worker = Worker::new(recorder_of(dir.path(), COUNT as f64), None, None, shared);
    for message in messages.try_iter() {
        let Message::Block(block) = message else { panic!("{message:?}") };
        worker.take(block);
    }
    assert!(thread.is_recording());
    assert_eq!(thread.queued_bytes(), 0);
    let told: Vec<RecorderEvent> = reports.try_iter().collect();
    let [RecorderEvent::Lost(lost), RecorderEvent::Resumed { .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(lost.samples, (1200 - fits) * COUNT as u64);
    assert_eq!((lost.from_s, lost.to_s), (fits as f64, 1200.0));
    // What comes then is recorded, behind a gap.
    thread.push(block(1200 * COUNT as u64, 100));
    let Ok(Message::Block(block)) = messages.try_recv() else { panic!("it was not taken") };
    worker.take(block);
    let written = worker.finish().expect("finished");
    assert_eq!(written.records, 1201);
}

#[test]
fn a_disk_that_hangs_is_reported_before_the_queue_is_full() {
    let (mut thread, _messages, reports) = stuck();
    thread.push(block(0, 10));
    let Some(shared) = Arc::get_mut(&mut thread.shared) else { panic!("shared") };
    shared.born -= HANGS * 2;
    thread.push(block(10, 10));
    thread.push(block(20, 10));
    let told: Vec<RecorderEvent> = reports.try_iter().collect();
    let [RecorderEvent::Waiting { reason }] = &told[..] else { panic!("{told:?}") };
    assert!(reason.contains("does not answer"), "{reason}");
}

#[test]
fn the_thread_records_and_says_what() {
    let dir = tempfile::tempdir().expect("folder");
    let log = AnnotationLog::create(dir.path(), start()).expect("created");
    let (observer, reports) = observed();
    let thread = spawn(recorder(dir.path()), Some(log), None, observer).expect("a thread");
    for index in 0..100 {
        thread.push(block(index * 50, 50));
    }
    thread.annotations().add(1.5, None, crate::lights::LIGHTS_OFF);
    let written = thread.finish(Duration::from_secs(60)).expect("finished");
    assert_eq!((written.records, written.lost.late), (50, 0));
    assert_eq!(reports.try_iter().count(), 0);
    let mut file = std::fs::File::open(&written.path).expect("opens");
    assert_eq!(Header::read(&mut file).expect("a header").warnings, [""; 0]);
    let said = crate::edf::annotations(&dir.path().join("annotations.edf")).expect("opens");
    assert_eq!(said.len(), 1);
}

#[test]
fn a_thread_that_is_left_alone_closes_its_files() {
    let dir = tempfile::tempdir().expect("folder");
    let thread = spawn(recorder(dir.path()), None, None, |_| ()).expect("a thread");
    thread.push(block(0, 1000));
    let RecorderThread { queue, outcome, .. } = thread;
    drop(queue);
    let written = outcome.recv_timeout(Duration::from_secs(60)).expect("ends");
    assert_eq!(written.expect("closed").records, 10);
}

#[cfg(unix)]
#[test]
fn a_recording_whose_folder_is_gone_goes_on_in_another_one() {
    for is_renamed in [true, false] {
        let dir = tempfile::tempdir().expect("folder");
        let (out, away) = (dir.path().join("night"), dir.path().join("away"));
        std::fs::create_dir(&out).expect("a folder");
        let log = AnnotationLog::create(&out, start()).expect("created");
        let next = dir.path().join("night-2");
        let make: FolderMaker = Box::new({
            let next = next.clone();
            move |_| {
                std::fs::create_dir(&next).map_err(|e| e.to_string())?;
                Ok(next.clone())
            }
        });
        let folder = SessionFolder::new(&out.join("recording.edf"), None);
        let (observer, reports) = observed();
        let whereabouts = Some((folder.clone(), make));
        let thread = spawn(recorder(&out), Some(log), whereabouts, observer).expect("a thread");
        thread.push(block(0, 1000));
        thread.annotations().add(1.5, None, crate::lights::LIGHTS_OFF);
        std::thread::sleep(Duration::from_millis(100));
        match is_renamed {
            true => std::fs::rename(&out, &away).expect("renamed"),
            false => std::fs::remove_dir_all(&out).expect("removed"),
        }
        let event = reports.recv_timeout(Duration::from_secs(10)).expect("noticed");
        let RecorderEvent::Moved { folder: to, reason } = event else { panic!("{event:?}") };
        assert_eq!((&to, folder.path()), (&next, next.clone()));
        assert!(reason.contains(if is_renamed { "renamed" } else { "removed" }), "{reason}");
        thread.push(block(1000, 1000));
        thread.annotations().add(15.0, None, crate::lights::LIGHTS_ON);
        let written = thread.finish(Duration::from_secs(60)).expect("finished");
        assert_eq!((written.records, written.path), (20, next.join("recording.edf")));
        let said = crate::edf::annotations(&next.join("annotations.edf")).expect("opens");
        assert_eq!(said.len(), 2);
        if is_renamed {
            let mut file = std::fs::File::open(away.join("recording.edf")).expect("opens");
            let header = Header::read(&mut file).expect("a header");
            assert_eq!((header.record_count, header.warnings), (10, vec![]));
        }
    }
}
