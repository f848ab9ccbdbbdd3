use super::*;
use crate::health::Status::{Degraded, Failing};

fn channel(label: &str, age_s: f64) -> ChannelArrivals {
    ChannelArrivals { label: label.to_owned(), age_s, block_s: 0.25 }
}

fn device(device: u64, channels: &[(&str, f64)]) -> DeviceArrivals {
    let channels: Vec<_> = channels.iter().map(|(label, age_s)| channel(label, *age_s)).collect();
    let age_s = channels.iter().map(|c| c.age_s).fold(f64::INFINITY, f64::min);
    DeviceArrivals { device, has_come: true, has_ended: false, age_s, channels }
}

fn reasons_at(speed: f64, devices: &[DeviceArrivals], real_s: f64) -> Vec<(Status, String)> {
    let mut watch = Watch::default();
    let told = Duration::from_secs(5);
    let arrivals = Arrivals { speed, devices: devices.to_vec(), ..Arrivals::default() };
    watch.tell(arrivals, told);
    watch.standing(told + Duration::from_secs_f64(real_s)).reasons()
}

fn reasons(devices: &[DeviceArrivals]) -> Vec<(Status, String)> {
    reasons_at(1.0, devices, 0.0)
}

#[test]
fn a_silent_device_is_named_after_10_s_and_a_silent_bed_fails_after_60_s() {
    let both = |a, b| reasons(&[device(1, &[("C3", a), ("C4", a)]), device(2, &[("Flow", b)])]);
    assert_eq!(both(9.9, 0.1), []);
    let first = |seconds| format!("device 0000000000000001: no samples for {seconds} s");
    assert_eq!(both(10.0, 0.1), [(Degraded, first(10))]);
    assert_eq!(both(3600.0, 0.1), [(Degraded, first(3600))], "the other one goes on");
    let second = "device 0000000000000002: no samples for 61 s".to_owned();
    let nothing = (Failing, "nothing has arrived for 61 s".to_owned());
    assert_eq!(both(70.0, 61.0), [nothing, (Degraded, first(70)), (Degraded, second)]);
}

#[test]
fn one_channel_of_many_is_named() {
    let said = reasons(&[device(1, &[("C3", 0.2), ("SpO2", 12.0), ("Flow", 0.1)])]);
    let text = "device 0000000000000001: no samples of 'SpO2' for 12 s";
    assert_eq!(said, [(Degraded, text.to_owned())]);
    let labels: Vec<String> = (0..64).map(|k| format!("{k}\u{7}{}", "x".repeat(999))).collect();
    let mut many: Vec<(&str, f64)> = labels.iter().map(|label| (label.as_str(), 20.0)).collect();
    many.push(("good", 0.0));
    let said = reasons(&[device(1, &many)]).remove(0).1;
    assert!(said.len() < 300 && said.contains(", ...") && !said.contains('\u{7}'), "{said}");
}

#[test]
fn a_device_that_said_goodbye_is_not_silent() {
    let mut gone = device(1, &[("C3", 500.0)]);
    gone.has_ended = true;
    assert_eq!(reasons(&[gone.clone()]), []);
    assert_eq!(reasons(&[gone.clone(), device(2, &[("Flow", 1.0)])]), []);
    let said = reasons(&[gone, device(2, &[("Flow", 99.0)])]);
    assert_eq!(said[0], (Failing, "nothing has arrived for 99 s".to_owned()));
}

#[test]
fn a_channel_of_long_blocks_is_given_their_time() {
    let mut slow = device(1, &[("C3", 0.1), ("Temp", 25.0)]);
    slow.channels[1].block_s = 15.0;
    assert_eq!(reasons(&[slow.clone()]), []);
    slow.channels[1].age_s = 30.0;
    assert_eq!(reasons(&[slow]).len(), 1);
}

#[test]
fn everything_grows_older_when_nobody_tells() {
    let devices = [device(1, &[("C3", 1.0)])];
    assert_eq!(reasons_at(1.0, &devices, 8.0), []);
    assert_eq!(reasons_at(1.0, &devices, 9.0).len(), 1);
    // Beyond that it is not the sensors' silence.
    let unheard = |status, seconds: u64| {
        [(status, format!("the links have not been looked after for {seconds} s"))]
    };
    assert_eq!(reasons_at(1.0, &devices, 11.0), unheard(Degraded, 11));
    assert_eq!(reasons_at(1.0, &devices, 61.0), unheard(Failing, 61));
    // Seconds of the session, and never less than half a real one.
    assert_eq!(reasons_at(20.0, &devices, 0.4), []);
    assert_eq!(reasons_at(20.0, &devices, 0.5).len(), 1);
    assert_eq!(reasons_at(100.0, &devices, 0.45), []);
    assert_eq!(reasons_at(100.0, &devices, 1.0).len(), 1);
}

#[test]
fn who_is_expected_and_does_not_come_is_counted() {
    let mut watch = Watch::default();
    let arrivals =
        Arrivals { absent: 1, devices: vec![device(1, &[("C3", 0.1)])], ..Arrivals::default() };
    watch.tell(arrivals, Duration::ZERO);
    let said = watch.standing(Duration::ZERO).reasons();
    assert_eq!(said, [(Degraded, "1 of 2 expected devices have come".to_owned())]);
    assert_eq!(Watch::default().standing(Duration::MAX).reasons(), []);
}

#[test]
fn a_recording_that_does_not_begin_is_noticed() {
    let mut watch = Watch::default();
    let mut said = |overdue_s: f64, age_s: f64| {
        let devices = vec![device(1, &[("C3", age_s)])];
        let arrivals = Arrivals { overdue_s: Some(overdue_s), devices, ..Arrivals::default() };
        watch.tell(arrivals, Duration::ZERO);
        watch.standing(Duration::ZERO).reasons()
    };
    assert_eq!(said(0.0, 0.1), [], "it may wait for other devices");
    let text = "devices send, and recording has not begun for 61 s".to_owned();
    assert_eq!(said(61.0, 0.1), [(Failing, text)]);
    let silent = "device 0000000000000001: no samples for 3600 s".to_owned();
    assert_eq!(said(0.0, 3600.0), [(Degraded, silent)], "nothing is recorded that could be lost");
}

#[test]
fn what_this_process_stood_still_for_does_not_count() {
    let time = RunningTime::default();
    let first = time.now();
    std::thread::sleep(LONGEST_TURN * 3);
    let after = time.now() - first;
    assert!(after <= LONGEST_TURN + Duration::from_millis(1), "{after:?}");
    assert!(TICK * 2 < LONGEST_TURN);
}

#[test]
fn a_session_that_was_cut_waits_and_fails_if_no_sensor_comes() {
    let mut expected = device(1, &[]);
    (expected.has_come, expected.age_s) = (false, 58.0);
    let arrivals = |devices: &[DeviceArrivals]| {
        let devices = devices.to_vec();
        Arrivals { overdue_s: Some(0.0), devices, ..Arrivals::default() }
    };
    let mut watch = Watch::default();
    watch.tell(arrivals(&[expected]), Duration::ZERO);
    assert!(watch.standing(Duration::ZERO).waits());
    let (status, why) = watch.standing(Duration::from_secs(3)).reasons().remove(0);
    assert_eq!((status, why.as_str()), (Failing, "nothing has arrived for 61 s"));
    watch.tell(arrivals(&[device(1, &[("C3", 0.1)])]), Duration::ZERO);
    assert!(!watch.standing(Duration::ZERO).waits());
    watch.tell(arrivals(&[]), Duration::ZERO);
    assert!(!watch.standing(Duration::ZERO).waits(), "nothing is expected of a new session");
}
