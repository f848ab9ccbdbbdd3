//! What scripts and other programs read of this one, as it is stored in `tests/snapshots`: help texts,
//! refusals, and the shape of the output files.
//! `INSTA_UPDATE=always cargo test --release -p sfm-runtime --test cli snapshots` stores the present ones.

use serde_json::Value;

use crate::run::{Bench, data};
use crate::snapshot::{check, keys, pretty, shape, words};

#[test]
fn help_of_every_command() {
    let bench = Bench::new();
    for command in [
        "",
        "inspect",
        "recover",
        "batch",
        "deliver",
        "score",
        "bundle",
        "bundle info",
        "bundle verify",
    ] {
        let help = bench.run(&format!("{command} --help"));
        let name = if command.is_empty() { "run" } else { command };
        check(&format!("help {name}").replace(' ', "_"), help.done());
    }
}

#[test]
fn refusals() {
    let bench = Bench::new();
    bench.file("text.edf", "no recording");
    bench.file("text.sfm", "no bundle");
    bench.file("run.toml", "sped = 3\n");
    let psg = data("mini/psg.edf").display().to_string();
    let mut text = String::new();
    for args in [
        "--replay a.edf --sped 3",
        "--replay a.edf --age 50",
        "--replay a.edf --speed 0",
        "--replay a.edf --config run.toml",
        "--replay a.edf",
        "--replay text.edf",
        "--replay PSG --map Flow",
        "--replay PSG --bundle text.sfm",
        "--replay PSG --file-mode 999",
        "--udp 0.0.0.0:7000",
        "--beds",
        "recover .",
        "score a.csv b.csv",
        "bundle info text.sfm",
    ] {
        let run = bench.run(&args.replace("PSG", &psg));
        let said = run.stderr.replace(&psg, "PSG");
        text += &format!("$ sfm-stream {args}\n{said}exit code {}\n\n", run.code);
    }
    check("refusals", &text);
}

#[test]
fn files_of_a_replay() {
    let bench = Bench::new();
    let psg = data("mini/psg.edf");
    bench.replay(&psg, "--age 60 --sex m").done();
    let read = |name: &str| std::fs::read_to_string(bench.path("out").join(name)).expect(name);
    let mut kinds: Vec<Value> = Vec::new();
    for line in read("events.jsonl").lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let is_new =
            |known: &Value| known["event"] != event["event"] || keys(known) != keys(&event);
        if kinds.iter().all(is_new) {
            kinds.push(event);
        }
    }
    let mut events: Vec<Value> = kinds.iter().map(shape).collect();
    // Passes and queues may meet them in another order.
    events.sort_by_key(|event| event["event"].to_string() + &keys(event).join(" "));
    check("events", &pretty(&Value::from(events)));
    let night = serde_json::from_str(&read("night.json")).expect("JSON");
    check("night", &pretty(&shape(&night)));
    let table = read("hypnogram.csv");
    check("hypnogram_csv", table.lines().next().expect("a header"));
    let table = read("risk.csv");
    check("risk_csv", table.lines().next().expect("a header"));
    check("report_headings", &headings(&read("report.html")));
    let mut names: Vec<String> = std::fs::read_dir(bench.path("out"))
        .expect("a folder")
        .map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    check("files", &names.join("\n"));
}

/// Headings of sections and tables, in their order.
fn headings(html: &str) -> String {
    let mut found = String::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        rest = rest.get(start + 1..).unwrap_or_default();
        let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
        if !["title", "h1", "h2", "h3", "th", "summary", "caption"].contains(&name.as_str()) {
            continue;
        }
        let Some(open) = rest.find('>') else { break };
        let content = rest.get(open + 1..).unwrap_or_default();
        let end = content.find(&format!("</{name}>")).unwrap_or(0);
        let text = content.get(..end).unwrap_or_default();
        found += &format!("{name}: {}\n", words(&without_tags(text)));
    }
    found
}

fn without_tags(html: &str) -> String {
    let mut is_text = true;
    let mut text = String::new();
    for c in html.chars() {
        match c {
            '<' => is_text = false,
            '>' => is_text = true,
            c if is_text => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_inspect_shows() {
    let bench = Bench::new();
    let psg = data("mini/psg.edf").display().to_string();
    check("inspect", &bench.run(&format!("inspect {psg}")).done().replace(&psg, "PSG"));
    let bundle = data("mini/mini.sfm").display().to_string();
    let info = bench.run(&format!("bundle info {bundle}"));
    check("bundle_info", &words(&info.done().replace(&bundle, "BUNDLE")));
}

#[test]
fn tables_of_a_batch() {
    let bench = Bench::new();
    let (psg, bundle) = (data("mini/psg.edf"), data("mini/mini.sfm"));
    let args = format!(
        "batch {} --out results --jobs 1 --backend tract --bundle {}",
        psg.display(),
        bundle.display()
    );
    bench.run(&args).done();
    let read = |name: &str| std::fs::read_to_string(bench.path("results").join(name)).expect(name);
    let columns = read("cohort.csv").lines().next().expect("a header").replace(',', "\n");
    check("cohort_csv", &columns);
}
