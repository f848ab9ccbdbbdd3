use std::time::Duration;

use super::*;
use crate::event::EpochStatus;
use crate::event::{ChannelUse, Gap, Pass, SignalPatch, Started};
use crate::link::clock::HostClock;
use crate::link::event::SessionEvent;
use crate::link::mark;

fn room() -> Room {
    Room::new("1", "night", Origin::Sensors, None)
}

fn started(pass: Pass) -> Event {
    Event::Started(Box::new(Started {
        pass,
        format: "EDF".to_owned(),
        start: Some("2026-01-01T22:00:00".to_owned()),
        duration_s: None,
        channels: vec![ChannelUse {
            channel: 0,
            label: "C3\u{202e}\u{7}<b>".to_owned(),
            rate_hz: 128.0,
            unit: "uV".to_owned(),
            modality: Some(Modality::Bas),
            rule: String::new(),
        }],
        modalities_absent: vec![],
        bundle: "b".to_owned(),
        bundle_sha256: String::new(),
        training_data: String::new(),
        caution: None,
        backend: String::new(),
    }))
}

fn epoch(epoch: u32, stage: SleepStage, status: EpochStatus) -> Event {
    Event::Epoch(SleepEpoch {
        pass: Pass::Live,
        epoch,
        onset_s: f64::from(epoch) * 30.0,
        stage: Some(stage),
        probabilities: [0.2; 5],
        quality: 1.0,
        confidence: 0.2,
        status,
    })
}

fn gap(label: &str) -> Event {
    Event::Gap(Gap {
        pass: Pass::Live,
        channel: 0,
        label: label.to_owned(),
        start: 0,
        samples: 128,
        onset_s: 3.0,
        duration_s: 1.5,
    })
}

fn json(room: &Room) -> serde_json::Value {
    serde_json::to_value(room.snapshot()).expect("JSON")
}

fn numbers(messages: &[Arc<Message>]) -> Vec<u64> {
    messages.iter().filter_map(|message| message.number).collect()
}

fn names(messages: &[Arc<Message>]) -> Vec<&'static str> {
    messages.iter().map(|message| message.name).collect()
}

#[test]
fn who_was_cut_off_gets_what_came_meanwhile() {
    let room = room();
    room.take(&started(Pass::Live));
    let at = json(&room)["last_id"].as_str().expect("an id").to_owned();
    for index in 0..3 {
        room.take(&epoch(index, SleepStage::N2, EpochStatus::Provisional));
    }
    let missed = room.subscribe(Some(&at)).missed;
    assert_eq!(numbers(&missed), [2, 3, 4]);
    let last = json(&room)["last_id"].as_str().expect("an id").to_owned();
    assert_eq!(names(&room.subscribe(Some(&last)).missed), ["signals"]);
    assert_eq!(names(&room.subscribe(None).missed), ["signals"]);
    // Another run, what is no id, an id of the future, and one that is too long ago.
    let run = at.split('.').next().expect("a run");
    for id in ["deadbeef.1", "x", "", &format!("{run}.99"), &format!("{run}.-1")] {
        let missed = room.subscribe(Some(id)).missed;
        assert_eq!(names(&missed), ["reset", "signals"], "{id}");
    }
    for _ in 0..KEPT {
        room.take(&gap("C3"));
    }
    assert_eq!(room.subscribe(Some(&at)).missed[0].name, "reset");
    assert_eq!(numbers(&room.subscribe(Some(&format!("{run}.4"))).missed).len(), KEPT);
    room.end("the run is over");
    assert_eq!(names(&room.subscribe(None).missed), ["signals", "ended"]);
}

#[test]
fn a_browser_that_is_too_slow_holds_up_nobody() {
    let room = room();
    let mut slow = room.subscribe(None).coming;
    for index in 0..2000 {
        room.take(&epoch(index, SleepStage::N2, EpochStatus::Provisional));
    }
    let lagged = slow.try_recv().expect_err("it lost some");
    assert!(matches!(lagged, broadcast::error::TryRecvError::Lagged(_)), "{lagged:?}");
    assert_eq!(json(&room)["epochs"].as_array().map(Vec::len), Some(2000));
}

#[test]
fn a_settled_stage_is_not_taken_back_and_a_final_pass_is_not_counted_twice() {
    let room = room();
    room.take(&started(Pass::Live));
    room.take(&epoch(0, SleepStage::N1, EpochStatus::Provisional));
    room.take(&epoch(0, SleepStage::N2, EpochStatus::Settled));
    room.take(&epoch(0, SleepStage::N1, EpochStatus::Provisional));
    room.take(&gap("C3"));
    assert_eq!(json(&room)["epochs"][0]["stage"], "N2");
    room.take(&started(Pass::Final));
    room.take(&gap("C3"));
    let signals =
        SignalPatch { pass: Pass::Final, patch: 0, onset_s: 0.0, rate_hz: 128.0, channels: vec![] };
    room.take(&Event::Signals(Box::new(signals)));
    room.take(&epoch(0, SleepStage::N3, EpochStatus::Final));
    let state = json(&room);
    assert_eq!(state["stretch"], "final");
    assert_eq!(state["epochs"][0]["stage"], "N3");
    assert_eq!(state["gaps"]["channels"]["0"]["gaps"], 1);
    assert_eq!(state["signals"]["next_patch"], 0);
    room.end("the run is over");
    room.end("again");
    let state = json(&room);
    assert_eq!(
        (state["stretch"].as_str(), state["ended"].as_str()),
        (Some("ended"), Some("the run is over"))
    );
}

#[test]
fn names_come_escaped() {
    let room = Room::new("1\u{1b}[2J", "\u{202e}night", Origin::Replay, None);
    room.take(&started(Pass::Live));
    room.take(&gap("C3\u{9b}31m"));
    room.take(&Event::Warning { message: "\u{0}odd".to_owned() });
    let link = "serial \u{1b}]0;x\u{7}".to_owned();
    room.line(&LogLine {
        session_s: 0.0,
        utc: String::new(),
        event: SessionEvent::LinkUp { link },
    });
    let is_hidden = |c: char| crate::text::is_hidden(c);
    let state = json(&room).to_string();
    assert!(
        !state.contains(is_hidden) && !state.contains("\\u00") && !state.contains("\\u20"),
        "{state}"
    );
    let summary = serde_json::to_string(&room.summary()).expect("JSON");
    assert!(!summary.contains(is_hidden), "{summary}");
}

#[test]
fn marks_are_taken_while_a_session_lives() {
    let replay = Room::new("replay", "", Origin::Replay, None);
    replay.take(&started(Pass::Live));
    assert!(replay.mark(Mark::LightsOff).expect_err("refused").contains("replay"));
    let (button, marks) = mark::button(HostClock::start(1.0));
    let room = Room::new("1", "", Origin::Sensors, Some(button));
    assert!(room.mark(Mark::LightsOff).expect_err("refused").contains("not begun"));
    room.take(&started(Pass::Live));
    assert_eq!(room.mark(Mark::LightsOff), Ok(()));
    assert!(json(&room)["marks_refused"].is_null());
    // Nobody takes them: they do not pile up, and the one who presses is told.
    let refused = (0..100).find_map(|_| room.mark(Mark::Event).err());
    assert_eq!(refused, Some("too many marks at a time; try again"));
    drop(marks);
    assert_eq!(room.mark(Mark::Event), Err("the session is over"));
}

#[test]
fn counts_that_say_nothing_new_are_told_now_and_then() {
    let room = room();
    let mut coming = room.subscribe(None).coming;
    let totals = Totals { links: 1, ..Totals::default() };
    for _ in 0..10 {
        room.totals(&totals);
    }
    room.totals(&Totals { links: 0, ..totals });
    let told: Vec<_> = std::iter::from_fn(|| coming.try_recv().ok()).map(|m| m.name).collect();
    assert_eq!(told, ["links", "links"]);
    assert!(COUNTS_EVERY > Duration::from_secs(1));
}
