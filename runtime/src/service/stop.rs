//! SIGINT and SIGTERM. The first one asks the run to end and to complete its files, the second
//! one ends the process at once. It owns the thread `signals`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code after a second signal: the run failed, as for any other that was cut off.
const CUT_OFF: i32 = 5;

/// Sets `stop` at the first Ctrl-C or SIGTERM, and ends the process at the second. From its return
/// on no signal goes past it.
///
/// # Errors
/// One sentence, if the operating system does not hand out signals.
pub fn on_signal(stop: Arc<AtomicBool>) -> Result<(), String> {
    let refuse = |e: std::io::Error| format!("signals cannot be watched: {e}");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refuse)?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::watch().map_err(refuse)?
    };
    let wait = move || {
        runtime.block_on(signals.next());
        stop.store(true, Ordering::Relaxed);
        runtime.block_on(signals.next());
        std::process::exit(CUT_OFF);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop).map_err(refuse)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn watch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn watch() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Nothing will come any more; the thread must not take that for a signal.
            std::future::pending::<()>().await;
        }
    }
}
