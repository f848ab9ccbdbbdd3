//! The wish to stop: SIGINT, SIGTERM, or [`ask`]. The first one asks the run to end and to complete
//! its files, the second one ends the process at once. It owns the thread `signals`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

/// Exit code after a second signal: the run failed, as for any other that was cut off.
const CUT_OFF: i32 = 5;

static ASKED: AtomicBool = AtomicBool::new(false);
static KEY: Notify = Notify::const_new();
static BEFORE_EXIT: OnceLock<fn()> = OnceLock::new();

/// As a signal does: for a key pressed where the terminal makes no signals of keys.
pub fn ask() {
    KEY.notify_one();
}

/// Whether anybody has asked this process to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// What is to be put right before a second signal ends the process; the first caller's.
pub fn before_exit(put_right: fn()) {
    BEFORE_EXIT.get_or_init(|| put_right);
}

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
        ASKED.store(true, Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        runtime.block_on(signals.next());
        if let Some(put_right) = BEFORE_EXIT.get() {
            put_right();
        }
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
            () = KEY.notified() => (),
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
        let signal = async {
            if tokio::signal::ctrl_c().await.is_err() {
                // Nothing will come any more; the thread must not take that for a signal.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = signal => (),
            () = KEY.notified() => (),
        }
    }
}
