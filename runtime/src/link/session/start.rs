//! How a session begins: when there is enough to begin with, whether one that was cut goes on, and
//! which channels the recording has.

use std::collections::BTreeSet;

use super::super::clock::HostSeconds;
use super::super::device::{Device, Out};
use super::super::event::SessionEvent;
use super::super::slot::Slot;
use super::super::types::{Axis, Resumed, SessionChannel, Settings};
use super::Session;
use crate::health::arrivals::DeviceArrivals;
use crate::recorder::recordable;
use crate::signal::SignalInfo;
use crate::text::hex;

/// The same on the host's clock.
#[derive(Debug)]
pub(super) struct Cut {
    resumed: Resumed,
    axis: Axis,
    from_s: HostSeconds,
    until_s: HostSeconds,
}

impl Cut {
    /// Its devices, as long as none has come and it may still go on.
    pub(super) fn expected(&self, now_s: HostSeconds) -> impl Iterator<Item = DeviceArrivals> {
        let channels = self.resumed.channels.iter().filter(|_| now_s <= self.until_s);
        let ids: BTreeSet<u64> = channels.map(|(channel, _)| channel.device).collect();
        let age_s = now_s - self.from_s;
        ids.into_iter().map(move |device| DeviceArrivals {
            device,
            has_come: false,
            has_ended: false,
            age_s,
            channels: Vec::new(),
        })
    }
}

/// How a session begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// There was none that could go on.
    New,
    /// It goes on with the one that was cut.
    GoesOn,
    /// It does not go on with the one that was cut, for this reason.
    Parted(&'static str),
}

impl Session {
    /// A session that goes on with one that was cut if the first devices to be ready are its own:
    /// the same channels on the same time axis. Else it is a new one.
    pub fn resume(settings: Settings, speed: f64, cut: Resumed, now_s: HostSeconds) -> Self {
        let axis = Axis { started_s: Some(now_s - cut.elapsed_s), speed };
        let cut = Cut { axis, from_s: now_s, until_s: now_s + cut.within_s, resumed: cut };
        Self { cut: Some(cut), ..Self::new(settings, speed) }
    }

    pub(super) fn start_if_ready(&mut self, now_s: HostSeconds, out: &mut Out) {
        let ready = self.devices.iter().filter(|d| d.is_ready(now_s)).count();
        if ready == 0 {
            return;
        }
        let first_s = *self.first_ready_s.get_or_insert(now_s);
        let is_patient = now_s - first_s < self.settings.wait_s;
        if self.cut.is_some() {
            return self.decide(is_patient, now_s, out);
        }
        if ready < self.settings.devices && is_patient {
            return;
        }
        if self.nothing_is_recordable(now_s, out) {
            return;
        }
        let (ready, late): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.devices).into_iter().partition(|d| d.is_ready(now_s));
        self.devices = ready;
        late.into_iter().for_each(|device| self.let_wait(device, now_s, out));
        let start_s = self.devices.iter().filter_map(Device::first_sample_s).reduce(f64::min);
        self.axis.started_s = start_s;
        self.take_channels(now_s, out);
    }

    /// A session that could hold no channel of any device does not begin.
    fn nothing_is_recordable(&mut self, now_s: HostSeconds, out: &mut Out) -> bool {
        let signals: Vec<SignalInfo> =
            self.devices.iter().flat_map(|d| d.signals().cloned()).collect();
        if recordable(&signals).iter().any(Result::is_ok) {
            return false;
        }
        let ids: Vec<u64> = self.devices.iter().map(|d| d.id).collect();
        for id in ids {
            let reason = "no recording can hold any of its channels".to_owned();
            let event = self.not_recorded(id, reason, now_s);
            event.into_iter().for_each(|event| out.note(now_s, event));
        }
        true
    }

    /// Whether the session that was cut goes on: as soon as one of its devices is there, and not
    /// once others have waited for these long enough.
    fn decide(&mut self, is_patient: bool, now_s: HostSeconds, out: &mut Out) {
        let Some(Cut { resumed: cut, axis, from_s, until_s }) = self.cut.take() else { return };
        let ready = || self.devices.iter().filter(move |d| d.is_ready(now_s));
        let is_its_own = |d: &Device| cut.has(d.id) && !d.would_be_stranger(&cut);
        if now_s > until_s {
            self.beginning = Beginning::Parted("its sensors have come too late");
        } else if ready().any(is_its_own) {
            self.go_on(&cut, axis, now_s, out);
        } else if ready().any(|d| cut.has(d.id)) {
            self.beginning = Beginning::Parted("its sensors have other channels now");
        } else if is_patient {
            self.cut = Some(Cut { resumed: cut, axis, from_s, until_s });
        } else {
            self.beginning = Beginning::Parted("other sensors have come");
        }
    }

    fn go_on(&mut self, cut: &Resumed, axis: Axis, now_s: HostSeconds, out: &mut Out) {
        self.beginning = Beginning::GoesOn;
        self.axis = axis;
        self.channels = cut.channels.iter().map(|c| c.0.clone()).collect();
        self.left_out.clone_from(&cut.left_out);
        let mut ids: BTreeSet<u64> = self.channels.iter().map(|c| c.device).collect();
        for mut device in std::mem::take(&mut self.devices) {
            if ids.remove(&device.id) {
                device.slots = cut.slots_of(device.id);
                self.devices.push(device);
            } else {
                self.let_wait(device, now_s, out);
            }
        }
        let others = ids.into_iter().map(|id| Device::known(id, cut.slots_of(id), now_s));
        self.devices.extend(others);
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
                    self.left_out.push((device.id, own.label.clone()));
                    let (device, channel) = (hex(device.id), own.label.clone());
                    out.note(now_s, SessionEvent::LeftOut { device, channel, reason });
                }
            }
        }
    }
}

impl Resumed {
    fn has(&self, device: u64) -> bool {
        self.channels.iter().any(|(channel, _)| channel.device == device)
    }

    /// The places of a device's channels.
    pub(in super::super) fn slots_of(&self, device: u64) -> Vec<Slot> {
        let own = self.channels.iter().enumerate().filter(|(_, (c, _))| c.device == device);
        own.map(|(index, (c, first))| Slot::new(&c.label, index, &c.signal, *first)).collect()
    }
}
