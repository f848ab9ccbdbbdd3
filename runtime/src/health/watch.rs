//! Whether what sensors send arrives: the age of the newest samples of a bed, by device and channel,
//! and what that means for its health. Ages are in the session's seconds and go on when nothing tells
//! of them any more, so that a thread that stands still is no good news. What this process did not
//! run for (stopped, suspended) does not count as silence.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Status;
use super::arrivals::{Arrivals, ChannelArrivals, DeviceArrivals};
use crate::text::escaped;
use crate::text::hex;

/// Longest time between two looks at [`RunningTime`] that counts as run; [`TICK`] is well below.
const LONGEST_TURN: Duration = Duration::from_millis(300);
/// How often the time that this process has run is to be looked at.
pub const TICK: Duration = Duration::from_millis(100);

/// Silence of a device or a channel, and of a whole bed: seconds of the session, and real seconds,
/// whichever is longer. Simulated sensors at a high speed are given the time that threads need.
const SILENT_S: (f64, f64) = (10.0, 0.5);
const NOTHING_S: (f64, f64) = (60.0, 1.5);
/// Real time without word from the links' thread.
const UNHEARD: Duration = Duration::from_secs(10);
const UNHEARD_FAILING: Duration = Duration::from_secs(60);

/// Channels that a reason names.
const MAX_NAMED: usize = 4;
/// Longest label in a reason, characters.
const MAX_LABEL: usize = 40;

/// For how long this process has run. Whatever looks at it keeps it going.
#[derive(Debug)]
pub(super) struct RunningTime(Mutex<(Instant, Duration)>);

impl Default for RunningTime {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), Duration::ZERO)))
    }
}

impl RunningTime {
    /// Now.
    pub fn now(&self) -> Duration {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now.saturating_duration_since(state.0);
        *state = (now, state.1 + passed.min(LONGEST_TURN));
        state.1
    }

    #[cfg(test)]
    pub fn advance(&self, by: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 += by;
    }
}

/// What was last told of a bed's arrivals, and when.
#[derive(Debug, Default)]
pub(super) struct Watch(Option<(Duration, Arrivals)>);

/// How things stand with a bed's arrivals.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// Everything as old as it is now.
    pub arrivals: Arrivals,
    /// Time since they were last reported.
    unheard: Duration,
}

impl Watch {
    /// Takes what is told at `now`.
    pub fn tell(&mut self, arrivals: Arrivals, now: Duration) {
        self.0 = Some((now, arrivals));
    }

    /// How things stand at `now`.
    pub fn standing(&self, now: Duration) -> Standing {
        let Some((told, arrivals)) = &self.0 else { return Standing::default() };
        let unheard = now.saturating_sub(*told);
        let passed_s = unheard.as_secs_f64() * arrivals.speed;
        let mut arrivals = arrivals.clone();
        arrivals.overdue_s = arrivals.overdue_s.map(|s| if s > 0.0 { s + passed_s } else { s });
        for device in &mut arrivals.devices {
            device.age_s += passed_s;
            device.channels.iter_mut().for_each(|channel| channel.age_s += passed_s);
        }
        Standing { arrivals, unheard }
    }
}

impl Standing {
    fn expected(&self) -> impl Iterator<Item = &DeviceArrivals> {
        self.arrivals.devices.iter().filter(|device| !device.has_ended)
    }

    /// Whether any device has come.
    pub fn has_come(&self) -> bool {
        self.arrivals.devices.iter().any(|device| device.has_come)
    }

    /// Devices of a session that was cut are expected, and none has come.
    pub fn waits(&self) -> bool {
        self.expected().next().is_some() && !self.has_come()
    }

    /// Seconds of the session since anything of the bed got its place; `None` where nothing is
    /// expected.
    pub fn age_s(&self) -> Option<f64> {
        self.expected().map(|device| device.age_s).reduce(f64::min)
    }

    /// What is wrong.
    pub fn reasons(&self) -> Vec<(Status, String)> {
        if self.expected().next().is_none() {
            return self.absent();
        }
        if self.unheard >= UNHEARD {
            let failing = self.unheard >= UNHEARD_FAILING;
            let status = if failing { Status::Failing } else { Status::Degraded };
            let seconds = self.unheard.as_secs();
            return vec![(status, format!("the links have not been looked after for {seconds} s"))];
        }
        let mut reasons: Vec<(Status, String)> =
            self.nothing().into_iter().map(|reason| (Status::Failing, reason)).collect();
        let silent = self.expected().filter_map(|device| self.silence(device));
        reasons.extend(silent.map(|reason| (Status::Degraded, reason)));
        reasons.extend(self.absent());
        reasons
    }

    /// Nothing arrives, or nothing of it is recorded.
    fn nothing(&self) -> Option<String> {
        if let Some(overdue_s) = self.arrivals.overdue_s.filter(|_| self.has_come()) {
            // Before the start a silent device keeps nobody's night.
            return (overdue_s >= self.limit_s(NOTHING_S, 0.0)).then(|| {
                format!("devices send, and recording has not begun for {overdue_s:.0} s")
            });
        }
        let blocks = self.expected().flat_map(|device| &device.channels).map(|c| c.block_s);
        let limit_s = self.limit_s(NOTHING_S, blocks.reduce(f64::min).unwrap_or_default());
        let age_s = self.age_s().filter(|age_s| *age_s >= limit_s)?;
        Some(format!("nothing has arrived for {age_s:.0} s"))
    }

    fn absent(&self) -> Vec<(Status, String)> {
        let (absent, here) = (self.arrivals.absent, self.arrivals.devices.len());
        let all = here + absent;
        let reason = format!("{here} of {all} expected devices have come");
        if absent == 0 { Vec::new() } else { vec![(Status::Degraded, reason)] }
    }

    /// A device or channel whose blocks are `block_s` long may be silent for so long.
    fn limit_s(&self, (session_s, real_s): (f64, f64), block_s: f64) -> f64 {
        session_s.max(real_s * self.arrivals.speed).max(2.0 * block_s)
    }

    /// Of a device that is silent, or some of its channels.
    fn silence(&self, device: &DeviceArrivals) -> Option<String> {
        let is_silent = |c: &&ChannelArrivals| c.age_s >= self.limit_s(SILENT_S, c.block_s);
        let silent: Vec<&ChannelArrivals> = device.channels.iter().filter(is_silent).collect();
        let name = hex(device.device);
        if silent.len() == device.channels.len() {
            let age_s = device.age_s;
            return (age_s >= self.limit_s(SILENT_S, 0.0))
                .then(|| format!("device {name}: no samples for {age_s:.0} s"));
        }
        let age_s = silent.iter().map(|channel| channel.age_s).reduce(f64::max)?;
        let label = |channel: &&ChannelArrivals| {
            let label: String = escaped(&channel.label).chars().take(MAX_LABEL).collect();
            format!("'{label}'")
        };
        let labels: Vec<String> = silent.iter().take(MAX_NAMED).map(label).collect();
        let more = if silent.len() > MAX_NAMED { ", ..." } else { "" };
        let labels = labels.join(", ");
        Some(format!("device {name}: no samples of {labels}{more} for {age_s:.0} s"))
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
