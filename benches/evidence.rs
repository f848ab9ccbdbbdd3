//! What lost frames and loose electrodes cost: stages of simulated nights that were damaged on
//! purpose beside those of the same night without, or with the channel left out of the map.
//!
//! `cargo bench --bench evidence -- NIGHT.edf... [--only loss,bursts,pieces,electrode]`; the nights
//! are those of `sfm-train synth --montage mesa`.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use sfm_models::EPOCH_S;
use sfm_models::{Bundle, Modality, SleepStage};
use sfm_runtime::dsp::ChannelStats;
use sfm_runtime::event::{Event, SleepEpoch};
use sfm_runtime::infer::backend::{Backend, BackendChoice};
use sfm_runtime::lights::Lights;
use sfm_runtime::montage::{ChannelRules, Montage};
use sfm_runtime::pipeline::{Network, Options, Surroundings, final_pass, live_pass, measure};
use sfm_runtime::signal::{SampleBlock, StreamInfo};
use sfm_runtime::source::{self, Recording, Source, SourceError};

const PIECE_S: f64 = 5.0;
/// Electrodes come off here.
const LOOSE_FROM_S: f64 = 2.0 * 3600.0;

fn main() {
    let mut only: Option<String> = None;
    let mut nights = Vec::new();
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--only" => only = args.next(),
            _ => nights.push(PathBuf::from(arg)),
        }
    }
    if nights.is_empty() {
        println!("no nights given: nothing is measured");
        return;
    }
    let wants = |what: &str| only.as_ref().is_none_or(|only| only.split(',').any(|o| o == what));
    let bench = Bench::new(nights);
    if wants("loss") {
        bench.loss();
    }
    if wants("bursts") {
        bench.bursts();
    }
    if wants("pieces") {
        bench.pieces();
    }
    if wants("electrode") {
        bench.electrode();
    }
}

/// What is done to a night.
#[derive(Debug, Clone)]
enum Fault {
    None,
    /// Each frame is lost with this probability.
    Frames(f64),
    /// All channels are gone for so many seconds, so often an hour.
    Bursts(f64, f64),
    /// 5-s pieces are gone with this probability.
    Pieces(f64, Who),
    /// From the second hour on channels have something else.
    Loose(Vec<usize>, Instead),
}

/// Which pieces are gone.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    /// Of each channel on its own.
    Channels,
    /// All of EEG and EOG, at that time.
    AllBrain,
    /// All but EEG and EOG, at that time.
    AllOthers,
}

/// What a loose electrode picks up; factors are of the channel's standard deviation.
#[derive(Debug, Clone, Copy)]
enum Instead {
    Flat,
    /// 60 Hz on top.
    Mains(f64),
    /// White noise.
    Noise(f64),
    /// White noise on top.
    AddedNoise(f64),
}

/// A number between 0 and 1 that depends on these alone.
fn chance(parts: [u64; 3]) -> f64 {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64;
    for part in parts {
        x = (x ^ part).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 29)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 32;
    }
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

/// A recording with a fault.
struct Faulty {
    inner: Recording,
    info: StreamInfo,
    modalities: Vec<Option<Modality>>,
    stats: Vec<Option<ChannelStats>>,
    fault: Fault,
    seed: u64,
    ready: VecDeque<SampleBlock>,
}

impl Faulty {
    fn is_lost(&self, channel: usize, slot: u64) -> bool {
        let rate_hz = self.info.signals[channel].rate_hz;
        let time_s = slot as f64 / rate_hz;
        match &self.fault {
            Fault::Frames(part) => {
                // As sfm-sim cuts them.
                let frame_s = (32.0 / rate_hz).clamp(0.1, 0.25);
                let frame = slot / ((frame_s * rate_hz).round() as u64).max(1);
                chance([self.seed, channel as u64, frame]) < *part
            }
            Fault::Bursts(length_s, an_hour) => {
                // One in each stretch, somewhere.
                let stretch_s = 3600.0 / an_hour;
                let stretch = (time_s / stretch_s) as u64;
                let room_s = stretch_s - length_s;
                let from_s = stretch as f64 * stretch_s + chance([self.seed, 1, stretch]) * room_s;
                (from_s..from_s + length_s).contains(&time_s)
            }
            Fault::Pieces(part, who) => {
                self.piece_is_lost(channel, (time_s / PIECE_S) as u64, *part, *who)
            }
            Fault::None | Fault::Loose(..) => false,
        }
    }

    fn piece_is_lost(&self, channel: usize, piece: u64, part: f64, who: Who) -> bool {
        let Some(modality) = self.modalities[channel] else { return false };
        let is_brain = modality == Modality::Bas;
        match who {
            Who::Channels => chance([self.seed, 1000 + channel as u64, piece]) < part,
            Who::AllBrain => is_brain && chance([self.seed, 0, piece]) < part,
            Who::AllOthers => !is_brain && chance([self.seed, 1, piece]) < part,
        }
    }

    fn spoil(&self, block: &mut SampleBlock) {
        let Fault::Loose(channels, instead) = &self.fault else { return };
        if !channels.contains(&block.channel) {
            return;
        }
        let signal = &self.info.signals[block.channel];
        let Some(stats) = self.stats[block.channel] else { return };
        for (slot, x) in (block.start..).zip(&mut block.samples) {
            let time_s = slot as f64 / signal.rate_hz;
            if time_s < LOOSE_FROM_S {
                continue;
            }
            // The sum of uniform numbers is near enough to a normal one.
            let white = || -> f64 {
                let draws = (0..4).map(|i| chance([self.seed ^ i, block.channel as u64, slot]));
                (draws.sum::<f64>() - 2.0) * 3_f64.sqrt()
            };
            let value = match instead {
                Instead::Flat => 0.0,
                Instead::Mains(times) => {
                    let sine = (time_s * 60.0).fract() * std::f64::consts::TAU;
                    f64::from(*x) + times * stats.std * sine.sin()
                }
                Instead::Noise(times) => times * stats.std * white(),
                Instead::AddedNoise(times) => f64::from(*x) + times * stats.std * white(),
            };
            *x = value.clamp(signal.physical_min, signal.physical_max) as f32;
        }
    }

    /// Cuts the block at its holes.
    fn cut(&mut self, block: &SampleBlock) {
        let lost: Vec<bool> = (block.start..)
            .take(block.samples.len())
            .map(|slot| self.is_lost(block.channel, slot))
            .collect();
        let mut at = 0;
        while at < lost.len() {
            let run = lost[at..].iter().take_while(|&&l| l == lost[at]).count();
            let (channel, start) = (block.channel, block.start + at as u64);
            let cut = match lost[at] {
                true => SampleBlock { channel, start: start + run as u64, samples: Vec::new() },
                false => {
                    SampleBlock { channel, start, samples: block.samples[at..at + run].to_vec() }
                }
            };
            self.ready.push_back(cut);
            at += run;
        }
    }
}

impl Source for Faulty {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next_block(&mut self, block: &mut SampleBlock) -> Result<bool, SourceError> {
        while self.ready.is_empty() {
            let mut whole = SampleBlock::default();
            if !self.inner.next_block(&mut whole)? {
                return Ok(false);
            }
            if whole.samples.is_empty() {
                self.ready.push_back(whole);
                continue;
            }
            self.spoil(&mut whole);
            self.cut(&whole);
        }
        *block = self.ready.pop_front().unwrap_or_default();
        Ok(true)
    }
}

/// One pass's epochs.
#[derive(Debug, Clone)]
struct Hypnogram(Vec<SleepEpoch>);

impl Hypnogram {
    /// Part of the epochs from `from_s` on that have the stage of `other`; `?` is one of its own.
    fn same(&self, other: &Hypnogram, from_s: f64) -> Same {
        let mut same = Same::default();
        for (a, b) in self.0.iter().zip(&other.0).skip((from_s / EPOCH_S) as usize) {
            same.epochs += 1.0;
            same.same += f64::from(u8::from(a.stage == b.stage));
            same.unknown += f64::from(u8::from(a.stage.is_none()));
            same.present += f64::from(a.quality);
        }
        same
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Same {
    epochs: f64,
    same: f64,
    unknown: f64,
    present: f64,
}

impl Same {
    fn add(&mut self, other: Same) {
        self.epochs += other.epochs;
        self.same += other.same;
        self.unknown += other.unknown;
        self.present += other.present;
    }

    fn cells(&self) -> String {
        let of = |x: f64| 100.0 * x / self.epochs;
        format!("{:6.1} | {:4.1} | {:5.1}", of(self.same), of(self.unknown), of(self.present))
    }
}

/// Both passes over a night.
struct Passes {
    live: Hypnogram,
    last: Hypnogram,
}

struct Bench {
    nights: Vec<PathBuf>,
    network: Network,
    rules: ChannelRules,
}

impl Bench {
    fn new(nights: Vec<PathBuf>) -> Self {
        let bytes = include_bytes!("../models/bundles/default.sfm").to_vec();
        let bundle = Bundle::from_bytes(bytes).expect("the built-in bundle");
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let backend = Backend::choose(BackendChoice::Tract, threads).expect("tract");
        let network = Network::load(&bundle, &backend).expect("loads");
        let network =
            if std::env::var_os("KEEP_BAD").is_some() { network.keeping_bad() } else { network };
        Self { nights, network, rules: ChannelRules::built_in().expect("rules") }
    }

    fn open(&self, night: usize, left_out: &[&str]) -> (Recording, Montage) {
        let mut recording = source::open(&self.nights[night]).expect("opens");
        let entries: Vec<String> = left_out.iter().map(|label| format!("{label}=none")).collect();
        let rules = self.rules.clone().with_map(&entries).expect("a map");
        let montage = rules.assign(&recording.info().signals, &BTreeMap::new()).expect("a montage");
        let used = montage.decisions.iter().filter(|d| d.modality.is_some()).map(|d| d.channel);
        recording.select(&used.collect::<Vec<_>>());
        (recording, montage)
    }

    /// Both passes over a night with a fault.
    fn run(&self, night: usize, fault: Fault, left_out: &[&str]) -> Passes {
        let stop = AtomicBool::new(false);
        let around = || Surroundings {
            emit: Box::leak(Box::new(|_: Event| ())),
            progress: Box::leak(Box::new(|_: f64| ())),
            stop: &stop,
            lights: &Lights::default,
        };
        let (mut recording, montage) = self.open(night, left_out);
        let needs_stats = matches!(fault, Fault::Loose(..));
        let stats = if needs_stats {
            measure(&mut recording, &montage, &self.network, &mut around()).expect("measured")
        } else {
            Vec::new()
        };
        let faulty = || {
            let (inner, montage) = self.open(night, left_out);
            Faulty {
                info: inner.info().clone(),
                inner,
                modalities: montage.decisions.iter().map(|d| d.modality).collect(),
                stats: stats.clone(),
                fault: fault.clone(),
                seed: night as u64,
                ready: VecDeque::new(),
            }
        };
        let live =
            live_pass(&mut faulty(), &montage, &self.network, &Options::default(), &mut around())
                .expect("passes");
        let options = Options { stats: Some(live.stats), ..Options::default() };
        let last = final_pass(&mut faulty(), &montage, &self.network, &options, &mut around())
            .expect("passes");
        Passes { live: Hypnogram(live.hypnogram), last: Hypnogram(last.hypnogram) }
    }

    fn clean(&self) -> Vec<Passes> {
        (0..self.nights.len()).map(|night| self.run(night, Fault::None, &[])).collect()
    }

    /// A line of a table: both passes of all nights beside the clean ones.
    fn line(&self, name: &str, clean: &[Passes], fault: &Fault) {
        let (mut live, mut last) = (Same::default(), Same::default());
        for (night, clean) in clean.iter().enumerate() {
            let passes = self.run(night, fault.clone(), &[]);
            live.add(passes.live.same(&clean.live, 0.0));
            last.add(passes.last.same(&clean.last, 0.0));
        }
        println!("| {name} | {} | {} |", live.cells(), last.cells());
    }

    fn loss(&self) {
        println!(
            "\n| frames lost | live same % | `?` % | present % | final same % | `?` % | present % |"
        );
        println!("|---|---|---|---|---|---|---|");
        let clean = self.clean();
        for percent in [1.0, 3.0, 5.0, 10.0, 20.0] {
            self.line(&format!("{percent} %"), &clean, &Fault::Frames(percent / 100.0));
        }
    }

    fn bursts(&self) {
        println!(
            "\n| outages, 120 an hour | live same % | `?` % | present % | final same % | `?` % | present % |"
        );
        println!("|---|---|---|---|---|---|---|");
        let clean = self.clean();
        for length_s in [0.2, 0.3, 0.5, 1.0, 2.0, 5.0] {
            self.line(&format!("{length_s} s"), &clean, &Fault::Bursts(length_s, 120.0));
        }
    }

    /// How thin evidence may be: agreement by the share of pieces that an epoch has.
    fn pieces(&self) {
        let clean = self.clean();
        for who in [Who::Channels, Who::AllBrain, Who::AllOthers] {
            println!(
                "\n{who:?}: share of the epoch's pieces | epochs | live same % | final same %"
            );
            let mut bins = vec![[0.0; 3]; 11];
            for (night, clean) in clean.iter().enumerate() {
                for part in [0.5, 0.7, 0.8, 0.9, 1.0] {
                    let passes = self.run(night, Fault::Pieces(part, who), &[]);
                    for (epoch, live) in passes.live.0.iter().enumerate() {
                        let bin = &mut bins[(f64::from(live.quality) * 10.0) as usize];
                        let same = |a: &SleepEpoch, b: &SleepEpoch| {
                            f64::from(u8::from(likeliest(a) == likeliest(b)))
                        };
                        bin[0] += 1.0;
                        bin[1] += same(live, &clean.live.0[epoch]);
                        bin[2] += same(&passes.last.0[epoch], &clean.last.0[epoch]);
                    }
                }
            }
            for (tenth, [count, live, last]) in bins.iter().enumerate().filter(|(_, b)| b[0] > 0.0)
            {
                let from = tenth as f64 / 10.0;
                let of = |x: &f64| 100.0 * x / count;
                println!("| {from:.1} | {count} | {:.1} | {:.1} |", of(live), of(last));
            }
        }
    }

    /// A loose electrode beside the same night with the channel left out of the map.
    fn electrode(&self) {
        println!(
            "\n| from hour 2 | live same % | `?` % | present % | final same % | `?` % | present % |"
        );
        println!("|---|---|---|---|---|---|---|");
        let eeg = ["EEG1", "EEG2", "EEG3"];
        let breath: &[&str] = &["Thor", "Abdo", "Therm", "Snore"];
        let cases: [(&str, Instead, bool); 8] = [
            ("one EEG of three flat", Instead::Flat, false),
            ("mains on it, 10 times as large", Instead::Mains(10.0), false),
            ("noise in its place, as large", Instead::Noise(1.0), false),
            ("noise in its place, 10 times", Instead::Noise(10.0), false),
            ("noise on it, 3 times as large", Instead::AddedNoise(3.0), false),
            ("belts, thermistor, snore flat", Instead::Flat, true),
            ("noise in their place, as large", Instead::Noise(1.0), true),
            ("noise in their place, 10 times", Instead::Noise(10.0), true),
        ];
        let nights = || (0..self.nights.len()).map(|night| [eeg[night % eeg.len()]]).enumerate();
        let without = |breathes: bool| -> Vec<Passes> {
            let labels =
                |one: &[&'static str; 1]| if breathes { breath.to_vec() } else { one.to_vec() };
            nights().map(|(night, one)| self.run(night, Fault::None, &labels(&one))).collect()
        };
        let without = [without(false), without(true)];
        for (name, instead, breathes) in cases {
            let (mut live, mut last) = (Same::default(), Same::default());
            for (night, one) in nights() {
                let labels: &[&str] = if breathes { breath } else { &one };
                let (recording, _) = self.open(night, &[]);
                let index =
                    |label: &&str| recording.info().signals.iter().position(|s| s.label == **label);
                let channels = labels.iter().filter_map(index).collect();
                let passes = self.run(night, Fault::Loose(channels, instead), &[]);
                let without = &without[usize::from(breathes)][night];
                live.add(passes.live.same(&without.live, LOOSE_FROM_S));
                last.add(passes.last.same(&without.last, LOOSE_FROM_S));
            }
            println!("| {name} | {} | {} |", live.cells(), last.cells());
        }
    }
}

/// The likeliest stage, also of an epoch that is `?`.
fn likeliest(epoch: &SleepEpoch) -> Option<SleepStage> {
    let p = &epoch.probabilities;
    let best = SleepStage::ALL.into_iter().max_by(|a, b| p[a.index()].total_cmp(&p[b.index()]));
    best.filter(|_| p.iter().all(|p| p.is_finite()))
}
