use super::*;

fn beds() -> Arc<Beds> {
    Arc::new(Beds::new(Limits::default()))
}

/// A session in which all is well.
fn well(beds: &Arc<Beds>) -> Watched {
    let session = beds.begin("3", None);
    session.health.recorder(Recorder::On);
    session.health.link("serial /dev/ttyACM0", true);
    session.health.phase(Phase::Live);
    session
}

fn outcome(beds: &Beds) -> (Status, String) {
    let report = beds.report();
    (report.status, report.reasons.join("; "))
}

#[test]
fn what_is_wrong_is_said_and_weighed() {
    let beds = beds();
    assert_eq!(outcome(&beds), (Status::Ok, String::new()), "no session is well");
    let session = well(&beds);
    assert_eq!(outcome(&beds), (Status::Ok, String::new()));
    session.health.link("udp 127.0.0.1:9000\n", false);
    let down = "bed 3: 1 of 2 links down: udp 127.0.0.1:9000\\u{a}".to_owned();
    assert_eq!(outcome(&beds), (Status::Degraded, down.clone()));
    session.health.recorder(Recorder::Stopped("No space left on device".to_owned()));
    let stopped = "bed 3: the recording stopped: No space left on device".to_owned();
    assert_eq!(outcome(&beds), (Status::Failing, format!("{stopped}; {down}")));
    session.health.forget_link("udp 127.0.0.1:9000\n");
    session.health.recorder(Recorder::Off);
    assert_eq!(outcome(&beds), (Status::Degraded, "bed 3: nothing is recorded".to_owned()));
    session.health.recorder(Recorder::On);
    for (free, status) in
        [(1 << 20, Status::Failing), (1 << 30, Status::Degraded), (1 << 40, Status::Ok)]
    {
        session.health.disk_free.store(free, Ordering::Relaxed);
        assert_eq!(outcome(&beds).0, status, "{free} bytes");
    }
    drop(session);
    assert_eq!(beds.report().beds.len(), 0);
}

#[test]
fn a_live_pipeline_that_stands_still_is_stuck_and_another_one_has_time() {
    let (none, hour) = (Duration::ZERO, Duration::from_secs(3600));
    let with = |slow, stuck, stuck_otherwise| {
        let beds = Arc::new(Beds::new(Limits { slow, stuck, stuck_otherwise }));
        let session = well(&beds);
        (beds, session)
    };
    let (beds, session) = with(none, hour, none);
    let (status, why) = outcome(&beds);
    assert!(status == Status::Degraded && why.contains("last ran"), "{why}");
    assert!(beds.are_alive());
    session.health.phase(Phase::Finishing);
    assert!(!beds.are_alive(), "the other phases have a limit of their own");

    let (beds, session) = with(none, none, hour);
    let (status, why) = outcome(&beds);
    assert!(status == Status::Failing && why.contains("stood still"), "{why}");
    assert!(!beds.are_alive());
    session.health.phase(Phase::Finishing);
    assert!(beds.are_alive(), "the final pass takes longer steps");
    assert_eq!(outcome(&beds).0, Status::Ok);
}

#[test]
fn a_heartbeat_brings_it_back() {
    let limit = Duration::from_secs(2);
    let limits = Limits { slow: limit, stuck: limit, ..Limits::default() };
    let beds = Arc::new(Beds::new(limits));
    let session = well(&beds);
    std::thread::sleep(limit + Duration::from_millis(10));
    assert!(!beds.are_alive());
    session.health.heartbeat.touch();
    assert!(beds.are_alive());
    assert_eq!(outcome(&beds).0, Status::Ok);
}

#[test]
fn a_panic_of_the_session_is_no_quiet_end() {
    let beds = beds();
    let session = well(&beds);
    let died = std::thread::spawn(move || {
        let _session = session;
        panic!("on purpose");
    });
    died.join().expect_err("it panicked");
    assert_eq!(outcome(&beds), (Status::Failing, "bed 3: the session broke off".to_owned()));
    assert!(!beds.are_alive());
}

#[test]
fn made_up_links_do_not_fill_the_memory() {
    let beds = beds();
    let session = well(&beds);
    (0..10_000).for_each(|k| session.health.link(&format!("{k}{}", "x".repeat(999)), false));
    let report = beds.report();
    assert_eq!(report.beds[0].links, MAX_LINKS);
    assert!(report.reasons[0].len() < 500, "{}", report.reasons[0]);
}

#[test]
fn the_status_line_says_the_most_important() {
    let beds = beds();
    assert_eq!(beds.report().line(), "no session");
    let first = well(&beds);
    first.health.epoch(132);
    assert_eq!(beds.report().line(), "1 of 1 links up, epoch 132");
    let second = well(&beds);
    second.health.recorder(Recorder::Stopped("disk full".to_owned()));
    let line = beds.report().line();
    assert_eq!(line, "2 beds, 1 ok; bed 3: the recording stopped: disk full");
}
