//! What links refuse: counted where it happens, whatever thread that is, and told by the links'
//! thread: a line a minute and kind, a metric, and the process' health while sensors may be
//! among what is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::event::SessionEvent;
use super::types::Refused;
use crate::health::{Beds, Status};
use crate::telemetry::RefusalMeter;

/// Between two lines of one kind; and so long nothing was refused when all is well again.
const MINUTE: Duration = Duration::from_secs(60);

/// The counts of a process.
pub struct Refusals {
    counts: [AtomicU64; Refused::ALL.len()],
    meter: RefusalMeter,
}

impl Default for Refusals {
    fn default() -> Self {
        let meter = RefusalMeter::new(&Refused::ALL.map(Refused::as_str));
        Self { counts: Default::default(), meter }
    }
}

impl Refusals {
    /// So many more.
    pub fn count(&self, kind: Refused, number: u64) {
        if let Some(count) = self.counts.get(kind as usize) {
            count.fetch_add(number, Ordering::Relaxed);
        }
        self.meter.refused(kind as usize, number);
    }

    fn all(&self) -> [u64; Refused::ALL.len()] {
        std::array::from_fn(|kind| {
            self.counts.get(kind).map_or(0, |count| count.load(Ordering::Relaxed))
        })
    }
}

/// Tells of the counts. Owned by the links' thread.
pub struct RefusalWatch {
    refusals: Arc<Refusals>,
    health: Option<Arc<Beds>>,
    /// As of the last look.
    seen: [u64; Refused::ALL.len()],
    /// As of the last line of each kind, and when that was.
    told: [(u64, Option<Instant>); Refused::ALL.len()],
    /// When the condition began, as counts, and when something was last refused.
    harm: Option<([u64; Refused::ALL.len()], Instant)>,
}

impl RefusalWatch {
    /// Tells `health`, where there is one.
    pub fn new(refusals: Arc<Refusals>, health: Option<Arc<Beds>>) -> Self {
        let counts = Default::default();
        Self { refusals, health, seen: counts, told: Default::default(), harm: None }
    }

    /// Looks at the counts: lines for the log that are due. `at_end`: all that are left.
    pub fn look(&mut self, now: Instant, at_end: bool) -> Vec<SessionEvent> {
        let counts = self.refusals.all();
        self.judge(&counts, now);
        self.seen = counts;
        let mut lines = Vec::new();
        for ((kind, count), told) in Refused::ALL.into_iter().zip(counts).zip(&mut self.told) {
            let is_due = at_end
                || match told.1 {
                    Some(last) => now.saturating_duration_since(last) >= MINUTE,
                    // Harm is told at once, the rest can wait for a minute's count.
                    None if kind.is_harm() => true,
                    None => {
                        told.1 = Some(now).filter(|_| count > told.0);
                        false
                    }
                };
            if !is_due {
                continue;
            }
            let new = count - told.0;
            // After a quiet minute the next one is told at once.
            *told = (count, Some(now).filter(|_| new > 0));
            if new > 0 {
                lines.push(SessionEvent::Refused { kind, count: new });
            }
        }
        lines
    }

    /// Sets or clears the process' condition.
    fn judge(&mut self, counts: &[u64; Refused::ALL.len()], now: Instant) {
        let harmed = |kind: Refused| {
            let (now, seen) = (counts.get(kind as usize), self.seen.get(kind as usize));
            kind.is_harm() && kind != Refused::NoBed && now > seen
        };
        if Refused::ALL.into_iter().any(harmed) {
            let since = self.harm.map_or(self.seen, |(since, _)| since);
            self.harm = Some((since, now));
            let numbers: Vec<String> = Refused::ALL
                .into_iter()
                .zip(counts.iter().zip(&since))
                .filter(|(kind, (now, since))| kind.is_harm() && now > since)
                .map(|(kind, (now, since))| format!("{} {}", now - since, kind.what()))
                .collect();
            let reason = format!("links refuse what comes: {}", numbers.join(", "));
            self.condition(Some((Status::Degraded, reason)));
        } else if self.harm.is_some_and(|(_, last)| now.saturating_duration_since(last) >= MINUTE) {
            self.harm = None;
            self.condition(None);
        }
    }

    fn condition(&self, condition: Option<(Status, String)>) {
        if let Some(health) = &self.health {
            health.condition("links", condition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Limits;

    struct Bench {
        refusals: Arc<Refusals>,
        health: Arc<Beds>,
        watch: RefusalWatch,
        begin: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let (refusals, health) =
                (Arc::<Refusals>::default(), Arc::new(Beds::new(Limits::default())));
            let watch = RefusalWatch::new(refusals.clone(), Some(health.clone()));
            Self { refusals, health, watch, begin: Instant::now() }
        }

        /// Lines at `second`, as kind and count, and the status.
        fn look(&mut self, second: u64) -> (Vec<(Refused, u64)>, Status) {
            let lines = self.watch.look(self.begin + Duration::from_secs(second), false);
            let lines = lines
                .into_iter()
                .map(|line| match line {
                    SessionEvent::Refused { kind, count } => (kind, count),
                    other => panic!("{other:?}"),
                })
                .collect();
            (lines, self.health.report().status)
        }
    }

    #[test]
    fn strangers_are_a_line_a_minute_and_no_trouble() {
        let mut bench = Bench::new();
        let mut lines = Vec::new();
        for second in 0..300 {
            bench.refusals.count(Refused::NoHello, 7700);
            let (new, status) = bench.look(second);
            lines.extend(new);
            assert_eq!(status, Status::Ok);
        }
        assert!((4..=5).contains(&lines.len()), "{lines:?}");
        let rest = bench.watch.look(bench.begin + Duration::from_secs(300), true);
        let rest: u64 = rest
            .iter()
            .map(|line| match line {
                SessionEvent::Refused { count, .. } => *count,
                _ => 0,
            })
            .sum();
        assert_eq!(lines.iter().map(|line| line.1).sum::<u64>() + rest, 300 * 7700);
    }

    #[test]
    fn what_may_be_a_sensor_degrades_health_until_a_minute_after() {
        let mut bench = Bench::new();
        assert_eq!(bench.look(0), (vec![], Status::Ok));
        bench.refusals.count(Refused::NoRoom, 2);
        assert_eq!(bench.look(1), (vec![(Refused::NoRoom, 2)], Status::Degraded));
        let report = bench.health.report();
        assert!(report.reasons[0].contains("2 links too many"), "{report:?}");
        bench.refusals.count(Refused::NoRoom, 1);
        assert_eq!(bench.look(30), (vec![], Status::Degraded));
        assert_eq!(bench.look(61), (vec![(Refused::NoRoom, 1)], Status::Degraded));
        assert_eq!(bench.look(91), (vec![], Status::Ok));
    }
}
