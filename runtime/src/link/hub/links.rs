//! Links as the hub keeps them: who is at the other end, what the log and the transport are told of
//! it, and when a link is closed. A link is worth a line once a device has said hello over it.

use std::time::{Duration, Instant};

use sfm_firmware_bridge::ByeReason;
use tokio::sync::mpsc;

use super::super::clock::HostSeconds;
use super::super::event::{Noted, SessionEvent};
use super::super::port::Port;
use super::super::standing::{Rank, Standing};
use super::super::types::{LinkId, Refused, Violation};
use super::super::wire::NewLink;
use super::Hub;
use crate::text::hex;

/// Between two looks at all links.
const LOOK: Duration = Duration::from_secs(1);
/// A link over which nothing has come for so long is down, real seconds.
const SILENT_S: f64 = 60.0;
/// It is closed after this, unless its place was needed before.
const FORGOTTEN_S: f64 = 3600.0;
/// What is still on its way when a device has ended or comes over another link, real seconds.
const LINGER_S: f64 = 10.0;

/// Devices whose link is down, as many as the health names.
const MAX_LOST: usize = 64;

/// A link that is there.
pub(super) struct OpenLink {
    pub port: Port,
    pub sender: mpsc::Sender<Vec<u8>>,
    pub place: Place,
}

/// What a link is to the hub.
pub(super) struct Place {
    /// Index of its bed.
    pub bed: Option<usize>,
    /// What its transport knows of it.
    pub standing: Standing,
    /// It was made from here.
    pub is_configured: bool,
    /// The log has it as up.
    pub is_shown: bool,
    /// When bytes last came.
    pub heard_s: HostSeconds,
    /// A device has said hello with what came last.
    pub has_greeted: bool,
    /// Its device has ended its session.
    pub bye: Option<ByeReason>,
    /// Closed then.
    pub close_at_s: Option<HostSeconds>,
}

/// Why a link is closed.
pub(super) enum Closed {
    /// The other end, or the way there, is gone.
    Gone(String),
    /// Its device ended, or comes over another one.
    Over(String),
}

impl OpenLink {
    pub fn new(new: NewLink, bed: Option<usize>, now_s: HostSeconds) -> Self {
        let NewLink { name, sender, standing, is_configured, .. } = new;
        let place = Place {
            bed,
            standing,
            is_configured,
            is_shown: false,
            heard_s: now_s,
            has_greeted: false,
            bye: None,
            close_at_s: None,
        };
        Self { port: Port::new(name, now_s), sender, place }
    }

    /// It was not listened to for so long.
    pub fn forgive(&mut self, stall_s: f64) {
        self.port.forgive(stall_s);
        self.place.heard_s += stall_s;
    }
}

impl Hub {
    /// The log has the link as up from now on.
    pub(super) fn show(&mut self, open: &mut OpenLink, now_s: HostSeconds) {
        if !std::mem::replace(&mut open.place.is_shown, true) {
            self.note_everywhere(now_s, SessionEvent::LinkUp { link: open.port.name.clone() });
        }
    }

    /// After bytes came: what the link is now, where it had `before` for a device. It is not among
    /// the links at the moment.
    pub(super) fn settle(
        &mut self,
        link: LinkId,
        open: &mut OpenLink,
        before: Option<u64>,
        now_s: HostSeconds,
    ) {
        let place = &mut open.place;
        let Some(device) = open.port.device else {
            if open.port.said_hello.is_some() {
                place.standing.set(Rank::Greeted);
            }
            return;
        };
        let Some(bed) = place.bed else {
            // On probation; its messages say more.
            place.standing.set(place.standing.rank().max(Rank::Greeted));
            return;
        };
        let linger_s = LINGER_S * self.clock.speed();
        if place.bye.is_some() {
            if place.standing.rank() != Rank::Idle {
                place.standing.set(Rank::Idle);
                place.close_at_s = Some(now_s + linger_s).filter(|_| !place.is_configured);
            }
            return;
        }
        let has_greeted = std::mem::take(&mut place.has_greeted);
        let is_new =
            before != Some(device) || (has_greeted && place.standing.rank() != Rank::Known);
        let is_back = place.standing.rank() != Rank::Known
            && self.beds.get_mut(bed).is_some_and(|bed| bed.session.relink(device, link));
        if is_new || is_back {
            place.standing.set(Rank::Known);
            place.close_at_s = None;
            self.supersede(link, device, now_s);
            self.show(open, now_s);
            let lost = self.lost.remove(&device).filter(|name| *name != open.port.name);
            if let Some(link) = lost {
                let reason = format!("device {} comes over {}", hex(device), open.port.name);
                self.note_everywhere(now_s, SessionEvent::LinkClosed { link, reason });
            }
        }
    }

    /// The device comes over `link` now: what others of it still bring is taken for a while.
    fn supersede(&mut self, link: LinkId, device: u64, now_s: HostSeconds) {
        let linger_s = LINGER_S * self.clock.speed();
        let mut closed = Vec::new();
        for (_, open) in self.links.iter_mut().filter(|(id, _)| **id != link) {
            let place = &mut open.place;
            if open.port.device != Some(device) || place.is_configured {
                continue;
            }
            place.standing.set(Rank::Idle);
            place.close_at_s = Some(now_s + linger_s);
            if std::mem::take(&mut place.is_shown) {
                closed.push((place.bed, open.port.name.clone()));
            }
        }
        for (bed, link) in closed {
            let reason = format!("device {} comes over another link", hex(device));
            self.note_of(bed, now_s, SessionEvent::LinkClosed { link, reason });
        }
    }

    /// Closes what has had its time, and notes who is silent.
    pub(super) fn look_after_links(&mut self, now_s: HostSeconds) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        let speed = self.clock.speed().max(1.0);
        let (mut closed, mut overdue) = (Vec::new(), Vec::new());
        let (mut silent, mut given_up) = (Vec::new(), Vec::new());
        for (link, open) in &mut self.links {
            let (port, place) = (&mut open.port, &mut open.place);
            // Given up for another device, or on probation over another link.
            let is_its = |id: u64| match place.bed.and_then(|bed| self.beds.get(bed)) {
                Some(bed) => bed.ended || bed.session.has(id),
                None => self.probations.is(id, *link),
            };
            if port.device.is_some_and(|id| !is_its(id)) {
                port.device = None;
                place.standing.set(Rank::Greeted);
                if std::mem::take(&mut place.is_shown) {
                    given_up.push((place.bed, port.name.clone()));
                }
            }
            if place.close_at_s.is_some_and(|at_s| now_s >= at_s) {
                let over = "its device ended or comes over another link".to_owned();
                closed.push((*link, Closed::Over(over)));
            } else if port.is_overdue(now_s, speed) {
                overdue.push((*link, place.is_configured));
            } else if !place.is_configured
                && place.standing.rank() == Rank::Known
                && (now_s - place.heard_s) / speed > SILENT_S
            {
                silent.push(*link);
            }
        }
        closed.into_iter().for_each(|(link, why)| self.close(link, why, now_s));
        for (bed, link) in given_up {
            let reason = "its device has sent nothing".to_owned();
            self.note_of(bed, now_s, SessionEvent::LinkClosed { link, reason });
        }
        for (link, is_configured) in overdue {
            let reason = "has not said hello".to_owned();
            match is_configured {
                true => self.cut_off(link, &Violation(reason), now_s),
                false => self.close(link, Closed::Gone(reason), now_s),
            }
        }
        silent.into_iter().for_each(|link| self.fall_silent(link, now_s));
        self.note_refused(false, now_s);
    }

    /// A link is down because nothing comes over it. It stays open: its device may be heard again,
    /// and loses nothing then.
    fn fall_silent(&mut self, link: LinkId, now_s: HostSeconds) {
        let speed = self.clock.speed().max(1.0);
        let Some(open) = self.links.get_mut(&link) else { return };
        open.place.standing.set(Rank::Idle);
        open.place.close_at_s = Some(now_s + FORGOTTEN_S * speed);
        open.place.is_shown = false;
        let (bed, name, device) = (open.place.bed, open.port.name.clone(), open.port.device);
        if let Some(bed) = bed.and_then(|bed| self.beds.get_mut(bed)) {
            bed.session.link_lost(link);
        }
        self.lose(device, &name);
        let reason = format!("nothing has come for {SILENT_S} s");
        self.note_of(bed, now_s, SessionEvent::LinkDown { link: name, reason });
    }

    /// The health of a session has the link as down until its device is back.
    fn lose(&mut self, device: Option<u64>, name: &str) {
        let has_room = self.is_shared && self.lost.len() < MAX_LOST;
        if let Some(device) = device.filter(|_| has_room) {
            self.lost.insert(device, name.to_owned());
        }
    }

    pub(super) fn down(&mut self, link: LinkId, reason: String, now_s: HostSeconds) {
        self.close(link, Closed::Gone(reason), now_s);
    }

    /// A link is gone, or is closed here by letting go of it.
    pub(super) fn close(&mut self, link: LinkId, why: Closed, now_s: HostSeconds) {
        let Some(open) = self.links.remove(&link) else { return };
        self.detach(link, &open);
        let (name, device) = (open.port.name, open.port.device);
        let Place { bed, is_shown, is_configured, bye, .. } = open.place;
        if !is_shown {
            if open.port.said_hello.is_none() {
                self.admission.refusals().count(Refused::NoHello, 1);
            }
            return;
        }
        let (is_missed, reason) = match (why, bye) {
            (Closed::Gone(reason), None) => (true, reason),
            // Nobody told a device to stop whose battery is empty.
            (Closed::Gone(reason) | Closed::Over(reason), Some(bye)) => {
                (bye != ByeReason::Stopped, reason)
            }
            (Closed::Over(reason), None) => (false, reason),
        };
        let event = match is_missed {
            true => SessionEvent::LinkDown { link: name.clone(), reason },
            false => SessionEvent::LinkClosed { link: name.clone(), reason },
        };
        if is_missed && !is_configured {
            self.lose(device, &name);
        }
        self.note_of(bed, now_s, event);
    }

    /// The link's session goes on without it.
    fn detach(&mut self, link: LinkId, open: &OpenLink) {
        self.probations.link_lost(link);
        if let Some(bed) = open.place.bed.and_then(|bed| self.beds.get_mut(bed)) {
            bed.frames = bed.frames.plus(open.port.frames);
            bed.session.link_lost(link);
        }
    }

    pub(super) fn cut_off(&mut self, link: LinkId, violation: &Violation, now_s: HostSeconds) {
        let Some(open) = self.links.remove(&link) else { return };
        self.detach(link, &open);
        open.place.standing.cut_off();
        let said_hello = open.port.said_hello;
        if let Some(device) = said_hello {
            self.probations.remove(device);
        }
        if !self.admission.cut_off(said_hello, violation) && !open.place.is_shown {
            return;
        }
        let device = said_hello.map(|d| format!("device {} ", hex(d))).unwrap_or_default();
        let (link, reason) = (open.port.name, format!("{device}{violation}"));
        let bed = open.place.bed;
        self.note_of(bed, now_s, SessionEvent::CutOff { link, reason });
        // A bed for a device that is none.
        if let Some(bed) = bed
            && self.beds.get(bed).is_some_and(|bed| bed.device.is_some() && !bed.started)
        {
            self.end(bed, "its device was cut off", now_s);
        }
    }

    /// Tells what was refused, as far as it is due.
    pub(super) fn note_refused(&mut self, at_end: bool, now_s: HostSeconds) {
        for event in self.admission.look(at_end) {
            self.note_everywhere(now_s, event);
        }
    }

    fn note_of(&mut self, bed: Option<usize>, at_s: HostSeconds, event: SessionEvent) {
        match bed {
            Some(bed) => self.note(bed, Noted { at_s, event }),
            None => self.note_everywhere(at_s, event),
        }
    }
}
