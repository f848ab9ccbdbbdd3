//! What is no input, and inputs that lie where the output goes: pipes and devices are refused at
//! once, an input is never written, and nothing is written through a link.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::recordings::study;
use crate::run::{Bench, Run, data, wait};

/// A refusal comes at once; with the network loaded it takes a moment.
const AT_ONCE: Duration = Duration::from_secs(30);

fn at_once(bench: &Bench, args: &str) -> Run {
    let begun = Instant::now();
    let run = bench.run(args);
    assert!(begun.elapsed() < AT_ONCE, "{args}: {:?}", begun.elapsed());
    run
}

#[test]
fn pipes_devices_and_sockets_are_no_inputs() {
    let bench = Bench::new();
    bench.file("a.edf", study(35).bytes());
    bench.file("h.csv", "Stage\nWAKE\nN1\n");
    let fifo = Command::new("mkfifo").arg(bench.path("fifo")).status().expect("mkfifo");
    assert!(fifo.success());
    symlink(bench.path("fifo"), bench.path("link")).expect("linked");
    let _listens = std::os::unix::net::UnixListener::bind(bench.path("sock")).expect("bound");
    for (file, kind) in
        [("fifo", "pipe"), ("link", "pipe"), ("/dev/zero", "device"), ("sock", "socket")]
    {
        for (args, code) in [
            (format!("--config {file}"), 2),
            (format!("--replay a.edf --channel-rules {file}"), 2),
            (format!("--replay a.edf --channel-groups {file}"), 2),
            (format!("--replay a.edf --web 127.0.0.1:0 --token-file {file}"), 2),
            (format!("--replay a.edf --mqtt mqtt://localhost --mqtt-login {file}"), 2),
            (format!("--replay a.edf --mqtt mqtts://localhost --ca-file {file}"), 2),
            (format!("--replay a.edf --bundle {file}"), 4),
            (format!("--replay {file}"), 3),
            (format!("inspect {file}"), 3),
            (format!("bundle verify {file}"), 4),
            (format!("score --reference {file} a.edf"), 3),
            (format!("score --reference h.csv {file}"), 3),
            (format!("batch {file} --out cohort"), 3),
            (format!("batch a.edf --demographics {file} --out cohort"), 2),
            (format!("batch a.edf --channel-rules {file} --out cohort"), 2),
            (format!("batch a.edf --config {file} --out cohort"), 2),
        ] {
            let run = at_once(&bench, &args);
            let line = run.refused(code);
            let told = [kind, "no regular file", "not a regular file", "a folder or a device"];
            assert!(told.iter().any(|told| line.contains(told)), "{args}: {line}");
        }
    }
    // A link to a file is as good as the file.
    symlink(bench.path("a.edf"), bench.path("good.edf")).expect("linked");
    assert_eq!(bench.run("inspect good.edf").code, 0);
}

#[test]
fn a_recording_on_standard_input_is_refused() {
    let bench = Bench::new();
    let mut command = bench.command(["--replay", "/dev/stdin"]);
    // Nobody writes to it, and it stays open.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    command.stdin(Stdio::from(reader));
    let run = wait(command);
    assert!(run.refused(3).starts_with("/dev/stdin "), "{run:#?}");
    drop(writer);
}

#[test]
fn an_input_that_lies_in_the_output_folder_is_never_written() {
    let bench = Bench::new();
    let mini = std::fs::read(data("mini/psg.edf")).expect("the recording");
    std::fs::create_dir(bench.path("out")).expect("made");
    bench.file("out/hypnogram.edf", &mini);
    symlink(bench.path("out/hypnogram.edf"), bench.path("soft.edf")).expect("linked");
    std::fs::hard_link(bench.path("out/hypnogram.edf"), bench.path("hard.edf")).expect("linked");
    for replayed in ["out/hypnogram.edf", "soft.edf", "hard.edf"] {
        let run = bench.run(&format!("--replay {replayed} --out out"));
        let line = run.refused(2);
        assert!(line.contains("out/hypnogram.edf is an input"), "{line}");
    }
    // A folder that is the recording's own, named another way.
    symlink(bench.path("out"), bench.path("same")).expect("linked");
    bench.run("--replay out/hypnogram.edf --out same").refused(2);
    assert_eq!(std::fs::read(bench.path("out/hypnogram.edf")).expect("read"), mini);
    bench.file("other.edf", &mini);
    let rules = std::fs::read(data("../../configs/channels.toml")).expect("the rules");
    bench.file("out/risk.csv", &rules);
    bench.run("--replay other.edf --out out --channel-rules out/risk.csv").refused(2);
    bench.file("out/night.json", "pass = 'live'\n");
    bench.run("--replay other.edf --out out --config out/night.json").refused(2);
    assert_eq!(std::fs::read(bench.path("out/risk.csv")).expect("read"), rules);
    let names = std::fs::read_dir(bench.path("out")).expect("a folder").count();
    assert_eq!(names, 3, "nothing was begun");
}

#[test]
fn score_does_not_replace_what_it_reads() {
    let bench = Bench::new();
    bench.replay(&data("mini/psg.edf"), "--pass final").done();
    let before = std::fs::read(bench.path("out/hypnogram.csv")).expect("read");
    let run = bench.run("score --reference out/hypnogram.csv out --svg out/hypnogram.csv");
    assert_eq!(run.code, 2, "{run:#?}");
    assert_eq!(std::fs::read(bench.path("out/hypnogram.csv")).expect("read"), before);
}

/// A machine without fonts makes no pictures, and says so.
fn done(run: &Run) {
    assert!(run.code == 0 || run.stderr.contains("no font"), "{run:#?}");
}

/// Every file below a folder, relative to it.
fn files(folder: &Path, below: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder.join(below)).expect("a folder").flatten() {
        let path = below.join(entry.file_name());
        match entry.file_type().expect("a kind").is_dir() {
            true => files(folder, &path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn nothing_is_written_through_a_link_that_was_planted() {
    let bench = Bench::new();
    let formats = "luna,nsrr-xml,profusion-xml,usleep,yasa,bids,parquet,numpy,fhir";
    let more = format!("--plots --report-pdf --annotated-edf --format {formats}");
    let psg = data("mini/psg.edf");
    done(&bench.replay(&psg, &more));
    let mut names = Vec::new();
    files(&bench.path("out"), Path::new(""), &mut names);
    assert!(names.len() > 20, "{names:?}");
    let victim = bench.file("victim", "theirs");
    for name in &names {
        let path = bench.path("out").join(name);
        std::fs::remove_file(&path).expect("removed");
        symlink(&victim, &path).expect("planted");
        let part = format!(".{}.part", name.file_name().expect("a name").to_string_lossy());
        symlink(&victim, path.with_file_name(part)).expect("planted");
    }
    done(&bench.replay(&psg, &more));
    assert_eq!(std::fs::read(&victim).expect("read"), b"theirs");
    for name in &names {
        let about = std::fs::symlink_metadata(bench.path("out").join(name)).expect("there");
        assert!(about.is_file(), "{}", name.display());
    }
    // A folder that is a link is none of the output.
    std::fs::rename(bench.path("out/plots"), bench.path("elsewhere")).expect("moved");
    let before = std::fs::read_dir(bench.path("elsewhere")).expect("a folder").count();
    std::fs::write(bench.path("elsewhere/hypnogram.svg"), "theirs").expect("written");
    symlink(bench.path("elsewhere"), bench.path("out/plots")).expect("planted");
    let run = bench.replay(&psg, "--plots");
    assert_eq!(run.code, 5, "{run:#?}");
    run.warns("out/plots: cannot be written (it is a link, not a folder)");
    let there = std::fs::read(bench.path("elsewhere/hypnogram.svg")).expect("read");
    assert_eq!(there, b"theirs");
    let now = std::fs::read_dir(bench.path("elsewhere")).expect("a folder").count();
    assert!((before..=before + 1).contains(&now));
}
