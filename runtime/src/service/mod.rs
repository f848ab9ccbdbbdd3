//! What a session needs to run for a night unattended: `/metrics` and `/healthz`, the service
//! manager's watchdog, the log, signals, the disk's room, who may connect. It owns the thread
//! `service`; no sample passes through it, and the sessions go on if it fails.

pub mod bind;
pub(crate) mod connection;
pub mod console;
pub(crate) mod crowd;
pub(crate) mod guesses;
pub mod http;
pub mod log;
pub mod stop;
pub mod systemd;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use self::bind::{DeviceId, Devices, RemoteAccess, Token};
use self::guesses::Guesses;
use self::http::Served;
use self::log::LogLevel;
use crate::files::FileMode;
use crate::health::{self, Beds, Limits, Status, Watched};
use crate::telemetry;

/// Time between two looks at the sessions, and at the disk.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AT_DISK: Duration = Duration::from_secs(5);
/// Shortest time between two lines of the log about how the sessions are.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Arguments of everything around a session.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ServiceArgs {
    /// Serve /metrics (Prometheus) and /healthz at this address, e.g. 127.0.0.1:9464
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Listen at addresses that other machines can reach too; metrics and the live page need --token-file then
    #[arg(long)]
    pub listen_remote: bool,
    /// File with the token that metrics and the live page ask for (Authorization: Bearer, or the page's form)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Take samples of this device only, by its id in hexadecimal; may be repeated [default: all]
    #[arg(long, value_name = "HEX")]
    pub allow_device: Vec<DeviceId>,
    /// Least important events in the log on stderr [default: SFM_LOG, else info]
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<LogLevel>,
    /// Permissions of the files that a live session makes, octal; folders follow [default: 0600]
    #[arg(long, value_name = "MODE")]
    pub file_mode: Option<FileMode>,
}

impl ServiceArgs {
    /// These arguments, completed from a configuration file's.
    pub fn or(&self, file: Self) -> Self {
        let mut allow_device = file.allow_device;
        allow_device.extend(&self.allow_device);
        Self {
            metrics: self.metrics.or(file.metrics),
            listen_remote: self.listen_remote || file.listen_remote,
            token_file: self.token_file.clone().or(file.token_file),
            allow_device,
            log: self.log.or(file.log),
            file_mode: self.file_mode.or(file.file_mode),
        }
    }

    /// Who may connect from other machines.
    ///
    /// # Errors
    /// One sentence, if the token's file cannot be used.
    pub fn remote_access(&self) -> Result<RemoteAccess, String> {
        let token = self.token_file.as_deref().map(Token::read).transpose()?;
        Ok(RemoteAccess { listen_remote: self.listen_remote, token })
    }

    /// Whose samples are taken.
    pub fn devices(&self) -> Devices {
        Devices::new(&self.allow_device)
    }
}

/// The thread that watches over the sessions. Dropping it ends it.
pub struct Service {
    beds: Arc<Beds>,
    address: Option<SocketAddr>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Opens the port of `args.metrics`, installs the recorder for it and begins to watch. Comes
    /// before the network is loaded, whose meters would stay empty else.
    ///
    /// # Errors
    /// One sentence: what of the configuration cannot be used. For exit code 2.
    pub fn start(args: &ServiceArgs) -> Result<Self, String> {
        Self::start_within(args, Limits::default())
    }

    /// The same with other limits for heartbeats.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start_within(args: &ServiceArgs, limits: Limits) -> Result<Self, String> {
        let access = args.remote_access()?;
        let beds = Arc::new(Beds::new(limits));
        let refuse = |e: std::io::Error| format!("the service's thread cannot start: {e}");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refuse)?;
        let mut server = None;
        if let Some(addr) = args.metrics {
            bind::allowed_http(addr, &access)?;
            let listener = connection::listen(addr, "metrics")?;
            let _inside = runtime.enter();
            let listener = TcpListener::from_std(listener).map_err(refuse)?;
            let (metrics, token) = (telemetry::install()?, access.token);
            let (is_local, guesses) = (bind::is_loopback(addr), Guesses::new("metrics"));
            let beds = beds.clone();
            server = Some((listener, Served { metrics, beds, token, guesses, is_local }));
        }
        let address = server.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        let (end, ended) = oneshot::channel();
        let watched = beds.clone();
        let run = move || watch(runtime, watched, server, ended);
        let thread = std::thread::Builder::new().name("service".to_owned()).spawn(run);
        if let Some(address) = address {
            tracing::info!(
                "metrics at http://{address}/metrics, health at http://{address}/healthz"
            );
        }
        Ok(Self { beds, address, end: Some(end), thread: Some(thread.map_err(refuse)?) })
    }

    /// A session begins at `bed` (a label, no person's data) and writes to `out_dir`. It is
    /// watched until what this returns is dropped.
    pub fn begin(&self, bed: &str, out_dir: Option<&Path>) -> Watched {
        self.beds.begin(bed, out_dir.map(Path::to_owned))
    }

    /// The sessions, for threads that begin some.
    pub fn beds(&self) -> Arc<Beds> {
        self.beds.clone()
    }

    /// Where `/metrics` is served.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing left to do about it.
            let _ = thread.join();
        }
    }
}

fn watch(
    runtime: Runtime,
    beds: Arc<Beds>,
    server: Option<(TcpListener, Served)>,
    ended: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        let metrics = server.as_ref().map(|(_, served)| served.metrics.clone());
        if let Some((listener, served)) = server {
            tokio::spawn(http::serve(listener, Arc::new(served)));
        }
        tokio::spawn(measure_disks(beds.clone()));
        tokio::spawn(keep_time(beds.clone()));
        if let Some(interval) = systemd::alive_interval() {
            tokio::spawn(say_alive(beds.clone(), interval));
        }
        tokio::select! {
            () = look_after(beds, metrics) => (),
            // Nothing is sent: the service was dropped.
            _ = ended => (),
        }
    });
    // A disk that does not answer must not hold up the end.
    runtime.shutdown_background();
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Sets the gauges, logs what gets worse or better, tells systemd's status line.
async fn look_after(beds: Arc<Beds>, metrics: Option<PrometheusHandle>) {
    let mut ticks = every(LOOK);
    let (mut status, mut line) = (Status::Ok, String::new());
    let mut next_line = tokio::time::Instant::now();
    loop {
        ticks.tick().await;
        log::tell_left_out();
        let unread = console::stderr().and_then(console::Outlet::trouble);
        beds.condition("stderr", unread.map(|reason| (Status::Degraded, reason)));
        let unread = console::stdout().and_then(console::Outlet::trouble);
        beds.condition("stdout", unread.map(|reason| (Status::Degraded, reason)));
        let report = beds.report();
        let now = tokio::time::Instant::now();
        if report.status != status && now >= next_line {
            next_line = now + LINE_EVERY;
            let reasons = report.reasons.join("; ");
            match report.status {
                Status::Ok => tracing::info!("all is well again"),
                Status::Degraded => tracing::warn!("{reasons}"),
                Status::Failing => tracing::error!("{reasons}"),
            }
            status = report.status;
        }
        let now = report.line();
        if now != line {
            systemd::status(&now);
            line = now;
        }
        if let Some(metrics) = &metrics {
            // Or histograms would keep every value until somebody reads them.
            metrics.run_upkeep();
        }
    }
}

/// Ages of samples count while this process runs.
async fn keep_time(beds: Arc<Beds>) {
    let mut ticks = every(health::TICK);
    loop {
        ticks.tick().await;
        beds.tick();
    }
}

async fn measure_disks(beds: Arc<Beds>) {
    let mut ticks = every(LOOK_AT_DISK);
    loop {
        ticks.tick().await;
        let beds = beds.clone();
        if tokio::task::spawn_blocking(move || beds.measure_disks()).await.is_err() {
            tracing::error!("the disk's room cannot be looked up any more");
            return;
        }
    }
}

/// Tells systemd that the process is well, as long as every pipeline runs.
async fn say_alive(beds: Arc<Beds>, interval: Duration) {
    let mut ticks = every(interval);
    let mut was_alive = true;
    loop {
        ticks.tick().await;
        let alive = beds.are_alive();
        if alive {
            systemd::alive();
        } else if was_alive {
            tracing::error!(
                "a pipeline stands still; the service manager will start the program anew"
            );
        }
        was_alive = alive;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        service: ServiceArgs,
    }

    fn line(args: &[&str]) -> ServiceArgs {
        let args = ["sfm-stream"].iter().chain(args);
        <Line as clap::Parser>::try_parse_from(args).expect("parses").service
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let file: ServiceArgs = toml::from_str(
            "metrics = '127.0.0.1:1'\nlisten-remote = true\ntoken-file = 'a'\n\
             allow-device = ['a1']\nlog = 'debug'\nfile-mode = '0640'\n",
        )
        .expect("parses");
        let given = line(&["--metrics", "[::1]:2", "--allow-device", "B2", "--log", "warn"]);
        let both = given.or(file.clone());
        assert_eq!(both.metrics, "[::1]:2".parse().ok());
        assert!(both.listen_remote);
        assert_eq!(both.token_file, Some("a".into()));
        assert_eq!(both.allow_device, [DeviceId(0xa1), DeviceId(0xb2)]);
        assert_eq!(both.log, Some(LogLevel::Warn));
        assert_eq!(line(&[]).or(file.clone()), file);
        assert_eq!(both.file_mode, "0640".parse().ok());
        assert!(toml::from_str::<ServiceArgs>("file-mode = '0700'").is_err());
        assert!(toml::from_str::<ServiceArgs>("metrics = 'localhost'").is_err());
        assert!(toml::from_str::<ServiceArgs>("token = 'secret'").is_err(), "only in a file");
    }

    #[test]
    fn the_bedside_configuration_is_understood() {
        let text = include_str!("../../../configs/bedside.toml");
        let mut file: toml::Table = toml::from_str(text).expect("TOML");
        let service = file.remove("service").expect("a table");
        let args: ServiceArgs = service.try_into().expect("understood");
        assert_eq!(args.metrics, "127.0.0.1:9464".parse().ok());
        assert!(!args.listen_remote && args.devices().is_open());
    }

    #[test]
    fn what_cannot_be_served_is_one_line() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken = other.local_addr().expect("its address");
        let dir = tempfile::tempdir().expect("a temporary folder");
        let none = dir.path().join("none").display().to_string();
        let refused = |args: &[&str]| Service::start(&line(args)).err().expect("refused");
        for (args, reason) in [
            (&["--metrics", "0.0.0.0:0"][..], "--listen-remote"),
            (&["--metrics", "0.0.0.0:0", "--listen-remote"], "--token-file"),
            (&["--metrics", "127.0.0.1:0", "--token-file", &none], "cannot be read"),
        ] {
            let message = refused(args);
            assert!(message.contains(reason) && !message.contains('\n'), "{message}");
        }
        let message = refused(&["--metrics", &taken.to_string()]);
        assert!(message.contains("in use") && message.contains(&taken.to_string()), "{message}");
    }
}
