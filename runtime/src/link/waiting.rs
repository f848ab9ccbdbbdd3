//! Devices that have no place in a session's recording: they came when it had begun, or describe
//! other channels than it holds. Their newest samples are kept until they are ready for a recording
//! of their own, so none of them is left out of the night. Bounded: a new one takes the place of one
//! that has sent nothing yet.

use sfm_firmware_bridge::Hello;

use super::clock::HostSeconds;
use super::device::{Device, Out};
use super::types::{Axis, LinkId, Settings, Violation};

/// Devices that wait at a time.
const MAX_WAITING: usize = 16;

/// The devices that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<Guest>);

#[derive(Debug)]
struct Guest {
    device: Device,
    /// Not asked for again before this.
    not_before_s: HostSeconds,
}

impl Waiting {
    /// The device that says hello, a new one included; `None` if there is no room.
    pub fn place_of(&mut self, hello: &Hello<'_>, now_s: HostSeconds) -> Option<&mut Device> {
        if self.find(hello.device).is_none() {
            self.push(Device::new(hello, now_s), now_s)?;
        }
        self.find(hello.device)
    }

    /// Whether the device is among them.
    pub fn has(&self, device: u64) -> bool {
        self.0.iter().any(|waiting| waiting.device.id == device)
    }

    /// The device with this number.
    pub fn find(&mut self, device: u64) -> Option<&mut Device> {
        self.0.iter_mut().map(|guest| &mut guest.device).find(|d| d.id == device)
    }

    /// Takes a device in; `None` if there is no room.
    pub fn push(&mut self, device: Device, not_before_s: HostSeconds) -> Option<()> {
        self.0.retain(|guest| guest.device.id != device.id);
        if self.0.len() >= MAX_WAITING {
            let silent = self.0.iter().position(|guest| guest.device.first_sample_s().is_none())?;
            self.0.remove(silent);
        }
        self.0.push(Guest { device, not_before_s });
        Some(())
    }

    /// Another device says hello over `link`.
    pub fn hang_up(&mut self, link: LinkId, caller: u64) {
        self.0.retain(|guest| guest.device.link != Some(link) || guest.device.id == caller);
    }

    /// A link is gone; a device that has sent nothing goes with it.
    pub fn link_lost(&mut self, link: LinkId) {
        for guest in self.0.iter_mut().filter(|guest| guest.device.link == Some(link)) {
            guest.device.link = None;
        }
        self.0.retain(|g| g.device.link.is_some() || g.device.first_sample_s().is_some());
    }

    /// The links' thread has not listened for `stall_s` seconds.
    pub fn forgive(&mut self, stall_s: f64) {
        self.0.iter_mut().for_each(|guest| guest.device.forgive(stall_s));
    }

    /// Does what is due, and takes out those that are ready for a recording of their own.
    pub fn tick(
        &mut self,
        settings: &Settings,
        axis: &Axis,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Vec<(LinkId, Violation)> {
        let nowhere = Axis { started_s: None, ..*axis };
        let mut violations = Vec::new();
        for Guest { device, .. } in &mut self.0 {
            if let Err(violation) = device.tick(settings, &nowhere, now_s, out) {
                violations.extend(device.link.map(|link| (link, violation)));
            }
        }
        let (ready, waiting) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|g| now_s >= g.not_before_s && g.device.is_ready(now_s));
        self.0 = waiting;
        out.leaving.extend(ready.into_iter().map(|guest: Guest| guest.device));
        violations
    }
}
