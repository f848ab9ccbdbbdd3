//! What the page shows of a live session besides its stages: links, devices and their clocks, marks,
//! the last lines of the session log, health. Names come from sensors and are escaped.

use std::collections::VecDeque;

use serde::Serialize;

use super::state::push_last;
use crate::health::BedReport;
use crate::link::event::SessionEvent;
use crate::link::log::LogLine;
use crate::link::types::Totals;
use crate::text::escaped;
use crate::text::hex;

/// Marks and lines that are kept.
const MAX_MARKS: usize = 200;
const MAX_LINES: usize = 100;

/// A live session; empty for a replay.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SessionState {
    /// `null` before the first count.
    pub links: Option<Links>,
    /// Marks of people, in the order they came.
    pub marks: VecDeque<ShownMark>,
    /// The newest lines of the session log.
    pub log: VecDeque<ShownLine>,
    /// As `/healthz` has it.
    pub health: Option<BedReport>,
}

/// Links and devices.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Links {
    /// Links that are up.
    pub up: usize,
    /// Frames that were damaged on the way.
    pub damaged_frames: u64,
    /// Blocks that this program had to drop.
    pub dropped_blocks: u64,
    /// Each device.
    pub devices: Vec<ShownDevice>,
}

/// A device, its clock and what became of its samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownDevice {
    /// Its number in hexadecimal.
    pub device: String,
    /// It has a link.
    pub up: bool,
    /// It has said that its session is over.
    pub ended: bool,
    /// Seconds since anything of it got its place, at the moment of the count.
    pub sample_age_s: Option<f64>,
    /// Parts per million that its clock is fast; `null` before that is known.
    pub clock_fast_ppm: Option<f64>,
    /// Median round trip, milliseconds; `null` for a device that does not answer.
    pub round_trip_ms: Option<f64>,
    /// Samples in their places.
    pub placed: u64,
    /// Samples that never came.
    pub lost: u64,
    /// Samples that came again on request.
    pub resent: u64,
}

impl Links {
    fn of(totals: &Totals) -> Self {
        let arrivals = |device| totals.arrivals.devices.iter().find(|a| a.device == device);
        Self {
            up: totals.links,
            damaged_frames: totals.frames.rejected,
            dropped_blocks: totals.dropped_blocks,
            devices: totals
                .devices
                .iter()
                .map(|device| ShownDevice {
                    device: hex(device.device),
                    up: device.is_up,
                    ended: arrivals(device.device).is_some_and(|a| a.has_ended),
                    sample_age_s: arrivals(device.device).map(|a| a.age_s),
                    clock_fast_ppm: device.fast_ppm,
                    round_trip_ms: device.round_trip_s.map(|s| s * 1e3),
                    placed: device.samples.placed,
                    lost: device.samples.lost,
                    resent: device.samples.resent,
                })
                .collect(),
        }
    }

    /// Whether a link or a device came or went.
    fn changed(&self, earlier: &Self) -> bool {
        let state = |device: &ShownDevice| (device.up, device.ended);
        let up = |links: &Self| links.devices.iter().map(state).collect::<Vec<_>>();
        self.up != earlier.up || up(self) != up(earlier)
    }
}

/// A mark.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownMark {
    /// Seconds after the start of the recording.
    pub onset_s: f64,
    /// As in `annotations.edf`.
    pub mark: String,
    /// The device it came from; empty for one made at the host.
    pub device: String,
}

/// A line of the session log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownLine {
    /// Seconds after the start of the session.
    pub session_s: f64,
    /// Wall clock.
    pub utc: String,
    /// One line for people.
    pub text: String,
    /// Somebody should look.
    pub trouble: bool,
}

impl SessionState {
    /// Takes the counts; returns them with whether a link or a device came or went.
    pub fn count(&mut self, totals: &Totals) -> (&Links, bool) {
        let links = Links::of(totals);
        let changed = self.links.as_ref().is_none_or(|earlier| links.changed(earlier));
        (self.links.insert(links), changed)
    }

    /// Takes a mark, if the line is one.
    pub fn mark(&mut self, line: &LogLine) -> Option<ShownMark> {
        let SessionEvent::Mark { device, onset_s, mark } = &line.event else { return None };
        let mark =
            ShownMark { onset_s: *onset_s, mark: (*mark).to_owned(), device: escaped(device) };
        push_last(&mut self.marks, mark.clone(), MAX_MARKS);
        Some(mark)
    }

    /// Takes marks of before a restart, onset in seconds and text; whose they are is not known.
    pub fn restore_marks(&mut self, marks: impl IntoIterator<Item = (f64, String)>) {
        for (onset_s, mark) in marks {
            let mark = ShownMark { onset_s, mark: escaped(&mark), device: String::new() };
            push_last(&mut self.marks, mark, MAX_MARKS);
        }
    }

    /// Takes a line for people. Counts that come by the minute are left to `session.jsonl`.
    pub fn line(&mut self, line: &LogLine) -> Option<ShownLine> {
        use SessionEvent::{Clock, Ledger, Mark, Status};
        if matches!(line.event, Clock { .. } | Ledger { .. } | Mark { .. } | Status { .. }) {
            return None;
        }
        let shown = ShownLine {
            session_s: line.session_s,
            utc: line.utc.clone(),
            text: escaped(&line.event.to_string()),
            trouble: line.event.is_trouble(),
        };
        push_last(&mut self.log, shown.clone(), MAX_LINES);
        Some(shown)
    }
}
