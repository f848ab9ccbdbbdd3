//! What happens to a device by itself, in order of time: blocks that are due, messages that are due,
//! and the plan's outages and reboots.

use sfm_firmware_bridge::MarkKind;

use super::super::plan::{Action, Span};
use super::super::{Link, Packet, SimError};
use super::speech::Note;
use super::{Out, STATUS_S, Sensor};

/// The next thing to happen.
pub(super) enum Event {
    Leave,
    Block(usize),
    Action(Action),
    Hello,
    Status,
    Note,
    Resend,
}

impl Sensor {
    /// What happens next and when; at the same time, frames leave before others are sent.
    pub(super) fn next_event(&self) -> (f64, Option<Event>) {
        let mut next = (f64::INFINITY, None);
        let mut consider = |due_s: f64, event: Event| {
            if due_s < next.0 {
                next = (due_s, Some(event));
            }
        };
        if let Some(due_s) = self.queue.next_due_s() {
            consider(due_s, Event::Leave);
        }
        if self.ended.is_some() {
            return next;
        }
        if let Some(sampling) = &self.sampling {
            for (channel, sampler) in self.samplers.iter().enumerate() {
                if let Some(due_s) = sampler.due_s(sampling) {
                    consider(due_s, Event::Block(channel));
                }
            }
            consider(self.status_s, Event::Status);
        }
        if let Some(begin_s) = self.begin_s
            && let Some(&(time_s, action)) = self.actions.get(self.next_action)
        {
            consider(begin_s + time_s, Event::Action(action));
        }
        if self.is_usable() {
            if let Some(&(happened_s, _)) = self.notes.front() {
                consider(happened_s.max(self.now_s), Event::Note);
            }
            if self.memory.has_waiting() {
                consider(self.resend_s.max(self.now_s), Event::Resend);
            }
        }
        let waits = !self.is_started && self.spec.link != Link::Stream;
        if self.boot_s.is_some() && self.has_link() && (self.spec.one_way || waits) {
            consider(self.hello_s, Event::Hello);
        }
        next
    }

    pub(super) fn act(&mut self, event: Event, out: Out<'_>) -> Result<(), SimError> {
        match event {
            Event::Leave => self.leave_until(self.now_s, out),
            Event::Block(channel) => self.take_block(channel)?,
            Event::Hello => self.greet(self.now_s),
            Event::Status => {
                self.status_s += STATUS_S / self.clock();
                if self.is_usable() {
                    self.say_status();
                }
            }
            Event::Note => {
                if let Some((happened_s, note)) = self.notes.pop_front() {
                    self.say_note(happened_s, note);
                }
            }
            Event::Resend => {
                self.resend_s = self.now_s + self.resend_every_s;
                self.send_waiting();
            }
            Event::Action(action) => {
                self.next_action += 1;
                self.change(action, out)?;
            }
        }
        Ok(())
    }

    fn change(&mut self, action: Action, out: Out<'_>) -> Result<(), SimError> {
        let at_s = self.now_s;
        let now = Span { start_s: self.recording_time_s(), end_s: self.recording_time_s() };
        match action {
            Action::Disconnect => {
                self.leave_all(out);
                self.is_out = true;
                self.break_stream();
                self.report.disconnects.push(now);
                out(Packet::LinkDown { at_s });
            }
            Action::Reconnect => {
                self.is_out = false;
                if let Some(span) = self.report.disconnects.last_mut() {
                    span.end_s = now.end_s;
                }
                out(Packet::LinkUp { at_s });
                if self.has_link() {
                    self.greet(at_s);
                }
            }
            Action::Crash => {
                self.flush(out)?;
                self.end_session();
                self.break_stream();
                self.unlink();
                (self.is_off, self.is_started) = (true, false);
                self.memory.clear();
                self.notes.clear();
                self.report.reboots.push(now);
                out(Packet::LinkDown { at_s });
            }
            Action::Boot => {
                self.is_off = false;
                if let Some(span) = self.report.reboots.last_mut() {
                    span.end_s = now.end_s;
                }
                out(Packet::LinkUp { at_s });
                self.boot(at_s);
            }
            Action::LeadOff(index) | Action::LeadOn(index) => {
                if let Some(&lead_off) = self.spec.plan.lead_offs.get(index) {
                    let is_off = matches!(action, Action::LeadOff(_));
                    if is_off {
                        self.report.lead_offs.push(lead_off);
                    }
                    self.notes.push_back((at_s, Note::Contact(lead_off.channel, is_off)));
                }
            }
            Action::End => {
                self.flush(out)?;
                if self.is_usable() && self.spec.marks_lights {
                    self.say_note(at_s, Note::Mark(MarkKind::LightsOn));
                }
                self.finish("end", out);
            }
        }
        Ok(())
    }
}
