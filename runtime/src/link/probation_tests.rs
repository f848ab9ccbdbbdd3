use sfm_firmware_bridge::{
    Channel, PROTOCOL_VERSION, SCHEMA_HASH, SampleFormat, SampleRate, Samples,
};

use super::*;

const RATE: u32 = 100;

fn hello(device: u64) -> Hello<'static> {
    Hello {
        protocol: PROTOCOL_VERSION,
        schema: SCHEMA_HASH,
        device,
        session: 1,
        tick_hz: 1_000_000,
        channels: 1,
        model: "a test",
    }
}

fn channel(rate_hz: u32) -> FromDevice<'static> {
    FromDevice::Channel(Channel {
        channel: 0,
        label: "EEG C4-M1",
        unit: "uV",
        rate: SampleRate { samples: rate_hz, seconds: 1 },
        digital_min: -32768,
        digital_max: 32767,
        physical_min: -3276.8,
        physical_max: 3276.7,
        bits: 16,
    })
}

/// A tenth of a second of samples, `at_s` after the device's start.
fn block(at_s: f64, payload: &[u8]) -> FromDevice<'_> {
    let (counter, tick) = ((at_s * f64::from(RATE)) as u64, (at_s * 1e6) as u64);
    FromDevice::Samples(Samples { channel: 0, counter, tick, format: SampleFormat::I16, payload })
}

struct Bench {
    all: Probations,
    now_s: HostSeconds,
}

impl Bench {
    fn new() -> Self {
        Self { all: Probations::default(), now_s: 100.0 }
    }

    fn hello(&mut self, link: LinkId, device: u64) -> Option<LinkId> {
        let now = (self.now_s, 1.0);
        self.all.hello(link, &hello(device), now, &mut Out::default()).expect("taken")
    }

    fn say(&mut self, device: u64, message: &FromDevice<'_>) -> bool {
        self.all.message(device, message, self.now_s, &mut Out::default()).expect("taken")
    }

    /// A device streams for `seconds`, `part` of its blocks; what is due at the end.
    fn stream(&mut self, device: u64, seconds: f64, part: f64) -> Due {
        let begin_s = self.now_s;
        self.say(device, &channel(RATE));
        let mut due = Due::default();
        for step in 0..(10.0 * seconds) as u32 {
            let at_s = f64::from(step) / 10.0;
            self.now_s = begin_s + at_s + 0.1;
            if f64::from(step % 10) < 10.0 * part {
                self.say(device, &block(at_s, &[7; 20]));
            }
            due = self.all.tick(self.now_s, 1.0);
            if !due.proven.is_empty() {
                return due;
            }
        }
        due
    }
}

#[test]
fn a_device_that_sends_what_it_says_is_proven_after_ten_seconds() {
    let mut bench = Bench::new();
    bench.hello(1, 7);
    let begin_s = bench.now_s;
    let due = bench.stream(7, 20.0, 1.0);
    assert_eq!(due.proven, [7]);
    assert!((10.0..11.0).contains(&(bench.now_s - begin_s)), "{}", bench.now_s - begin_s);
    let proven = bench.all.remove(7).expect("it is there");
    assert_eq!((proven.link, bench.all.held), (1, 0));
    assert!(!proven.kept.is_empty(), "its hello goes to the log");
    // Its samples go on in the session that takes it over.
    let mut session = Session::new(Default::default(), 1.0);
    assert!(session.adopt_all(proven.session));
    let mut out = Out::default();
    session.tick(bench.now_s, &mut out);
    let start_s = session.axis().started_s.expect("it starts at once");
    assert!((start_s - begin_s).abs() < 0.5, "with the first sample: {start_s}");
}

#[test]
fn hellos_trickles_and_leaps_prove_nothing() {
    for part in [0.0, 0.3] {
        let mut bench = Bench::new();
        bench.hello(1, 7);
        let due = bench.stream(7, 40.0, part);
        assert!(due.proven.is_empty(), "{part}");
    }
    // Two blocks, the second as of ten seconds later.
    let mut bench = Bench::new();
    bench.hello(1, 7);
    bench.say(7, &channel(RATE));
    bench.say(7, &block(0.0, &[7; 20]));
    bench.now_s += 11.0;
    bench.say(7, &block(11.0, &[7; 20]));
    assert!(bench.all.tick(bench.now_s, 1.0).proven.is_empty());
    bench.now_s += 50.0;
    assert_eq!(bench.all.tick(bench.now_s, 1.0).overdue, [7]);
}

#[test]
fn who_has_sent_nothing_gives_way_first() {
    let mut bench = Bench::new();
    bench.hello(1, 1);
    bench.say(1, &channel(RATE));
    assert!(bench.say(1, &block(0.0, &[7; 20])));
    for device in 2..=MAX_DEVICES as u64 {
        assert_eq!(bench.hello(device, device), None);
    }
    for device in 1000..2000 {
        let displaced = bench.hello(device, device).expect("it is full");
        assert_ne!(displaced, 1);
    }
    assert_eq!(bench.all.by_device.len(), MAX_DEVICES);
    // Behind one link there is one device, however many it says it is.
    for device in 5000..9000 {
        bench.hello(1999, device);
    }
    assert_eq!(bench.all.by_device.len(), MAX_DEVICES);
    assert!(bench.all.is(1, 1));
}

#[test]
fn what_is_held_is_bounded() {
    let mut bench = Bench::new();
    let payload = [7; 980];
    for device in 0..MAX_DEVICES as u64 {
        bench.hello(device, device);
        // Fast enough to send all that at once.
        bench.say(device, &channel(100 * RATE));
        for number in 0..2000 {
            let at_s = 4.9 * f64::from(number);
            bench.say(device, &block(at_s, &payload));
        }
    }
    assert!(bench.all.held <= MAX_HELD_BY_ALL + MAX_HELD, "{}", bench.all.held);
    let held: usize = bench.all.by_device.values().map(|p| p.held).sum();
    assert_eq!(held, bench.all.held);
    assert!(bench.all.by_device.values().all(|p| p.held <= MAX_HELD));
}
