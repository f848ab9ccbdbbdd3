//! The signals as messages, `--publish-frames`: what a picture needs, for whoever listens at the
//! moment. Never on the disk; where the server is slow or gone the oldest are dropped and counted.
//!
//! One message of `PREFIX.STUDY.frames` holds a 5-s patch of every mapped channel:
//!
//! ```text
//! 0      N, the header's length in bytes: u32, little-endian
//! 4      the header, N bytes of JSON (UTF-8):
//!        {"frame":1,"pass":"live","patch":12,"onset_s":60.0,"rate_hz":128.0,
//!         "channels":[{"channel":0,"label":"EEG C3-M2","unit":"uV","samples":640},...]}
//! 4 + N  the samples of the first channel, then of the second and so on: f32, little-endian,
//!        in the channel's unit, NaN where there is none; `samples` is 0 where there is none at all
//! ```
//! `frame` is the version of this form. The body is 4 + N + 4 * (sum of all `samples`) bytes long.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::delivery::Shared;
use super::topic::Topics;
use crate::event::{Event, Pass, SignalPatch};
use crate::sink::{Sink, SinkError};
use crate::text::json_text;

/// Five minutes of them; 46 kB each with 18 channels.
const QUEUE: usize = 60;

/// One message.
#[derive(Debug, PartialEq)]
pub struct Frame {
    /// Its subject.
    pub subject: String,
    /// Its body.
    pub bytes: Vec<u8>,
}

/// The queue between the sinks' thread and the one that delivers.
#[derive(Debug, Default)]
pub struct Frames {
    queue: Mutex<(VecDeque<Frame>, u64)>,
}

impl Frames {
    fn queue(&self) -> MutexGuard<'_, (VecDeque<Frame>, u64)> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, frame: Frame) {
        let mut queue = self.queue();
        if queue.0.len() == QUEUE {
            queue.0.pop_front();
            queue.1 += 1;
        }
        queue.0.push_back(frame);
    }

    /// The oldest one.
    pub fn take(&self) -> Option<Frame> {
        self.queue().0.pop_front()
    }

    fn dropped(&self) -> u64 {
        self.queue().1
    }
}

#[derive(Serialize)]
struct Header<'a> {
    frame: u32,
    pass: Pass,
    patch: u32,
    onset_s: f64,
    rate_hz: f64,
    channels: Vec<Channel<'a>>,
}

#[derive(Serialize)]
struct Channel<'a> {
    channel: usize,
    label: &'a str,
    unit: &'a str,
    samples: usize,
}

/// Makes frames of signals.
pub struct FrameSink {
    server: String,
    subject: String,
    frames: Arc<Frames>,
    shared: Arc<Shared>,
    /// Label and unit of a channel.
    names: HashMap<usize, (String, String)>,
}

impl FrameSink {
    /// `shared` belongs to whoever delivers `frames`.
    pub fn new(server: String, topics: &Topics, frames: Arc<Frames>, shared: Arc<Shared>) -> Self {
        Self { server, subject: topics.of("frames"), frames, shared, names: HashMap::new() }
    }

    fn bytes(&self, patch: &SignalPatch) -> Result<Vec<u8>, serde_json::Error> {
        let channels = patch.channels.iter().map(|channel| {
            let (label, unit) = self.names.get(&channel.channel).map_or(("", ""), |(l, u)| (l, u));
            Channel { channel: channel.channel, label, unit, samples: channel.samples.len() }
        });
        let SignalPatch { pass, patch: index, onset_s, rate_hz, .. } = *patch;
        let channels = channels.collect();
        let header = Header { frame: 1, pass, patch: index, onset_s, rate_hz, channels };
        let header = json_text(&header)?;
        let header = header.trim_end();
        let mut bytes = (header.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        let samples = patch.channels.iter().flat_map(|channel| &channel.samples);
        bytes.extend(samples.flat_map(|sample| sample.to_le_bytes()));
        Ok(bytes)
    }
}

impl Sink for FrameSink {
    fn name(&self) -> String {
        format!("frames to {}", self.server)
    }

    fn is_output(&self) -> bool {
        false
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        match event {
            Event::Started(started) => {
                let channels = started.channels.iter();
                let names = channels.map(|c| (c.channel, (c.label.clone(), c.unit.clone())));
                self.names = names.collect();
            }
            Event::Signals(patch) => {
                let bytes = self.bytes(patch);
                let bytes = bytes.map_err(|e| SinkError(format!("{}: {e}", self.name())))?;
                self.frames.put(Frame { subject: self.subject.clone(), bytes });
                self.shared.wake();
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        match self.frames.dropped() {
            0 => Ok(()),
            dropped => Err(SinkError(format!(
                "{}: {dropped} were dropped; the server was slow or gone",
                self.name()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ChannelPatch;
    use crate::publish::topic::Separator;

    #[test]
    fn a_frame_is_its_header_and_its_samples() {
        let dir = tempfile::tempdir().expect("a folder");
        let topics = Topics::new("sfm", "n 1", Separator::Dot).expect("topics");
        let shared = Shared::for_test(&dir.path().join("x.outbox"));
        let frames = Arc::new(Frames::default());
        let mut sink = FrameSink::new("nats://x:1".into(), &topics, frames.clone(), shared);
        sink.names.insert(3, ("EEG \"C3\"".into(), "uV".into()));
        let patch = |patch| SignalPatch {
            pass: Pass::Live,
            patch,
            onset_s: 60.0,
            rate_hz: 128.0,
            channels: vec![
                ChannelPatch { channel: 3, samples: vec![1.5, f32::NAN] },
                ChannelPatch { channel: 4, samples: vec![] },
            ],
        };
        for index in 0..QUEUE as u32 + 2 {
            sink.take(&Event::Signals(Box::new(patch(index)))).expect("taken");
        }
        let frame = frames.take().expect("a frame");
        assert_eq!(frame.subject, "sfm.n%201.frames");
        let length = u32::from_le_bytes(frame.bytes[..4].try_into().expect("4 bytes")) as usize;
        let header: serde_json::Value =
            serde_json::from_slice(&frame.bytes[4..4 + length]).expect("JSON");
        assert_eq!(header["patch"], 2, "the two oldest are gone");
        assert_eq!(header["channels"][0]["label"], "EEG \"C3\"");
        assert_eq!(header["channels"][0]["samples"], 2);
        assert_eq!(frame.bytes[4 + length..4 + length + 4], 1.5f32.to_le_bytes());
        assert_eq!(frame.bytes.len(), 4 + length + 8);
        let told = sink.finish().expect_err("two are missing").to_string();
        assert!(told.contains("2 were dropped"), "{told}");
    }
}
