//! `sfm-stream batch` as its user meets it: an archive with good, damaged and oddly named
//! recordings, killed and gone on with, in shards and in one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Recordings of [`Bench::archive`] that can be read, and those that cannot.
const GOOD: usize = 6;
const BAD: usize = 3;

/// A folder with an archive.
struct Bench {
    dir: TempDir,
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)
}

impl Bench {
    fn empty() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Two recordings of one name, both formats of another one, and three that are none.
    fn archive() -> Self {
        let bench = Self::empty();
        let mini = std::fs::read(data("mini/psg.edf")).expect("the recording");
        for name in ["a/night.edf", "b/night.edf", "<b>&c.edf", "=1+1.edf"] {
            bench.file(&format!("archive/{name}"), &mini);
        }
        for ending in ["edf", "bdf"] {
            let name = format!("short_psg.{ending}");
            let short = std::fs::read(data(&format!("edf/{name}"))).expect("the recording");
            bench.file(&format!("archive/{name}"), &short);
        }
        bench.file("archive/cut.edf", &mini[..3000]);
        bench.file("archive/empty.edf", b"");
        bench.file("archive/b/text.bdf", b"no recording at all");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, content).expect("written");
    }

    fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sfm-stream"));
        let fixed = ["batch", "--backend", "tract", "--threads", "2"];
        command
            .args(fixed.into_iter().chain(args.split_whitespace()))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a batch, which ends with `code`.
    fn run(&self, args: &str, code: i32) -> String {
        let Output { status, stdout, stderr } = self.command(args).output().expect("it runs");
        let text = String::from_utf8(stdout).expect("UTF-8");
        let all = text + &String::from_utf8(stderr).expect("UTF-8");
        assert_eq!(status.code(), Some(code), "{args}: {all}");
        assert!(!all.contains("panicked"), "{all}");
        all
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Rows of a CSV file.
    fn rows(&self, name: &str) -> Vec<BTreeMap<String, String>> {
        let mut reader = csv::Reader::from_path(self.path(name)).expect("a table");
        reader.deserialize().map(|row| row.expect("a row")).collect()
    }

    /// What a batch wrote about all nights.
    fn tables(&self, out: &str) -> [Vec<u8>; 4] {
        ["cohort.csv", "cohort.parquet", "failures.csv", "cohort.html"]
            .map(|name| std::fs::read(self.path(out).join(name)).expect(name))
    }
}

#[test]
fn what_fails_is_listed_and_stops_nobody() {
    let bench = Bench::archive();
    let said = bench.run("archive --out out --jobs 2", 5);
    assert!(said.contains(&format!("{GOOD} of {} recordings done, {BAD} failed", GOOD + BAD)));
    let failures = bench.rows("out/failures.csv");
    let failed: Vec<&str> = failures.iter().map(|row| row["recording"].as_str()).collect();
    assert_eq!(failed, ["b/text", "cut", "empty"]);
    assert!(failures.iter().all(|row| !row["reason"].is_empty() && said.contains(&row["reason"])));
    let rows = bench.rows("out/cohort.csv");
    assert_eq!(rows.len(), GOOD + BAD);
    let done: Vec<&str> = rows
        .iter()
        .filter(|row| row["status"] == "done")
        .map(|row| row["recording"].as_str())
        .collect();
    // In the order of the names; no field is a formula.
    let wanted = ["<b>&c", "'=1+1", "a/night", "b/night", "short_psg.bdf", "short_psg.edf"];
    assert_eq!(done, wanted);
    let night = rows.iter().find(|row| row["recording"] == "a/night").expect("its row");
    assert_eq!((night["trt_min"].as_str(), night["pass"].as_str()), ("6", "final"));
    assert!(night["e_0"].parse::<f32>().is_ok());
}

/// A folder as data sets have it: scorings beside recordings, other endings, a packed file, a dead link.
#[test]
fn what_is_no_recording_is_passed_over_and_named() {
    let bench = Bench::archive();
    let mini = std::fs::read(data("mini/psg.edf")).expect("the recording");
    bench.run("archive/a --out scored", 0);
    let scoring = std::fs::read(bench.path("scored/night.sfm-out/hypnogram.edf")).expect("stages");
    bench.file("set/SC1-PSG.edf", &mini);
    bench.file("set/SC1-Hypnogram.edf", &scoring);
    bench.file("set/subject 2.REC", &mini);
    bench.file("set/voice.rec", b"RIFF no EDF");
    bench.file("set/SC2-PSG.edf.gz", b"\x1f\x8b packed");
    #[cfg(unix)]
    std::os::unix::fs::symlink("gone.edf", bench.path("set/link.edf")).expect("linked");
    let said = bench.run("set --out out", 0);
    assert!(said.contains("2 of 2 recordings done, 0 failed"), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("passed over")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    for named in [
        "1 scoring (annotations without signals): set/SC1-Hypnogram.edf",
        "1 file that is no EDF: set/voice.rec",
        "1 packed file (gunzip or unpack it): set/SC2-PSG.edf.gz",
    ] {
        assert!(lines[0].contains(named), "{named}: {said}");
    }
    assert_eq!(lines[0].contains("1 dead link: set/link.edf"), cfg!(unix));
    let said = bench.run("set/SC1-Hypnogram.edf --out none", 3);
    assert!(said.contains("no recording there (passed over 1 scoring"), "{said}");
}

/// The night that a replay with the final pass alone makes.
#[test]
fn a_night_of_a_batch_is_that_of_a_replay() {
    let bench = Bench::archive();
    bench.run("archive/a --out out", 0);
    let replayed = Command::new(env!("CARGO_BIN_EXE_sfm-stream"))
        .args("--replay archive/a/night.edf --out one --pass final --backend tract".split(' '))
        .current_dir(bench.dir.path())
        .output()
        .expect("it runs");
    assert!(replayed.status.success(), "{replayed:?}");
    for name in ["hypnogram.csv", "hypnogram.edf", "embeddings.h5", "risk.csv"] {
        let [one, batch] = ["one", "out/night.sfm-out"]
            .map(|folder| std::fs::read(bench.path(folder).join(name)).expect(name));
        assert!(one == batch, "{name} differs");
    }
}

#[test]
fn names_are_text_on_the_page() {
    let bench = Bench::archive();
    bench.run("archive --out out --jobs 2", 5);
    let page = bench.read("out/cohort.html");
    assert!(page.contains("&lt;b&gt;&amp;c") && !page.contains("<b>&c"));
    for wanted in ["not a medical device", "simulated", "Outliers", "b/text", "<svg", "@page"] {
        assert!(page.contains(wanted), "no '{wanted}'");
    }
    assert!(!page.contains("<script") && !page.contains("http"), "nothing from elsewhere");
}

/// Kills a batch once `nights` markers are there.
fn killed_after(bench: &Bench, args: &str, nights: usize) {
    let mut child: Child = bench.command(args).spawn().expect("starts");
    let begun = Instant::now();
    while markers(&bench.path("out")) < nights && child.try_wait().expect("status").is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no night ends");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("killed");
    child.wait().expect("status");
}

/// Recordings that are done or have failed.
fn markers(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .map(|path| match path.is_dir() {
            true => markers(&path),
            false => usize::from(path.ends_with("batch.json")),
        })
        .sum()
}

#[test]
fn a_killed_batch_goes_on_to_the_same_table() {
    let bench = Bench::archive();
    bench.run("archive --out whole --jobs 2", 5);
    let args = "archive --out out --jobs 2";
    for nights in [0, 2, 4, 7] {
        killed_after(&bench, args, nights);
    }
    let said = bench.run(args, 5);
    assert!(said.contains("recordings are done already"), "{said}");
    assert!(bench.tables("whole") == bench.tables("out"), "a table differs");
}

#[test]
fn shards_together_are_the_whole() {
    let bench = Bench::archive();
    bench.run("archive --out whole", 5);
    let mut running: Vec<Child> = (1..=3)
        .map(|shard| format!("archive --out out --shard {shard}/3"))
        .map(|args| bench.command(&args).spawn().expect("starts"))
        .collect();
    for child in &mut running {
        let code = child.wait().expect("status").code();
        assert!([Some(0), Some(3), Some(5)].contains(&code), "{code:?}");
    }
    assert!(bench.tables("whole") == bench.tables("out"), "a table differs");
    for name in ["cohort.csv", "cohort.html"] {
        std::fs::remove_file(bench.path("out").join(name)).expect("removed");
    }
    bench.run("archive --out out --collect", 0);
    assert!(bench.tables("whole") == bench.tables("out"), "a collected table differs");
}

#[test]
fn only_what_changed_is_done_again() {
    let bench = Bench::archive();
    bench.run("archive/a --out out", 0);
    let marker = || {
        let path = bench.path("out/night.sfm-out/batch.json");
        path.metadata().and_then(|m| m.modified()).expect("a marker")
    };
    let first = marker();
    assert!(bench.run("archive/a --out out --jobs 3", 0).contains("1 of 1 recordings are done"));
    assert_eq!(marker(), first, "other jobs give the same");
    bench.run("archive/a --out out --map EMG=none", 0);
    let mapped = marker();
    assert!(mapped > first, "another map");
    bench.file("people.csv", b"recording,age,sex\nnight,61,f\n");
    bench.run("archive/a --out out --map EMG=none --demographics people.csv", 0);
    assert!(marker() > mapped, "another person");
    let rows = bench.rows("out/cohort.csv");
    assert_eq!((rows[0]["age_years"].as_str(), rows[0]["sex"].as_str()), ("61", "f"));
    // Six minutes are no night: no hazards, though risk.csv of the night has them.
    assert!(rows[0].iter().all(|(name, value)| !name.starts_with("hazard_") || value.is_empty()));
    assert!(bench.read("out/night.sfm-out/risk.csv").lines().count() > 1);
    bench.run(&format!("archive/a --out out --bundle {}", data("mini/mini.sfm").display()), 0);
    assert_ne!(bench.rows("out/cohort.csv")[0]["bundle_sha256"], rows[0]["bundle_sha256"]);
    let mini = std::fs::read(data("edf/short_psg.edf")).expect("a recording");
    bench.file("archive/a/night.edf", &mini);
    bench.run("archive/a --out out", 0);
    assert_eq!(bench.rows("out/cohort.csv")[0]["duration_s"], "300", "another recording");
}

#[test]
fn lists_and_patterns_are_archives_too() {
    let bench = Bench::archive();
    bench.file(
        "nights.txt",
        b"# two, and one that is gone\narchive/a/night.edf\n\ngone.edf\n./archive/b/night.edf\n",
    );
    let said = bench.run("nights.txt --out out", 5);
    assert!(said.contains("2 of 3 recordings done, 1 failed"), "{said}");
    assert_eq!(bench.rows("out/failures.csv")[0]["recording"], "gone");
    bench.run("archive/*/night.edf --out globbed", 0);
    assert_eq!(bench.rows("globbed/cohort.csv").len(), 2);
}

#[test]
fn a_refusal_is_one_line() {
    let bench = Bench::archive();
    bench.file("none/notes.txt", b"nothing here");
    for (args, code, reason) in [
        ("archive/*.xyz --out out", 3, "no recording there"),
        ("none --out out", 3, "no recording there"),
        ("gone --out out", 3, "cannot be opened"),
        ("archive/cut.edf --out out", 3, "none of the 1 recordings could be read"),
        ("archive --out out --shard 4/3", 2, "i/n"),
        ("archive --out out --jobs 0", 2, "--jobs"),
        ("archive --out out --demographics none/notes.txt", 2, "no column"),
        ("archive --out out --bundle archive/cut.edf", 4, "cut.edf"),
        ("archive --out archive/cut.edf/x", 5, "cannot be made a folder"),
    ] {
        let said = bench.run(args, code);
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("sfm-stream: ") && last.contains(reason), "{args}: {said}");
    }
}

/// Where nothing can be written, the others go on.
#[cfg(unix)]
#[test]
fn a_folder_that_takes_nothing_is_a_failure_of_its_own() {
    let bench = Bench::archive();
    // In the place of the recording's folder there is a file.
    bench.file("out/a/night.sfm-out", b"in the way");
    let said = bench.run("archive --out out", 5);
    assert!(said.contains(&format!("{} of {} recordings done", GOOD - 1, GOOD + BAD)), "{said}");
    assert!(said.contains("failed: a/night: "), "{said}");
    // There is no place for its marker, so it is known from this run alone.
    assert_eq!(bench.rows("out/failures.csv")[0]["recording"], "a/night");
}

#[cfg(unix)]
#[test]
fn an_interrupt_says_how_to_go_on() {
    let bench = Bench::archive();
    let mini = std::fs::read(data("mini/psg.edf")).expect("the recording");
    (0..40).for_each(|k| bench.file(&format!("archive/many/{k}.edf"), &mini));
    let child = bench.command("archive/many --out out --jobs 2").spawn().expect("starts");
    let begun = Instant::now();
    while markers(&bench.path("out")) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "no night ends");
        std::thread::sleep(Duration::from_millis(2));
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    let stopped = Instant::now();
    let output = child.wait_with_output().expect("it ends");
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.lines().last().is_some_and(|l| l.contains("the same command goes on")), "{said}");
    assert!(bench.run("archive/many --out out --jobs 2", 0).contains("40 of 40 recordings done"));
}

/// Two nights, done; the folder of the first.
fn two_nights() -> (Bench, PathBuf) {
    let bench = Bench::empty();
    let mini = std::fs::read(data("mini/psg.edf")).expect("the recording");
    bench.file("archive/first.edf", &mini);
    bench.file("archive/second.edf", &mini);
    bench.run("archive --out out --jobs 2", 0);
    let folder = bench.path("out/first.sfm-out");
    (bench, folder)
}

fn marked(bench: &Bench, night: &str) -> std::time::SystemTime {
    let path = bench.path(&format!("out/{night}.sfm-out/batch.json"));
    path.metadata().and_then(|m| m.modified()).expect("a marker")
}

#[test]
fn an_output_that_was_lost_or_damaged_is_made_again() {
    let (bench, folder) = two_nights();
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("hypnogram.csv", |path| std::fs::remove_file(path).expect("removed")),
        ("embeddings.h5", |path| {
            let file = std::fs::File::options().write(true).open(path).expect("opens");
            file.set_len(file.metadata().expect("its size").len() / 2).expect("cut");
        }),
        // As a power cut leaves it: as long as before, and nothing in it.
        ("hypnogram.edf", |path| {
            let length = path.metadata().expect("its size").len();
            std::fs::write(path, vec![0; length as usize]).expect("written");
        }),
        ("report.html", |path| std::fs::write(path, "").expect("written")),
    ];
    for (name, damage) in damages {
        let path = folder.join(name);
        let whole = std::fs::read(&path).expect("an output");
        let (first, second) = (marked(&bench, "first"), marked(&bench, "second"));
        damage(&path);
        let said = bench.run("archive --out out", 0);
        assert!(said.contains(&format!("first: {name} is not as it was written")), "{said}");
        assert!(said.contains("1 of 2 recordings are done already"), "{said}");
        assert!(said.contains("2 of 2 recordings done"), "{said}");
        let again = std::fs::read(&path).expect("made again");
        assert!(name == "report.html" || again == whole, "{name} differs");
        assert!(!again.is_empty() && marked(&bench, "first") > first, "{name}");
        assert_eq!(marked(&bench, "second"), second, "{name}: the other night is left alone");
    }
    // Nothing to do, and what is not an output is nobody's business.
    std::fs::write(folder.join("notes.txt"), "mine").expect("written");
    std::fs::remove_file(folder.join("notes.txt")).expect("removed");
    assert!(bench.run("archive --out out", 0).contains("2 of 2 recordings are done already"));
}

#[test]
fn a_table_does_not_count_a_night_whose_files_are_gone() {
    let (bench, folder) = two_nights();
    std::fs::remove_file(folder.join("embeddings.h5")).expect("removed");
    let said = bench.run("archive --out out --collect", 0);
    assert!(said.contains("1 of 2 recordings done, 0 failed, 1 to do"), "{said}");
}

#[test]
fn a_marker_of_the_first_version_is_read_and_its_night_done_again() {
    let (bench, folder) = two_nights();
    let marker = std::fs::read(folder.join("batch.json")).expect("a marker");
    let mut json: serde_json::Value = serde_json::from_slice(&marker).expect("JSON");
    let fields = json.as_object_mut().expect("an object");
    assert!(fields.remove("format").is_some() && fields.remove("outputs").is_some());
    std::fs::write(folder.join("batch.json"), json.to_string()).expect("written");
    let said = bench.run("archive --out out", 0);
    assert!(said.contains("1 recordings were done by a version that did not list"), "{said}");
    assert!(said.contains("2 of 2 recordings done"), "{said}");
    assert!(bench.run("archive --out out", 0).contains("2 of 2 recordings are done already"));
}

/// What cannot be written, because of a full disk or a name that is taken, is a failure; the next
/// run tries it again.
#[test]
fn a_night_that_failed_is_tried_again() {
    let (bench, folder) = two_nights();
    let mini = std::fs::read(data("edf/short_psg.edf")).expect("the recording");
    bench.file("archive/first.edf", &mini);
    std::fs::remove_file(folder.join("hypnogram.csv")).expect("removed");
    std::fs::create_dir(folder.join("hypnogram.csv")).expect("in the way");
    let said = bench.run("archive --out out", 5);
    assert!(said.contains("failed: first: ") && said.contains("hypnogram.csv"), "{said}");
    assert!(bench.read("out/first.sfm-out/batch.json").contains("\"failed\""));
    std::fs::remove_dir(folder.join("hypnogram.csv")).expect("out of the way");
    assert!(bench.run("archive --out out", 0).contains("2 of 2 recordings done"));
}
