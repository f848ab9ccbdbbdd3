//! Clocks: the host's monotonic one, and the line that leads from a device's ticks to it. The line
//! is fitted from time exchanges in NTP's manner and decides where samples lie; UTC is read for
//! the log alone, so a step of it moves nothing. Plain data, owned by the links' thread.

use std::collections::VecDeque;
use std::time::Instant;

/// Seconds of the session's host clock.
pub type HostSeconds = f64;

/// Exchanges that are kept, at most: twenty minutes of one every five seconds. Crystals wander with
/// the room's temperature, so older ones would bend the line.
const EXCHANGES: usize = 240;
/// What is believed of a crystal before it is measured: its drift is of this order.
const PRIOR_DRIFT: f64 = 100e-6;
/// No exchange is more exact than this, seconds: threads are scheduled.
const SMALLEST_ERROR_S: f64 = 20e-6;
/// Time replies that make a fit usable, and how long to wait for them before arrivals are used.
const ENOUGH_EXCHANGES: usize = 3;
const WAIT_FOR_REPLIES_S: f64 = 2.0;
/// An exchange further off than its round trip and this, seconds, is a stray; so many in a row, and
/// the clock has stepped.
const STEP_S: f64 = 0.25;
const STRAYS: u32 = 3;
/// Arrivals are thinned to the quickest in each stretch of this length, seconds.
const ARRIVAL_STRETCH_S: f64 = 10.0;

/// The host's monotonic clock, in seconds since the session's process began. With a speed other
/// than 1 it runs faster, for simulated sensors that do so too.
#[derive(Debug, Clone, Copy)]
pub struct HostClock {
    origin: Instant,
    speed: f64,
}

impl HostClock {
    /// Starts at 0 and runs at `speed` times real time.
    pub fn start(speed: f64) -> Self {
        Self { origin: Instant::now(), speed }
    }

    /// Now.
    pub fn now_s(&self) -> HostSeconds {
        self.origin.elapsed().as_secs_f64() * self.speed
    }

    /// How many of its seconds pass in one real second.
    pub fn speed(&self) -> f64 {
        self.speed
    }
}

/// One point of the fit: a moment on both clocks, and how exactly they were compared.
#[derive(Debug, Clone, Copy)]
struct Point {
    device_s: f64,
    host_s: HostSeconds,
    /// Round trip of an exchange; for an arrival what it was later than the quickest one.
    spread_s: f64,
}

/// Offset and drift of one device's clock in one of its sessions.
#[derive(Debug, Clone)]
pub struct ClockFit {
    tick_hz: f64,
    exchanges: VecDeque<Point>,
    arrivals: VecDeque<Point>,
    first_arrival_s: Option<HostSeconds>,
    line: Option<Line>,
    /// Exchanges in a row that lie far off the line.
    strays: u32,
}

/// `host = host_s + (1 + drift) (device - device_s)`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    device_s: f64,
    host_s: HostSeconds,
    /// Host seconds in a device second, less 1.
    drift: f64,
    uncertainty_s: f64,
}

impl ClockFit {
    /// Nothing known yet of a clock of nominally `tick_hz` ticks a second.
    pub fn new(tick_hz: u32) -> Self {
        Self {
            tick_hz: f64::from(tick_hz.max(1)),
            exchanges: VecDeque::new(),
            arrivals: VecDeque::new(),
            first_arrival_s: None,
            line: None,
            strays: 0,
        }
    }

    /// Takes a time exchange: request sent and reply received by the host's clock, and the two
    /// ticks of the reply. Impossible ones (a reply before its request) are left out.
    pub fn exchange(&mut self, sent_s: HostSeconds, ticks: (u64, u64), received_s: HostSeconds) {
        let (received_tick, sent_tick) = ticks;
        let (arrived, replied) = (self.device_s(received_tick), self.device_s(sent_tick));
        let round_trip_s = (received_s - sent_s) - (replied - arrived);
        if received_s < sent_s || replied < arrived || round_trip_s < -1e-3 {
            return;
        }
        // One clock was set or stood still: the line begins anew, once that is certain.
        let off_s =
            self.host_s(received_tick).map_or(0.0, |s| (s - 0.5 * (sent_s + received_s)).abs());
        self.strays = if off_s > round_trip_s + STEP_S { self.strays + 1 } else { 0 };
        if self.strays >= STRAYS {
            self.exchanges.clear();
            self.arrivals.clear();
        } else if self.strays > 0 {
            return;
        }
        if self.exchanges.len() == EXCHANGES {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back(Point {
            device_s: 0.5 * (arrived + replied),
            host_s: 0.5 * (sent_s + received_s),
            spread_s: round_trip_s.max(0.0),
        });
        self.fit();
    }

    /// Notes when something that the device sampled at `tick` arrived: all there is to go by for a
    /// device that does not answer. The quickest arrivals count, so what is left is the link's
    /// shortest delay.
    pub fn arrival(&mut self, tick: u64, arrived_s: HostSeconds) {
        self.first_arrival_s.get_or_insert(arrived_s);
        // What a stalled link brings late weighs less.
        let spread_s = self.host_s(tick).map_or(0.0, |at_s| (arrived_s - at_s).max(0.0));
        let point = Point { device_s: self.device_s(tick), host_s: arrived_s, spread_s };
        let delay = |p: &Point| p.host_s - p.device_s;
        match self.arrivals.back_mut() {
            Some(last) if (last.device_s - point.device_s).abs() < ARRIVAL_STRETCH_S => {
                if delay(&point) < delay(last) {
                    *last = point;
                }
            }
            _ => {
                if self.arrivals.len() == EXCHANGES {
                    self.arrivals.pop_front();
                }
                self.arrivals.push_back(point);
            }
        }
        if self.exchanges.is_empty() {
            self.fit();
        }
    }

    /// The clocks were compared often enough, or long enough waited for that.
    pub fn is_usable(&self, now_s: HostSeconds) -> bool {
        let waited = self.first_arrival_s.is_some_and(|first| now_s - first > WAIT_FOR_REPLIES_S);
        self.exchanges.len() >= ENOUGH_EXCHANGES || (self.line.is_some() && waited)
    }

    /// A tick on the host's clock; `None` before anything is known.
    pub fn host_s(&self, tick: u64) -> Option<HostSeconds> {
        let line = self.line?;
        Some(line.host_s + (1.0 + line.drift) * (self.device_s(tick) - line.device_s))
    }

    /// Device seconds in which the host's clock counts one million seconds, less a million: how
    /// many parts per million the device is fast.
    pub fn fast_ppm(&self) -> Option<f64> {
        self.line.map(|line| (1.0 / (1.0 + line.drift) - 1.0) * 1e6)
    }

    /// How far the fit may be off, seconds: half the shortest round trip.
    pub fn uncertainty_s(&self) -> f64 {
        self.line.map_or(f64::INFINITY, |line| line.uncertainty_s)
    }

    /// Median round trip of the exchanges, seconds; `None` for a device that does not answer.
    pub fn round_trip_s(&self) -> Option<f64> {
        median(self.exchanges.iter().map(|p| p.spread_s))
    }

    /// Ticks of this clock in `seconds`.
    pub fn ticks(&self, seconds: f64) -> u64 {
        (seconds * self.tick_hz) as u64
    }

    fn device_s(&self, tick: u64) -> f64 {
        tick as f64 / self.tick_hz
    }

    /// Least squares over the exchanges whose round trip is not longer than the median, the quicker
    /// ones weighing more, with a prior on the drift that a minute of measuring outweighs.
    fn fit(&mut self) {
        let points = if self.exchanges.is_empty() { &self.arrivals } else { &self.exchanges };
        let Some(limit) = median(points.iter().map(|p| p.spread_s)) else { return };
        let shortest = points.iter().map(|p| p.spread_s).fold(f64::INFINITY, f64::min);
        // What an exchange may be off: half of what it took longer than the quickest, and a part of
        // the quickest itself.
        let error_s = |p: &Point| 0.5 * (p.spread_s - shortest) + 0.1 * shortest + SMALLEST_ERROR_S;
        let good = || {
            let good = points.iter().filter(|p| p.spread_s <= limit);
            good.map(|p| (p, error_s(p).powi(-2)))
        };
        // Around the first point, so that hours do not cost digits of the difference.
        let Some(origin) = good().next().map(|(p, _)| p.host_s - p.device_s) else { return };
        let excess = |p: &Point| p.host_s - p.device_s - origin;
        let total: f64 = good().map(|(_, weight)| weight).sum();
        let device_s = good().map(|(p, weight)| weight * p.device_s).sum::<f64>() / total;
        let mean_excess = good().map(|(p, weight)| weight * excess(p)).sum::<f64>() / total;
        let (mut sxx, mut sxy) = (0.0, 0.0);
        for (point, weight) in good() {
            let x = point.device_s - device_s;
            sxx += weight * x * x;
            sxy += weight * x * (excess(point) - mean_excess);
        }
        self.line = Some(Line {
            device_s,
            host_s: device_s + origin + mean_excess,
            drift: sxy / (sxx + PRIOR_DRIFT.powi(-2)),
            uncertainty_s: (0.5 * shortest).max(SMALLEST_ERROR_S),
        });
    }
}

/// The middle one (of an even number the lower); `None` of none.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    let middle = values.len().checked_sub(1)? / 2;
    let (_, median, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*median)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// A device `fast_ppm` fast that booted at host time 100 s, behind a link with delays of
    /// `delay_s` and more.
    struct Peer {
        fast_ppm: f64,
        delay_s: f64,
        jitter_s: f64,
        random: ChaCha8Rng,
    }

    impl Peer {
        fn new(fast_ppm: f64, delay_s: f64, jitter_s: f64) -> Self {
            Self { fast_ppm, delay_s, jitter_s, random: ChaCha8Rng::seed_from_u64(3) }
        }

        fn tick(&self, host_s: f64) -> u64 {
            ((host_s - 100.0) * (1.0 + self.fast_ppm * 1e-6) * 1e6).round() as u64
        }

        fn delay_s(&mut self) -> f64 {
            self.delay_s - self.jitter_s * self.random.random::<f64>().max(1e-9).ln()
        }

        fn exchange(&mut self, fit: &mut ClockFit, at_s: f64) {
            let arrived = at_s + self.delay_s();
            let replied = arrived + 0.0005;
            let back = replied + self.delay_s();
            fit.exchange(at_s, (self.tick(arrived), self.tick(replied)), back);
        }
    }

    #[test]
    fn a_clock_200_ppm_fast_is_followed_within_5_ms_for_8_hours() {
        let mut peer = Peer::new(200.0, 0.002, 0.003);
        let mut fit = ClockFit::new(1_000_000);
        let mut worst: f64 = 0.0;
        for second in 0..8 * 3600 {
            let at_s = 100.0 + f64::from(second);
            if second < 15 {
                peer.exchange(&mut fit, at_s - 0.5);
            }
            if second < 15 || second % 5 == 0 {
                peer.exchange(&mut fit, at_s);
            }
            if second >= 2 {
                let found = fit.host_s(peer.tick(at_s)).expect("exchanges were made");
                worst = worst.max((found - at_s).abs());
            }
        }
        assert!(worst < 0.005, "{worst}");
        let fast_ppm = fit.fast_ppm().expect("a fit");
        assert!((fast_ppm - 200.0).abs() < 2.0, "{fast_ppm}");
    }

    #[test]
    fn a_device_that_does_not_answer_is_late_by_its_shortest_delay() {
        let mut peer = Peer::new(-50.0, 0.010, 0.020);
        let mut fit = ClockFit::new(1_000_000);
        for block in 0..20_000 {
            let at_s = 100.0 + f64::from(block) * 0.1;
            let delay_s = peer.delay_s();
            fit.arrival(peer.tick(at_s), at_s + delay_s);
        }
        assert!(fit.is_usable(200.0) && !ClockFit::new(1000).is_usable(200.0));
        let late_s = fit.host_s(peer.tick(2000.0)).expect("a fit") - 2000.0;
        assert!((0.009..0.016).contains(&late_s), "{late_s}");
        assert!((fit.fast_ppm().expect("a fit") + 50.0).abs() < 3.0, "{:?}", fit.fast_ppm());
    }

    #[test]
    fn a_clock_that_was_set_is_followed_after_a_few_exchanges() {
        let mut peer = Peer::new(20.0, 0.002, 0.001);
        let mut fit = ClockFit::new(1_000_000);
        (0..100).for_each(|k| peer.exchange(&mut fit, 100.0 + f64::from(k)));
        let stepped = |peer: &Peer, host_s: f64| peer.tick(host_s + 10.0);
        for k in 100..100 + STRAYS + 5 {
            let at_s = 100.0 + f64::from(k);
            let ticks = (stepped(&peer, at_s + 0.002), stepped(&peer, at_s + 0.002));
            fit.exchange(at_s, ticks, at_s + 0.004);
            if k < 100 + STRAYS - 1 {
                // Not certain yet: one stray moves nothing.
                let found = fit.host_s(peer.tick(at_s)).expect("a fit");
                assert!((found - at_s).abs() < 0.005, "{found} at {at_s}");
            }
        }
        let found = fit.host_s(stepped(&peer, 300.0)).expect("a fit");
        assert!((found - 300.0).abs() < 0.02, "{found}");
    }

    #[test]
    fn a_reply_before_its_request_is_left_out() {
        let mut fit = ClockFit::new(1000);
        fit.exchange(5.0, (1000, 1000), 4.0);
        fit.exchange(5.0, (2000, 1000), 6.0);
        fit.exchange(5.0, (1000, 9000), 6.0);
        assert_eq!(fit.host_s(0), None);
    }
}
