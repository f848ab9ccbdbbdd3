//! What is known of the running night, as it is drawn. Bounded: the last half minute of signals,
//! one entry an epoch, the last lines. Labels and messages are kept without control characters.

use std::collections::VecDeque;
use std::time::Instant;

use sfm_models::Modality;

use crate::event::{EpochQuality, Event, Pass, SignalPatch, SleepEpoch, Started};
use crate::health::Status;
use crate::text::escaped;

/// Seconds of signal on the screen.
pub(super) const SHOWN_S: f64 = 30.0;
/// Lines kept.
const MAX_LINES: usize = 50;
/// Epochs of a week: nobody sleeps longer.
const MAX_EPOCHS: usize = 7 * 2880;

/// One mapped channel.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    pub label: String,
    pub modality: Option<Modality>,
    /// The last half minute, NaN where nothing is; the newest last.
    pub samples: VecDeque<f32>,
    pub gaps: u32,
    pub missing_s: f64,
}

/// The state of the run.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub study: String,
    pub started: Option<Box<Started>>,
    pub begun: Instant,
    /// How far the pass has come, seconds of the recording, and when.
    pub position_s: f64,
    pub traces: Vec<Trace>,
    pub rate_hz: f64,
    /// By index; `None` where none came yet.
    pub epochs: Vec<Option<SleepEpoch>>,
    /// The newest epoch.
    pub current: Option<SleepEpoch>,
    pub quality: Option<Box<EpochQuality>>,
    pub lost: Vec<Modality>,
    pub lines: VecDeque<String>,
    /// How a live session is, where it is not well, and why.
    pub trouble: Option<(Status, String)>,
    /// Passes that were carried through.
    pub nights: Vec<Pass>,
    /// Something is to be drawn.
    pub changed: bool,
    /// No event comes any more.
    pub is_over: bool,
    /// The picture waits for a key.
    pub stays: bool,
    /// The user wants to go.
    pub leaves: bool,
}

impl State {
    pub fn new(study: &str) -> Self {
        Self {
            study: escaped(study),
            started: None,
            begun: Instant::now(),
            position_s: 0.0,
            traces: Vec::new(),
            rate_hz: 128.0,
            epochs: Vec::new(),
            current: None,
            quality: None,
            lost: Vec::new(),
            lines: VecDeque::new(),
            trouble: None,
            nights: Vec::new(),
            changed: true,
            is_over: false,
            stays: false,
            leaves: false,
        }
    }

    /// The run was carried through: there is something left to look at.
    pub fn is_whole(&self) -> bool {
        self.started.as_ref().is_some_and(|started| self.nights.contains(&started.pass))
    }

    /// A line for the log's pane.
    pub fn log(&mut self, line: &str) {
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(escaped(line));
        self.changed = true;
    }

    /// Takes an event.
    pub fn take(&mut self, event: &Event) {
        self.changed = true;
        match event {
            Event::Started(started) => self.start(started),
            Event::Signals(patch) => self.signals(patch),
            Event::Epoch(epoch) => self.epoch(epoch),
            Event::Quality(quality) => self.quality = Some(quality.clone()),
            Event::Gap(gap) => {
                if let Some(trace) = self.traces.get_mut(gap.channel) {
                    trace.gaps += 1;
                    trace.missing_s += gap.duration_s;
                }
            }
            Event::Modality(change) => {
                self.lost.retain(|lost| *lost != change.modality);
                if !change.present {
                    self.lost.push(change.modality);
                }
            }
            Event::Warning { message } => self.log(&format!("warning: {message}")),
            Event::Night(night) => self.nights.push(night.pass),
            Event::Window(_) => {}
        }
    }

    /// A pass begins: its gaps and signals come again; the stages stay until it knows better.
    fn start(&mut self, started: &Started) {
        self.traces = started
            .channels
            .iter()
            .map(|channel| Trace {
                label: escaped(&channel.label),
                modality: channel.modality,
                ..Trace::default()
            })
            .collect();
        self.started = Some(Box::new(started.clone()));
        (self.begun, self.position_s) = (Instant::now(), 0.0);
        (self.current, self.quality) = (None, None);
        self.lost.clear();
    }

    fn signals(&mut self, patch: &SignalPatch) {
        self.rate_hz = patch.rate_hz;
        let kept = (SHOWN_S * patch.rate_hz) as usize;
        let length = patch.channels.iter().map(|channel| channel.samples.len()).max();
        let length = length.unwrap_or(0);
        for channel in &patch.channels {
            let Some(trace) = self.traces.get_mut(channel.channel) else { continue };
            trace.samples.extend(&channel.samples);
            trace.samples.extend(std::iter::repeat_n(f32::NAN, length - channel.samples.len()));
            let old = trace.samples.len().saturating_sub(kept);
            trace.samples.drain(..old);
        }
        self.position_s = patch.onset_s + length as f64 / patch.rate_hz;
    }

    fn epoch(&mut self, epoch: &SleepEpoch) {
        let index = epoch.epoch as usize;
        if index >= MAX_EPOCHS {
            return;
        }
        if index >= self.epochs.len() {
            self.epochs.resize(index + 1, None);
        }
        self.epochs[index] = Some(epoch.clone());
        if self.current.as_ref().is_none_or(|current| current.epoch <= epoch.epoch) {
            self.current = Some(epoch.clone());
        }
    }

    /// How fast the pass is, as a multiple of real time.
    pub fn speed(&self) -> f64 {
        self.position_s / self.begun.elapsed().as_secs_f64().max(1e-3)
    }
}
