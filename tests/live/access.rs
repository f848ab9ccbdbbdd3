//! The folder of a live session: who may read it, what lies there before, who else writes there.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::damage::cut;
use crate::patients::Bench;
use crate::run::{free_tcp, logs, recording, run, signal, sim, stream, turn, until, wait};

/// Everything in a folder, folders before what is in them.
fn all(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.file_type().expect("a kind").is_dir() {
            true => found.extend(all(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

fn modes(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mode = |path: PathBuf| {
        let about = std::fs::symlink_metadata(&path).expect("there");
        let mode = about.permissions().mode() & 0o777;
        (path, mode)
    };
    all(folder).into_iter().map(mode).collect()
}

fn check(folder: &Path, file: u32, dir: u32) {
    for (path, mode) in modes(folder) {
        let want = if path.is_dir() { dir } else { file };
        assert_eq!(format!("{mode:o}"), format!("{want:o}"), "{}", path.display());
    }
}

/// A whole session into `out`.
fn session(dir: &Path, more: &str) {
    let port = free_tcp();
    let host = stream(dir, &format!("--tcp listen:{port} --speed 60 --out out {more}"));
    let sensors = sim(dir, &recording(6), &format!("--tcp {port} --speed 60 --seed 4"));
    assert_eq!(wait(sensors, dir), 0, "{}", logs(dir));
    // A machine without fonts makes no pictures, and says so.
    assert!(wait(host, dir) == 0 || logs(dir).contains("no font"), "{}", logs(dir));
}

#[test]
fn a_sessions_files_are_the_users_alone_and_a_replays_follow_the_umask() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let outlet = "--plots --format parquet,numpy,luna --annotated-edf";
    session(dir, &format!("{outlet} --report-pdf"));
    check(&dir.join("out"), 0o600, 0o700);
    assert!(all(&dir.join("out")).len() > 25);
    std::fs::remove_dir_all(dir.join("out")).expect("removed");
    session(dir, &format!("{outlet} --file-mode 0640"));
    check(&dir.join("out"), 0o640, 0o750);
    // A new file tells what the umask of the tests is.
    std::fs::create_dir(dir.join("made")).expect("made");
    std::fs::write(dir.join("made/file"), "").expect("written");
    let made = modes(&dir.join("made"));
    let replay = run(dir, &format!("--replay out/recording.edf --out again {outlet}"));
    assert!(dir.join("again/night.json").exists(), "{replay:?}");
    check(&dir.join("again"), made[1].1, made[0].1);
}

/// A file of `out` is moved away, and a link to it lies in its place.
fn plant(bench: &Bench, name: &str) -> (PathBuf, Vec<u8>) {
    let (path, victim) = (bench.out("out").join(name), bench.dir().join(format!("victim-{name}")));
    std::fs::rename(&path, &victim).expect("moved");
    symlink(&victim, &path).expect("planted");
    let content = std::fs::read(&victim).expect("there");
    (victim, content)
}

#[test]
fn links_in_the_folder_of_a_session_are_not_written_through() {
    let _turn = turn();
    let bench = Bench::new();
    cut(&bench, "");
    let names = ["events.jsonl", "journal.sfm", "session.jsonl", "session.json", "annotations.edf"];
    let mut victims: Vec<_> = names.iter().map(|name| plant(&bench, name)).collect();
    victims.push(plant(&bench, ".session.lock"));
    let part = bench.dir().join("victim-part");
    std::fs::write(&part, "theirs").expect("written");
    symlink(&part, bench.out("out/.session.json.part")).expect("planted");
    victims.push((part, b"theirs".to_vec()));

    let host = bench.host("--pass live --age 60 --sex m");
    let sensor = bench.sensor(1, 60);
    bench.until_recorded("out", 30);
    bench.kill(host);
    drop(sensor);
    for (path, content) in &victims {
        assert!(std::fs::read(path).expect("there") == *content, "{}", path.display());
    }
    for name in names {
        let about = std::fs::symlink_metadata(bench.out("out").join(name)).expect("there");
        assert!(about.is_file(), "{name} is a file again");
    }

    // A recording may have been moved on purpose: the link stays, and the night goes elsewhere.
    let (path, content) = plant(&bench, "recording.edf");
    let host = bench.host("--pass live --age 60 --sex m");
    let sensor = bench.sensor(1, 60);
    bench.until_recorded("out-2", 5);
    bench.stop(host);
    drop(sensor);
    assert!(std::fs::read(&path).expect("there") == content, "nothing of it is changed");
    assert!(bench.out("out/recording.edf").is_symlink());
    bench.said("it is a link");
}

#[test]
fn a_bed_goes_beside_a_link_of_its_name() {
    let _turn = turn();
    let bench = Bench::new();
    let elsewhere = bench.dir().join("elsewhere");
    std::fs::create_dir_all(&elsewhere).expect("made");
    let first = bench.host("--pass live --beds");
    let sensor = bench.sensor(1, 60);
    let bed = || {
        let beds = std::fs::read_dir(bench.out("out")).into_iter().flatten().flatten();
        beds.map(|entry| entry.path()).find(|path| path.join("recording.edf").exists())
    };
    until(bench.dir(), || bed().is_some());
    let name = bed().and_then(|path| path.file_name().map(ToOwned::to_owned)).expect("a name");
    bench.kill(first);
    drop(sensor);
    std::fs::remove_dir_all(bench.out("out")).expect("removed");
    std::fs::create_dir(bench.out("out")).expect("made");
    symlink(&elsewhere, bench.out("out").join(&name)).expect("planted");
    let second = bench.host("--pass live --beds");
    let sensor = bench.sensor(1, 60);
    until(bench.dir(), || bed().is_some());
    bench.stop(second);
    drop(sensor);
    assert_eq!(
        std::fs::read_dir(&elsewhere).expect("there").count(),
        0,
        "nothing was written there"
    );
}

#[test]
fn nobody_else_writes_into_the_folder_of_a_running_session() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let port = free_tcp();
    let host = stream(dir, &format!("--tcp listen:{port} --speed 20 --out out --pass live"));
    let mut sensors = sim(dir, &recording(30), &format!("--tcp {port} --speed 20 --seed 4"));
    let events = || std::fs::read_to_string(dir.join("out/events.jsonl")).unwrap_or_default();
    until(dir, || events().lines().count() > 4);
    let file = recording(6);
    let file = file.display();
    for command in [
        format!("--replay {file} --out out"),
        "--replay out/recording.edf --out out".to_owned(),
        format!("batch {file} --out out"),
    ] {
        let before = events();
        let refused = run(dir, &command);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{command}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("live session") && said.contains("--out"), "{said}");
        assert!(events().starts_with(&before), "{command}");
    }
    signal(&host, "-TERM");
    assert_eq!(wait(host, dir), 0, "{}", logs(dir));
    let _ = sensors.kill();
    let _ = sensors.wait();
    // One that is over does not stop a replay.
    let replay = run(dir, &format!("--replay {file} --out out"));
    assert!(replay.status.success(), "{replay:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_files_is_refused_before_sensors_are_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    std::fs::write(dir.join("file"), "").expect("written");
    for out in ["/sys/night", "/proc/a/night", "file", "file/night"] {
        for more in ["", "--beds"] {
            let refused = run(dir, &format!("--tcp listen:127.0.0.1:0 --out {out} {more}"));
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(5), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.contains(out) && said.contains("cannot be written"), "{said}");
        }
    }
    assert_eq!(std::fs::read_dir(dir).expect("a folder").count(), 1, "nothing is left");
}

#[test]
fn a_hangup_ends_a_session_as_sigterm_does() {
    let _turn = turn();
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let port = free_tcp();
    let host = stream(dir, &format!("--tcp listen:{port} --speed 20 --out out --pass live"));
    let mut sensors = sim(dir, &recording(30), &format!("--tcp {port} --speed 20 --seed 4"));
    let rows = || std::fs::read_to_string(dir.join("out/hypnogram.csv")).unwrap_or_default();
    until(dir, || rows().lines().count() > 2);
    // A terminal that is closed sends more than one.
    signal(&host, "-HUP");
    signal(&host, "-HUP");
    assert_eq!(wait(host, dir), 0, "{}", logs(dir));
    let _ = sensors.kill();
    let _ = sensors.wait();
    assert!(dir.join("out/night.json").exists(), "{}", logs(dir));
}
