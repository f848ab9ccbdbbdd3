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
    for signals in [["-TERM", "-TERM"], ["-INT", "-INT"], ["-TERM", "-INT"]] {
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
