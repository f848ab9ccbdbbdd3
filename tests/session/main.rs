//! Live sessions: a restart in the middle changes nothing but what was computed twice; a pipeline
//! that falls behind leaves out provisional scores and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sfm_models::Bundle;
use sfm_runtime::event::{EpochStatus, Event};
use sfm_runtime::infer::backend::{Backend, BackendChoice};
use sfm_runtime::journal::JournalWindow;
use sfm_runtime::lights::Lights;
use sfm_runtime::montage::{ChannelRules, Montage};
use sfm_runtime::pipeline::{
    LiveSession, Load, Network, Options, PassOutcome, Surroundings, final_pass, live_pass,
    live_session, measure,
};
use sfm_runtime::signal::{SampleBlock, SignalInfo, StreamInfo};
use sfm_runtime::source::{Source, SourceError};

const CHANNELS: [(&str, u64); 5] =
    [("C4-M1", 256), ("E1-M2", 100), ("Chin EMG", 200), ("ECG", 128), ("Airflow", 32)];
/// 22 min and a part of an epoch: four windows and a part of one.
const SECONDS: u64 = 22 * 60 + 13;

/// A made-up night, a second a block: leads that are off, modalities that are lost, a hole.
struct Made {
    info: StreamInfo,
    seconds: u64,
    at: u64,
    /// Seconds that come at once, half a second apart; `None` as fast as they are taken.
    burst_s: Option<u64>,
    /// Frames are lost, one electrode comes off, another hums and hisses.
    is_rough: bool,
}

/// The beginning of this second is lost: a hole that is bridged, or one that is too long for that.
fn lost_part(channel: usize, second: u64) -> f64 {
    match (second * 31 + 7 * channel as u64) % 40 {
        0 | 13 => 0.125,
        5 => 0.25,
        29 if second.is_multiple_of(3) => 0.5,
        _ => 0.0,
    }
}

/// What a rough night has instead of a sample.
fn rough(channel: usize, slot: u64, sample: f32) -> f32 {
    let time_s = slot as f64 / CHANNELS[channel].1 as f64;
    let hum = 400.0 * (time_s * 60.0 * std::f64::consts::TAU).sin() as f32;
    let hiss = ((slot + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / 4e4;
    match (channel, time_s as u64) {
        (1, 140..420) => 3.0,
        (0, 400..470) => sample + hum,
        (4, 700..800) => hiss,
        _ => sample,
    }
}

impl Made {
    fn rough(seconds: u64) -> Self {
        Self { is_rough: true, ..Self::new(seconds) }
    }

    fn new(seconds: u64) -> Self {
        let signal = |(label, rate): (&str, u64)| SignalInfo {
            label: label.to_owned(),
            rate_hz: rate as f64,
            unit: "uV".to_owned(),
            physical_min: -3276.8,
            physical_max: 3276.7,
            digital_min: -32768,
            digital_max: 32767,
        };
        let info = StreamInfo {
            format: "made".to_owned(),
            start: None,
            duration_s: None,
            preprocessed: false,
            signals: CHANNELS.map(signal).to_vec(),
            warnings: Vec::new(),
        };
        Self { info, seconds, at: 0, burst_s: None, is_rough: false }
    }

    fn montage(&self) -> Montage {
        let rules = ChannelRules::built_in().expect("rules");
        rules.assign(&self.info.signals, &BTreeMap::new()).expect("a montage")
    }
}

fn is_missing(channel: usize, second: u64) -> bool {
    match channel {
        2 => (200..430).contains(&second),
        4 => (290..301).contains(&second) || (901..902).contains(&second),
        _ => (610..680).contains(&second),
    }
}

fn sample(channel: usize, slot: u64) -> f32 {
    let second = slot / CHANNELS[channel].1;
    if channel == 0 && (330..380).contains(&second) {
        return 3276.7;
    }
    let x = (slot + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ channel as u64);
    let slow = (slot as f32 / CHANNELS[channel].1 as f32 * 3.0).sin();
    ((x >> 40) as f32) / (1 << 24) as f32 * 60.0 + 40.0 * slow + (second / 100) as f32
}

impl Source for Made {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next_block(&mut self, block: &mut SampleBlock) -> Result<bool, SourceError> {
        let (second, channel) =
            (self.at / CHANNELS.len() as u64, (self.at % CHANNELS.len() as u64) as usize);
        if second == self.seconds {
            return Ok(false);
        }
        if channel == 0 && self.burst_s.is_some_and(|s| second.is_multiple_of(s)) {
            std::thread::sleep(Duration::from_millis(500));
        }
        self.at += 1;
        let rate = CHANNELS[channel].1;
        block.channel = channel;
        block.start = second * rate;
        block.samples.clear();
        if is_missing(channel, second) {
            block.start += rate;
        } else {
            block.samples.extend((0..rate).map(|i| sample(channel, second * rate + i)));
            if self.is_rough {
                let lost = (lost_part(channel, second) * rate as f64) as usize;
                block.start += lost as u64;
                block.samples.drain(..lost);
                for (slot, x) in (block.start..).zip(&mut block.samples) {
                    *x = rough(channel, slot, *x);
                }
            }
        }
        Ok(true)
    }

    fn can_wait(&self) -> bool {
        self.burst_s.is_none()
    }
}

/// The network that is built in.
fn bundle() -> Bundle {
    let bytes = include_bytes!("../../models/bundles/default.sfm").to_vec();
    Bundle::from_bytes(bytes).expect("the built-in bundle")
}

fn tract() -> Backend {
    Backend::choose(BackendChoice::Tract, 2).expect("tract")
}

fn network() -> Network {
    Network::load(&bundle(), &tract()).expect("loads")
}

/// What a live session said and left.
struct Session {
    emitted: Vec<Event>,
    restored: Vec<Event>,
    closed: Vec<JournalWindow>,
    outcome: PassOutcome,
    load: Arc<Load>,
}

fn session(network: &Network, mut source: Made, settled: Vec<JournalWindow>) -> Session {
    let montage = source.montage();
    assert_eq!(montage.used(), CHANNELS.len());
    let (mut emitted, mut restored, mut closed) = (Vec::new(), Vec::new(), Vec::new());
    let load = Arc::new(Load::default());
    let stop = AtomicBool::new(false);
    let mut around = Surroundings {
        emit: &mut |event| emitted.push(event),
        progress: &mut |_| (),
        stop: &stop,
        lights: &Lights::default,
    };
    let hooks = LiveSession {
        settled,
        restore: &mut |event| restored.push(event),
        closed_window: &mut |window| closed.push(window),
        load: load.clone(),
    };
    let outcome =
        live_session(&mut source, &montage, network, &Options::default(), &mut around, hooks)
            .expect("passes");
    Session { emitted, restored, closed, outcome, load }
}

fn replay(network: &Network, mut source: Made) -> (Vec<Event>, PassOutcome) {
    let (montage, mut events, stop) = (source.montage(), Vec::new(), AtomicBool::new(false));
    let mut around = Surroundings {
        emit: &mut |event| events.push(event),
        progress: &mut |_| (),
        stop: &stop,
        lights: &Lights::default,
    };
    let outcome = live_pass(&mut source, &montage, network, &Options::default(), &mut around)
        .expect("passes");
    (events, outcome)
}

fn lines(events: &[Event]) -> Vec<String> {
    events.iter().map(|e| serde_json::to_string(e).expect("JSON")).collect()
}

/// What a pass leaves, to the bit, as text: NaN is not equal to itself.
fn left(outcome: &PassOutcome) -> String {
    let epochs = serde_json::to_string(&outcome.hypnogram).expect("JSON");
    let night = serde_json::to_string(&outcome.night).expect("JSON");
    let bits: Vec<u32> = outcome.log.tokens().iter().map(|x| x.to_bits()).collect();
    format!("{epochs}\n{night}\n{bits:?}\n{:?}\n{:?}", outcome.log.present(), outcome.stats)
}

fn is_provisional(event: &Event) -> bool {
    matches!(event, Event::Epoch(epoch) if epoch.status == EpochStatus::Provisional)
}

#[test]
fn a_restart_changes_nothing() {
    let network = network();
    let whole = session(&network, Made::new(SECONDS), Vec::new());
    let (replayed, outcome) = replay(&network, Made::new(SECONDS));
    assert_eq!(lines(&whole.emitted), lines(&replayed), "live and replay");
    assert_eq!(left(&whole.outcome), left(&outcome));
    assert!(whole.restored.is_empty() && whole.closed.len() == 5);
    assert_eq!(whole.load.epochs(), 45);
    assert_eq!(whole.load.take_latencies().len(), 45);
    let count = |of: fn(&Event) -> bool| whole.emitted.iter().filter(|e| of(e)).count();
    assert!(count(|e| matches!(e, Event::Quality(_))) > 5, "bad signals are reported");
    assert_eq!(count(|e| matches!(e, Event::Modality(_))), 2 * 2 + 2, "EMG, then all but RESP");
    assert_eq!(count(|e| matches!(e, Event::Gap(_))), 3 + 1 + 2);

    restarts_change_nothing(&network, &whole, Made::new);
}

/// Cuts the session that came whole in several places.
fn restarts_change_nothing(network: &Network, whole: &Session, made: fn(u64) -> Made) {
    for (cut_s, known) in [(4 * 60, 0), (5 * 60 + 2, 1), (13 * 60, 2), (SECONDS, 4)] {
        let cut = session(network, made(cut_s), Vec::new());
        let mut settled = cut.closed;
        settled.retain(|window| window.patches == 60);
        assert_eq!(settled.len(), known);
        let resumed = session(network, made(SECONDS), settled);
        assert_eq!(left(&resumed.outcome), left(&whole.outcome), "cut at {cut_s} s");
        assert_eq!(resumed.closed, whole.closed[known..]);
        // Restored and emitted are all events in order but for the provisional ones of what was
        // restored, which were emitted before the cut.
        let behind = whole.emitted.iter().position(|e| match e {
            Event::Window(window) => window.window as usize + 1 == known,
            _ => false,
        });
        let (before, after) = whole.emitted.split_at(behind.map_or(0, |at| at + 1));
        let before: Vec<Event> =
            before.iter().filter(|event| !is_provisional(event)).cloned().collect();
        assert_eq!(lines(&resumed.restored), lines(&before), "cut at {cut_s} s");
        assert_eq!(lines(&resumed.emitted), lines(after), "cut at {cut_s} s");
    }
}

/// Lost frames and bad pieces: what the network is not given follows from the samples alone.
#[test]
fn a_restart_of_a_rough_night_changes_nothing() {
    let network = network();
    let whole = session(&network, Made::rough(SECONDS), Vec::new());
    let (replayed, outcome) = replay(&network, Made::rough(SECONDS));
    assert_eq!(lines(&whole.emitted), lines(&replayed), "live and replay");
    assert_eq!(left(&whole.outcome), left(&outcome));
    restarts_change_nothing(&network, &whole, Made::rough);

    let masked = |pass: &[Event], channel: usize, epoch: u32| -> f32 {
        let found = pass.iter().find_map(|event| match event {
            Event::Quality(q) if q.epoch == epoch => Some(&q.channels),
            _ => None,
        });
        let of = found.and_then(|channels| channels.iter().find(|c| c.channel == channel));
        of.map_or(0.0, |quality| quality.masked)
    };
    let last = final_night(&network, Made::rough).0;
    for events in [&whole.emitted, &last] {
        assert_eq!(masked(events, 1, 4), 0.333, "it came off in the middle");
        assert!((5..14).all(|epoch| masked(events, 1, epoch) == 1.0), "flat");
        assert_eq!(masked(events, 0, 14), 1.0, "hum");
        assert!((24..26).all(|epoch| masked(events, 4, epoch) == 1.0), "hiss");
        assert!((30..44).all(|epoch| masked(events, 3, epoch) == 0.0), "an ECG");
    }
    // Where only frames are lost, most of the signal counts and says how much of it there is.
    let shares: Vec<f32> = whole.outcome.hypnogram[32..44].iter().map(|e| e.quality).collect();
    assert!(shares.iter().all(|share| (0.8..0.99).contains(share)), "{shares:?}");
    assert!(whole.outcome.hypnogram[32..44].iter().all(|e| e.stage.is_some()));
}

#[test]
fn the_reference_is_fed_the_flat_line() {
    let as_reference = network().keeping_bad();
    let (events, outcome) = replay(&as_reference, Made::rough(SECONDS));
    assert!(!lines(&events).iter().any(|line| line.contains("masked\":")));
    let masked = replay(&network(), Made::rough(SECONDS)).1;
    // Epochs 5 to 8: BAS has one of its two channels, then the other is flat.
    let quality = |outcome: &PassOutcome, epoch: usize| outcome.hypnogram[epoch].quality;
    assert!((5..9).all(|e| quality(&outcome, e) > quality(&masked, e) + 0.1));
}

#[test]
fn a_window_that_does_not_fit_is_computed_again() {
    let network = network();
    let whole = session(&network, Made::new(16 * 60), Vec::new());
    let mut settled = whole.closed.clone();
    settled.truncate(3);
    if let Some(modality) = settled[1].modalities.iter_mut().flatten().next() {
        modality.tokens.pop();
    }
    let resumed = session(&network, Made::new(16 * 60), settled);
    assert_eq!(resumed.closed, whole.closed[1..]);
    assert_eq!(left(&resumed.outcome), left(&whole.outcome));
}

#[test]
fn an_overloaded_session_skips_provisional_scores_and_nothing_else() {
    let network = network();
    let made = Made { burst_s: Some(120), ..Made::new(12 * 60) };
    let live = session(&network, made, Vec::new());
    let (replayed, outcome) = replay(&network, Made::new(12 * 60));
    let (skipped, epochs) = (live.load.skipped() as usize, 24);
    println!("{skipped} of {epochs} provisional epochs skipped");
    assert!(skipped >= 3, "two minutes at once are four epochs: {skipped}");
    assert_eq!(live.outcome.skipped_epochs as usize, skipped);
    assert_eq!((live.load.overflow(), live.load.epochs()), (0, epochs as u64));
    let provisional = live.emitted.iter().filter(|e| is_provisional(e)).count();
    assert_eq!(provisional, epochs - skipped);
    assert_eq!(live.load.take_latencies().len(), provisional);

    assert_eq!(left(&live.outcome), left(&outcome));
    let replayed_lines = lines(&replayed);
    assert!(lines(&live.emitted).iter().all(|line| replayed_lines.contains(line)));
    let rest = |events: &[Event]| -> Vec<Event> {
        events.iter().filter(|event| !is_provisional(event)).cloned().collect()
    };
    assert_eq!(lines(&rest(&live.emitted)), lines(&rest(&replayed)));
    // A file that waits is never skipped, however slow the pipeline.
    assert_eq!(outcome.skipped_epochs, 0);
}

#[test]
fn beds_that_share_runs_have_the_results_of_one_alone() {
    let alone = replay(&network(), Made::new(6 * 60)).1;
    let patience = Duration::from_millis(20);
    let shared = Network::load_shared(&bundle(), &tract(), patience).expect("loads");
    let beds: Vec<Session> = std::thread::scope(|scope| {
        let bed = || session(&shared, Made::new(6 * 60), Vec::new());
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(bed)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a bed")).collect()
    });
    let runs = shared.shared_runs().expect("they are shared");
    println!("runs of 1, 2, 4 and 8 windows: {runs:?}");
    assert!(runs[2] + runs[3] > runs[0] + runs[1], "windows did not meet: {runs:?}");
    for bed in beds {
        let pairs = bed.outcome.log.tokens().iter().zip(alone.log.tokens());
        let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("tokens of a bed among six: largest difference {largest:.1e}");
        assert!(largest <= 1e-5, "{largest:e}");
        assert!(bed.outcome.log.tokens().iter().all(|x| x.is_finite()));
        assert_eq!(bed.outcome.log.present(), alone.log.present());
        assert_eq!(bed.outcome.hypnogram.len(), alone.hypnogram.len());
    }
}

/// What the final pass tells on the caller's pool, and the night's tokens.
fn final_events(network: &Network) -> (Vec<String>, Vec<f32>) {
    let (events, outcome) = final_night(network, Made::new);
    (lines(&events), outcome.log.tokens().to_vec())
}

fn final_night(network: &Network, made: fn(u64) -> Made) -> (Vec<Event>, PassOutcome) {
    let (mut events, stop) = (Vec::new(), AtomicBool::new(false));
    let montage = made(SECONDS).montage();
    let mut around = Surroundings {
        emit: &mut |event| events.push(event),
        progress: &mut |_| (),
        stop: &stop,
        lights: &Lights::default,
    };
    let stats = measure(&mut made(SECONDS), &montage, network, &mut around);
    let options = Options { stats: Some(stats.expect("measured")), ..Options::default() };
    let outcome = final_pass(&mut made(SECONDS), &montage, network, &options, &mut around);
    (events, outcome.expect("passes"))
}

#[test]
fn the_final_pass_tells_in_one_order_with_any_number_of_threads() {
    let network = network();
    let told = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| final_events(&network).0)
    };
    let one = told(1);
    assert!(one.iter().any(|line| line.contains("\"gap\"")));
    for threads in [2, 3, 7] {
        assert_eq!(told(threads), one, "{threads} threads");
    }
}

/// What a batch on a GPU does.
#[test]
fn recordings_that_share_runs_have_the_results_of_one_alone() {
    let alone = final_events(&network());
    let patience = Duration::from_millis(20);
    let shared = Network::load_shared(&bundle(), &tract(), patience).expect("loads");
    let nights: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| final_events(&shared))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a night")).collect()
    });
    let runs = shared.shared_runs().expect("they are shared");
    println!("runs of 1, 2, 4 and 8 windows: {runs:?}");
    assert!(runs[3] > 0 && runs[2] + runs[3] > runs[0] + runs[1], "windows did not meet: {runs:?}");
    for (events, tokens) in nights {
        assert_eq!(events.len(), alone.0.len());
        let pairs = tokens.iter().zip(&alone.1);
        let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("tokens of a night among three: largest difference {largest:.1e}");
        assert!(tokens.len() == alone.1.len() && largest <= 1e-5, "{largest:e}");
    }
}
