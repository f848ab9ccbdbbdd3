//! Beds for devices: at once for those that are known, after a probation for all others. A device
//! that gets none is an alarm.

use sfm_firmware_bridge::{FromDevice, FromHost, Hello};

use super::super::clock::HostSeconds;
use super::super::device::Out;
use super::super::event::SessionEvent;
use super::super::probation::Proven;
use super::super::standing::Rank;
use super::super::types::{LinkId, NoBed, Refused, Violation};
use super::{Bed, Closed, Hub, MAX_BESIDE, Place};

impl Hub {
    /// Whether `bed` is a device's, and its session is not over: a device that ended its session
    /// begins the next one over the same link.
    pub(super) fn is_bed_of(&self, bed: Option<usize>, device: u64) -> bool {
        let bed = bed.and_then(|bed| self.beds.get(bed)).filter(|bed| !bed.ended);
        bed.is_some_and(|bed| match bed.device {
            Some(owner) => owner == device,
            None => self.own_bed(device).is_none(),
        })
    }

    fn own_bed(&self, device: u64) -> Option<usize> {
        self.beds.iter().position(|bed| bed.device == Some(device) && !bed.ended)
    }

    /// The bed of a device: its own, the one that is shared, or a new one if it is known. `None`: it
    /// has to prove itself.
    pub(super) fn bed_of(&mut self, device: u64) -> Result<Option<usize>, Violation> {
        let shared = self.beds.first().filter(|bed| self.is_shared && !bed.ended);
        let here = self.own_bed(device).or(shared.map(|_| 0));
        if here.is_some() {
            return Ok(here);
        }
        if !self.is_shared && (!self.admission.is_trusted(device) || !self.has_room()) {
            return Ok(None);
        }
        match self.open_bed(device) {
            Ok(bed) => Ok(Some(bed)),
            Err(NoBed::NotYet) => Err(Violation("gets no bed yet".to_owned())),
            Err(NoBed::Refused(reason)) => {
                self.admission.no_bed(device, Some(&reason));
                Err(Violation(reason))
            }
        }
    }

    fn has_room(&self) -> bool {
        self.admission.has_room(self.beds.iter().filter(|bed| !bed.ended).count())
    }

    /// A bed of its own for a device.
    pub(super) fn open_bed(&mut self, device: u64) -> Result<usize, NoBed> {
        let beside = self.beds.iter().filter(|bed| bed.device.is_some() && !bed.ended).count();
        if self.is_shared && beside >= MAX_BESIDE {
            let reason = format!("is one more than {MAX_BESIDE} beside the session of the others");
            return Err(NoBed::Refused(reason));
        }
        let (session, to) = (self.new_bed)(device)?;
        self.beds.push(Bed::new(Some(device), session, to));
        Ok(self.beds.len() - 1)
    }

    /// A device without a bed says hello.
    pub(super) fn probe(
        &mut self,
        link: LinkId,
        hello: &Hello<'_>,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<(), Violation> {
        let now = (now_s, self.clock.speed());
        if let Some(displaced) = self.probations.hello(link, hello, now, out)? {
            self.admission.refusals().count(Refused::Displaced, 1);
            let reason = "closed here for a newer one".to_owned();
            self.close(displaced, Closed::Gone(reason), now_s);
        }
        Ok(())
    }

    /// It says something else.
    pub(super) fn probe_on(
        &mut self,
        device: u64,
        place: &Place,
        message: &FromDevice<'_>,
        now_s: HostSeconds,
        out: &mut Out,
    ) -> Result<(), Violation> {
        if self.probations.message(device, message, now_s, out)? {
            place.standing.set(Rank::Candidate);
        }
        Ok(())
    }

    /// Gives beds to the devices that have proven to be sensors.
    pub(super) fn admit_proven(&mut self, now_s: HostSeconds) {
        let due = self.probations.tick(now_s, self.clock.speed());
        self.send_all(due.send);
        for (link, violation) in due.violations {
            self.cut_off(link, &violation, now_s);
        }
        for device in due.overdue {
            self.admission.refusals().count(Refused::Unproven, 1);
            if let Some(Proven { link, .. }) = self.probations.remove(device) {
                self.close(link, Closed::Gone("sent no samples".to_owned()), now_s);
            }
        }
        for device in due.proven {
            if let Some(proven) = self.probations.remove(device) {
                self.admit(device, proven, now_s);
            }
        }
    }

    fn admit(&mut self, device: u64, proven: Proven, now_s: HostSeconds) {
        let Proven { link, session, kept } = proven;
        let bed = match self.has_room() {
            true => self.open_bed(device).map_err(|none| match none {
                NoBed::NotYet => Some("its folder is not there yet".to_owned()),
                NoBed::Refused(reason) => Some(reason),
            }),
            false => Err(None),
        };
        let bed = match bed {
            Ok(bed) => bed,
            Err(reason) => {
                self.admission.no_bed(device, reason.as_deref());
                // It comes again, and tries again.
                self.close(link, Closed::Gone("got no bed".to_owned()), now_s);
                return;
            }
        };
        let adopted = self.beds.get_mut(bed).is_some_and(|bed| bed.session.adopt_all(session));
        if let Some(open) = self.links.get_mut(&link) {
            open.place.bed = Some(bed);
            open.place.standing.set(Rank::Known);
            open.place.is_shown = true;
            let name = open.port.name.clone();
            if !adopted {
                // The bed's session has devices of its own: this one says hello to it.
                open.port.device = None;
                self.send(link, FromHost::Start);
            }
            self.note_everywhere(now_s, SessionEvent::LinkUp { link: name });
        }
        self.dispatch(bed, Out { log: kept, ..Out::default() }, now_s);
    }
}
