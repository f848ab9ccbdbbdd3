//! A live session as a source: samples from the links' thread, each handed to the recorder's
//! thread on its way to the pipeline. In a session that goes on, what was recorded before comes
//! first. Runs on the source's thread of the pipeline.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::mpsc::Receiver;

use super::event::SessionEvent;
use super::hub::FromLinks;
use super::log::LogLine;
use super::types::Totals;
use crate::recorder::{self, Annotations, RecorderThread};
use crate::signal::{DigitalBlock, SampleBlock, Scale, StreamInfo};
use crate::source::edf::EdfSource;
use crate::source::{Source, SourceError};

/// Blocks on their way that are a backlog.
const MANY: usize = 256;

/// What a session tells besides its samples.
pub trait Witness: Send {
    /// A line of the session log.
    fn line(&mut self, line: LogLine);

    /// The counts so far.
    fn totals(&mut self, totals: Totals);
}

/// The samples of a live session.
pub struct LiveSource<W> {
    info: StreamInfo,
    scales: Vec<Option<Scale>>,
    storable: RangeInclusive<i32>,
    /// What was recorded before a restart.
    recorded: Option<EdfSource>,
    from: Receiver<FromLinks>,
    recorder: RecorderThread,
    annotations: Annotations,
    witness: W,
    /// What has come and not gone on, in order.
    parts: VecDeque<DigitalBlock>,
}

impl<W: Witness> LiveSource<W> {
    /// The session `info`, whose signals are the recorder's, from `from`; `recorded` is what a
    /// session that goes on has in its recording.
    pub fn new(
        info: StreamInfo,
        from: Receiver<FromLinks>,
        recorder: RecorderThread,
        recorded: Option<EdfSource>,
        witness: W,
    ) -> Self {
        Self {
            scales: info.signals.iter().map(|signal| signal.scale()).collect(),
            storable: recorder::storable(&info.signals),
            info,
            recorded,
            from,
            annotations: recorder.annotations(),
            recorder,
            witness,
            parts: VecDeque::new(),
        }
    }

    /// The session is over: the recording is completed.
    pub fn finish(self) -> (RecorderThread, W) {
        (self.recorder, self.witness)
    }

    /// Samples are recorded at once, whatever the pipeline is at.
    fn take(&mut self, told: FromLinks) {
        match told {
            FromLinks::Block(live) => {
                self.recorder.push(live.clone());
                cut(live, &self.storable, &mut self.parts);
            }
            FromLinks::Log(line) => {
                if let Some((onset_s, duration_s, text)) = annotation(&line.event) {
                    self.annotations.add(onset_s, duration_s, &text);
                }
                self.witness.line(*line);
            }
            FromLinks::Totals(totals) => self.witness.totals(*totals),
            FromLinks::Started(_) => {}
        }
    }

    /// Puts a part of a live block, in physical units, into `block`.
    fn convert(&self, part: &DigitalBlock, block: &mut SampleBlock) {
        block.channel = part.channel;
        block.start = part.start;
        block.samples.clear();
        if let Some(Some(scale)) = self.scales.get(part.channel) {
            // As replay reads them, to the bit.
            block.samples.extend(part.samples.iter().map(|&d| scale.physical(d) as f32));
        }
    }
}

impl<W: Witness> Source for LiveSource<W> {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn can_wait(&self) -> bool {
        // What has queued up meanwhile is caught up with, too.
        self.recorded.is_some() || self.parts.len() > MANY
    }

    fn next_block(&mut self, block: &mut SampleBlock) -> Result<bool, SourceError> {
        if self.recorded.is_some() {
            while let Ok(told) = self.from.try_recv() {
                self.take(told);
            }
        }
        if let Some(recorded) = &mut self.recorded {
            match recorded.next_block(block) {
                Ok(true) => return Ok(true),
                Ok(false) => self.recorded = None,
                Err(error) => {
                    // What comes now can be recorded all the same.
                    self.recorded = None;
                    return Err(error);
                }
            }
        }
        loop {
            if let Some(part) = self.parts.pop_front() {
                self.convert(&part, block);
                return Ok(true);
            }
            // The links' thread lets go of its end when the session is over.
            match self.from.recv() {
                Ok(told) => self.take(told),
                Err(_) => return Ok(false),
            }
        }
    }
}

/// What of the session's log stands in `annotations.edf`: onset and duration in seconds, text.
fn annotation(event: &SessionEvent) -> Option<(f64, Option<f64>, String)> {
    match event {
        SessionEvent::Mark { onset_s, mark, .. } => Some((*onset_s, None, (*mark).to_owned())),
        SessionEvent::Silence { device, since_s } => {
            Some((*since_s, None, format!("Sensor silent {device}")))
        }
        _ => None,
    }
}

/// Cuts a block at the samples that the recording's format cannot hold: there they are missing, so
/// here they are.
fn cut(block: DigitalBlock, storable: &RangeInclusive<i32>, out: &mut VecDeque<DigitalBlock>) {
    if block.samples.iter().all(|sample| storable.contains(sample)) {
        out.push_back(block);
        return;
    }
    let DigitalBlock { channel, start, samples } = block;
    let end = start + samples.len() as u64;
    let mut place = start;
    for part in samples.split(|sample| !storable.contains(sample)) {
        if !part.is_empty() {
            out.push_back(DigitalBlock { channel, start: place, samples: part.to_vec() });
        }
        place += part.len() as u64 + 1;
    }
    out.push_back(DigitalBlock { channel, start: end, samples: Vec::new() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_cut_at_what_cannot_be_stored() {
        let block =
            |start, samples: &[i32]| DigitalBlock { channel: 2, start, samples: samples.to_vec() };
        let parts = |samples: &[i32]| {
            let mut out = VecDeque::new();
            cut(block(10, samples), &(-10..=10), &mut out);
            Vec::from(out)
        };
        assert_eq!(parts(&[1, -10, 10]), [block(10, &[1, -10, 10])]);
        assert_eq!(parts(&[]), [block(10, &[])]);
        assert_eq!(parts(&[1, 11, 12, 2]), [block(10, &[1]), block(13, &[2]), block(14, &[])]);
        assert_eq!(parts(&[11]), [block(11, &[])]);
    }
}
