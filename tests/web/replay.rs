//! A replay on the page: what its streams tell is what the files hold.

use std::io::Write;
use std::net::TcpStream;

use crate::http::{Message, Stream, get, post, until};
use crate::run::{free_tcp, lines, logs, stream, turn, wait};

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/mini/psg.edf");

/// The stages that messages tell, as (epoch, stage, status).
fn epochs<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<(u64, String, String)> {
    let epochs = messages.into_iter().filter(|message| message.name == "epoch");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
    epochs
        .map(|m| {
            (
                m.data["epoch"].as_u64().expect("an index"),
                text(&m.data["stage"]),
                text(&m.data["status"]),
            )
        })
        .collect()
}

#[test]
fn a_night_is_told_once_and_in_order_whoever_is_cut_off() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let page = free_tcp();
    let program = stream(dir, &format!("--replay {RECORDING} --out out --speed 30 --web {page}"));
    let state =
        until("the bed", || get(&page, "/api/beds/replay").filter(|a| a.status == 200)).json();
    assert_eq!((state["title"].as_str(), state["origin"].as_str()), (Some("psg"), Some("replay")));

    // One who takes nothing, and one who is cut off again and again, repeating the last id.
    let mut stuck = TcpStream::connect(&page).expect("connects");
    stuck
        .write_all(
            format!("GET /api/beds/replay/events HTTP/1.1\r\nHost: {page}\r\n\r\n").as_bytes(),
        )
        .expect("sent");
    let mut last = state["last_id"].as_str().expect("an id").to_owned();
    let mut told: Vec<Message> = Vec::new();
    while told.last().is_none_or(|message| message.name != "ended") {
        // What is in the address is older than what is repeated.
        let path = "/api/beds/replay/events?after=0.0";
        let messages = Stream::open(&page, path, &format!("Last-Event-ID: {last}\r\n"));
        let numbered: Vec<Message> = messages.filter(|m| m.id.is_some()).take(5).collect();
        assert!(!numbered.is_empty(), "the stream ended: {}", logs(dir));
        last = numbered.last().and_then(|m| m.id.clone()).expect("an id");
        told.extend(numbered);
        if told.len() == 10 {
            refusals(&page);
        }
    }
    assert_eq!(wait(program, dir), 0, "{}", logs(dir));
    let numbers: Vec<u64> = told.iter().filter_map(Message::number).collect();
    let first = numbers[0];
    assert_eq!(numbers, (first..first + numbers.len() as u64).collect::<Vec<_>>());
    let known: Vec<(u64, String, String)> = lines(&dir.join("out/events.jsonl"))
        .into_iter()
        .filter(|event| event["event"] == "epoch")
        .map(|e| Message { id: None, name: "epoch".to_owned(), data: e })
        .flat_map(|message| epochs([&message]))
        .collect();
    let shown = epochs(&told);
    assert!(shown.len() >= 24 && known.ends_with(&shown), "{shown:?}\n{known:?}");
    drop(stuck);
}

/// What a replay does not do, while it runs.
fn refusals(page: &str) {
    let mark = post(page, "/api/beds/replay/marks", r#"{"mark":"lights_off"}"#);
    assert_eq!(mark.status, 409);
    assert!(mark.body.contains("replay"), "{}", mark.body);
    let signals = get(page, "/api/beds/replay/signals?from=2").expect("an answer").json();
    let patches = signals["patches"].as_array().expect("patches");
    assert!(!patches.is_empty() && patches[0]["patch"].as_u64() >= Some(2));
    let channel = &patches[0]["channels"][0];
    assert_eq!(channel["points"].as_array().map(Vec::len), Some(320), "{channel}");
    assert_eq!(get(page, "/api/beds/replay/signals?from=x").map(|a| a.status), Some(400));
    assert_eq!(get(page, "/api/beds/nobody").map(|a| a.status), Some(404));
    assert_eq!(get(page, "/api/beds/nobody/events").map(|a| a.status), Some(404));
    // An unknown run begins with the word to fetch everything anew.
    let anew = Stream::open(page, "/api/beds/replay/events?after=1.1", "").next();
    assert_eq!(anew.map(|message| message.name), Some("reset".to_owned()));
}
