use sfm_firmware_bridge::{
    Channel, Contact, FromHost, PROTOCOL_VERSION, SCHEMA_HASH, SampleFormat, SampleRate, Samples,
    TimeReply,
};

use super::*;
use crate::link::event::Noted;
use crate::link::types::Resumed;
use crate::signal::DigitalBlock;
use std::collections::BTreeMap;

const RATE: u32 = 100;

/// A session, and the clocks of the test: the devices' tick is the microsecond of the host.
struct Bench {
    session: Session,
    now_s: HostSeconds,
    /// Of each device.
    channels: u8,
    log: Vec<Noted>,
    blocks: Vec<DigitalBlock>,
    leaving: Vec<Device>,
    /// The device that last said hello over a link.
    at: BTreeMap<LinkId, u64>,
}

impl Bench {
    fn new() -> Self {
        Self::of(Session::new(Settings::default(), 1.0), 10.0)
    }

    fn of(session: Session, now_s: HostSeconds) -> Self {
        let (log, blocks, leaving) = (vec![], vec![], vec![]);
        Self { session, now_s, channels: 1, log, blocks, leaving, at: BTreeMap::new() }
    }

    fn hello(&mut self, link: LinkId, device: u64) -> Result<bool, Violation> {
        self.hello_of(link, device, 1)
    }

    fn hello_of(&mut self, link: LinkId, device: u64, session: u64) -> Result<bool, Violation> {
        self.at.insert(link, device);
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            schema: SCHEMA_HASH,
            device,
            session,
            tick_hz: 1_000_000,
            channels: self.channels,
            model: "bench",
        };
        self.with(|session, now_s, out| session.hello(link, &hello, now_s, out))
    }

    fn say(&mut self, device: u64, message: &FromDevice<'_>) -> Result<(), Violation> {
        self.with(|session, now_s, out| session.message(device, message, now_s, out))
    }

    /// A tick; time requests are answered at once.
    fn tick(&mut self) {
        let mut out = Out::default();
        assert!(self.session.tick(self.now_s, &mut out).is_empty());
        let tick = (self.now_s * 1e6) as u64;
        for (link, message) in std::mem::take(&mut out.send) {
            let device = self.at.get(&link).copied();
            if let (Some(device), FromHost::TimeRequest { request }) = (device, message) {
                let reply = TimeReply { request, received_tick: tick, sent_tick: tick };
                self.say(device, &FromDevice::TimeReply(reply)).expect("taken");
            }
        }
        self.keep(out);
    }

    /// A second of samples of `device` that ends now.
    fn second(&mut self, device: u64, second: u64) {
        self.second_of(device, 0, second);
    }

    fn second_of(&mut self, device: u64, channel: u8, second: u64) {
        let values: Vec<u8> = (0..RATE as i16).flat_map(i16::to_le_bytes).collect();
        let samples = Samples {
            channel,
            counter: second * u64::from(RATE),
            tick: ((self.now_s - 1.0) * 1e6) as u64,
            format: SampleFormat::I16,
            payload: &values,
        };
        self.say(device, &FromDevice::Samples(samples)).expect("taken");
    }

    fn describe(&mut self, device: u64) {
        (0..self.channels).for_each(|channel| self.describe_channel(device, channel));
    }

    fn describe_channel(&mut self, device: u64, channel: u8) {
        self.describe_one(device, channel, ["EEG C4-M1", "Airflow"][usize::from(channel)]);
    }

    fn describe_as(&mut self, device: u64, label: &str) {
        self.describe_one(device, 0, label);
    }

    fn describe_one(&mut self, device: u64, channel: u8, label: &str) {
        let channel = Channel {
            channel,
            label,
            unit: "uV",
            rate: SampleRate { samples: RATE, seconds: 1 },
            digital_min: -32768,
            digital_max: 32767,
            physical_min: -3276.8,
            physical_max: 3276.7,
            bits: 16,
        };
        self.say(device, &FromDevice::Channel(channel)).expect("taken");
    }

    fn with<T>(
        &mut self,
        act: impl FnOnce(&mut Session, HostSeconds, &mut Out) -> Result<T, Violation>,
    ) -> Result<T, Violation> {
        let mut out = Out::default();
        let result = act(&mut self.session, self.now_s, &mut out);
        self.keep(out);
        result
    }

    fn keep(&mut self, out: Out) {
        self.blocks.extend(out.blocks);
        self.log.extend(out.log);
        self.leaving.extend(out.leaving);
    }

    fn has(&self, wanted: impl Fn(&SessionEvent) -> bool) -> bool {
        self.log.iter().any(|noted| wanted(&noted.event))
    }

    /// A session that has started, with device 1 on link 1 and 5 s of its samples.
    fn started() -> Self {
        let mut bench = Self::new();
        bench.hello(1, 1).expect("taken");
        bench.describe(1);
        for second in 0..5 {
            bench.now_s += 1.0;
            bench.second(1, second);
            bench.tick();
        }
        assert!(bench.session.axis().started_s.is_some() && !bench.blocks.is_empty());
        bench
    }
}

#[test]
fn behind_a_link_there_is_one_device() {
    let mut bench = Bench::new();
    for device in 1..1000 {
        assert_eq!(bench.hello(1, device), Ok(true));
        assert_eq!(bench.session.devices().len(), 1, "the one before was displaced");
    }
    assert_eq!(bench.hello(2, 7), Ok(true));
    assert_eq!(bench.session.devices().len(), 2);
}

#[test]
fn a_device_that_is_recorded_is_only_hung_up() {
    let mut bench = Bench::started();
    assert_eq!(bench.hello(1, 2), Ok(true), "it waits for a recording of its own");
    assert_eq!(bench.session.devices().len(), 1);
    assert!(!bench.session.device_totals()[0].is_up);
    assert_eq!(bench.hello(3, 1), Ok(true), "it comes back over another link");
    assert!(bench.session.device_totals()[0].is_up);
}

#[test]
fn a_device_that_talks_without_end_is_cut_off() {
    let mut bench = Bench::started();
    let contact = FromDevice::Contact(Contact {
        channel: 0,
        tick: 0,
        lead_off: true,
        impedance_ohm: Some(1),
    });
    let mut said = 0;
    let violation = loop {
        match bench.say(1, &contact) {
            Ok(()) => said += 1,
            Err(violation) => break violation,
        }
        assert!(said <= 600, "nothing stops it");
    };
    assert_eq!((said, violation.0.contains("in a minute")), (600, true), "{violation}");
    bench.now_s += 61.0;
    assert_eq!(bench.say(1, &contact), Ok(()), "the next minute counts anew");
}

#[test]
fn silence_is_told_but_not_that_of_a_host_that_stood_still() {
    let mut bench = Bench::started();
    let silences = |bench: &Bench| bench.has(|e| matches!(e, SessionEvent::Silence { .. }));
    bench.now_s += 30.0;
    bench.session.forgive(30.0);
    bench.tick();
    assert!(!silences(&bench), "nobody was silent");
    bench.now_s += 1.0;
    bench.second(1, 35);
    bench.now_s += 3.0;
    bench.tick();
    assert!(silences(&bench), "3 s without a sample");
    bench.second(1, 38);
    assert!(bench.has(|e| matches!(e, SessionEvent::Heard { silent_s, .. } if *silent_s == 3.0)));
}

/// Five seconds of both devices.
fn five_seconds(bench: &mut Bench, devices: &[(u64, u64)]) {
    for second in 0..5 {
        bench.now_s += 1.0;
        devices.iter().for_each(|(device, first)| bench.second(*device, first + second));
        bench.tick();
    }
}

/// Seconds of both devices until one leaves the session; as many as were sent of each.
fn until_one_leaves(bench: &mut Bench, devices: &[(u64, u64)]) -> u64 {
    for second in 0..10 {
        bench.now_s += 1.0;
        devices.iter().for_each(|(device, first)| bench.second(*device, first + second));
        bench.tick();
        if !bench.leaving.is_empty() {
            return second + 1;
        }
    }
    panic!("none has left");
}

/// Samples of the blocks, and the first slot.
fn placed(blocks: &[DigitalBlock]) -> (usize, Option<u64>) {
    let full = || blocks.iter().filter(|b| !b.samples.is_empty());
    (full().map(|b| b.samples.len()).sum(), full().map(|b| b.start).min())
}

#[test]
fn a_device_that_comes_late_gets_a_recording_of_its_own_from_its_first_sample_on() {
    let mut bench = Bench::started();
    assert_eq!(bench.hello(2, 9), Ok(true));
    bench.describe(9);
    let sent = until_one_leaves(&mut bench, &[(1, 5), (9, 0)]);
    assert_eq!(bench.leaving.len(), 1);
    let placed_here = (placed(&bench.blocks).0 as u64, bench.session.devices().len());
    assert_eq!(placed_here, (100 * (5 + sent), 1));
    let device = bench.leaving.remove(0);
    let mut own = Bench::of(Session::new(Settings::default(), 1.0), bench.now_s);
    own.at = bench.at;
    own.session.adopt(device);
    own.tick();
    five_seconds(&mut own, &[(9, sent)]);
    let (samples, first) = placed(&own.blocks);
    let all = 100 * (5 + sent as usize);
    assert_eq!(first, Some(0));
    assert!((all - 2..=all).contains(&samples), "{samples} of {all}: what came first is kept");
    assert_eq!(*own.session.beginning(), Beginning::New);
}

#[test]
fn a_device_that_got_no_recording_is_an_alarm_and_tried_again() {
    let mut bench = Bench::started();
    bench.hello(2, 9).expect("taken");
    bench.describe(9);
    five_seconds(&mut bench, &[(1, 5), (9, 0)]);
    let device = bench.leaving.remove(0);
    let (full, now_s) = (|| NoBed::Refused("the disk is full".to_owned()), bench.now_s);
    assert_eq!(bench.session.keep_waiting(device, NoBed::NotYet, now_s), None);
    bench.now_s += 0.2;
    bench.tick();
    let device = bench.leaving.pop().expect("at once");
    let alarm = bench.session.keep_waiting(device, full(), now_s);
    assert!(matches!(alarm, Some(SessionEvent::NotRecorded { .. })), "{alarm:?}");
    five_seconds(&mut bench, &[(1, 10), (9, 5)]);
    assert!(bench.leaving.is_empty(), "not at once");
    five_seconds(&mut bench, &[(1, 15), (9, 10)]);
    five_seconds(&mut bench, &[(1, 20), (9, 15)]);
    let device = bench.leaving.pop().expect("again");
    assert_eq!(bench.session.keep_waiting(device, full(), now_s), None, "one line is enough");
}

#[test]
fn a_device_with_other_channels_leaves_and_its_places_stay() {
    let mut bench = Bench::started();
    bench.hello_of(1, 1, 2).expect("taken");
    bench.describe_as(1, "EEG C3-M2");
    until_one_leaves(&mut bench, &[(1, 0)]);
    assert_eq!((bench.leaving.len(), bench.session.devices().len()), (1, 1));
    assert_eq!(placed(&bench.blocks).0, 500, "nothing of it is in another channel's place");
    assert!(bench.session.is_over(), "nothing more is expected of it here");
}

/// A session of device 1 that was cut after 100 s, 20 s ago, and may go on for another minute.
fn cut() -> Resumed {
    let bench = Bench::started();
    let channels = bench.session.channels().iter().cloned().map(|channel| (channel, 10_000));
    Resumed { channels: channels.collect(), left_out: Vec::new(), elapsed_s: 120.0, within_s: 60.0 }
}

#[test]
fn a_session_goes_on_with_its_own_devices() {
    let mut bench = Bench::of(Session::resume(Settings::default(), 1.0, cut(), 10.0), 10.0);
    bench.hello(2, 9).expect("taken");
    bench.describe(9);
    five_seconds(&mut bench, &[(9, 0)]);
    assert!(bench.session.axis().started_s.is_none(), "its own devices are waited for");
    bench.hello(1, 1).expect("taken");
    bench.describe(1);
    five_seconds(&mut bench, &[(9, 5), (1, 0)]);
    assert_eq!(*bench.session.beginning(), Beginning::GoesOn);
    let (samples, first) = placed(&bench.blocks);
    assert!((499..=501).contains(&samples), "{samples}");
    assert!(first.is_some_and(|slot| slot.abs_diff(12_500) < 50), "{first:?}");
    assert_eq!(bench.leaving.len(), 1, "the other one has no place in it");
}

#[test]
fn a_session_does_not_go_on_with_others() {
    let begins = |wait_s: f64, label: &str, device: u64| {
        let mut bench = Bench::of(Session::resume(Settings::default(), 1.0, cut(), 10.0), 10.0);
        bench.now_s += wait_s;
        bench.hello(1, device).expect("taken");
        bench.describe_as(device, label);
        for first in [0, 5, 10, 15, 20, 25, 30, 35] {
            five_seconds(&mut bench, &[(device, first)]);
        }
        let (samples, first) = placed(&bench.blocks);
        (bench.session.beginning().clone(), samples / 100, first)
    };
    let parted = |reason| Beginning::Parted(reason);
    let others = begins(0.0, "EEG C4-M1", 9);
    assert_eq!(others, (parted("other sensors have come"), 40, Some(0)), "and loses nothing");
    let channels = begins(0.0, "EEG C3-M2", 1);
    assert_eq!(channels, (parted("its sensors have other channels now"), 40, Some(0)));
    let late = begins(61.0, "EEG C4-M1", 1);
    assert_eq!(late, (parted("its sensors have come too late"), 40, Some(0)));
    let same = begins(0.0, "EEG C4-M1", 1);
    assert_eq!(same.0, Beginning::GoesOn);
}

/// Ages of device 1's channels, whole seconds.
fn ages(bench: &Bench) -> Vec<u32> {
    let arrivals = bench.session.arrivals(bench.now_s);
    arrivals.devices[0].channels.iter().map(|channel| channel.age_s.round() as u32).collect()
}

#[test]
fn each_channel_has_an_age_of_its_own() {
    let mut bench = Bench { channels: 2, ..Bench::new() };
    bench.hello(1, 1).expect("taken");
    bench.describe(1);
    let seconds = |bench: &mut Bench, range: std::ops::Range<u64>, channels: &[u8]| {
        for second in range {
            bench.now_s += 1.0;
            channels.iter().for_each(|channel| bench.second_of(1, *channel, second));
            bench.tick();
        }
    };
    seconds(&mut bench, 0..5, &[0, 1]);
    assert_eq!(ages(&bench), [0, 0]);
    seconds(&mut bench, 5..17, &[0]);
    assert_eq!(ages(&bench), [0, 12], "one has stopped");
    bench.now_s += 20.0;
    bench.session.forgive(20.0);
    assert_eq!(ages(&bench), [0, 12], "nobody listened");
    assert_eq!(bench.session.arrivals(bench.now_s).devices[0].age_s, 0.0);

    // It says goodbye, and comes back an hour later: until then nothing was expected of it.
    let bye = FromDevice::Bye(sfm_firmware_bridge::ByeReason::Stopped);
    bench.say(1, &bye).expect("taken");
    assert!(bench.session.arrivals(bench.now_s).devices[0].has_ended);
    bench.now_s += 3600.0;
    let hello = Hello {
        protocol: PROTOCOL_VERSION,
        schema: SCHEMA_HASH,
        device: 1,
        session: 2,
        tick_hz: 1_000_000,
        channels: 2,
        model: "bench",
    };
    bench.with(|session, now_s, out| session.hello(1, &hello, now_s, out)).expect("taken");
    assert!(!bench.session.arrivals(bench.now_s).devices[0].has_ended);
    assert_eq!(ages(&bench), [0, 0]);
}

#[test]
fn a_recording_that_does_not_begin_is_overdue() {
    let mut bench = Bench { channels: 2, ..Bench::new() };
    bench.hello(1, 1).expect("taken");
    // The other channel is never described.
    bench.describe_channel(1, 0);
    for second in 0..100 {
        bench.now_s += 1.0;
        bench.second(1, second);
        bench.tick();
    }
    assert!(bench.session.axis().started_s.is_none());
    let overdue_s = bench.session.arrivals(bench.now_s).overdue_s.expect("not begun");
    assert!((65.0..71.0).contains(&overdue_s), "{overdue_s} s, after a wait of 30 s");
    bench.now_s += 100.0;
    bench.tick();
    assert_eq!(
        bench.session.arrivals(bench.now_s).overdue_s,
        Some(0.0),
        "it does not send any more"
    );
    assert_eq!(Bench::started().session.arrivals(20.0).overdue_s, None);
}

#[test]
fn made_up_hellos_do_not_keep_a_sensor_out_before_the_start() {
    let mut bench = Bench::new();
    for device in 0..400 {
        assert_eq!(bench.hello(device, 1000 + device), Ok(true));
    }
    assert_eq!(bench.hello(500, 7), Ok(true));
    assert_eq!(bench.session.devices().len(), MAX_DEVICES);
}

#[test]
fn of_two_sensors_under_one_number_the_last_is_heard_and_then_the_other_again() {
    let mut bench = Bench::new();
    assert!(bench.hello(1, 7).expect("taken"));
    assert!(bench.hello(2, 7).expect("taken"));
    let mut asked = Out::default();
    let mut hears = |bench: &mut Bench, link| bench.session.hears(7, link, bench.now_s, &mut asked);
    assert!(hears(&mut bench, 2) && !hears(&mut bench, 1));
    bench.now_s += 4.0;
    assert!(hears(&mut bench, 2) && !hears(&mut bench, 1) && !hears(&mut bench, 1));
    // Asked once a second, over the link that is not heard.
    assert_eq!(asked.send, [(1, FromHost::Start)]);
    assert!(bench.hello(1, 7).expect("taken"));
    assert!(bench.session.hears(7, 1, bench.now_s, &mut Out::default()));
    bench.session.link_lost(1);
    let mut out = Out::default();
    assert!(!bench.session.hears(7, 2, bench.now_s + 1.0, &mut out));
    assert_eq!(out.send, [(2, FromHost::Start)]);
}
