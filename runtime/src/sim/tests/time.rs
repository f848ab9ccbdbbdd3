//! Clocks, sessions and connections: what happens when.

use sfm_firmware_bridge::{FromHost, MarkKind};

use super::super::{Faults, Hostile, HostileKind, Link, Packet, Plan, Sensor, SensorSpec, Span};
use super::host::{Heard, Listener, Played, play, playback, say, spec, value};
use crate::sim::Playback;

fn span(start_s: f64, end_s: f64) -> Span {
    Span { start_s, end_s }
}

#[test]
fn the_same_seed_gives_the_same_bytes_at_any_pace() {
    let faults =
        Faults { jitter_s: 0.05, loss: 0.05, duplicate: 0.05, reorder: 0.05, corrupt: 0.05 };
    let plan = Plan { disconnects: vec![span(20.0, 30.0)], ..Plan::default() };
    let rough = SensorSpec { faults, plan, ..spec(60.0) };
    let first = play(rough.clone(), playback(), 0.05, false);
    assert!(first.bytes.len() > 50_000);
    assert!(play(rough.clone(), playback(), 0.05, false).bytes == first.bytes);
    let other = SensorSpec { seed: 8, ..rough.clone() };
    assert!(play(other, playback(), 0.05, false).bytes != first.bytes);
    // Without jitter the host hears the hello and starts the device at 0 s, whatever the step.
    let faults = Faults { jitter_s: 0.0, ..faults };
    let rough = SensorSpec { faults, ..rough };
    let [fine, coarse] = [0.05, 5.0].map(|step_s| play(rough.clone(), playback(), step_s, false));
    assert!(fine.bytes == coarse.bytes);
}

#[test]
fn a_fast_clock_samples_and_ticks_fast() {
    for drift_ppm in [200.0, -200.0, 0.0] {
        let ramp = Playback::Function(Box::new(|_, index| index as i32));
        let drifting = SensorSpec { drift_ppm, ..spec(600.0) };
        let clock = 1.0 + drift_ppm * 1e-6;
        let played = play(drifting, ramp, 0.05, false);
        let mut last_end = 0;
        for (at_s, message) in &played.heard {
            let Heard::Samples { channel: 1, counter, tick, values } = message else { continue };
            last_end = counter + values.len() as u64;
            assert_eq!(*tick, (*counter as f64 * 1e6 / 256.0).round() as u64);
            // Sent with its last sample.
            let true_s = (last_end - 1) as f64 / (256.0 * clock);
            assert!(last_end % 32 != 0 || (at_s - true_s).abs() < 1e-9, "{at_s} {true_s}");
            for (k, &got) in (*counter..).zip(values) {
                // The index in the recording is where the sample lies in true time.
                assert_eq!(got, ((k as f64 / clock).round() as i32).min(0x7fff));
            }
        }
        assert_eq!(last_end, (600.0 * 256.0 * clock).ceil() as u64);
    }
}

#[test]
fn time_requests_are_answered_with_the_devices_own_clock() {
    let drifting = SensorSpec { drift_ppm: 100.0, ..spec(60.0) };
    let mut sensor = Sensor::new(drifting, playback()).expect("a device");
    let (mut listener, mut heard) = (Listener::default(), Vec::new());
    let mut run = |sensor: &mut Sensor, now_s: f64| {
        let run = sensor.run_until(now_s, &mut |packet| {
            if let Packet::Frame { bytes, .. } = packet {
                listener.take(bytes, |message| heard.push(message));
            }
        });
        run.expect("it plays on");
        std::mem::take(&mut heard)
    };
    // It boots at 5 s.
    run(&mut sensor, 5.0);
    let request = say(FromHost::TimeRequest { request: 9 });
    let (half, rest) = request.split_at(3);
    sensor.take(half, 15.0);
    sensor.take(rest, 15.0);
    let heard = run(&mut sensor, 15.002);
    let reply = Heard::Time { request: 9, received_tick: 10_001_000, sent_tick: 10_003_000 };
    assert!(heard.contains(&reply), "{heard:?}");
}

#[test]
fn a_reboot_begins_anew_after_everything_is_sent() {
    let plan = Plan { reboots: vec![span(20.5, 25.25)], ..Plan::default() };
    let faults = Faults { loss: 0.2, reorder: 0.2, jitter_s: 0.3, ..Faults::default() };
    for link in [Link::Datagram, Link::Stream] {
        let spec = SensorSpec { link, faults, plan: plan.clone(), ..spec(60.0) };
        let played = play(spec, playback(), 0.05, false);
        let [first, second] = played.report.sessions.as_slice() else {
            panic!("{:#?}", played.report);
        };
        assert_ne!(first.session, second.session);
        assert_eq!((first.start_s, first.end_s, second.end_s), (0.0, 20.5, 60.0));
        assert_eq!((second.boot_s, second.start_s), (25.25, 26.0));
        assert_eq!(first.taken, [10_496, 5_248, 656, 21, 1]);
        assert_eq!(second.taken, [34 * 512, 34 * 256, 34 * 32, 34, 2]);
        // The first and the last block of each session arrive, ticks and counters begin anew.
        let down = played.heard.iter().position(|(_, m)| *m == Heard::Down).expect("down");
        for (part, session) in [(&played.heard[..down], first), (&played.heard[down..], second)] {
            for (channel, &taken) in session.taken.iter().enumerate() {
                let blocks: Vec<_> = part
                    .iter()
                    .filter_map(|(_, message)| match message {
                        Heard::Samples { channel: of, counter, tick, values } => (*of == channel)
                            .then_some((*counter, *tick, counter + values.len() as u64)),
                        _ => None,
                    })
                    .collect();
                let tick = ((session.start_s - session.boot_s) * 1e6) as u64;
                assert_eq!((blocks[0].0, blocks[0].1), (0, tick));
                assert_eq!(blocks.iter().map(|b| b.2).max(), Some(taken));
            }
        }
    }
}

#[test]
fn a_stream_comes_back_as_the_same_session() {
    let plan = Plan { disconnects: vec![span(10.0, 12.0)], ..Plan::default() };
    let spec = SensorSpec { link: Link::Stream, plan, ..spec(30.0) };
    let played = play(spec, playback(), 0.05, false);
    let hellos: Vec<_> = played
        .heard
        .iter()
        .filter_map(|(_, message)| match message {
            Heard::Hello { device, session, .. } => Some((*device, *session)),
            _ => None,
        })
        .collect();
    // On each connection, and after each start.
    assert_eq!(hellos.len(), 4);
    assert!(hellos.iter().all(|hello| *hello == hellos[0]));
    let behind = |played: &Played| {
        let up = played.heard.iter().position(|(_, m)| *m == Heard::Up).expect("up");
        played.heard[up..].iter().find_map(|(_, message)| match message {
            Heard::Samples { channel: 1, counter, .. } => Some(*counter),
            _ => None,
        })
    };
    let counter = behind(&played).expect("samples");
    assert!((12 * 256..12 * 256 + 64).contains(&counter), "{counter}");
    assert_eq!(played.report.broken_connections, 0);
}

#[test]
fn a_connection_that_breaks_by_itself_is_told() {
    let spec = SensorSpec { link: Link::Stream, memory_s: 60.0, ..spec(30.0) };
    let mut sensor = Sensor::new(spec, playback()).expect("a device");
    let mut bytes = Vec::new();
    let mut run = |sensor: &mut Sensor, now_s: f64| {
        let run = sensor.run_until(now_s, &mut |packet| {
            if let Packet::Frame { bytes: frame, .. } = packet {
                bytes.extend_from_slice(frame);
            }
        });
        run.expect("it plays on");
    };
    run(&mut sensor, 0.0);
    assert!(sensor.wants_connection());
    sensor.restore(0.0);
    sensor.take(&say(FromHost::Start), 0.0);
    run(&mut sensor, 10.0);
    sensor.sever(10.0);
    run(&mut sensor, 15.0);
    assert!(sensor.wants_connection());
    sensor.restore(15.0);
    sensor.take(&say(FromHost::Start), 15.0);
    run(&mut sensor, 30.0);
    assert!(sensor.is_finished());
    let report = sensor.report();
    assert_eq!(report.broken_connections, 1);
    assert!(report.channels.iter().all(|c| c.lost == 0 && c.delivered == c.taken));
    assert_eq!(bytes.iter().filter(|&&b| b == 0).count(), {
        let mut frames = 0;
        Listener::default().take(&bytes, |_| frames += 1);
        // One zero byte more at each hello.
        frames + 4
    });
}

#[test]
fn it_says_hello_until_it_is_started() {
    let mut sensor = Sensor::new(spec(60.0), playback()).expect("a device");
    let mut hellos = 0;
    let mut listener = Listener::default();
    let run = sensor.run_until(10.5, &mut |packet| {
        if let Packet::Frame { bytes, .. } = packet {
            listener.take(bytes, |message| match message {
                Heard::Hello { channels, .. } => {
                    assert_eq!(channels, 5);
                    hellos += 1;
                }
                Heard::Channel(_) => {}
                other => panic!("{other:?}"),
            });
        }
    });
    run.expect("it waits");
    assert_eq!((hellos, sensor.began_s()), (1, None));
    let run = sensor.run_until(20.6, &mut |packet| {
        if let Packet::Frame { bytes, .. } = packet {
            listener.take(bytes, |message| {
                hellos += usize::from(matches!(message, Heard::Hello { .. }))
            });
        }
    });
    run.expect("it waits");
    assert_eq!(hellos, 11);
}

#[test]
fn a_device_that_cannot_listen_sends_at_once() {
    let played = play(SensorSpec { one_way: true, ..spec(60.0) }, playback(), 0.05, false);
    assert_eq!(played.count(|m| matches!(m, Heard::Hello { .. })), 6);
    assert_eq!(played.report.channels[1].delivered, 60 * 256);
}

#[test]
fn a_night_has_marks_status_and_an_end() {
    let played = play(spec(150.0), playback(), 0.05, false);
    let marks: Vec<_> = played
        .heard
        .iter()
        .filter(|(_, message)| matches!(message, Heard::Mark { .. }))
        .map(|(_, message)| message.clone())
        .collect();
    let mark = |number, tick, kind| Heard::Mark { number, tick, kind };
    assert_eq!(marks, [mark(0, 0, MarkKind::LightsOff), mark(1, 150_000_000, MarkKind::LightsOn)]);
    assert_eq!(played.count(|m| matches!(m, Heard::Status { .. })), 2);
    assert_eq!(played.heard.last().map(|(_, m)| m), Some(&Heard::Bye));
}

#[test]
fn a_stop_ends_it() {
    let mut sensor = Sensor::new(spec(60.0), playback()).expect("a device");
    let mut heard = Vec::new();
    let mut listener = Listener::default();
    for (message, until_s) in [(FromHost::Start, 10.0), (FromHost::Stop, 20.0)] {
        sensor.take(&say(message), until_s - 10.0);
        let run = sensor.run_until(until_s, &mut |packet| {
            if let Packet::Frame { at_s, bytes } = packet {
                listener.take(bytes, |message| heard.push((at_s, message)));
            }
        });
        run.expect("it plays on");
    }
    assert_eq!(heard.last(), Some(&(10.0, Heard::Bye)));
    assert_eq!(sensor.report().ended, "stopped");
    assert_eq!(sensor.report().sessions[0].end_s, 10.0);
}

#[test]
fn a_later_sensor_joins_the_beds_time() {
    let mut sensor = Sensor::new(spec(60.0), playback()).expect("a device");
    let mut first = None;
    let mut listener = Listener::default();
    let mut run = |sensor: &mut Sensor, now_s: f64| {
        let run = sensor.run_until(now_s, &mut |packet| {
            if let Packet::Frame { bytes, .. } = packet {
                listener.take(bytes, |message| {
                    if let Heard::Samples { channel: 1, values, .. } = message {
                        first.get_or_insert(values[0]);
                    }
                });
            }
        });
        run.expect("it plays on");
    };
    run(&mut sensor, 100.0);
    sensor.begin_at(100.0);
    run(&mut sensor, 110.2);
    sensor.take(&say(FromHost::Start), 110.2);
    run(&mut sensor, 200.0);
    let report = sensor.report();
    assert_eq!((report.sessions[0].start_s, report.sessions[0].end_s), (11.0, 60.0));
    assert_eq!(first, Some(value(1, 11 * 256)));
}

#[test]
fn hostile_devices_say_what_they_are_for() {
    for kind in [
        HostileKind::HugeCounters,
        HostileKind::WrongRates,
        HostileKind::Channels,
        HostileKind::Hellos,
        HostileKind::Trickle,
        HostileKind::Garbage,
    ] {
        let mut hostile = Hostile::new(kind, 5, 1, 2.95, false);
        let (mut listener, mut heard, mut bytes) = (Listener::default(), Vec::new(), 0);
        hostile.run_until(10.0, &mut |packet| {
            if let Packet::Frame { bytes: frame, .. } = packet {
                bytes += frame.len();
                listener.take(frame, |message| heard.push(message));
            }
        });
        assert!(hostile.is_finished());
        let count = |is_it: fn(&Heard) -> bool| heard.iter().filter(|m| is_it(m)).count();
        let samples = |m: &Heard| matches!(m, Heard::Samples { .. });
        match kind {
            HostileKind::HugeCounters => {
                assert!(
                    count(|m| matches!(m, Heard::Samples { counter, .. } if *counter > 1 << 62))
                        > 5
                );
            }
            HostileKind::WrongRates => assert_eq!(count(samples), 24 * 106),
            HostileKind::Channels => {
                assert_eq!(count(|m| matches!(m, Heard::Channel(_))), 10_000);
            }
            HostileKind::Hellos => {
                assert_eq!(count(|m| matches!(m, Heard::Hello { .. })), 30_000);
            }
            HostileKind::Trickle => assert_eq!((bytes, heard.len()), (3, 0)),
            HostileKind::Garbage => {
                assert!(heard.len() > 100 && heard.iter().all(|m| *m == Heard::Bad));
            }
        }
    }
}
