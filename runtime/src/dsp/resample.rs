//! Linear interpolation of one channel onto the network's time grid, point j at j / grid Hz
//! from the recording's start: `numpy.interp` over every segment, in a stream. Between the last
//! sample and the end of a segment its value is held; outside of segments there is no output.

/// Resampler of one channel.
#[derive(Debug, Clone)]
pub struct Resampler {
    /// Samples per grid point.
    step: f64,
    /// Next grid point.
    next: u64,
    /// Index of the next sample.
    position: u64,
    /// The sample before it.
    last: f64,
    output: Vec<f32>,
}

impl Resampler {
    /// From `rate_hz` to `grid_hz`; both positive, the caller has checked.
    pub fn new(rate_hz: f64, grid_hz: f64) -> Self {
        Self { step: rate_hz / grid_hz, next: 0, position: 0, last: 0.0, output: Vec::new() }
    }

    /// Begins a segment whose first sample has index `start`.
    pub fn begin(&mut self, start: u64) {
        self.position = start;
        self.next = self.grid_at_or_after(start);
    }

    /// The next grid point to come out.
    pub fn next_grid(&self) -> u64 {
        self.next
    }

    /// First grid point that does not lie before sample `index`.
    pub fn grid_at_or_after(&self, index: u64) -> u64 {
        let mut grid = (index as f64 / self.step).ceil() as u64;
        while grid > 0 && self.place(grid - 1) >= index as f64 {
            grid -= 1;
        }
        while self.place(grid) < index as f64 {
            grid += 1;
        }
        grid
    }

    /// Sample `index` lies before grid point `grid`.
    pub fn is_before(&self, index: u64, grid: u64) -> bool {
        (index as f64) < self.place(grid)
    }

    /// Place of a grid point on the channel's axis, in samples.
    #[inline(always)]
    fn place(&self, grid: u64) -> f64 {
        grid as f64 * self.step
    }

    /// Takes the next samples; `out` gets the first grid index and the values from there on.
    /// At equal rates samples pass unchanged.
    pub fn push<T: Copy + Into<f64>>(&mut self, samples: &[T], out: &mut impl FnMut(u64, &[f32])) {
        let (Some(&first), Some(&newest)) = (samples.first(), samples.last()) else { return };
        let (base, end) = (self.position, self.position + samples.len() as u64);
        let (step, from) = (self.step, self.next);
        self.output.clear();
        // Between the samples before and these.
        while self.place(self.next) < base as f64 {
            let fraction = self.place(self.next) - (base - 1) as f64;
            self.output.push(interpolate(self.last, first.into(), fraction));
            self.next += 1;
        }
        if step == 1.0 {
            self.output.extend(samples.iter().map(|&x| x.into() as f32));
            self.next += samples.len() as u64;
        } else {
            let after = self.grid_at_or_after(end - 1);
            let stop = if self.place(after) > (end - 1) as f64 { after } else { after + 1 };
            self.output.extend((self.next..stop).map(|grid| {
                let place = grid as f64 * step;
                let index = place as i64 as u64;
                let at = (index - base) as usize;
                let low = samples[at].into();
                let high = samples.get(at + 1).map_or(low, |&x| x.into());
                interpolate(low, high, place - index as f64)
            }));
            self.next = stop.max(self.next);
        }
        self.position = end;
        self.last = newest.into();
        if !self.output.is_empty() {
            out(from, &self.output);
        }
    }

    /// Ends the segment: the last value holds up to its end.
    pub fn finish(&mut self, out: &mut impl FnMut(u64, &[f32])) {
        let first = self.next;
        let end = self.grid_at_or_after(self.position);
        self.output.clear();
        self.output.extend((first..end).map(|_| self.last as f32));
        self.next = end.max(first);
        if !self.output.is_empty() {
            out(first, &self.output);
        }
    }
}

#[inline(always)]
fn interpolate(low: f64, high: f64, fraction: f64) -> f32 {
    (low + fraction * (high - low)) as f32
}
