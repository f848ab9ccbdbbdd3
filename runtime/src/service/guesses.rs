//! Wrong tokens: whoever shows one waits for the answer, and the log has a line about it, a minute
//! apart and with a count. What was shown is not in it. Of one HTTP server; any thread.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// How long who shows a wrong token waits.
const WAIT: Duration = Duration::from_secs(1);
/// How many wait at the same time; others are answered at once, that there are too many.
const MAX_WAITING: usize = 64;
/// Time between two lines of the log.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Wrong tokens that were shown to a server.
#[derive(Debug)]
pub(crate) struct Guesses {
    what: &'static str,
    waiting: Semaphore,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    at: Option<Instant>,
    /// Since the last line.
    count: u64,
}

/// Too many wait already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Guesses {
    /// Of the server of `what`.
    pub fn new(what: &'static str) -> Self {
        Self { what, waiting: Semaphore::new(MAX_WAITING), noted: Mutex::default() }
    }

    /// `client` has shown a wrong token; returns when it may be told.
    ///
    /// # Errors
    /// [`TooMany`].
    pub async fn wrong(&self, client: IpAddr) -> Result<(), TooMany> {
        if let Some(line) = self.line(client, Instant::now()) {
            tracing::warn!("{line}");
        }
        let _place = self.waiting.try_acquire().map_err(|_| TooMany)?;
        tokio::time::sleep(WAIT).await;
        Ok(())
    }

    fn line(&self, client: IpAddr, now: Instant) -> Option<String> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.count += 1;
        if noted.at.is_some_and(|at| now.saturating_duration_since(at) < LINE_EVERY) {
            return None;
        }
        noted.at = Some(now);
        let (count, what) = (std::mem::take(&mut noted.count), self.what);
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        Some(format!("{what}: a wrong or old token was shown {times}, last by {client}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_minute_counts_the_others() {
        let guesses = Guesses::new("the live page");
        let (client, now) = (IpAddr::from([192, 0, 2, 7]), Instant::now());
        let first = guesses.line(client, now).expect("a line");
        assert_eq!(first, "the live page: a wrong or old token was shown once, last by 192.0.2.7");
        assert!((0..1000).all(|_| guesses.line(client, now).is_none()));
        let next = guesses.line(client, now + LINE_EVERY).expect("a line");
        assert!(next.contains("shown 1001 times"), "{next}");
    }
}
