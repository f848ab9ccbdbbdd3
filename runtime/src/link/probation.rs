//! Devices that may get a bed of their own (`--beds`): a hello is easily made up, so that a device
//! first sends samples for a while. Its session is complete meanwhile, but for a bed: what it sent is
//! in the recording afterwards. Bounded in number and in samples; what gives way first is who has
//! sent none.

use std::collections::BTreeMap;

use sfm_firmware_bridge::{FromDevice, FromHost, Hello};

use super::clock::HostSeconds;
use super::device::Out;
use super::event::Noted;
use super::session::Session;
use super::types::{LinkId, Violation};

/// How long a device sends samples before it gets a bed, seconds of the session.
pub(super) const PROBATION_S: f64 = 10.0;
/// How long it may take to do so, real seconds.
const WITHIN_S: f64 = 60.0;
/// Between two looks at a device that has sent no samples, real seconds.
const IDLE_S: f64 = 1.0;
/// Devices at a time.
const MAX_DEVICES: usize = 256;
/// Samples that are held: of one device, some 10 s of the fastest there are, and of all.
const MAX_HELD: usize = 1 << 19;
const MAX_HELD_BY_ALL: usize = 1 << 24;
/// What a message of samples takes beside them, in samples.
const OVERHEAD: usize = 16;
/// Lines that go to the bed's log.
const MAX_KEPT: usize = 16;

/// One device.
struct Probation {
    link: LinkId,
    since_s: HostSeconds,
    session: Session,
    /// When something is due next, where no samples have come.
    next_s: HostSeconds,
    kept: Vec<Noted>,
    held: usize,
}

/// All of them.
#[derive(Default)]
pub(super) struct Probations {
    by_device: BTreeMap<u64, Probation>,
    held: usize,
}

/// What is due for them.
#[derive(Default)]
pub(super) struct Due {
    /// Messages to devices.
    pub send: Vec<(LinkId, FromHost)>,
    /// What no sensor does.
    pub violations: Vec<(LinkId, Violation)>,
    /// Devices that have sent samples for long enough.
    pub proven: Vec<u64>,
    /// Devices that have had their time.
    pub overdue: Vec<u64>,
}

/// A device that gets its bed.
pub(super) struct Proven {
    /// Its link.
    pub link: LinkId,
    /// It, with what it has sent.
    pub session: Session,
    /// Lines about it.
    pub kept: Vec<Noted>,
}

impl Probations {
    /// A device says hello over `link`. Returns the link of one that had to give way.
    ///
    /// # Errors
    /// [`Violation`]: the link is to be closed.
    pub fn hello(
        &mut self,
        link: LinkId,
        hello: &Hello<'_>,
        (now_s, speed): (HostSeconds, f64),
        out: &mut Out,
    ) -> Result<Option<LinkId>, Violation> {
        // Behind a link there is one device.
        let others = self.by_device.iter().filter(|(id, p)| p.link == link && **id != hello.device);
        let others: Vec<u64> = others.map(|(id, _)| *id).collect();
        others.into_iter().for_each(|id| drop(self.remove(id)));
        let mut displaced = None;
        if !self.by_device.contains_key(&hello.device) && self.by_device.len() >= MAX_DEVICES {
            displaced = self.least().and_then(|id| self.remove(id)).map(|p| p.link);
        }
        let new = || Probation {
            link,
            since_s: now_s,
            session: Session::without_start(speed),
            next_s: now_s,
            kept: Vec::new(),
            held: 0,
        };
        let probation = self.by_device.entry(hello.device).or_insert_with(new);
        probation.link = link;
        let result = probation.session.hello(link, hello, now_s, out);
        probation.keep(out);
        match result {
            Ok(_) => Ok(displaced),
            Err(violation) => {
                self.remove(hello.device);
                Err(violation)
            }
        }
    }

    /// Takes another message of a device. Returns whether it has sent samples.
    ///
    /// # Errors
    /// [`Violation`]: its link is to be closed.
    pub fn message(
        &mut self,
        device: u64,
        message: &FromDevice<'_>,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<bool, Violation> {
        let Some(probation) = self.by_device.get_mut(&device) else { return Ok(false) };
        if let FromDevice::Samples(samples) = message {
            let count = samples.values().map_or(0, |values| values.len());
            let held = count + OVERHEAD;
            if probation.held + held > MAX_HELD {
                return Ok(true);
            }
            probation.held += held;
            self.held += held;
        }
        let result = probation.session.message(device, message, now_s, out);
        probation.keep(out);
        let has_sent = probation.held > 0;
        if result.is_err() || matches!(message, FromDevice::Bye(_)) {
            self.remove(device);
        } else if self.held > MAX_HELD_BY_ALL {
            let most = self.by_device.iter().max_by_key(|(_, p)| p.held).map(|(id, _)| *id);
            most.into_iter().for_each(|id| drop(self.remove(id)));
        }
        result.map(|()| has_sent)
    }

    /// Whether the device is among them, behind `link`.
    pub fn is(&self, device: u64, link: LinkId) -> bool {
        self.by_device.get(&device).is_some_and(|probation| probation.link == link)
    }

    /// A link is gone; its device may come back over another one.
    pub fn link_lost(&mut self, link: LinkId) {
        for probation in self.by_device.values_mut() {
            probation.session.link_lost(link);
        }
    }

    /// Their thread has not listened for so long.
    pub fn forgive(&mut self, stall_s: f64) {
        for probation in self.by_device.values_mut() {
            probation.since_s += stall_s;
            probation.session.forgive(stall_s);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now_s: HostSeconds, speed: f64) -> Due {
        let mut due = Due::default();
        for (device, probation) in &mut self.by_device {
            let age_s = (now_s - probation.since_s) / speed.max(1.0);
            // Anyone can make up a hello: until samples come, nothing is due but a look now and then.
            if probation.held == 0 && now_s < probation.next_s {
                continue;
            }
            probation.next_s = now_s + IDLE_S * speed.max(1.0);
            let mut out = Out::default();
            due.violations.extend(probation.session.tick(now_s, &mut out));
            probation.keep(&mut out);
            due.send.append(&mut out.send);
            if probation.session.has_streamed(PROBATION_S, now_s) {
                due.proven.push(*device);
            } else if age_s > WITHIN_S {
                due.overdue.push(*device);
            }
        }
        due
    }

    /// The device's time is over, one way or the other.
    pub fn remove(&mut self, device: u64) -> Option<Proven> {
        let probation = self.by_device.remove(&device)?;
        self.held -= probation.held;
        let Probation { link, session, kept, .. } = probation;
        Some(Proven { link, session, kept })
    }

    /// The oldest of those that have sent the least.
    fn least(&self) -> Option<u64> {
        let since = |p: &Probation| (p.since_s * 1e3) as i64;
        self.by_device.iter().min_by_key(|(_, p)| (p.held, since(p))).map(|(id, _)| *id)
    }
}

impl Probation {
    fn keep(&mut self, out: &mut Out) {
        let room = MAX_KEPT - self.kept.len();
        self.kept.extend(out.log.drain(..).take(room));
    }
}

#[cfg(test)]
#[path = "probation_tests.rs"]
mod tests;
