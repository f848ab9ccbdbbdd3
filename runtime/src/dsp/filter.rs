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
        let (pairs, odd) = self.sections.as_chunks::<2>();
        let (states, odd_state) = self.states.as_chunks_mut::<2>();
        for (pair, states) in pairs.iter().zip(states) {
            run_pair(*pair, states, data);
        }
        for (section, state) in odd.iter().zip(odd_state) {
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

/// A section that takes two samples per step: half as many dependent operations in a row, which
/// is what bounds a recursive filter.
#[derive(Clone, Copy)]
struct Step {
    b0: f64,
    /// Transposed direct form II with the output put in: one step is
    /// s1 <- s2 + c1 x - a1 s1, s2 <- c2 x - a2 s1, and `state` and `input` are that step twice.
    c1: f64,
    c2: f64,
    a1: f64,
    a2: f64,
    state: [f64; 2],
    input: [f64; 2],
}

impl Step {
    fn new(s: Section) -> Self {
        let ([b0, b1, b2], [a1, a2]) = (s.b, s.a);
        let (c1, c2) = (b1 - a1 * b0, b2 - a2 * b0);
        let (state, input) = ([a1 * a1 - a2, a1 * a2], [c2 - a1 * c1, -a2 * c1]);
        Self { b0, c1, c2, a1, a2, state, input }
    }

    #[inline(always)]
    fn one(&self, states: &mut [f64; 2], x: f64) -> f64 {
        let [s1, s2] = *states;
        *states = [(s2 + self.c1 * x) - self.a1 * s1, self.c2 * x - self.a2 * s1];
        self.b0 * x + s1
    }

    #[inline(always)]
    fn two(&self, states: &mut [f64; 2], [x, y]: [f64; 2]) -> [f64; 2] {
        let [s1, s2] = *states;
        *states = [
            (self.input[0] * x + self.c1 * y) + (self.state[0] * s1 - self.a1 * s2),
            (self.input[1] * x + self.c2 * y) + (self.state[1] * s1 - self.a2 * s2),
        ];
        [self.b0 * x + s1, self.b0 * y + ((s2 + self.c1 * x) - self.a1 * s1)]
    }
}

/// Two sections per pass: their recursions are independent enough to overlap in the processor.
fn run_pair(sections: [Section; 2], states: &mut [[f64; 2]; 2], data: &mut [f64]) {
    let [first, second] = sections.map(Step::new);
    let [mut s, mut t] = *states;
    let (twos, odd) = data.as_chunks_mut::<2>();
    for values in twos {
        let between = first.two(&mut s, *values);
        *values = second.two(&mut t, between);
    }
    for value in odd {
        let between = first.one(&mut s, *value);
        *value = second.one(&mut t, between);
    }
    *states = [s, t];
}

fn run_one(section: Section, state: &mut [f64; 2], data: &mut [f64]) {
    let step = Step::new(section);
    let (twos, odd) = data.as_chunks_mut::<2>();
    for values in twos {
        *values = step.two(state, *values);
    }
    for value in odd {
        *value = step.one(state, *value);
    }
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
    /// Samples from `position` on; the first `filtered` of them have gone through the forward
    /// pass. It runs once per hop, so that its steps fall on the same samples for any blocks.
    buffer: Vec<f64>,
    filtered: usize,
    /// The newest raw samples before those, at most `padding` + 1, to extend the end from.
    recent: Vec<f64>,
    /// The forward pass has begun.
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
            buffer: Vec::new(),
            filtered: 0,
            recent: Vec::new(),
            running: false,
            position: 0,
            reversed: Vec::new(),
        }
    }

    /// Begins a segment whose first sample has index `start` on the channel's time axis.
    /// What an unfinished segment still held is dropped.
    pub fn begin(&mut self, start: u64) {
        self.buffer.clear();
        self.filtered = 0;
        self.recent.clear();
        self.running = false;
        self.position = start;
    }

    /// Takes the next samples of the segment; `out` gets the filtered ones, in order.
    pub fn push(&mut self, mut samples: &[f32], out: &mut impl FnMut(&[f64])) {
        loop {
            let hop = self.hop_length();
            let needed = (hop + self.look_ahead).max(self.padding + 1);
            let missing = needed.saturating_sub(self.buffer.len());
            let (now, rest) = samples.split_at(samples.len().min(missing));
            self.buffer.extend(now.iter().map(|&x| f64::from(x)));
            samples = rest;
            if self.buffer.len() < needed {
                return;
            }
            self.run_forward(self.padding);
            self.release(hop, out);
        }
    }

    /// Ends the segment: extends it as `filtfilt` does and releases what is left of it.
    pub fn finish(&mut self, out: &mut impl FnMut(&[f64])) {
        let length = self.buffer.len();
        if length == 0 {
            return;
        }
        let padding = if self.running { self.padding } else { self.padding.min(length - 1) };
        self.run_forward(padding);
        let newest = self.recent.len() - 1;
        let last = self.recent[newest];
        self.buffer.extend((1..=padding).map(|i| 2.0 * last - self.recent[newest - i]));
        self.forward.run(&mut self.buffer[length..]);
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

    /// Runs the forward pass to the end of `buffer`; a segment's first run begins with the odd
    /// extension by `padding` samples.
    fn run_forward(&mut self, padding: usize) {
        if !self.running {
            let first = self.buffer[0];
            self.reversed.clear();
            self.reversed.extend((1..=padding).rev().map(|i| 2.0 * first - self.buffer[i]));
            self.forward.settle(*self.reversed.first().unwrap_or(&first));
            self.forward.run(&mut self.reversed);
            self.running = true;
        }
        let raw = &mut self.buffer[self.filtered..];
        let kept = self.padding + 1;
        let replaced = (self.recent.len() + raw.len()).saturating_sub(kept);
        self.recent.drain(..replaced.min(self.recent.len()));
        self.recent.extend_from_slice(&raw[raw.len().saturating_sub(kept)..]);
        self.forward.run(raw);
        self.filtered = self.buffer.len();
    }

    /// Filters backward from the end of `buffer` and hands out its first `count` samples.
    fn release(&mut self, count: usize, out: &mut impl FnMut(&[f64])) {
        self.reversed.clear();
        self.reversed.extend(self.buffer.iter().rev());
        self.backward.settle(self.reversed[0]);
        self.backward.run(&mut self.reversed);
        let wanted = self.reversed.len() - count;
        let released = &mut self.reversed[wanted..];
        released.reverse();
        out(released);
        self.buffer.drain(..count);
        self.filtered = self.buffer.len();
        self.position += count as u64;
        self.forward.drop_negligible();
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
