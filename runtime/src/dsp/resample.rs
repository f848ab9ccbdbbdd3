//! Linear interpolation of one channel onto the network's time grid, point j at j / grid Hz
//! from the recording's start: `numpy.interp` over every segment, in a stream. Between the last
//! sample and the end of a segment its value is held; outside of segments there is no output.

/// Resampler of one channel.
#[derive(Debug, Clone)]
pub struct Resampler {
    rate_hz: f64,
    grid_hz: f64,
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
        Self { rate_hz, grid_hz, next: 0, position: 0, last: 0.0, output: Vec::new() }
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
        let mut grid = (index as f64 * self.grid_hz / self.rate_hz).ceil() as u64;
        while grid > 0 && self.place(grid - 1) >= index as f64 {
            grid -= 1;
        }
        while self.place(grid) < index as f64 {
            grid += 1;
        }
        grid
    }

    /// Place of a grid point on the channel's axis, in samples. Multiplied before divided: exact
    /// for whole rates.
    #[inline(always)]
    fn place(&self, grid: u64) -> f64 {
        grid as f64 * self.rate_hz / self.grid_hz
    }

    /// Takes the next samples; `out` gets the first grid index and the values from there on.
    /// At equal rates samples pass unchanged.
    pub fn push<T: Copy + Into<f64>>(&mut self, samples: &[T], out: &mut impl FnMut(u64, &[f32])) {
        let Some(&newest) = samples.last() else { return };
        self.output.clear();
        let first = self.next;
        let base = self.position;
        let end = base + samples.len() as u64;
        loop {
            let place = self.place(self.next);
            let index = place as i64 as u64;
            let fraction = place - index as f64;
            let needed = if fraction > 0.0 { index + 1 } else { index };
            if needed >= end {
                break;
            }
            let low =
                if index < base { self.last } else { samples[(index - base) as usize].into() };
            let value = if fraction > 0.0 {
                low + fraction * (samples[(needed - base) as usize].into() - low)
            } else {
                low
            };
            self.output.push(value as f32);
            self.next += 1;
        }
        self.position = end;
        self.last = newest.into();
        if !self.output.is_empty() {
            out(first, &self.output);
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
