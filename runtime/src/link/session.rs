//! All devices of one recording, merged on one time axis. Waits for the devices it expects, puts
//! slot 0 at the first of their samples, and from then on turns messages into samples in places,
//! lines for the log and messages to devices. Does no input and output and reads no clock: it is
//! told both, so that a night can be played in a second.

use std::collections::BTreeSet;

use sfm_firmware_bridge::{FromDevice, Hello};

use super::LinkId;
use super::clock::HostSeconds;
use super::device::{Axis, Device, MAX_CHANNELS, Out, Violation};
use super::hub::DeviceTotals;
use super::ledger::SampleLedger;
use super::log::{SessionEvent, hex};
use super::mark::Marks;
use super::slot::Slot;
use crate::recorder::recordable;
use crate::signal::SignalInfo;

/// Devices of one session.
const MAX_DEVICES: usize = 16;

/// Devices that are not used and remembered as such.
const MAX_REFUSED: usize = 1024;

/// What a session waits for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Devices without which recording does not begin before `wait_s` is over.
    pub devices: usize,
    /// How long to wait for the others once one device is there, seconds.
    pub wait_s: f64,
    /// How long a missing sample is waited for, seconds of signal.
    pub patience_s: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { devices: 1, wait_s: 30.0, patience_s: 5.0 }
    }
}

/// Silence that is worth a line in the log, seconds of the session and real ones.
const SILENCE_S: (f64, f64) = (2.0, 0.25);
/// A silent device's signal is given up after the patience, and not before this, real seconds.
const GIVE_UP_REAL_S: f64 = 1.0;

impl Settings {
    pub(super) fn silence_s(&self, speed: f64) -> f64 {
        SILENCE_S.0.max(SILENCE_S.1 * speed)
    }

    pub(super) fn give_up_s(&self, speed: f64) -> f64 {
        self.patience_s.max(GIVE_UP_REAL_S * speed)
    }
}

/// A channel of the session and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionChannel {
    /// The device.
    pub device: u64,
    /// The device's own label.
    pub label: String,
    /// As it is recorded.
    pub signal: SignalInfo,
}

/// One recording's devices.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    axis: Axis,
    devices: Vec<Device>,
    channels: Vec<SessionChannel>,
    first_ready_s: Option<HostSeconds>,
    /// Devices that came too late to be recorded.
    refused: BTreeSet<u64>,
    /// What people mark at the host.
    marks: Option<Marks>,
}

/// A session that was cut and goes on.
#[derive(Debug, Clone)]
pub struct Resumed {
    /// Its channels, in the recording's order, each with the first slot that is not recorded.
    pub channels: Vec<(SessionChannel, u64)>,
    /// Seconds from its start until now.
    pub elapsed_s: f64,
}

impl Session {
    /// A new session on a host clock of `speed`.
    pub fn new(settings: Settings, speed: f64) -> Self {
        Self {
            settings,
            axis: Axis { started_s: None, speed },
            devices: Vec::new(),
            channels: Vec::new(),
            first_ready_s: None,
            refused: BTreeSet::new(),
            marks: None,
        }
    }

    /// The rest of a session that was cut: the same channels on the same time axis.
    pub fn resume(settings: Settings, speed: f64, resumed: &Resumed, now_s: HostSeconds) -> Self {
        let mut session = Self::new(settings, speed);
        session.axis.started_s = Some(now_s - resumed.elapsed_s);
        session.channels = resumed.channels.iter().map(|c| c.0.clone()).collect();
        let ids: BTreeSet<u64> = session.channels.iter().map(|c| c.device).collect();
        for id in ids {
            let slots = resumed.channels.iter().enumerate().filter(|(_, (c, _))| c.device == id);
            let slots = slots
                .map(|(index, (c, first))| Slot::new(&c.label, index, &c.signal, *first))
                .collect();
            session.devices.push(Device::known(id, slots, now_s));
        }
        session
    }

    /// The session takes what people mark at the host, from its start on.
    pub fn take_marks(&mut self, marks: Marks) {
        self.marks = Some(marks);
    }

    /// The channels that are recorded, in order; empty before the start.
    pub fn channels(&self) -> &[SessionChannel] {
        &self.channels
    }

    /// Where the time axis lies.
    pub fn axis(&self) -> Axis {
        self.axis
    }

    /// The devices heard so far.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Each recorded channel and its ledger so far, in the recording's order.
    pub fn ledgers(&self) -> Vec<(&SessionChannel, SampleLedger)> {
        let ledger = |channel: &SessionChannel| {
            let device = self.devices.iter().find(|d| d.id == channel.device)?;
            device.ledgers().find(|(label, _)| *label == channel.label).map(|(_, ledger)| ledger)
        };
        self.channels.iter().map(|c| (c, ledger(c).unwrap_or_default())).collect()
    }

    /// Each device's counts and clock.
    pub fn device_totals(&self) -> Vec<DeviceTotals> {
        let totals = |device: &Device| DeviceTotals {
            device: device.id,
            is_up: device.link.is_some(),
            samples: device.ledgers().fold(SampleLedger::default(), |sum, (_, l)| sum.plus(l)),
            fast_ppm: device.fit.fast_ppm(),
            offset_s: device.fit.host_s(0).map(|host_s| host_s - self.axis.start_s()),
            round_trip_s: device.fit.round_trip_s(),
        };
        self.devices.iter().map(totals).collect()
    }

    /// A device says hello over `link`; `Ok(false)` if it is not used.
    ///
    /// # Errors
    /// [`Violation`]: the link is to be closed.
    pub fn hello(
        &mut self,
        link: LinkId,
        hello: &Hello<'_>,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<bool, Violation> {
        if !hello.is_compatible() {
            return Err(Violation(format!(
                "speaks another version of the wire protocol ({}); update its firmware",
                hello.protocol
            )));
        }
        if hello.channels == 0 || hello.channels > MAX_CHANNELS {
            return Err(Violation(format!(
                "has {} channels, possible are 1 to {MAX_CHANNELS}",
                hello.channels
            )));
        }
        if self.refused.contains(&hello.device) {
            return Ok(false);
        }
        self.hang_up(link, hello.device);
        let axis = self.axis;
        let index = match self.devices.iter().position(|d| d.id == hello.device) {
            Some(index) => index,
            None if self.axis.started_s.is_some() || self.devices.len() == MAX_DEVICES => {
                if self.refused.len() < MAX_REFUSED && self.refused.insert(hello.device) {
                    let reason = match self.axis.started_s {
                        Some(_) => "recording has begun without it; a new session takes it in",
                        None => "a session has 16 devices",
                    };
                    let (device, reason) = (hex(hello.device), reason.to_owned());
                    out.note(now_s, SessionEvent::NotUsed { device, reason });
                }
                return Ok(false);
            }
            None => {
                self.devices.push(Device::new(hello, now_s));
                self.devices.len() - 1
            }
        };
        let Some(device) = self.devices.get_mut(index) else { return Ok(false) };
        if device.link != Some(link) {
            device.link = Some(link);
            out.note(
                now_s,
                SessionEvent::Device {
                    device: hex(hello.device),
                    session: hex(hello.session),
                    model: hello.model.chars().take(64).collect(),
                    channels: hello.channels,
                },
            );
        }
        device.hello(hello, &axis, now_s, out);
        Ok(true)
    }

    /// Behind a link there is one device: another one that says hello there takes its place.
    fn hang_up(&mut self, link: LinkId, caller: u64) {
        let displaced = |d: &Device| d.link == Some(link) && d.id != caller;
        if self.axis.started_s.is_none() {
            self.devices.retain(|device| !displaced(device));
        } else if let Some(device) = self.devices.iter_mut().find(|d| displaced(d)) {
            device.link = None;
        }
    }

    /// A device's message other than hello.
    ///
    /// # Errors
    /// [`Violation`]: the link is to be closed.
    pub fn message(
        &mut self,
        device: u64,
        message: &FromDevice<'_>,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<(), Violation> {
        let axis = self.axis;
        match self.devices.iter_mut().find(|d| d.id == device) {
            Some(device) => device.message(message, &axis, now_s, out),
            None => Ok(()),
        }
    }

    /// Recording had begun and every device was stopped at its end.
    pub fn is_over(&self) -> bool {
        self.axis.started_s.is_some() && self.devices.iter().all(|device| device.stopped)
    }

    /// The links' thread has not listened for `stall_s` seconds.
    pub fn forgive(&mut self, stall_s: f64) {
        self.devices.iter_mut().for_each(|device| device.forgive(stall_s));
    }

    /// A link is gone; its device may come back over another one.
    pub fn link_lost(&mut self, link: LinkId) {
        for device in self.devices.iter_mut().filter(|d| d.link == Some(link)) {
            device.link = None;
        }
    }

    /// Does what is due. Returns what devices do that none does, each with its link.
    pub fn tick(&mut self, now_s: HostSeconds, out: &mut Out) -> Vec<(LinkId, Violation)> {
        if self.axis.started_s.is_none() {
            self.start_if_ready(now_s, out);
        }
        let (axis, settings) = (self.axis, self.settings);
        let mut violations = Vec::new();
        for device in &mut self.devices {
            if let Err(violation) = device.tick(&settings, &axis, now_s, out) {
                violations.extend(device.link.map(|link| (link, violation)));
            }
        }
        self.place_marks(now_s, out);
        violations
    }

    fn place_marks(&self, now_s: HostSeconds, out: &mut Out) {
        let (Some(start_s), Some(Marks(marks))) = (self.axis.started_s, &self.marks) else {
            return;
        };
        for (at_s, mark) in marks.try_iter() {
            // A finger is no more exact than a millisecond.
            let (device, onset_s) = (String::new(), ((at_s - start_s) * 1e3).round() / 1e3);
            out.note(now_s, SessionEvent::Mark { device, onset_s, mark: mark.text() });
        }
    }

    /// The session is over: everything that waits comes out.
    pub fn finish(&mut self, now_s: HostSeconds, out: &mut Out) {
        let axis = self.axis;
        self.devices.iter_mut().for_each(|device| device.finish(&axis, now_s, out));
        self.place_marks(now_s, out);
        // From now on marks are refused.
        self.marks = None;
    }

    fn start_if_ready(&mut self, now_s: HostSeconds, out: &mut Out) {
        let ready = self.devices.iter().filter(|d| d.is_ready(now_s)).count();
        if ready == 0 {
            return;
        }
        let first_s = *self.first_ready_s.get_or_insert(now_s);
        if ready < self.settings.devices && now_s - first_s < self.settings.wait_s {
            return;
        }
        let (ready, late): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.devices).into_iter().partition(|d| d.is_ready(now_s));
        for device in late {
            self.refused.insert(device.id);
            let reason = "was not ready when recording began".to_owned();
            out.note(now_s, SessionEvent::NotUsed { device: hex(device.id), reason });
        }
        self.devices = ready;
        let start_s = self.devices.iter().filter_map(Device::first_sample_s).reduce(f64::min);
        self.axis.started_s = start_s;
        self.take_channels(now_s, out);
    }

    fn take_channels(&mut self, now_s: HostSeconds, out: &mut Out) {
        let signals = self.devices.iter().enumerate().flat_map(|(d, device)| {
            device.signals().map(move |signal| (d, signal.clone())).collect::<Vec<_>>()
        });
        let (owners, signals): (Vec<usize>, Vec<SignalInfo>) = signals.unzip();
        for ((owner, own), recorded) in owners.iter().zip(&signals).zip(recordable(&signals)) {
            let Some(device) = self.devices.get_mut(*owner) else { continue };
            match recorded {
                Ok(signal) => {
                    device.record(&own.label, self.channels.len(), &signal);
                    let (device, label) = (device.id, own.label.clone());
                    self.channels.push(SessionChannel { device, label, signal });
                }
                Err(reason) => {
                    let (device, channel) = (hex(device.id), own.label.clone());
                    out.note(now_s, SessionEvent::LeftOut { device, channel, reason });
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
