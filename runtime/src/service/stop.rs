//! The wish to stop: SIGINT, SIGTERM, SIGHUP, or [`ask`]. The first one asks the run to end and to
//! complete its files, a second one ends the process at once. A hangup is never the second: a closed
//! terminal sends it more than once, and a service manager after its SIGTERM; under nohup it stays
//! ignored. It owns the thread `signals`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use std::time::Duration;

use tokio::sync::Notify;

use super::console;

/// Exit code after a second signal: the run failed, as for any other that was cut off.
const CUT_OFF: i32 = 5;

/// How long putting things right may take: a terminal may not take it.
const PUT_RIGHT_WITHIN: Duration = Duration::from_secs(1);

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

/// Sets `stop` at the first Ctrl-C, SIGTERM or SIGHUP, and ends the process at a second Ctrl-C or
/// SIGTERM. From its return on no signal goes past it.
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
        runtime.block_on(signals.first());
        ASKED.store(true, Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        runtime.block_on(signals.next());
        put_right();
        console::flush();
        std::process::exit(CUT_OFF);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop).map_err(refuse)
}

fn put_right() {
    let Some(put_right) = BEFORE_EXIT.get() else { return };
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        put_right();
        let _ = done.send(());
    });
    let _ = is_done.recv_timeout(PUT_RIGHT_WITHIN);
}

/// Whether the process was begun with hangups ignored, as under nohup.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    // SAFETY: an action of zeros is a valid one, and without a new action sigaction only writes the
    // present one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let asked = libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut action);
        asked == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(unix)]
struct Signals {
    hangup: Option<tokio::signal::unix::Signal>,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn watch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            hangup,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn first(&mut self) {
        let Some(mut hangup) = self.hangup.take() else { return self.next().await };
        tokio::select! {
            _ = hangup.recv() => (),
            () = self.next() => (),
        }
        // Further ones find a handler still and do nothing.
        self.hangup = Some(hangup);
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

    async fn first(&mut self) {
        self.next().await;
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
