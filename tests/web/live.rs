//! A live session on the page: a mark made there is an annotation and a line of the session log, as
//! a sensor's is, and is still shown after the program was killed and has come again.

use sfm_runtime::edf::annotations;

use crate::http::{get, post, until};
use crate::run::{free_tcp, free_udp, lines, logs, recording, signal, sim, stream, turn, wait};

#[test]
fn a_mark_made_on_the_page_is_an_annotation() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (page, links) = (free_tcp(), free_udp());
    let command = format!("--udp {links} --speed 20 --out out --web {page}");
    let host = stream(dir, &command);
    let bed = || get(&page, "/api/beds/1").filter(|a| a.status == 200).map(|a| a.json());
    let state = until("the bed", bed);
    assert_eq!(
        (state["stretch"].as_str(), state["origin"].as_str()),
        (Some("waiting"), Some("sensors"))
    );
    let mark = |mark: &str| post(&page, "/api/beds/1/marks", &format!(r#"{{"mark":"{mark}"}}"#));
    assert_eq!(mark("event").status, 409, "before any sensor");

    let sensor =
        sim(dir, &recording(12), &format!("--udp {links} --speed 20 --seed 3 --memory 30"));
    let state = until("a stage", || bed().filter(|state| state["epochs"][1].is_object()));
    let device = &state["session"]["links"]["devices"][0];
    assert!(device["up"] == true && device["placed"].as_u64() > Some(0), "{device}");
    assert!(state["session"]["health"]["links_up"].as_u64() >= Some(1), "{}", state["session"]);
    let before_s = state["epochs"].as_array().expect("epochs").len() as f64 * 30.0;
    let made = mark("event");
    assert_eq!((made.status, made.body.trim()), (202, r#"{"mark":"Event button"}"#));
    assert_eq!(mark("lights").status, 400);

    let ours = |state: &serde_json::Value| {
        let marks = state["session"]["marks"].as_array().expect("marks").clone();
        marks.into_iter().find(|mark| mark["mark"] == "Event button")
    };
    let shown = until("the mark", || ours(&bed()?));
    assert_eq!(shown["device"], "");
    let onset_s = shown["onset_s"].as_f64().expect("a time");
    assert!(
        (before_s..before_s + 120.0).contains(&onset_s),
        "{onset_s} s, epochs up to {before_s} s"
    );
    let logged = until("the log's line", || {
        let log = lines(&dir.join("out/session.jsonl"));
        log.into_iter().find(|line| line["event"] == "mark" && line["device"] == "")
    });
    assert_eq!(logged["onset_s"].as_f64(), Some(onset_s));
    let annotated = || {
        let all = annotations(&dir.join("out/annotations.edf")).ok()?;
        all.into_iter().find(|a| a.text == "Event button")
    };
    // As exact as EDF+ has it.
    assert!((until("the annotation", annotated).onset_s - onset_s).abs() < 1e-3);

    signal(&host, "-KILL");
    wait(host, dir);
    let host = stream(dir, &format!("{command} --pass live"));
    let again = until("the bed again", || bed().filter(|state| ours(state).is_some()));
    assert_ne!(again["run"], state["run"]);
    until("more of the night", || bed().filter(|state| state["epochs"][19].is_object()));
    wait(sensor, dir);
    assert_eq!(wait(host, dir), 0, "{}", logs(dir));
    let marks = annotations(&dir.join("out/annotations.edf")).expect("opens");
    assert_eq!(marks.iter().filter(|a| a.text == "Event button").count(), 1);
}
