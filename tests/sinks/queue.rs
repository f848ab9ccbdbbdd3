//! The queue before the sinks: a failure stays with its sink, a slow sink does not hold up a live
//! pipeline, and publications follow the events.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use sfm_runtime::event::{EpochStatus, Event, Pass, SignalPatch};
use sfm_runtime::sink::{Sink, SinkError, Sinks, WhenFull};

use crate::synthetic::Recording;

type Log = Arc<Mutex<Vec<&'static str>>>;

/// Logs its calls and fails or panics where it is told to.
struct Probe {
    log: Log,
    fail_at: Option<usize>,
    panics: bool,
    hold: Option<mpsc::Receiver<()>>,
}

impl Probe {
    fn new(log: &Log) -> Self {
        Probe { log: Arc::clone(log), fail_at: None, panics: false, hold: None }
    }

    fn push(&self, what: &'static str) -> usize {
        let mut log = self.log.lock().expect("log");
        log.push(what);
        log.len()
    }
}

impl Sink for Probe {
    fn name(&self) -> String {
        "probe".to_owned()
    }

    fn take(&mut self, _: &Event) -> Result<(), SinkError> {
        if let Some(hold) = self.hold.take() {
            let _ = hold.recv();
        }
        let calls = self.push("take");
        if self.panics {
            // Past the panic hook: the test's output needs no backtrace of it.
            std::panic::resume_unwind(Box::new("a sink that breaks down"));
        }
        match self.fail_at {
            Some(at) if calls == at => Err(SinkError("probe: disk full".to_owned())),
            _ => Ok(()),
        }
    }

    fn publish(&mut self) -> Result<(), SinkError> {
        self.push("publish");
        Ok(())
    }
}

fn signals() -> Event {
    Event::Signals(Box::new(SignalPatch {
        pass: Pass::Live,
        patch: 0,
        onset_s: 0.0,
        rate_hz: 128.0,
        channels: Vec::new(),
    }))
}

fn epoch(index: u32) -> Event {
    Recording::epoch(Pass::Live, index, EpochStatus::Provisional)
}

fn count(log: &Log, what: &str) -> usize {
    log.lock().expect("log").iter().filter(|entry| **entry == what).count()
}

#[test]
fn a_failing_sink_is_reported_once_and_the_others_go_on() {
    let logs: [Log; 3] = Default::default();
    let failing = Probe { fail_at: Some(2), ..Probe::new(&logs[0]) };
    let panicking = Probe { panics: true, ..Probe::new(&logs[1]) };
    let healthy = Probe::new(&logs[2]);
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(failing), Box::new(panicking), Box::new(healthy)];
    let mut sinks = Sinks::start(sinks, WhenFull::Wait).expect("thread");
    (0..50).for_each(|index| sinks.send(epoch(index)));
    let failures = sinks.finish();
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(failures.contains(&"probe: disk full".to_owned()), "{failures:?}");
    assert!(!sinks.is_whole());
    assert_eq!(logs.each_ref().map(|log| count(log, "take")), [2, 1, 50]);
}

#[test]
fn a_live_pipeline_is_not_held_up_and_the_loss_is_told() {
    let log = Log::default();
    let (release, hold) = mpsc::channel();
    let stuck = Probe { hold: Some(hold), ..Probe::new(&log) };
    let mut sinks = Sinks::start(vec![Box::new(stuck)], WhenFull::Drop).expect("thread");
    let begun = Instant::now();
    (0..2000).for_each(|index| sinks.send(epoch(index)));
    assert!(begun.elapsed() < Duration::from_secs(1));
    release.send(()).expect("the sink waits");
    let failures = sinks.finish();
    let taken = count(&log, "take");
    assert!((256..300).contains(&taken), "{taken}");
    let lost = format!("the disk was too slow: {} events are missing in the output", 2000 - taken);
    assert_eq!(failures, [lost]);
    assert!(!sinks.is_whole());
}

#[test]
fn signals_for_pictures_take_no_place_of_results() {
    let log = Log::default();
    let (release, hold) = mpsc::channel();
    let stuck = Probe { hold: Some(hold), ..Probe::new(&log) };
    let mut sinks = Sinks::start(vec![Box::new(stuck)], WhenFull::Drop).expect("thread");
    for index in 0..180 {
        (0..10).for_each(|_| sinks.send(signals()));
        sinks.send(epoch(index));
    }
    release.send(()).expect("the sink waits");
    assert!(sinks.finish().is_empty() && sinks.is_whole(), "no result is missing");
    let taken = count(&log, "take");
    assert!((180 + 64..180 + 80).contains(&taken), "{taken}");
}

#[test]
fn what_was_taken_is_published_soon_and_not_every_time() {
    let log = Log::default();
    let probe = Probe::new(&log);
    let mut sinks = Sinks::start(vec![Box::new(probe)], WhenFull::Wait).expect("thread");
    (0..100).for_each(|index| sinks.send(epoch(index)));
    let begun = Instant::now();
    while count(&log, "publish") == 0 && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(count(&log, "publish"), 1, "without another event");
    assert!(sinks.failures().is_empty());
    assert!(sinks.finish().is_empty());
    assert_eq!(count(&log, "publish"), 2, "the second one at the end");
}
