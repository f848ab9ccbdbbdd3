//! What `health` says: that the session runs, and how it is, as `/healthz` has it of its bed. Said
//! when something about it changes and every [`BEAT`] besides, so that who hears nothing for longer
//! knows something too. Reads what the session's threads set; nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::health::{BedReport, Health};

/// Longest time between two messages.
const BEAT: Duration = Duration::from_secs(30);
/// How often it is looked whether something has changed.
const LOOK: Duration = Duration::from_secs(1);

/// The `health` topic of a session that runs.
#[derive(Debug, Clone)]
pub struct Pulse {
    /// The topic or subject.
    pub topic: String,
    /// The session; `None` for a replay, which nobody watches.
    bed: Option<Arc<Health>>,
    /// When it was last said, and the essence of it.
    said: Option<(Instant, String)>,
    looked: Option<Instant>,
}

impl Pulse {
    /// Nothing is said yet.
    pub fn new(topic: String, bed: Option<Arc<Health>>) -> Self {
        Self { topic, bed, said: None, looked: None }
    }

    /// That the session runs, and how it is.
    pub fn online(&mut self) -> String {
        let report = self.bed.as_deref().map(Health::report);
        self.said = Some((Instant::now(), essence(report.as_ref())));
        text("online", "", report)
    }

    /// That it does not.
    pub fn offline(&self, why: &str) -> String {
        text("offline", why, None)
    }

    /// [`Pulse::online`] where it is to be said again.
    pub fn due(&mut self) -> Option<String> {
        self.looked = Some(Instant::now());
        let (at, said) = self.said.as_ref()?;
        let report = self.bed.as_deref()?.report();
        let is_due = at.elapsed() >= BEAT || essence(Some(&report)) != *said;
        is_due.then(|| self.online())
    }
}

/// Returns when [`Pulse::due`] is to be asked again; never for what cannot change.
pub async fn until_due(pulse: &Option<Pulse>) {
    match pulse.as_ref().filter(|pulse| pulse.bed.is_some()).map(|pulse| pulse.looked) {
        None => std::future::pending().await,
        Some(None) => (),
        Some(Some(at)) => tokio::time::sleep_until(at + LOOK).await,
    }
}

/// What is worth a message when it changes: all but the epoch and figures that always change.
fn essence(report: Option<&BedReport>) -> String {
    let Some(bed) = report else { return String::new() };
    // A device's number is no figure, though its digits may all be decimal.
    let is_figure = |word: &&str| word.len() < 10 && word.bytes().all(|b| b.is_ascii_digit());
    let words = bed.reasons.iter().flat_map(|reason| reason.split(' '));
    let reasons: Vec<&str> = words.filter(|word| !is_figure(word)).collect();
    let told = json!([bed.status, bed.phase, bed.recorder, bed.links, bed.links_up, reasons]);
    told.to_string()
}

fn text(status: &str, why: &str, bed: Option<BedReport>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut said = json!({ "status": status, "why": why, "version": version });
    if let (Some(bed), Some(said)) = (bed, said.as_object_mut()) {
        // Plain values: it cannot fail.
        said.insert("bed".to_owned(), serde_json::to_value(bed).unwrap_or_default());
    }
    said.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Beds, Limits, Phase, Recorder};

    fn read(text: &str) -> serde_json::Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn it_is_said_again_when_something_changes_and_now_and_then() {
        let beds = Arc::new(Beds::new(Limits::default()));
        let watched = beds.begin("4", None);
        let mut pulse = Pulse::new("sfm/a/health".to_owned(), Some(watched.health.clone()));
        assert_eq!(pulse.due(), None, "nothing before the server is there");
        let first = read(&pulse.online());
        assert_eq!(
            (&first["status"], &first["bed"]["phase"]),
            (&"online".into(), &"starting".into())
        );
        assert_eq!(pulse.due(), None);
        watched.health.epoch(7);
        assert_eq!(pulse.due(), None, "an epoch has messages of its own");
        watched.health.phase(Phase::Live);
        watched.health.recorder(Recorder::Stopped("the disk is full".to_owned()));
        let bad = read(&pulse.due().expect("changed"));
        assert_eq!(bad["bed"]["status"], "failing");
        assert!(bad["bed"]["reasons"][0].as_str().is_some_and(|why| why.contains("disk")), "{bad}");
        assert_eq!(pulse.due(), None);
        watched.health.link("serial /dev/ttyACM0", false);
        watched.health.link("serial /dev/ttyACM1", true);
        assert!(pulse.due().is_some_and(|text| text.contains("down: serial /dev/ttyACM0")));
        watched.health.link("serial /dev/ttyACM0", true);
        watched.health.link("serial /dev/ttyACM1", false);
        assert!(pulse.due().is_some_and(|text| text.contains("down: serial /dev/ttyACM1")));
        if let Some((at, _)) = &mut pulse.said {
            *at = at.checked_sub(BEAT).expect("this machine is up for longer");
        }
        assert_eq!(read(&pulse.due().expect("a beat"))["bed"]["last_epoch"], 7);
    }

    #[test]
    fn a_replay_says_that_it_runs_and_no_more() {
        let mut pulse = Pulse::new("t".to_owned(), None);
        assert!(read(&pulse.online()).get("bed").is_none());
        assert_eq!(pulse.due(), None);
        assert_eq!(read(&pulse.offline("the run is over"))["why"], "the run is over");
    }
}
