//! Wrong arguments, files that are not there and a folder that cannot be written: one line, the
//! exit code of DESIGN's table, and nothing left behind.

use std::process::Stdio;

use crate::recordings::study;
use crate::run::{Bench, data, wait, wait_for};

#[test]
fn wrong_arguments_are_2() {
    let bench = Bench::new();
    for (args, reason) in [
        ("--replay a.edf --sped 3", "'--sped'"),
        ("--replay a.edf --pass middle", "middle"),
        ("--replay a.edf --backend gpu", "gpu"),
        ("--replay a.edf --speed 0", "max or a number"),
        ("--replay a.edf --speed 1e-300", "max or a number"),
        ("--replay a.edf --threads 0", "--threads 0"),
        ("--replay a.edf --threads 9999999", "--threads 9999999"),
        ("--replay a.edf --threads -1", "-1"),
        ("--replay a.edf --age 50", "both --age and --sex"),
        ("--replay a.edf --age 200 --sex f", "no age in years"),
        ("--replay a.edf --age NaN --sex f", "no age in years"),
        ("--replay a.edf --map Flow", "there is no '='"),
        ("--replay a.edf --map Flow=EEG", "EEG"),
        ("--replay a.edf --channel-groups absent.json", "absent.json"),
        ("--replay a.edf --channel-rules absent.toml", "absent.toml"),
        ("--replay a.edf --channel-groups a.json --channel-rules b.toml", "--channel-rules"),
        ("--replay a.edf --config absent.toml", "absent.toml"),
        ("--pass live", "no recording given"),
        ("inspect", "<FILE>"),
        ("inspect a.edf b.edf", "b.edf"),
        ("bundle verify", "<FILE>"),
        ("frobnicate", "frobnicate"),
    ] {
        let run = bench.run(args);
        assert!(run.refused(2).contains(reason), "{args}: {run:#?}");
    }
    let left = std::fs::read_dir(bench.path("")).expect("folder").count();
    assert_eq!(left, 0, "a refusal leaves nothing behind");
}

#[test]
fn help_and_version_are_no_refusal() {
    let bench = Bench::new();
    for args in ["--help", "-h", "inspect --help", "bundle info --help", "--version"] {
        let run = bench.run(args);
        assert!(run.done().contains("sfm-stream"), "{run:#?}");
        assert_eq!(run.stderr, "");
    }
}

#[test]
fn what_cannot_be_read_is_3() {
    let bench = Bench::new();
    let run = bench.run("--replay absent.edf");
    let line = run.refused(3);
    assert!(line.starts_with("absent.edf ") && line.contains("check the path"), "{line}");
    assert!(bench.run("inspect absent.edf").refused(3).starts_with("absent.edf "));
    assert!(bench.run("--replay .").refused(3).contains("is a folder"));
    assert!(bench.run("--replay /dev/zero").refused(3).contains("device"));
}

#[test]
fn a_folder_that_cannot_be_made_or_written_is_5() {
    let bench = Bench::new();
    bench.file("taken", "a file where the folder should be");
    let file = data("edf/short_psg.edf").into_os_string();
    for out in ["taken", "taken/below", "/proc/nothing"] {
        let args = ["--replay".into(), file.clone(), "--out".into(), out.into()];
        let run = wait(bench.command(args));
        assert_eq!((run.code, run.stdout.as_str()), (5, ""), "{run:#?}");
        let last = run.stderr.lines().last().expect("a line");
        assert!(last.contains(out) && last.contains("--out"), "{last}");
    }
    // A name that is taken by a folder.
    std::fs::create_dir_all(bench.path("half/hypnogram.csv")).expect("folder");
    let args = ["--replay".into(), file, "--out".into(), "half".into()];
    let run = wait(bench.command(args));
    assert_eq!(run.code, 5, "{run:#?}");
    assert!(run.stderr.lines().last().is_some_and(|line| line.contains("half/hypnogram.csv")));
}

#[test]
fn a_config_file_holds_arguments_and_the_command_line_goes_first() {
    let bench = Bench::new();
    bench.file("study.edf", study(65).bytes());
    let config = "replay = 'study.edf'\nout = 'here'\npass = 'live'\nbackend = 'tract'\n\
                  threads = 1\nage = 44\nsex = 'm'\nspeed = 'max'\n\
                  [channels]\nmap = ['ECG II=none']\n";
    bench.file("run.toml", config);
    let run = bench.run("--config run.toml --pass final --threads 2");
    assert!(run.done().starts_with("Sleep statistics (final pass)"), "{run:#?}");
    assert!(run.stderr.contains("tract on the CPU, 2 thread(s)"), "{run:#?}");
    assert!(run.stderr.contains("absent: no channel for EKG"), "{run:#?}");
    assert!(run.stdout.contains("no relative hazards are shown"), "{run:#?}");
    assert!(bench.path("here/night.json").exists());
    bench.file("run.toml", "replay = 'study.edf'\npas = 'live'\n");
    let run = bench.run("--config run.toml");
    let line = run.refused(2);
    assert!(line.contains("run.toml") && line.contains("line 2") && line.contains("pas"), "{line}");
}

#[test]
fn the_default_folder_is_named_after_the_study() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("nights")).expect("folder");
    bench.file("nights/study 7.edf", study(35).bytes());
    let run = wait(bench.command(["--replay", "nights/study 7.edf", "--backend", "tract"]));
    assert!(run.done().contains("Files: study 7.sfm-out\n"), "{run:#?}");
    crate::output::Output::read(&bench.path("study 7.sfm-out"));
}

#[test]
fn an_earlier_nights_files_are_replaced_and_others_stay() {
    let bench = Bench::new();
    let short = bench.file("short.edf", study(35).bytes());
    assert_eq!(bench.replay(&data("edf/short_psg.edf"), "--age 33 --sex f").code, 0);
    bench.file("out/notes.txt", "mine");
    assert_eq!(bench.replay(&short, "").code, 0);
    let mine = std::fs::read(bench.path("out/notes.txt")).expect("still there");
    assert_eq!(mine, b"mine");
    std::fs::remove_file(bench.path("out/notes.txt")).expect("removed");
    let output = bench.output();
    assert_eq!((output.hypnogram.len(), output.risk.len()), (2, 1));
}

#[test]
fn a_closed_or_full_stdout_is_no_panic() {
    let bench = Bench::new();
    let file = data("edf/short_psg.edf");
    let inspect = || bench.command(["inspect".into(), file.clone().into_os_string()]);
    for mut command in [
        bench.replaying(&file, "--pass final"),
        bench.replaying(&file, "--pass final --json"),
        inspect(),
        bench.command(["bundle", "info"]),
    ] {
        let mut child = command.spawn().expect("starts");
        drop(child.stdout.take());
        assert_eq!(wait_for(child).code, 0, "the reader has seen enough");
    }
    bench.output();
    let mut child = bench.replaying(&file, "--pass final").spawn().expect("starts");
    drop(child.stderr.take());
    assert_eq!(wait_for(child).code, 0, "nobody reads stderr");
    if cfg!(target_os = "linux") {
        for mut command in [bench.replaying(&file, "--json"), inspect()] {
            let full = std::fs::File::options().write(true).open("/dev/full").expect("opens");
            command.stdout(Stdio::from(full));
            let run = wait(command);
            assert_eq!(run.code, 5, "{run:#?}");
            assert!(run.stderr.contains("stdout cannot be written"), "{run:#?}");
        }
        bench.output();
    }
}
