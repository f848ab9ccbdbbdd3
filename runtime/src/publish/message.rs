//! What of an event is said to other systems, under which topic and id. The text is that of
//! `events.jsonl` with an id before it; no patient field is in an event.

use super::outbox::Message;
use super::topic::Topics;
use crate::event::{Event, Pass, SleepEpoch};
use crate::text::json_text;

/// Makes messages of one session's events.
#[derive(Debug)]
pub struct Messages {
    session: String,
    topics: Topics,
    /// The newest epoch so far.
    newest: u32,
}

/// A message without its text: the last level of its topic, whether it stays until the next one,
/// and what tells it from the others of its session.
struct Kind {
    leaf: &'static str,
    retain: bool,
    key: String,
}

impl Kind {
    fn passing(leaf: &'static str, key: String) -> Self {
        Self { leaf, retain: false, key }
    }

    fn lasting(leaf: &'static str, key: String) -> Self {
        Self { leaf, retain: true, key }
    }
}

impl Messages {
    /// For the session of this name.
    pub fn new(session: String, topics: Topics) -> Self {
        Self { session, topics, newest: 0 }
    }

    /// The messages that `event` is told in: none, one, or two.
    ///
    /// # Errors
    /// [`serde_json::Error`] for an event that JSON cannot hold; there is none.
    pub fn of(&mut self, event: &Event) -> Result<Vec<Message>, serde_json::Error> {
        let kinds = self.kinds(event);
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        let text = json_text(event)?;
        Ok(kinds.into_iter().map(|kind| self.message(kind, text.trim_end())).collect())
    }

    /// `text` is a JSON object with at least one member. Its sum is part of the id: what a restart
    /// or the end of a session makes known better is another message.
    fn message(&self, Kind { leaf, retain, key }: Kind, text: &str) -> Message {
        let sum = crc32fast::hash(text.as_bytes());
        let id = format!("{}-{key}-{sum:08x}", self.session);
        let body = format!("{{\"id\":\"{id}\",{}", text.trim_start_matches('{'));
        Message { id, topic: self.topics.of(leaf), retain, body }
    }

    fn kinds(&mut self, event: &Event) -> Vec<Kind> {
        match event {
            Event::Epoch(epoch) => self.epoch(epoch),
            Event::Started(started) => {
                vec![Kind::lasting("started", format!("{}-started", name(started.pass)))]
            }
            Event::Night(night) => {
                vec![Kind::lasting("night", format!("{}-night", name(night.pass)))]
            }
            Event::Gap(gap) => {
                let pass = name(gap.pass);
                vec![Kind::passing("gap", format!("{pass}-gap-{}-{}", gap.channel, gap.start))]
            }
            Event::Quality(quality) => {
                let pass = name(quality.pass);
                vec![Kind::passing("quality", format!("{pass}-quality-{}", quality.epoch))]
            }
            Event::Modality(change) => {
                let (pass, modality) = (name(change.pass), change.modality.as_str());
                let key = format!("{pass}-modality-{modality}-{}", change.epoch);
                vec![Kind::passing("modality", key)]
            }
            Event::Warning { .. } => vec![Kind::passing("warning", "warning".to_owned())],
            // Pictures and embeddings are no messages.
            Event::Signals(_) | Event::Window(_) => Vec::new(),
        }
    }

    /// Every epoch under `epoch`; the newest one under `stage` too, so that an old one that settles
    /// does not take its place.
    fn epoch(&mut self, epoch: &SleepEpoch) -> Vec<Kind> {
        let (pass, status) = (name(epoch.pass), epoch.status.as_str());
        let key = |kind| format!("{pass}-{kind}-{}-{status}", epoch.epoch);
        let mut kinds = vec![Kind::passing("epoch", key("epoch"))];
        if epoch.epoch >= self.newest {
            self.newest = epoch.epoch;
            kinds.push(Kind::lasting("stage", key("stage")));
        }
        kinds
    }
}

fn name(pass: Pass) -> &'static str {
    match pass {
        Pass::Live => "live",
        Pass::Final => "final",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EpochStatus;
    use crate::publish::topic::Separator;

    fn epoch(epoch: u32, status: EpochStatus, confidence: f32) -> Event {
        Event::Epoch(SleepEpoch {
            pass: Pass::Live,
            epoch,
            onset_s: 30.0 * f64::from(epoch),
            stage: None,
            probabilities: [f32::NAN; 5],
            quality: 0.0,
            confidence,
            status,
        })
    }

    fn messages() -> Messages {
        let topics = Topics::new("sfm", "a/<b>", Separator::Slash).expect("topics");
        Messages::new("00000000000000a1".into(), topics)
    }

    #[test]
    fn ids_are_the_same_for_the_same_content_and_no_other() {
        let ids = |events: &[Event]| -> Vec<String> {
            let mut messages = messages();
            let all = events.iter().map(|event| messages.of(event).expect("JSON"));
            all.flatten().map(|message| message.id).collect()
        };
        let night = [
            epoch(0, EpochStatus::Provisional, 0.0),
            epoch(1, EpochStatus::Provisional, 0.0),
            epoch(1, EpochStatus::Settled, 0.0),
            epoch(1, EpochStatus::Settled, 0.5),
            Event::Warning { message: "a".into() },
            Event::Warning { message: "b".into() },
        ];
        let first = ids(&night);
        assert_eq!(first, ids(&night));
        let different: std::collections::BTreeSet<_> = first.iter().collect();
        assert_eq!(different.len(), first.len(), "{first:?}");
        assert!(first[0].starts_with("00000000000000a1-live-epoch-0-provisional-"), "{first:?}");
    }

    #[test]
    fn the_stage_is_that_of_the_newest_epoch() {
        let mut messages = messages();
        let mut leaves = |event: Event| -> Vec<(String, bool)> {
            let all = messages.of(&event).expect("JSON").into_iter();
            all.map(|message| (message.topic, message.retain)).collect()
        };
        let (epochs, stage) = ("sfm/a%2F%3Cb%3E/epoch", "sfm/a%2F%3Cb%3E/stage");
        let both = vec![(epochs.to_owned(), false), (stage.to_owned(), true)];
        assert_eq!(leaves(epoch(7, EpochStatus::Provisional, 0.0)), both);
        assert_eq!(leaves(epoch(6, EpochStatus::Settled, 0.0)), both[..1]);
        assert_eq!(leaves(epoch(7, EpochStatus::Settled, 0.0)), both);
    }

    #[test]
    fn the_text_is_that_of_the_file_and_the_id() {
        let event = Event::Warning { message: "<script> \u{1b}[2J \"quoted\"".into() };
        let [message] = &messages().of(&event).expect("JSON")[..] else { panic!("one message") };
        let mut read: serde_json::Value = serde_json::from_str(&message.body).expect("JSON");
        let id = read.as_object_mut().and_then(|object| object.remove("id"));
        assert_eq!(id, Some(message.id.as_str().into()));
        let line = json_text(&event).expect("JSON");
        assert_eq!(read, serde_json::from_str::<serde_json::Value>(&line).expect("JSON"));
        assert!(!message.body.contains(char::is_control));
    }
}
