//! The first signal asks, the second one ends.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sfm_runtime::service::stop::on_signal;

/// Notices the first signal and does not end; a parent that is gone ends it after a minute.
#[test]
#[ignore = "run by the other tests in a process of its own"]
fn child() {
    let stop = Arc::new(AtomicBool::new(false));
    on_signal(stop.clone()).expect("watches");
    eprintln!("watching");
    let begin = Instant::now();
    while !stop.load(Ordering::Relaxed) && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    eprintln!("asked");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn two_signals_of_either_kind_end_the_process() {
    for signals in [["-TERM", "-TERM"], ["-INT", "-INT"], ["-TERM", "-INT"], ["-HUP", "-TERM"]] {
        let mut child = crate::child("stop::child").stderr(Stdio::piped()).spawn().expect("starts");
        let mut stderr = child.stderr.take().expect("a pipe");
        for (signal, wanted) in signals.iter().zip(["watching\n", "asked\n"]) {
            let mut said = vec![0; wanted.len()];
            stderr.read_exact(&mut said).expect("it lives");
            assert_eq!(String::from_utf8_lossy(&said), wanted);
            let id = child.id().to_string();
            assert!(
                Command::new("kill").args([signal, id.as_str()]).status().expect("kill").success()
            );
        }
        let begin = Instant::now();
        assert_eq!(child.wait().expect("ends").code(), Some(5), "{signals:?}");
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    }
}

/// Whether a process that gets `signals`, one after the other, lives on; it has not been asked to
/// stop then but where `asked`.
fn lives_on(mut command: Command, signals: &[&str], asked: bool) {
    let mut child = command.stderr(Stdio::piped()).spawn().expect("starts");
    let mut stderr = child.stderr.take().expect("a pipe");
    let mut hears = |wanted: &str| {
        let mut said = vec![0; wanted.len()];
        stderr.read_exact(&mut said).expect("it lives");
        assert_eq!(String::from_utf8_lossy(&said), wanted);
    };
    hears("watching\n");
    for (sent, signal) in signals.iter().enumerate() {
        let id = child.id().to_string();
        assert!(Command::new("kill").args([signal, id.as_str()]).status().expect("kill").success());
        if asked && sent == 0 {
            hears("asked\n");
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().expect("a status").is_none(), "{signals:?}");
    child.kill().expect("killed");
    child.wait().expect("ends");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("UTF-8");
    assert_eq!(rest, "", "{signals:?}");
}

#[test]
fn a_hangup_is_never_the_second_signal() {
    lives_on(crate::child("stop::child"), &["-HUP", "-HUP", "-HUP"], true);
    lives_on(crate::child("stop::child"), &["-TERM", "-HUP"], true);
}

#[test]
fn under_nohup_a_hangup_stays_ignored() {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("sh");
    let script = "trap '' HUP; exec \"$0\" \"$@\"";
    command.args(["-c", script]).arg(program);
    command.args(["--exact", "stop::child", "--ignored", "--nocapture"]).stdout(Stdio::null());
    lives_on(command, &["-HUP", "-HUP"], false);
}
