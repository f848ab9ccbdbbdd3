//! Which 5-s pieces of a channel the network is not given. Every piece is decided by its own samples
//! and those before it, never by later ones, so a live session, the replay of its recording and the
//! final pass decide alike. Refuses nothing and changes no sample. Runs where the channel is drained.

use std::collections::VecDeque;

use sfm_models::Modality;
use sfm_models::manifest::{BadSignals, Preprocessing};

use super::{Bounds, LineNoise, LinePower, MIN_LINE_RATE_HZ, MIN_RATE_HZ, Second};
use crate::montage::unit_uv;
use crate::signal::SignalInfo;

/// A piece with more of its power than this at a line frequency is mains.
const MAINS_SHARE: f64 = 0.5;
/// A piece is bad by the second if so much of it is.
const BAD_PART: f64 = 0.5;
/// Mean squared difference of neighboring samples over the variance: 2 of white noise. Brain, breath
/// and heart are far below this at any usual rate; QRS complexes and tense muscles at 100 Hz come
/// near 1.
const WHITE: f64 = 1.5;
/// No brain has a larger standard deviation over 5 s, uV.
const MOST_BRAIN_UV: f64 = 250.0;
/// Mains and noise below this part of the channel's usual power disturb nothing: what is seen is the
/// amplifier in a pause of breathing, or a muscle at rest.
const DISTURBING: f64 = 0.25;
/// Sound whose quietest second is at least this part of its loudest is not that of breathing, if it
/// has this many times the usual power.
const STEADY: f32 = 0.5;
const DROWNING: f64 = 4.0;
/// Breathing may stop and its sensor stay at one value; for so long it does not, seconds.
const LONGEST_PAUSE_S: f64 = 60.0;

/// What of the signals is kept from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskRule {
    /// Nothing: the reference's way.
    KeepBad,
    /// Pieces without any variance: a lead that is off, a sensor that is dead.
    Flat,
    /// Also mains, noise, and what is clipped or implausible.
    Bad,
}

impl From<BadSignals> for MaskRule {
    fn from(of_bundle: BadSignals) -> Self {
        match of_bundle {
            BadSignals::Reference => MaskRule::Flat,
            BadSignals::Absent => MaskRule::Bad,
        }
    }
}

/// Watches one channel, piece by piece.
#[derive(Debug, Clone)]
pub struct PieceMeter {
    rule: MaskRule,
    bounds: Bounds,
    traits: Traits,
    rate_hz: f64,
    piece_s: f64,
    /// Slots of one second, rounded up.
    second_slots: u64,
    piece: Piece,
    second: Second,
    line: Option<LineNoise>,
    shape: Shape,
    usual: Usual,
    /// The value that holds since a slot, where one does.
    holds: Option<(f32, u64)>,
    /// Pieces that were decided and not asked for yet.
    decided: VecDeque<(u64, bool)>,
}

/// What follows from what a channel measures.
#[derive(Debug, Clone, Copy)]
struct Traits {
    /// It holds one value for longer than a piece, where something is wrong, seconds; never if
    /// `None`.
    flat_after_s: Option<f64>,
    /// It is like white noise by nature: a muscle, sound.
    is_white: bool,
    /// It is sound, which rises and falls with the breath.
    is_sound: bool,
    /// Largest standard deviation, in its unit.
    most: f64,
}

/// The piece under way.
#[derive(Debug, Clone, Copy)]
struct Piece {
    index: u64,
    /// Its slots.
    start: u64,
    end: u64,
    samples: u64,
    /// Samples in seconds that are flat, clipped or implausible.
    bad: u64,
    least: f32,
    most: f32,
    /// Smallest and largest range of a whole second.
    quietest: f32,
    loudest: f32,
    line: LinePower,
}

/// Sums over a piece, one sample after the other: no grouping of samples changes their rounding.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    /// Slot behind the newest sample, and its value beside `origin`.
    next: u64,
    last: f64,
    origin: f64,
    samples: f64,
    sum: f64,
    squares: f64,
    steps: f64,
    squared_steps: f64,
}

/// What a channel's power usually is: the geometric mean over its good pieces, which a few storms do
/// not move.
#[derive(Debug, Clone, Copy, Default)]
struct Usual {
    pieces: f64,
    logarithms: f64,
}

impl Traits {
    fn of(signal: &SignalInfo, modality: Modality) -> Self {
        let is_slow = signal.rate_hz < MIN_RATE_HZ;
        let flat_after_s = match modality {
            _ if is_slow => None,
            Modality::Resp => Some(LONGEST_PAUSE_S),
            _ => Some(0.0),
        };
        let is_sound = !is_slow && is_sound_label(&signal.label);
        let is_white = is_slow || modality == Modality::Emg || is_sound;
        let most = match (modality, unit_uv(&signal.unit)) {
            (Modality::Bas, Some(uv)) => MOST_BRAIN_UV / f64::from(uv),
            _ => f64::INFINITY,
        };
        Self { flat_after_s, is_white, is_sound, most }
    }
}

/// Whether a label is that of a microphone.
fn is_sound_label(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    ["snor", "mic", "sound", "audio"].iter().any(|name| label.contains(name))
}

impl PieceMeter {
    /// A meter for a channel of `modality` in pieces of the network's patches.
    pub fn new(
        signal: &SignalInfo,
        modality: Modality,
        preprocessing: &Preprocessing,
        rule: MaskRule,
    ) -> Self {
        let rate_hz = signal.rate_hz;
        let searches = rule == MaskRule::Bad && rate_hz > MIN_LINE_RATE_HZ;
        let mut meter = Self {
            rule,
            bounds: Bounds::of(signal, modality),
            traits: Traits::of(signal, modality),
            rate_hz,
            piece_s: preprocessing.patch_samples as f64 / f64::from(preprocessing.rate_hz),
            second_slots: (rate_hz.ceil() as u64).max(1),
            piece: Piece::new(0, 0, 0),
            second: Second::NONE,
            line: searches.then(|| LineNoise::new(rate_hz)),
            shape: Shape::default(),
            usual: Usual::default(),
            holds: None,
            decided: VecDeque::new(),
        };
        meter.begin_piece(0);
        meter
    }

    /// Takes samples of which the first has slot `start`, in order and each slot once.
    pub fn take(&mut self, mut start: u64, mut samples: &[f32]) {
        while !samples.is_empty() {
            if start >= self.second.end {
                self.begin_second(start);
            }
            let now = samples.len().min((self.second.end - start).min(usize::MAX as u64) as usize);
            let (here, rest) = samples.split_at(now);
            self.second.take(here, self.bounds.limits);
            if let Some(line) = self.line.as_mut().filter(|_| self.second.searched) {
                line.take(here);
            }
            if self.rule == MaskRule::Bad {
                self.shape.take(start, here);
            }
            start += now as u64;
            samples = rest;
        }
    }

    /// Whether piece `index` is kept from the network. To be asked when all of it is decided, for
    /// one piece after the other, once each.
    pub fn is_bad(&mut self, index: u64) -> bool {
        if self.piece.index == index {
            self.close_piece();
        }
        while let Some((decided, bad)) = self.decided.pop_front_if(|(decided, _)| *decided <= index)
        {
            if decided == index {
                return bad;
            }
        }
        false
    }

    fn begin_second(&mut self, slot: u64) {
        self.close_second();
        if slot >= self.piece.end {
            self.close_piece();
            self.begin_piece(slot);
        }
        let piece = &self.piece;
        let index = (slot - piece.start) / self.second_slots;
        let end = piece.start + (index + 1) * self.second_slots;
        let whole = slot == end - self.second_slots && end <= piece.end;
        // One second of a piece is enough; only one that is whole can be searched.
        let searched = whole && piece.line.all == 0.0;
        self.second = Second { end: end.min(piece.end), searched, ..Second::NONE };
        if let Some(line) = &mut self.line {
            line.begin();
        }
    }

    fn close_second(&mut self) {
        let second = std::mem::replace(&mut self.second, Second::NONE);
        if second.samples == 0 {
            return;
        }
        let (piece, verdict) = (&mut self.piece, second.verdict(&self.bounds));
        let flat = verdict.flat && self.bounds.flat_by_second;
        piece.samples += second.samples;
        piece.bad +=
            if flat || verdict.clipped || verdict.implausible { second.samples } else { 0 };
        piece.least = piece.least.min(second.least);
        piece.most = piece.most.max(second.most);
        if second.samples == self.second_slots {
            piece.quietest = piece.quietest.min(second.most - second.least);
            piece.loudest = piece.loudest.max(second.most - second.least);
        }
        let value = (second.least == second.most).then_some(second.most);
        let before = self.holds;
        self.holds = value.map(|value| match before {
            Some((held, since)) if held == value => (held, since),
            _ => (value, second.end.saturating_sub(self.second_slots)),
        });
        if let Some(line) = &self.line
            && second.searched
            && second.samples == self.second_slots
        {
            line.add_to(&mut piece.line);
        }
    }

    fn begin_piece(&mut self, slot: u64) {
        let mut index = (slot as f64 / (self.rate_hz * self.piece_s)) as u64;
        while self.piece_slot(index + 1) <= slot {
            index += 1;
        }
        while index > 0 && self.piece_slot(index) > slot {
            index -= 1;
        }
        let start = self.piece_slot(index).min(slot);
        let end = self.piece_slot(index + 1).max(slot.saturating_add(1));
        self.piece = Piece::new(index, start, end);
        self.shape = Shape::default();
    }

    /// First slot of a piece.
    fn piece_slot(&self, index: u64) -> u64 {
        (index as f64 * self.piece_s * self.rate_hz).ceil() as u64
    }

    fn close_piece(&mut self) {
        self.close_second();
        if self.piece.samples == 0 {
            return;
        }
        // A few samples at the end of a recording say nothing.
        if self.piece.samples >= self.second_slots {
            let bad = self.is_flat() || (self.rule == MaskRule::Bad && self.is_spoiled());
            if !bad && let Some(variance) = self.shape.variance() {
                self.usual.add(variance);
            }
            self.decided.push_back((self.piece.index, bad));
        }
        self.piece.samples = 0;
    }

    /// No variance, for as long as says something.
    fn is_flat(&self) -> bool {
        let (piece, Some(after_s)) = (&self.piece, self.traits.flat_after_s) else { return false };
        let holds_s =
            self.holds.map_or(0.0, |(_, since)| (piece.end - since) as f64 / self.rate_hz);
        piece.least == piece.most && holds_s >= after_s
    }

    fn is_spoiled(&self) -> bool {
        if self.piece.bad as f64 >= BAD_PART * self.piece.samples as f64 {
            return true;
        }
        let Some(variance) = self.shape.variance() else { return false };
        let is_mains = self.piece.line.share() > MAINS_SHARE;
        let is_steady = self.piece.quietest >= STEADY * self.piece.loudest;
        let is_hiss = self.traits.is_sound && is_steady && self.usual.is_drowned_by(variance);
        let is_noise = self.shape.steps() > WHITE * variance && (!self.traits.is_white || is_hiss);
        variance > self.traits.most * self.traits.most
            || (is_mains || is_noise) && self.usual.is_disturbed_by(variance)
    }
}

impl Piece {
    fn new(index: u64, start: u64, end: u64) -> Self {
        Self {
            index,
            start,
            end,
            samples: 0,
            bad: 0,
            least: f32::INFINITY,
            most: f32::NEG_INFINITY,
            quietest: f32::INFINITY,
            loudest: 0.0,
            line: LinePower::default(),
        }
    }
}

impl Shape {
    fn take(&mut self, start: u64, samples: &[f32]) {
        let end = start + samples.len() as u64;
        let mut samples = samples.iter().map(|&x| f64::from(x)).filter(|x| x.is_finite());
        if self.samples == 0.0 || self.next != start {
            let Some(first) = samples.next() else { return };
            if self.samples == 0.0 {
                // Electrodes have an offset a thousand times as large as the signal.
                self.origin = first;
            }
            self.last = first - self.origin;
            self.add(self.last);
        }
        self.next = end;
        for x in samples {
            let x = x - self.origin;
            self.squared_steps += (x - self.last) * (x - self.last);
            self.steps += 1.0;
            self.last = x;
            self.add(x);
        }
    }

    fn add(&mut self, x: f64) {
        self.samples += 1.0;
        self.sum += x;
        self.squares += x * x;
    }

    /// Of the samples so far; `None` where they have none.
    fn variance(&self) -> Option<f64> {
        let mean = self.sum / self.samples;
        let variance = self.squares / self.samples - mean * mean;
        (variance > 0.0 && variance.is_finite()).then_some(variance)
    }

    /// Mean squared difference of neighbors.
    fn steps(&self) -> f64 {
        if self.steps > 0.0 { self.squared_steps / self.steps } else { 0.0 }
    }
}

impl Usual {
    fn add(&mut self, variance: f64) {
        self.pieces += 1.0;
        self.logarithms += variance.ln();
    }

    /// Whether a disturbance of this power leaves nothing of the signal.
    fn is_drowned_by(&self, variance: f64) -> bool {
        self.pieces > 0.0 && variance >= DROWNING * (self.logarithms / self.pieces).exp()
    }

    /// Whether a disturbance of this power matters; it does where no good piece has been seen yet.
    fn is_disturbed_by(&self, variance: f64) -> bool {
        self.pieces == 0.0 || variance >= DISTURBING * (self.logarithms / self.pieces).exp()
    }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
