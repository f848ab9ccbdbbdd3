//! One channel's ordered samples on the session's time axis. Its counters and the axis differ by a
//! whole number, the shift. Where the device's clock drifts away from the session's, one sample is
//! left out or written twice, never more at a time and never altered: EDF knows one rate a channel.
//! Decides for good what lies where, so what comes behind that is late.

use super::ledger::SampleLedger;
use super::reassembly::Run;
use crate::signal::DigitalBlock;

/// Misalignment that is corrected, in samples and in seconds, whichever is more: half a sample is
/// the grid's own, and a correction for less than 2.5 ms would follow the link's jitter.
const CORRECTED_SAMPLES: f64 = 0.55;
const CORRECTED_S: f64 = 0.0025;
/// Misalignment beyond this is no drift: the device's clock has jumped, seconds.
const JUMP_S: f64 = 0.5;

/// A device's clock went somewhere else by so many seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClockJump(pub f64);

/// Places one channel's runs.
#[derive(Debug, Clone)]
pub struct Alignment {
    channel: usize,
    rate_hz: f64,
    /// Slot of counter 0 in this session of the device.
    shift: Option<i64>,
    /// Everything before this slot is decided.
    decided: u64,
    last: Option<i32>,
}

impl Alignment {
    /// For channel `channel` of the session, of nominally `rate_hz`, from slot `first` on.
    pub fn new(channel: usize, rate_hz: f64, first: u64) -> Self {
        Self { channel, rate_hz, shift: None, decided: first, last: None }
    }

    /// The first slot that is not decided.
    pub fn decided(&self) -> u64 {
        self.decided
    }

    /// Nominal rate, Hz.
    pub fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    /// The device counts from 0 again.
    pub fn restart(&mut self) {
        self.shift = None;
        self.last = None;
    }

    /// Places a run whose first sample was taken `at_s` seconds after the session's start, as the
    /// clock fit has it, with an uncertainty of `uncertainty_s`.
    pub fn place(
        &mut self,
        run: &Run,
        (at_s, uncertainty_s): (f64, f64),
        ledger: &mut SampleLedger,
        out: &mut impl FnMut(DigitalBlock),
    ) -> Option<ClockJump> {
        let counter = run.counter as i64;
        let wanted = at_s * self.rate_hz - run.counter as f64;
        let mut jump = None;
        let mut samples = run.samples.as_slice();
        let mut repeated = None;
        let mut skipped = 0;
        let shift = match self.shift {
            None => wanted.round() as i64,
            Some(shift) => {
                let off = wanted - shift as f64;
                let tolerated = CORRECTED_SAMPLES
                    .max(CORRECTED_S * self.rate_hz)
                    .max(uncertainty_s * self.rate_hz);
                if off.abs() > (JUMP_S * self.rate_hz).max(4.0 * tolerated) {
                    jump = Some(ClockJump(off / self.rate_hz));
                    shift + off.round() as i64
                } else if off > tolerated {
                    repeated = self.last;
                    shift + i64::from(repeated.is_some())
                } else if off < -tolerated && !samples.is_empty() {
                    skipped = 1;
                    shift - 1
                } else {
                    shift
                }
            }
        };
        self.shift = Some(shift);
        ledger.clock_dropped += skipped;
        samples = samples.get(skipped as usize..).unwrap_or_default();
        let mut start = counter + shift + skipped as i64;
        let mut block = DigitalBlock { channel: self.channel, start: 0, samples: Vec::new() };
        if let Some(last) = repeated {
            start -= 1;
            block.samples.push(last);
        }
        block.samples.extend_from_slice(samples);
        self.last = samples.last().copied().or(self.last);
        let passed = (self.decided as i64 - start).clamp(0, block.samples.len() as i64) as u64;
        let copies = u64::from(repeated.is_some());
        // The repeated sample is in front: it is what is passed first.
        let late = passed.saturating_sub(copies);
        ledger.late += late;
        ledger.lost += late;
        ledger.clock_repeated += copies.saturating_sub(passed);
        block.samples.drain(..passed as usize);
        ledger.placed += block.samples.len() as u64;
        if block.samples.is_empty() {
            return jump;
        }
        block.start = (start + passed as i64) as u64;
        self.decided = block.start + block.samples.len() as u64;
        out(block);
        jump
    }

    /// Nothing before `slot` will come.
    pub fn give_up_before(&mut self, slot: u64, out: &mut impl FnMut(DigitalBlock)) {
        if slot > self.decided {
            self.decided = slot;
            out(DigitalBlock { channel: self.channel, start: slot, samples: Vec::new() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(counter: u64, samples: u64) -> Run {
        Run { counter, tick: 0, samples: (counter..counter + samples).map(|v| v as i32).collect() }
    }

    /// Places blocks of 0.1 s from a device `fast_ppm` fast for `seconds`; what lies on the axis.
    fn played(rate_hz: f64, fast_ppm: f64, seconds: f64) -> (Vec<Option<i32>>, SampleLedger) {
        let mut alignment = Alignment::new(0, rate_hz, 0);
        let mut ledger = SampleLedger::default();
        let mut axis = Vec::new();
        let block = (rate_hz / 10.0) as u64;
        let device_rate_hz = rate_hz * (1.0 + fast_ppm * 1e-6);
        let mut counter = 0;
        while (counter as f64) < seconds * device_rate_hz {
            let at_s = counter as f64 / device_rate_hz;
            let jump = alignment.place(&run(counter, block), (at_s, 0.0), &mut ledger, &mut |b| {
                assert!(b.start as usize >= axis.len());
                axis.resize(b.start as usize, None);
                axis.extend(b.samples.iter().map(|&v| Some(v)));
            });
            assert_eq!(jump, None);
            counter += block;
        }
        (axis, ledger)
    }

    #[test]
    fn eight_hours_of_drift_stay_within_5_ms() {
        for (rate_hz, fast_ppm) in [(256.0, 200.0), (256.0, -200.0), (200.0, 35.0), (512.0, -80.0)]
        {
            let (axis, ledger) = played(rate_hz, fast_ppm, 28_800.0);
            let device_rate_hz = rate_hz * (1.0 + fast_ppm * 1e-6);
            let mut worst: f64 = 0.0;
            for (slot, value) in axis.iter().enumerate() {
                let value = value.expect("no holes");
                worst =
                    worst.max((f64::from(value) / device_rate_hz - slot as f64 / rate_hz).abs());
            }
            assert!(worst <= 0.005, "{worst} at {rate_hz} Hz, {fast_ppm} ppm");
            let slips = (28_800.0 * rate_hz * fast_ppm.abs() * 1e-6) as u64;
            let made = ledger.clock_dropped + ledger.clock_repeated;
            assert!(made.abs_diff(slips) <= 2, "{made} of {slips}");
            let sent = ledger.placed + ledger.clock_dropped - ledger.clock_repeated;
            assert_eq!(sent % (rate_hz / 10.0) as u64, 0);
        }
    }

    #[test]
    fn what_comes_behind_a_decision_is_late() {
        let mut alignment = Alignment::new(3, 100.0, 0);
        let mut ledger = SampleLedger::default();
        let mut blocks = Vec::new();
        alignment.place(&run(0, 10), (0.0, 0.0), &mut ledger, &mut |b| blocks.push(b));
        alignment.give_up_before(55, &mut |b| blocks.push(b));
        alignment.give_up_before(40, &mut |b| blocks.push(b));
        alignment.place(&run(50, 10), (0.5, 0.0), &mut ledger, &mut |b| blocks.push(b));
        let placed: Vec<_> = blocks.iter().map(|b| (b.channel, b.start, b.samples.len())).collect();
        assert_eq!(placed, [(3, 0, 10), (3, 55, 0), (3, 55, 5)]);
        assert_eq!(blocks[2].samples, [55, 56, 57, 58, 59]);
        assert_eq!((ledger.placed, ledger.late, ledger.lost), (15, 5, 5));
    }

    #[test]
    fn a_jump_of_the_clock_is_told_and_leaves_a_hole() {
        let mut alignment = Alignment::new(0, 100.0, 0);
        let mut ledger = SampleLedger::default();
        let mut blocks = Vec::new();
        alignment.place(&run(0, 10), (0.0, 0.0), &mut ledger, &mut |b| blocks.push(b));
        let jump = alignment.place(&run(10, 10), (3.1, 0.0), &mut ledger, &mut |b| blocks.push(b));
        assert!(jump.is_some_and(|ClockJump(s)| (s - 3.0).abs() < 1e-9));
        assert_eq!(blocks[1].start, 310);
        // A device that starts again continues on the axis.
        alignment.restart();
        alignment.place(&run(0, 10), (10.0, 0.0), &mut ledger, &mut |b| blocks.push(b));
        assert_eq!((blocks[2].start, blocks[2].samples[0]), (1000, 0));
    }
}
