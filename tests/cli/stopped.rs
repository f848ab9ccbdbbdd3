//! Runs that do not reach their end: killed at any moment, and stopped by Ctrl-C or SIGTERM. Every
//! file that is there opens.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sfm_runtime::edf::annotations;

use crate::output::{embeddings, rows};
use crate::recordings::{Made, noise};
use crate::run::{Bench, Run, wait_for};

const KILLS: usize = 12;

fn hour() -> Vec<u8> {
    Made::new(30.0, 120, &[("EEG C4-M1", 3000), ("SaO2", 30)]).bytes()
}

/// How much of the output was there: rows, embeddings, a night.
fn check(out: &Path) -> [bool; 3] {
    let read = |name: &str| std::fs::read_to_string(out.join(name)).ok();
    if let Some(events) = read("events.jsonl") {
        let whole = events.rfind('\n').map_or("", |end| &events[..=end]);
        crate::output::events(whole);
    }
    let rows = read("hypnogram.csv").map(|csv| rows(&csv).len()).unwrap_or_default();
    if out.join("hypnogram.edf").exists() {
        let epochs = annotations(&out.join("hypnogram.edf")).expect("hypnogram.edf opens");
        for (index, epoch) in epochs.iter().enumerate() {
            assert_eq!(epoch.onset_s, 30.0 * index as f64);
        }
    }
    let embedded = out.join("embeddings.h5").exists() && embeddings(out)[0].is_some();
    let night = read("night.json");
    if let Some(night) = &night {
        serde_json::from_str::<serde_json::Value>(night).expect("night.json");
        assert!(read("risk.csv").is_none_or(|risk| risk.starts_with("label_idx,")));
    }
    [rows > 0, embedded, night.is_some()]
}

#[test]
fn a_killed_run_leaves_files_that_open() {
    let bench = Bench::new();
    let file = bench.file("study.edf", hour());
    let begun = Instant::now();
    bench.replay(&file, "--age 50 --sex m").done();
    let whole = begun.elapsed();
    let mut seen = [0; 3];
    for kill in 0..KILLS {
        let mut child = bench.replaying(&file, "--age 50 --sex m").spawn().expect("starts");
        let part = noise(5, kill).unsigned_abs() as f64 / 4000.0;
        std::thread::sleep(whole.mul_f64(part));
        child.kill().expect("killed");
        child.wait().expect("status");
        if bench.path("out").exists() {
            let there = check(&bench.path("out"));
            seen.iter_mut().zip(there).for_each(|(seen, there)| *seen += usize::from(there));
        }
    }
    println!("{KILLS} kills within {whole:?}; rows, embeddings, a night: {seen:?}");
    assert!(seen[0] > KILLS / 4, "too few kills met a run: {seen:?}");
    // What a killed run left does not hinder the next one.
    bench.replay(&file, "--pass final").done();
    assert_eq!(bench.output().hypnogram.len(), 120);
}

/// Stops a run by Ctrl-C as soon as `ready` holds of its folder.
#[cfg(unix)]
fn interrupted(bench: &Bench, file: &Path, more: &str, ready: impl Fn(&Path) -> bool) -> Run {
    signaled("-INT", bench, file, more, ready)
}

#[cfg(unix)]
fn signaled(
    signal: &str,
    bench: &Bench,
    file: &Path,
    more: &str,
    ready: impl Fn(&Path) -> bool,
) -> Run {
    let child = bench.replaying(file, more).spawn().expect("starts");
    let begun = Instant::now();
    while !ready(&bench.path("out")) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the run does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    let signal = [signal.to_owned(), child.id().to_string()];
    assert!(Command::new("kill").args(signal).status().expect("kill runs").success());
    let stopped = Instant::now();
    let run = wait_for(child);
    assert!(stopped.elapsed() < Duration::from_secs(10), "it took {:?}", stopped.elapsed());
    run
}

#[cfg(unix)]
fn says_where(run: &Run) {
    assert_eq!(run.code, 5, "{run:#?}");
    let last = run.stderr.lines().last().expect("a line");
    assert_eq!(last, "sfm-stream: interrupted; what was done is in out");
}

#[cfg(unix)]
#[test]
fn an_interrupt_completes_the_files_up_to_there() {
    let bench = Bench::new();
    let file = bench.file("study.edf", hour());
    let has_rows = |out: &Path| {
        std::fs::read_to_string(out.join("hypnogram.csv")).is_ok_and(|csv| csv.lines().count() > 3)
    };
    let run = interrupted(&bench, &file, "--speed 100", has_rows);
    says_where(&run);
    assert!(run.stdout.starts_with("Sleep statistics (live pass)"), "{run:#?}");
    let output = bench.output();
    let epochs = output.hypnogram.len();
    assert!((3..120).contains(&epochs), "{epochs}");
    assert!(output.hypnogram.iter().all(|row| row.status == "settled"));
    assert_eq!(output.embeddings[0], Some((6 * epochs, 32)));
}

#[cfg(unix)]
#[test]
fn the_service_managers_signal_does_the_same() {
    let bench = Bench::new();
    let file = bench.file("study.edf", hour());
    let has_rows = |out: &Path| {
        std::fs::read_to_string(out.join("hypnogram.csv")).is_ok_and(|csv| csv.lines().count() > 3)
    };
    let run = signaled("-TERM", &bench, &file, "--speed 100", has_rows);
    says_where(&run);
    let output = bench.output();
    assert!((3..120).contains(&output.hypnogram.len()), "{}", output.hypnogram.len());
    assert!(output.hypnogram.iter().all(|row| row.status == "settled"));
    assert_eq!(output.night["pass"], "live");
}

#[cfg(unix)]
#[test]
fn an_interrupt_during_a_hole_does_not_wait_for_its_end() {
    let bench = Bench::new();
    let channels = [("EEG C4-M1", 100), ("SaO2", 1)];
    let file =
        bench.file("study.edf", Made::new(1.0, 100, &channels).with_hole(40, 36_000.0).bytes());
    let at_the_hole = |out: &Path| {
        let events = std::fs::read_to_string(out.join("events.jsonl")).unwrap_or_default();
        let begun = events.contains("\"epoch\"");
        // From the 30th second to the 40th and into the hole, at 60 x real time.
        std::thread::sleep(Duration::from_millis(if begun { 600 } else { 5 }));
        begun
    };
    let run = interrupted(&bench, &file, "--pass live --speed 60", at_the_hole);
    says_where(&run);
    assert!(!bench.output().hypnogram.is_empty());
}

#[cfg(unix)]
#[test]
fn an_interrupt_of_the_final_pass_keeps_the_live_one() {
    let bench = Bench::new();
    let night = Made::new(30.0, 960, &[("EEG C4-M1", 1200)]).bytes();
    let file = bench.file("study.edf", night);
    let in_final = |out: &Path| out.join("night.json").exists();
    let run = interrupted(&bench, &file, "", in_final);
    says_where(&run);
    let output = bench.output();
    assert_eq!(output.hypnogram.len(), 960);
    assert_eq!(output.night["pass"], "live");
}
