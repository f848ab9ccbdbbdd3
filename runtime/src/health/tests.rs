use super::*;
use crate::health::arrivals::DeviceArrivals;

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
fn less_room_than_the_rest_of_the_night_is_degraded() {
    let beds = beds();
    let session = well(&beds);
    let (gb, hour) = (1_u64 << 30, 3600.0);
    let space = |recorded_h: f64, reserved_bytes| RecordingSpace {
        bytes_per_s: gb as f64 / hour,
        recorded_s: recorded_h * hour,
        reserved_bytes,
    };
    session.health.disk_free.store(5 * gb, Ordering::Relaxed);
    for (recorded_h, reserved, hours, status) in [
        (0.0, 0, 5.0, Status::Degraded),
        (0.0, 8 * gb, 13.0, Status::Ok),
        (8.0, 0, 5.0, Status::Ok),
        (6.0, 0, 5.0, Status::Degraded),
    ] {
        session.health.space(space(recorded_h, reserved));
        let (found, why) = outcome(&beds);
        assert_eq!((found, why.contains("of recording")), (status, status != Status::Ok), "{why}");
        let left = beds.report().beds[0].recording_hours_left.expect("known");
        assert!((left - hours).abs() < 1e-9, "{left}");
    }
    // What is set aside does not fill up.
    session.health.disk_free.store(gb, Ordering::Relaxed);
    session.health.space(space(0.0, 20 * gb));
    assert_eq!(outcome(&beds), (Status::Ok, String::new()));
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

#[test]
fn a_condition_lasts_until_it_is_cleared() {
    let beds = beds();
    let session = well(&beds);
    session.health.condition("sensors", Some((Status::Failing, "nothing arrives".to_owned())));
    session.health.condition("sensors", Some((Status::Degraded, "little arrives".to_owned())));
    assert_eq!(outcome(&beds), (Status::Degraded, "bed 3: little arrives".to_owned()));
    session.health.condition("sensors", None);
    assert_eq!(outcome(&beds), (Status::Ok, String::new()));
    beds.condition("links", Some((Status::Degraded, "links are refused\n".to_owned())));
    assert_eq!(outcome(&beds), (Status::Degraded, "links are refused\\u{a}".to_owned()));
    drop(session);
    assert_eq!(beds.report().status, Status::Degraded, "it is the process', not the bed's");
}

/// A bed of one device whose newest sample is `age_s` old.
fn arrivals(age_s: f64, has_come: bool, has_ended: bool) -> Arrivals {
    let channels = vec![];
    let device = DeviceArrivals { device: 0xa1, has_come, has_ended, age_s, channels };
    Arrivals { devices: vec![device], ..Arrivals::default() }
}

#[test]
fn what_arrives_is_judged_whatever_the_links_say() {
    let beds = beds();
    let session = well(&beds);
    let health = &session.health;
    health.arrivals(arrivals(0.5, true, false));
    assert_eq!(outcome(&beds), (Status::Ok, String::new()));
    assert!(health.report().sample_age_s.is_some_and(|age_s| (0.5..5.0).contains(&age_s)));
    // Nobody tells anything any more.
    beds.time.advance(Duration::from_secs(9));
    assert_eq!(beds.report().status, Status::Ok);
    health.arrivals(arrivals(12.0, true, false));
    let silent = "bed 3: device 00000000000000a1: no samples for 12 s";
    assert_eq!(outcome(&beds), (Status::Degraded, silent.to_owned()));
    assert_eq!(beds.report().line(), format!("1 of 1 links up; {}", &silent[7..]));
    health.link("udp 127.0.0.1:9000", false);
    health.arrivals(arrivals(65.0, true, false));
    let (status, why) = outcome(&beds);
    assert_eq!(status, Status::Failing);
    assert!(why.starts_with("bed 3: nothing has arrived for 65 s; bed 3: 1 of 2 links"), "{why}");
    health.forget_link("udp 127.0.0.1:9000");
    health.arrivals(arrivals(65.0, true, true));
    assert_eq!(outcome(&beds), (Status::Ok, String::new()), "it said that it ends");
    assert_eq!(health.report().sample_age_s, None);
    health.arrivals(arrivals(65.0, true, false));
    health.phase(Phase::Finishing);
    assert_eq!(beds.report().status, Status::Ok, "nothing is expected any more");
}

#[test]
fn a_session_that_goes_on_without_its_sensor_fails() {
    let beds = beds();
    let session = well(&beds);
    session.health.forget_link("serial /dev/ttyACM0");
    session.health.arrivals(arrivals(2.0, false, false));
    let none = "bed 3: no sensor has come yet".to_owned();
    assert_eq!(outcome(&beds), (Status::Degraded, none));
    session.health.arrivals(arrivals(60.0, false, false));
    let (status, why) = outcome(&beds);
    assert!(status == Status::Failing && why.contains("no sensor has come yet"), "{why}");
}

#[test]
fn a_device_that_came_and_sends_nothing_is_noticed_before_the_start() {
    let beds = beds();
    let session = beds.begin("3", None);
    session.health.phase(Phase::Starting);
    assert_eq!(beds.report().status, Status::Ok, "it waits for sensors");
    session.health.arrivals(arrivals(11.0, true, false));
    assert_eq!(beds.report().status, Status::Degraded);
}
