use sfm_firmware_bridge::{
    Channel, Contact, FromHost, PROTOCOL_VERSION, SCHEMA_HASH, SampleFormat, SampleRate, Samples,
    TimeReply,
};

use super::*;
use crate::link::log::Noted;

const RATE: u32 = 100;

/// A session, and the clocks of the test: the devices' tick is the microsecond of the host.
struct Bench {
    session: Session,
    now_s: HostSeconds,
    log: Vec<Noted>,
    blocks: usize,
}

impl Bench {
    fn new() -> Self {
        Self {
            session: Session::new(Settings::default(), 1.0),
            now_s: 10.0,
            log: vec![],
            blocks: 0,
        }
    }

    fn hello(&mut self, link: LinkId, device: u64) -> Result<bool, Violation> {
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            schema: SCHEMA_HASH,
            device,
            session: 1,
            tick_hz: 1_000_000,
            channels: 1,
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
            let device = self.session.devices.iter().find(|d| d.link == Some(link)).map(|d| d.id);
            if let (Some(device), FromHost::TimeRequest { request }) = (device, message) {
                let reply = TimeReply { request, received_tick: tick, sent_tick: tick };
                self.say(device, &FromDevice::TimeReply(reply)).expect("taken");
            }
        }
        self.keep(out);
    }

    /// A second of samples of `device` that ends now.
    fn second(&mut self, device: u64, second: u64) {
        let values: Vec<u8> = (0..RATE as i16).flat_map(i16::to_le_bytes).collect();
        let samples = Samples {
            channel: 0,
            counter: second * u64::from(RATE),
            tick: ((self.now_s - 1.0) * 1e6) as u64,
            format: SampleFormat::I16,
            payload: &values,
        };
        self.say(device, &FromDevice::Samples(samples)).expect("taken");
    }

    fn describe(&mut self, device: u64) {
        let channel = Channel {
            channel: 0,
            label: "EEG C4-M1",
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
        self.blocks += out.blocks.len();
        self.log.extend(out.log);
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
        assert!(bench.session.axis().started_s.is_some() && bench.blocks > 0);
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
    assert_eq!(bench.hello(1, 2), Ok(false), "it came too late");
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
