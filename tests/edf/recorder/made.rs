//! Live sessions made up slot by slot, and what the reader gives back.

use std::path::{Path, PathBuf};

use sfm_runtime::edf::DateTime;
use sfm_runtime::recorder::Recorder;
use sfm_runtime::signal::{DigitalBlock, SampleBlock, SignalInfo};
use sfm_runtime::source::Source;

/// A folder in memory where there is one: thousands of files are waited for until they are on the
/// disk.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        .expect("folder")
}

pub fn start() -> DateTime {
    "2026-11-24T22:58:41".parse().expect("a date")
}

pub fn signal(label: &str, rate_hz: f64, is_wide: bool) -> SignalInfo {
    let limit = if is_wide { 0x7f_ffff } else { 0x7fff };
    SignalInfo {
        label: label.to_owned(),
        rate_hz,
        unit: "uV".to_owned(),
        physical_min: -187.5,
        physical_max: 187.5,
        digital_min: -limit - 1,
        digital_max: limit,
    }
}

/// A channel's samples by stretches: first slot and number.
#[derive(Debug, Clone)]
pub struct Channel {
    pub rate_hz: f64,
    pub stretches: Vec<(u64, u64)>,
    /// Behind the last stretch it is silent up to here, and that is known.
    silent_until: u64,
}

impl Channel {
    /// From milliseconds of silence and of signal; at the end some more silence.
    pub fn new(rate_hz: f64, pieces_ms: &[(u32, u32)], silent_ms: u32) -> Self {
        let samples = |ms: u32| (f64::from(ms) * rate_hz / 1000.0) as u64;
        let (mut slot, mut stretches) = (0, Vec::new());
        for &(silence_ms, signal_ms) in pieces_ms {
            slot += samples(silence_ms);
            if samples(signal_ms) > 0 {
                stretches.push((slot, samples(signal_ms)));
                slot += samples(signal_ms);
            }
        }
        Channel { rate_hz, stretches, silent_until: slot + samples(silent_ms) }
    }

    pub fn decided(&self) -> u64 {
        self.silent_until
    }
}

/// A session of such channels.
#[derive(Debug, Clone)]
pub struct Night {
    pub channels: Vec<Channel>,
    pub is_wide: bool,
    pub start: DateTime,
    pub seed: u32,
}

/// The same sequence for the same seed.
pub struct Noise(u32);

impl Noise {
    pub fn new(seed: u32) -> Self {
        Noise(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u64::from(self.0 >> 8) % limit
    }
}

/// What a sensor measured at a slot; every tenth value is the digital minimum, as gaps are filled.
pub fn digital(channel: usize, slot: u64, is_wide: bool) -> i32 {
    let hash = (slot + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 + 2 * channel as u64) >> 40;
    let min = signal("", 1.0, is_wide).digital_min;
    if hash.is_multiple_of(10) { min } else { min + (hash as i32 % -(2 * min)) }
}

impl Night {
    pub fn signals(&self) -> Vec<SignalInfo> {
        (0..)
            .zip(&self.channels)
            .map(|(index, c): (usize, _)| {
                signal(&format!("Channel {index}"), c.rate_hz, self.is_wide)
            })
            .collect()
    }

    /// What the reader has to give for a channel.
    pub fn physical(&self, channel: usize) -> Vec<(u64, f32)> {
        let scale = signal("", 1.0, self.is_wide).scale().expect("a scale");
        let slots = self.channels[channel].stretches.iter().flat_map(|&(s, n)| s..s + n);
        slots
            .map(|slot| (slot, scale.physical(digital(channel, slot, self.is_wide)) as f32))
            .collect()
    }

    /// The blocks of a channel: stretches cut at random, with empty blocks in silences.
    fn blocks(&self, channel: usize, granularity: u32) -> Vec<DigitalBlock> {
        let mut noise = Noise::new(self.seed ^ (granularity << 7) ^ channel as u32);
        let largest = [1, 40, 5000][granularity as usize % 3];
        let mut blocks = Vec::new();
        let mut end = 0;
        let silence = |from: u64, to: u64, noise: &mut Noise, blocks: &mut Vec<_>| {
            let mut start = from;
            for _ in 0..noise.below(3) {
                start += noise.below(to - start + 1);
                blocks.push(DigitalBlock { channel, start, samples: vec![] });
            }
        };
        for &(start, count) in &self.channels[channel].stretches {
            silence(end, start, &mut noise, &mut blocks);
            end = start + count;
            let mut slot = start;
            while slot < end {
                let upto = end.min(slot + 1 + noise.below(largest));
                let samples = (slot..upto).map(|s| digital(channel, s, self.is_wide)).collect();
                blocks.push(DigitalBlock { channel, start: slot, samples });
                slot = upto;
            }
        }
        let until = self.channels[channel].silent_until;
        silence(end, until, &mut noise, &mut blocks);
        blocks.push(DigitalBlock { channel, start: until, samples: vec![] });
        blocks
    }

    /// All blocks, each channel's in order, the channels in an order of chance.
    pub fn interleaved(&self, granularity: u32) -> Vec<DigitalBlock> {
        let mut noise = Noise::new(self.seed.wrapping_add(granularity));
        let mut queues: Vec<_> = (0..self.channels.len())
            .map(|channel| self.blocks(channel, granularity).into_iter().peekable())
            .collect();
        let mut all = Vec::new();
        while queues.iter_mut().any(|queue| queue.peek().is_some()) {
            let channel = noise.below(queues.len() as u64) as usize;
            let run = 1 + noise.below(20) as usize;
            all.extend(queues[channel].by_ref().take(run));
        }
        all
    }

    /// Records the session and returns the file.
    pub fn record(&self, dir: &Path, granularity: u32) -> PathBuf {
        let mut recorder =
            Recorder::create(dir, &self.signals(), self.start).expect("the recorder starts");
        for block in self.interleaved(granularity) {
            recorder.push(&block).expect("pushed");
        }
        let written = recorder.finish().expect("finished");
        assert_eq!(written.lost, Default::default());
        written.path
    }
}

/// By channel: every sample with its slot, and the slot up to which something was said.
pub fn read_back(mut source: impl Source) -> Vec<(Vec<(u64, f32)>, u64)> {
    let mut channels = vec![(Vec::new(), 0); source.info().signals.len()];
    let mut block = SampleBlock::default();
    while source.next_block(&mut block).expect("reads") {
        let (samples, end): &mut (Vec<(u64, f32)>, u64) = &mut channels[block.channel];
        assert!(block.start >= *end, "blocks go backwards");
        samples.extend((block.start..).zip(block.samples.iter().copied()));
        *end = block.start + block.samples.len() as u64;
    }
    channels
}
