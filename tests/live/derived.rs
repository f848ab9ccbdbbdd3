//! Electrodes as sensors send them: what is derived of them live is what the replay of the recording
//! derives, through lost samples and restarts of a sensor, and a session keeps what it began with.

use serde_json::Value;

use crate::rough::live_events;
use crate::run::{free_udp, json, lines, logs, recording_of, run, sim, stream, turn, wait};

/// Bare electrodes in place of the recording's derivations.
fn electrode(label: &str) -> Option<String> {
    let name = match label {
        "EEG1" => "C3",
        "EEG2" => "C4",
        "EEG3" => "M1",
        "EOG-L" => "E1",
        "EOG-R" => "M2",
        other => other,
    };
    Some(name.to_owned())
}

#[test]
fn derived_channels_are_those_of_the_replay() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, port) = (recording_of("electrodes.edf", 6, electrode), free_udp());
    let host = stream(dir, &format!("--udp {port} --devices 2 --speed 60 --out out"));
    let faults = "--loss 0.01 --duplicate 0.005 --reorder 0.01 --drift-ppm 200,-50 --disconnects 1 --disconnect-s 5,10";
    let args = format!("--udp {port} --sensors 2 --speed 60 --seed 4 {faults}");
    let sensors = sim(dir, &file, &args);
    assert_eq!(wait(sensors, dir), 0, "{}", logs(dir));
    assert_eq!(wait(host, dir), 0, "{}", logs(dir));

    let events = lines(&dir.join("out/events.jsonl"));
    let started = events.iter().find(|event| event["event"] == "started").expect("it began");
    let used: Vec<&str> = started["channels"]
        .as_array()
        .expect("channels")
        .iter()
        .filter(|channel| channel["modality"] == "BAS")
        .map(|channel| channel["label"].as_str().expect("a label"))
        .collect();
    assert_eq!(used, ["C3-M2", "C4-M1", "E1-M2"]);
    let night: Value = json(&dir.join("out/night.json"));
    let ledger = night["gap_ledger"].as_array().expect("a ledger");
    let derived = ledger.iter().find(|line| line["label"] == "C3-M2").expect("its line");
    assert!(derived["missing"].as_u64().is_some_and(|missing| missing > 0), "{derived}");
    assert_eq!(json(&dir.join("out/session.json"))["channel_policy"], "aasm");

    let overloaded =
        lines(&dir.join("out/session.jsonl")).iter().any(|line| line["event"] == "overload");
    let replay = run(dir, "--replay out/recording.edf --pass live --out again");
    assert!(replay.status.success(), "{replay:?}");
    let (live, again) =
        (live_events(&dir.join("out"), !overloaded), live_events(&dir.join("again"), !overloaded));
    assert_eq!(live.len(), again.len());
    for (live, again) in live.iter().zip(&again) {
        assert_eq!(live, again);
    }
}
