//! What the service manager is told: ready, a line of status, alive, ending. Nothing happens where
//! systemd did not start the program. A lost message is no failure: the next one follows. Called
//! on the service's thread and by the session.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::text::escaped;

/// Longest status line, characters.
const MAX_STATUS: usize = 200;

/// The session takes samples.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// What `systemctl status` shows.
pub fn status(text: &str) {
    let line: String = escaped(text).chars().take(MAX_STATUS).collect();
    send(&[NotifyState::Status(&line)]);
}

/// The session is ending.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The process is well; without this for the whole of WatchdogSec= systemd starts it anew.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is to be said: twice in WatchdogSec=. `None` without a watchdog.
pub fn alive_interval() -> Option<Duration> {
    let limit = sd_notify::watchdog_enabled()?;
    Some((limit / 2).max(Duration::from_millis(1)))
}

fn send(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
