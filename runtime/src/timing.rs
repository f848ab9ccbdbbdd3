//! Where the time goes, for `--timings` and `/metrics`. Written by any thread, read at the end; no
//! part of any result depends on it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A step of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading and decoding the file, on the source's thread.
    Source,
    /// Filter and resampling.
    Condition,
    /// Tokenizer.
    Tokenizer,
    /// Channel pooling.
    Pool,
    /// Window encoder.
    Encoder,
    /// Staging head.
    Staging,
    /// Risk head.
    Risk,
    /// Apnea head.
    Apnea,
}

impl Step {
    /// All steps in the order of the data.
    pub const ALL: [Step; 8] = [
        Step::Source,
        Step::Condition,
        Step::Tokenizer,
        Step::Pool,
        Step::Encoder,
        Step::Staging,
        Step::Risk,
        Step::Apnea,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Step::Source => "read and decode",
            Step::Condition => "filter and resample",
            Step::Tokenizer => "tokenizer",
            Step::Pool => "channel pooling",
            Step::Encoder => "window encoder",
            Step::Staging => "staging head",
            Step::Risk => "risk head",
            Step::Apnea => "apnea head",
        }
    }
}

/// Takes the duration of every run of a step, from any thread.
pub trait StepMeter: Send + Sync {
    /// One run of `step` took this long.
    fn record(&self, step: Step, duration: Duration);
}

/// Time spent in each step, summed over threads, and the latency of epochs.
#[derive(Default)]
pub struct Timings {
    nanos: [AtomicU64; Step::ALL.len()],
    epoch_latencies: Mutex<Vec<Duration>>,
    meter: Option<Box<dyn StepMeter>>,
}

impl Timings {
    /// The same, which also gives every duration to `meter`.
    pub fn metered(meter: impl StepMeter + 'static) -> Self {
        Self { meter: Some(Box::new(meter)), ..Self::default() }
    }

    /// Runs `work` and adds its duration to `step`.
    pub fn measure<T>(&self, step: Step, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = work();
        let duration = begin.elapsed();
        self.nanos[step as usize].fetch_add(duration.as_nanos() as u64, Ordering::Relaxed);
        if let Some(meter) = &self.meter {
            meter.record(step, duration);
        }
        result
    }

    /// Time in `step` so far, summed over threads.
    pub fn total(&self, step: Step) -> Duration {
        Duration::from_nanos(self.nanos[step as usize].load(Ordering::Relaxed))
    }

    /// Notes the time an epoch took: from its last sample's leaving the ring to its event.
    pub fn epoch_latency(&self, latency: Duration) {
        self.epoch_latencies.lock().unwrap_or_else(PoisonError::into_inner).push(latency);
    }

    /// The latency that part `quantile` of the epochs does not exceed.
    pub fn latency_quantile(&self, quantile: f64) -> Option<Duration> {
        let mut sorted =
            self.epoch_latencies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sorted.sort_unstable();
        let index = ((sorted.len() as f64 * quantile).ceil() as usize).max(1) - 1;
        sorted.get(index).copied()
    }

    /// A table of steps, seconds and shares; thread time, so the sum may exceed `wall`.
    pub fn table(&self, wall: Duration) -> String {
        let sum: f64 = Step::ALL.iter().map(|&s| self.total(s).as_secs_f64()).sum();
        let mut text = String::from("Where the time went (thread time)\n");
        for step in Step::ALL {
            let seconds = self.total(step).as_secs_f64();
            let share = if sum > 0.0 { 100.0 * seconds / sum } else { 0.0 };
            text += &format!("  {:<20} {seconds:>8.2} s {share:>5.1} %\n", step.as_str());
        }
        text += &format!("  {:<20} {sum:>8.2} s, wall clock {:.2} s\n", "sum", wall.as_secs_f64());
        if let (Some(median), Some(p99)) = (self.latency_quantile(0.5), self.latency_quantile(0.99))
        {
            text += &format!(
                "  live epoch, its last sample drained to its event: median {:.1} ms, 99th percentile {:.1} ms\n",
                median.as_secs_f64() * 1e3,
                p99.as_secs_f64() * 1e3
            );
        }
        text
    }
}
