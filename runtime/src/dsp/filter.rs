//! Zero-phase filtering of a stream: forward and backward through the same sections, equal to
//! `scipy.signal.filtfilt` over the whole segment.
//!
//! The forward pass runs on. The backward pass restarts for every hop from look-ahead samples
//! beyond it: what it would have carried from further on has decayed by then. Hops lie on a
//! fixed grid of the recording's time, so the result does not depend on how samples arrive.

use super::butterworth::Section;

/// Shortest look-ahead of the backward pass, seconds.
pub const LOOK_AHEAD_S: f64 = 0.5;
/// Longest look-ahead, seconds: a cut-off so low that more were needed is not followed further.
pub const MAX_LOOK_AHEAD_S: f64 = 10.0;
/// What may be left of the unknown future in the last sample of a hop.
const RESIDUE: f64 = 1e-12;
/// States below this are set to zero between hops: on a channel that went flat they would
/// otherwise decay into subnormal numbers, which some processors compute a hundred times slower.
const NEGLIGIBLE: f64 = 1e-60;

/// Samples the backward pass needs beyond a hop at `rate_hz`.
pub fn look_ahead(sections: &[Section], rate_hz: f64) -> usize {
    let slowest = sections.iter().map(Section::pole_radius).fold(0.0, f64::max);
    let decay = RESIDUE.ln() / slowest.ln();
    let shortest = LOOK_AHEAD_S * rate_hz;
    decay.max(shortest).min((MAX_LOOK_AHEAD_S * rate_hz).max(shortest)).ceil() as usize
}

/// Sections in series with their states.
#[derive(Debug, Clone)]
struct Cascade {
    sections: Vec<Section>,
    states: Vec<[f64; 2]>,
}

impl Cascade {
    fn new(sections: Vec<Section>) -> Self {
        let states = vec![[0.0; 2]; sections.len()];
        Self { sections, states }
    }

    /// The states after `level` at the input since ever (`lfilter_zi`); every section has unit
    /// gain at 0 Hz, so all of them see the same level.
    fn settle(&mut self, level: f64) {
        for (state, s) in self.states.iter_mut().zip(&self.sections) {
            *state = [(1.0 - s.b[0]) * level, (s.b[2] - s.a[1]) * level];
        }
    }

    fn run(&mut self, data: &mut [f64]) {
        let mut sections = self.sections.chunks_exact(2);
        let mut states = self.states.chunks_exact_mut(2);
        for (pair, state) in (&mut sections).zip(&mut states) {
            run_pair([pair[0], pair[1]], state, data);
        }
        if let ([section], [state]) = (sections.remainder(), states.into_remainder()) {
            run_one(*section, state, data);
        }
    }

    fn drop_negligible(&mut self) {
        for s in self.states.as_flattened_mut() {
            if s.abs() < NEGLIGIBLE {
                *s = 0.0;
            }
        }
    }
}

/// A section in the form whose only long dependency is one multiply and one add per sample.
#[derive(Clone, Copy)]
struct Step {
    b0: f64,
    c1: f64,
    c2: f64,
    a1: f64,
    a2: f64,
}

impl Step {
    fn new(s: Section) -> Self {
        let ([b0, b1, b2], [a1, a2]) = (s.b, s.a);
        Self { b0, c1: b1 - a1 * b0, c2: b2 - a2 * b0, a1, a2 }
    }

    #[inline(always)]
    fn run(&self, state: &mut [f64; 2], x: f64) -> f64 {
        let [s1, s2] = *state;
        *state = [(s2 + self.c1 * x) - self.a1 * s1, self.c2 * x - self.a2 * s1];
        self.b0 * x + s1
    }
}

/// Two sections per pass: their recursions are independent enough to overlap in the processor.
fn run_pair(sections: [Section; 2], states: &mut [[f64; 2]], data: &mut [f64]) {
    let [first, second] = sections.map(Step::new);
    let &mut [mut s, mut t] = states else { return };
    for value in data {
        let x = first.run(&mut s, *value);
        *value = second.run(&mut t, x);
    }
    states.copy_from_slice(&[s, t]);
}

fn run_one(section: Section, state: &mut [f64; 2], data: &mut [f64]) {
    let step = Step::new(section);
    let mut s = *state;
    for value in data {
        *value = step.run(&mut s, *value);
    }
    *state = s;
}

/// Forward-backward filter of one segment after another.
#[derive(Debug, Clone)]
pub struct ZeroPhase {
    forward: Cascade,
    backward: Cascade,
    /// Samples of the odd extension at either end of a segment.
    padding: usize,
    look_ahead: usize,
    /// Length of a hop; hop k ends before sample ceil((k + 1) * hop).
    hop: f64,
    /// Forward-filtered samples from `position` on.
    filtered: Vec<f64>,
    /// The newest raw samples, at most `padding` + 1: both ends are extended from them.
    recent: Vec<f64>,
    /// Forward pass is running: the beginning was long enough to be extended.
    running: bool,
    /// Index of the next sample to come out.
    position: u64,
    /// Work space of the backward pass.
    reversed: Vec<f64>,
}

impl ZeroPhase {
    /// A filter through `sections` and back, releasing its output in hops of `hop` samples.
    /// `order` sets the padding as `filtfilt` does for polynomials of that order.
    pub fn new(sections: Vec<Section>, order: usize, hop: f64, look_ahead: usize) -> Self {
        Self {
            forward: Cascade::new(sections.clone()),
            backward: Cascade::new(sections),
            padding: 3 * (order + 1),
            look_ahead,
            hop: hop.max(1.0),
            filtered: Vec::new(),
            recent: Vec::new(),
            running: false,
            position: 0,
            reversed: Vec::new(),
        }
    }

    /// Begins a segment whose first sample has index `start` on the channel's time axis.
    /// What an unfinished segment still held is dropped.
    pub fn begin(&mut self, start: u64) {
        self.filtered.clear();
        self.recent.clear();
        self.running = false;
        self.position = start;
    }

    /// Takes the next samples of the segment; `out` gets the filtered ones, in order.
    pub fn push(&mut self, mut samples: &[f32], out: &mut impl FnMut(&[f64])) {
        if !self.running {
            let missing = (self.padding + 1).saturating_sub(self.recent.len());
            let (head, rest) = samples.split_at(missing.min(samples.len()));
            self.recent.extend(head.iter().map(|&x| f64::from(x)));
            samples = rest;
            if self.recent.len() <= self.padding {
                return;
            }
            self.start_forward(self.padding);
        }
        loop {
            let needed = self.hop_length() + self.look_ahead;
            if self.filtered.len() >= needed {
                self.release(needed - self.look_ahead, out);
                continue;
            }
            let (now, rest) = samples.split_at(samples.len().min(needed - self.filtered.len()));
            if now.is_empty() {
                return;
            }
            self.run_forward(now);
            samples = rest;
        }
    }

    /// Ends the segment: extends it as `filtfilt` does and releases what is left of it.
    pub fn finish(&mut self, out: &mut impl FnMut(&[f64])) {
        let padding = match (self.running, self.recent.len()) {
            (true, _) => self.padding,
            (false, 0) => return,
            (false, n) => {
                self.start_forward(n - 1);
                n - 1
            }
        };
        let length = self.filtered.len();
        let newest = self.recent.len() - 1;
        let last = self.recent[newest];
        self.filtered.extend((1..=padding).map(|i| 2.0 * last - self.recent[newest - i]));
        self.forward.run(&mut self.filtered[length..]);
        self.release(length, out);
        self.begin(self.position);
    }

    /// Samples from `position` to the end of its hop.
    fn hop_length(&self) -> usize {
        let mut end = (((self.position as f64 / self.hop).floor() + 1.0) * self.hop).ceil() as u64;
        if end <= self.position {
            end = self.position + self.hop as u64;
        }
        (end - self.position) as usize
    }

    /// Runs the odd extension of `recent` and then `recent` itself.
    fn start_forward(&mut self, padding: usize) {
        let first = self.recent[0];
        let extension = (1..=padding).rev().map(|i| 2.0 * first - self.recent[i]);
        self.filtered.clear();
        self.filtered.extend(extension);
        self.filtered.extend_from_slice(&self.recent);
        self.forward.settle(self.filtered[0]);
        self.forward.run(&mut self.filtered);
        self.filtered.drain(..padding);
        self.running = true;
    }

    fn run_forward(&mut self, samples: &[f32]) {
        let length = self.filtered.len();
        self.filtered.extend(samples.iter().map(|&x| f64::from(x)));
        let kept = self.padding + 1;
        if samples.len() >= kept {
            self.recent.clear();
            self.recent.extend_from_slice(&self.filtered[length + samples.len() - kept..]);
        } else {
            self.recent.drain(..(self.recent.len() + samples.len()).saturating_sub(kept));
            self.recent.extend_from_slice(&self.filtered[length..]);
        }
        self.forward.run(&mut self.filtered[length..]);
    }

    /// Filters backward from the end of `filtered` and hands out its first `count` samples.
    fn release(&mut self, count: usize, out: &mut impl FnMut(&[f64])) {
        self.reversed.clear();
        self.reversed.extend(self.filtered.iter().rev());
        self.backward.settle(self.reversed[0]);
        self.backward.run(&mut self.reversed);
        let wanted = self.reversed.len() - count;
        let released = &mut self.reversed[wanted..];
        released.reverse();
        out(released);
        self.filtered.drain(..count);
        self.position += count as u64;
        self.forward.drop_negligible();
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
