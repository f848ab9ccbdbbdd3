//! Works a list off on a few threads, in its order. What breaks down is a failure of its own; a
//! wish to stop leaves the rest undone. Results are handed to the caller's thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::caught::caught;

/// How often the caller is woken while nothing ends.
const WAKE_EVERY: Duration = Duration::from_millis(200);

/// Calls `work` for every one of `items`, on `jobs` threads, until `stop` is set; `ended` takes each
/// index and result on this thread as it comes, `None` for work that panicked. `idle` is called
/// several times a second between them.
///
/// # Errors
/// The operating system gives no thread at all.
pub fn each<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    stop: &AtomicBool,
    work: impl Fn(&T) -> R + Sync,
    mut ended: impl FnMut(usize, Result<R, String>),
    mut idle: impl FnMut(),
) -> std::io::Result<()> {
    let next = AtomicUsize::new(0);
    let (to, results) = channel();
    let job = |to: std::sync::mpsc::Sender<(usize, Result<R, String>)>| {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            let result = caught(|| work(item));
            if to.send((index, result)).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let job = &job;
        let mut failure = None;
        let mut running = 0;
        for number in 1..=jobs.min(items.len()) {
            let to = to.clone();
            let builder = std::thread::Builder::new().name(format!("night {number}"));
            match builder.spawn_scoped(scope, move || job(to)) {
                Ok(_) => running += 1,
                Err(e) => failure = Some(e),
            }
        }
        drop(to);
        loop {
            match results.recv_timeout(WAKE_EVERY) {
                Ok((index, result)) => ended(index, result),
                Err(RecvTimeoutError::Timeout) => idle(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Fewer threads than asked for are slower, no failure.
        failure.filter(|_| running == 0).map_or(Ok(()), Err)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_once_and_a_panic_stops_nobody() {
        let items: Vec<u32> = (0..50).collect();
        let mut seen = vec![0; items.len()];
        let mut broke = Vec::new();
        let work = |item: &u32| {
            assert!(*item != 7, "seven");
            item * 2
        };
        let ended = |index: usize, result: Result<u32, String>| {
            seen[index] += 1;
            match result {
                Ok(double) => assert_eq!(double as usize, index * 2),
                Err(reason) => {
                    assert!(reason.contains("seven"), "{reason}");
                    broke.push(index);
                }
            }
        };
        each(&items, 4, &AtomicBool::new(false), work, ended, || ()).expect("threads");
        assert_eq!((seen, broke), (vec![1; 50], vec![7]));
    }

    #[test]
    fn a_stop_leaves_the_rest() {
        let (items, stop) = ([0; 100], AtomicBool::new(false));
        let mut count = 0;
        let work = |_: &i32| stop.store(true, Ordering::Relaxed);
        each(&items, 2, &stop, work, |_, _| count += 1, || ()).expect("threads");
        assert!((1..=2).contains(&count), "{count}");
    }
}
