//! What happens to a device in the course of a recording: outages, reboots, electrodes that come
//! off. Drawn by the seed so that no two overlap and none touches the beginning or the end; made by
//! hand where a test wants exact times.

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::SimError;
use super::faults::{generator, mixed};

/// From when to when, seconds of recording time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Beginning.
    pub start_s: f64,
    /// End.
    pub end_s: f64,
}

impl Span {
    /// Whether `time_s` is in it, its end not included.
    pub fn contains(&self, time_s: f64) -> bool {
        (self.start_s..self.end_s).contains(&time_s)
    }
}

/// An electrode or sensor that is off for a while.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LeadOff {
    /// Index of the channel in its device.
    pub channel: usize,
    /// While it is off.
    pub span: Span,
}

/// What happens to one device. Spans that overlap or touch the recording's ends are possible only
/// by hand, and then the account is not exact: see [`super::Sensor`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The link is down.
    pub disconnects: Vec<Span>,
    /// From the crash to the boot.
    pub reboots: Vec<Span>,
    /// Channels that are flat.
    pub lead_offs: Vec<LeadOff>,
}

/// How much is to happen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanSpec {
    /// Outages of the link.
    pub disconnects: usize,
    /// Shortest and longest, seconds.
    pub disconnect_s: (f64, f64),
    /// Reboots.
    pub reboots: usize,
    /// Shortest and longest from crash to boot, seconds.
    pub reboot_s: (f64, f64),
    /// Electrodes off.
    pub lead_offs: usize,
    /// Shortest and longest, seconds.
    pub lead_off_s: (f64, f64),
}

#[derive(Clone, Copy)]
enum Kind {
    Disconnect,
    Reboot,
    LeadOff,
}

impl PlanSpec {
    /// Spreads the events over a recording of `duration_s`: one in each of equal parts, in an order
    /// that the seed draws, at least `margin_s` away from each other and from both ends. Times are
    /// whole milliseconds.
    ///
    /// # Errors
    /// [`SimError::Spec`] if they do not fit.
    pub fn draw(
        &self,
        seed: u64,
        duration_s: f64,
        channels: usize,
        margin_s: f64,
    ) -> Result<Plan, SimError> {
        let mut plan = Plan::default();
        let counts = [
            (Kind::Disconnect, self.disconnects),
            (Kind::Reboot, self.reboots),
            (Kind::LeadOff, self.lead_offs),
        ];
        let total = counts.iter().fold(0_usize, |sum, &(_, n)| sum.saturating_add(n));
        if total == 0 {
            return Ok(plan);
        }
        let part_s = (duration_s - margin_s) / total as f64;
        let lengths = [self.disconnect_s, self.reboot_s, self.lead_off_s];
        for (&(_, count), (shortest, longest)) in counts.iter().zip(lengths) {
            if count > 0 && !(shortest > 0.0 && longest >= shortest) {
                let range = format!("{shortest},{longest}");
                return Err(SimError::Spec(format!("'{range}' is no range of seconds")));
            }
            if count > 0 && shortest + margin_s > part_s {
                return Err(SimError::Spec(format!(
                    "{total} events of {shortest} s and more, {margin_s:.1} s apart, do not fit \
                     into {duration_s:.0} s; ask for fewer or shorter ones"
                )));
            }
        }
        let mut rng = generator(seed);
        rng.set_stream(mixed(&[2]));
        let mut kinds: Vec<Kind> =
            counts.iter().flat_map(|&(kind, n)| std::iter::repeat_n(kind, n)).collect();
        kinds.shuffle(&mut rng);
        for (part, kind) in kinds.into_iter().enumerate() {
            let (shortest, longest) = lengths[kind as usize];
            let length_s = rng.random_range(shortest..=longest.min(part_s - margin_s));
            let begin_s = margin_s + part as f64 * part_s;
            let start_s = begin_s + rng.random::<f64>() * (part_s - margin_s - length_s);
            let span =
                Span { start_s: milliseconds(start_s), end_s: milliseconds(start_s + length_s) };
            match kind {
                Kind::Disconnect => plan.disconnects.push(span),
                Kind::Reboot => plan.reboots.push(span),
                Kind::LeadOff => {
                    plan.lead_offs
                        .push(LeadOff { channel: rng.random_range(0..channels.max(1)), span });
                }
            }
        }
        Ok(plan)
    }
}

fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// A moment at which something changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Action {
    Disconnect,
    Reconnect,
    Crash,
    Boot,
    /// Index into [`Plan::lead_offs`].
    LeadOff(usize),
    LeadOn(usize),
    End,
}

impl Plan {
    /// All moments in order of time, up to the end of the recording.
    pub(super) fn actions(&self, duration_s: f64) -> Vec<(f64, Action)> {
        let mut actions = Vec::new();
        for span in &self.disconnects {
            actions.push((span.start_s, Action::Disconnect));
            actions.push((span.end_s, Action::Reconnect));
        }
        for span in &self.reboots {
            actions.push((span.start_s, Action::Crash));
            actions.push((span.end_s, Action::Boot));
        }
        for (index, lead_off) in self.lead_offs.iter().enumerate() {
            actions.push((lead_off.span.start_s, Action::LeadOff(index)));
            actions.push((lead_off.span.end_s, Action::LeadOn(index)));
        }
        actions.retain(|&(time_s, _)| time_s < duration_s);
        actions.sort_by(|a, b| a.0.total_cmp(&b.0));
        actions.push((duration_s, Action::End));
        actions
    }
}
