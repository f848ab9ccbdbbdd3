//! Simulated devices over UDP, TCP, serial lines and pseudo-terminals: one task a device, all on one
//! thread, paced by a clock that runs at `--speed`. Moments are computed from the beginning of the
//! run, never from the last one, so pacing does not drift; what is due together leaves together.

mod wire;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use self::wire::{Batch, Connector, Wire, accepted, connected};
use super::{DeviceReport, Hostile, Sensor, SimError};

/// A device wakes no more often than this by itself.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
/// ... and no less often: another device may have been started.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Where the devices of a run are connected.
#[derive(Debug)]
pub(super) enum Endpoint {
    /// To a host's UDP port, each device from a socket of its own.
    Udp(SocketAddr),
    /// To a host's TCP port, each with a connection of its own.
    Tcp(SocketAddr),
    /// The host connects; each connection is the next waiting device's.
    TcpListen(SocketAddr),
    /// To one serial line, for one device.
    Serial(PathBuf),
    /// To a new pseudo-terminal each.
    Pty,
}

/// What is connected.
#[derive(Debug)]
pub(super) enum Device {
    Sensor(Box<Sensor>),
    Hostile(Box<Hostile>),
}

/// A device in its place.
#[derive(Debug)]
pub(super) struct Seat {
    pub bed: usize,
    pub device: Device,
}

/// Runs devices to their end, or to an interrupt. `announce` is told each pseudo-terminal's path.
pub(super) fn run(
    seats: Vec<Seat>,
    endpoint: Endpoint,
    speed: f64,
    announce: &mut dyn FnMut(&str),
) -> Result<Vec<DeviceReport>, SimError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| SimError::Failed(format!("no event loop: {error}")))?;
    runtime.block_on(run_all(seats, endpoint, speed, announce))
}

async fn run_all(
    seats: Vec<Seat>,
    endpoint: Endpoint,
    speed: f64,
    announce: &mut dyn FnMut(&str),
) -> Result<Vec<DeviceReport>, SimError> {
    let listener = match &endpoint {
        Endpoint::TcpListen(address) => {
            let listener = TcpListener::bind(address).await;
            let listener = listener
                .map_err(|e| SimError::Failed(format!("cannot listen on {address}: {e}")))?;
            Some(Arc::new(Mutex::new(listener)))
        }
        _ => None,
    };
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        interrupted().await;
        let _ = stop.send(true);
        // The receivers learn of the interrupt, not of an end of the sender.
        pending::<()>().await
    });
    let clock = Clock { origin: Instant::now(), utc: Timestamp::now(), speed };
    let beds = seats.iter().map(|seat| seat.bed + 1).max().unwrap_or_default();
    let begins: Vec<_> = (0..beds).map(|_| Arc::new(OnceLock::new())).collect();
    let mut tasks = Vec::new();
    for Seat { bed, device } in seats {
        let connector = Connector::new(&endpoint, listener.clone(), announce).await?;
        let begin = begins.get(bed).cloned().unwrap_or_default();
        let player = Player { device, clock, begin, send_errors: 0, stopped: stopped.clone() };
        tasks.push((bed, tokio::spawn(player.play(connector))));
    }
    let mut reports = Vec::new();
    for (bed, task) in tasks {
        let report =
            task.await.map_err(|error| SimError::Failed(format!("a device failed: {error}")))?;
        reports.push(DeviceReport { bed, ..report });
    }
    Ok(reports)
}

/// Waits for an interrupt or, where there is one, a request to terminate.
async fn interrupted() {
    #[cfg(unix)]
    if let Ok(mut terminate) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// True time by the wall's.
#[derive(Debug, Clone, Copy)]
struct Clock {
    origin: Instant,
    utc: Timestamp,
    speed: f64,
}

impl Clock {
    fn now_s(&self) -> f64 {
        self.origin.elapsed().as_secs_f64() * self.speed
    }

    fn wall(&self, true_time_s: f64) -> Option<Instant> {
        let since = Duration::try_from_secs_f64(true_time_s / self.speed).ok()?;
        self.origin.checked_add(since)
    }

    fn utc(&self, true_time_s: f64) -> Option<String> {
        let since = SignedDuration::try_from_secs_f64(true_time_s / self.speed).ok()?;
        self.utc.checked_add(since).ok().map(|utc| utc.to_string())
    }
}

/// One device on its link.
struct Player {
    device: Device,
    clock: Clock,
    /// True time of the bed's recording time 0.
    begin: Arc<OnceLock<f64>>,
    send_errors: u64,
    stopped: watch::Receiver<bool>,
}

impl Player {
    async fn play(mut self, connector: Connector) -> DeviceReport {
        let failure = self.play_on(connector).await.err();
        let mut report = match &self.device {
            Device::Sensor(sensor) => sensor.report(),
            Device::Hostile(hostile) => DeviceReport {
                device: hostile.device(),
                ended: if hostile.is_finished() { "end" } else { "interrupted" }.into(),
                ..DeviceReport::default()
            },
        };
        if let Some(error) = failure {
            report.ended = format!("failed: {error}");
        }
        report.send_errors = self.send_errors;
        report.start_utc = report.start_s.and_then(|start_s| self.clock.utc(start_s));
        report
    }

    async fn play_on(&mut self, mut connector: Connector) -> Result<(), SimError> {
        // The far end of a pseudo-terminal is held until the device is done.
        let (mut wire, far) = match &mut connector {
            Connector::Wire(wire, far) => (wire.take(), far.take()),
            _ => (None, None),
        };
        let mut stopped = self.stopped.clone();
        let mut connecting: Option<JoinHandle<io::Result<TcpStream>>> = None;
        let (mut batch, mut buffer) = (Batch::default(), vec![0; 16 << 10]);
        loop {
            self.advance(&mut batch)?;
            let sending = async {
                match &mut wire {
                    Some(wire) => wire.send(&batch).await,
                    None => Ok(0),
                }
            };
            let sent = tokio::select! {
                sent = sending => sent,
                _ = stopped.changed() => break,
            };
            match sent {
                Ok(refused) => self.send_errors += refused,
                Err(_) => wire = None,
            }
            if let (true, Some(Wire::Tcp(_))) = (batch.closes, &wire)
                && let Some(wire) = wire.take()
            {
                tokio::spawn(wire.close());
            }
            self.sever_without(&wire);
            if self.is_finished() {
                break;
            }
            match (self.wants_connection(), &connecting) {
                (true, None) => {
                    connecting = match &connector {
                        Connector::Connect(address) => Some(tokio::spawn(connected(*address))),
                        Connector::Accept(listener) => {
                            Some(tokio::spawn(accepted(listener.clone())))
                        }
                        Connector::Wire(..) => None,
                    };
                }
                (false, Some(task)) => {
                    task.abort();
                    connecting = None;
                }
                _ => {}
            }
            let wake = self.wake();
            tokio::select! {
                () = sleep_until(wake) => {}
                read = read(&mut wire, &mut buffer) => match read {
                    Ok(length @ 1..) => self.take(buffer.get(..length).unwrap_or_default()),
                    _ => {
                        wire = None;
                        self.sever_without(&wire);
                    }
                },
                joined = join(&mut connecting) => {
                    connecting = None;
                    if let Ok(Ok(stream)) = joined {
                        // Small frames are not to wait for each other.
                        let _ = stream.set_nodelay(true);
                        wire = Some(Wire::Tcp(stream));
                        self.restore();
                    }
                }
                _ = stopped.changed() => break,
            }
        }
        if let Some(task) = connecting {
            task.abort();
        }
        if let Some(far) = far {
            wire::read_out(&far).await;
        }
        if let Some(wire) = wire {
            wire.close().await;
        }
        Ok(())
    }

    /// Fills the batch with what is due.
    fn advance(&mut self, batch: &mut Batch) -> Result<(), SimError> {
        batch.clear();
        let now_s = self.clock.now_s();
        match &mut self.device {
            Device::Sensor(sensor) => {
                if let Some(&begin_s) = self.begin.get() {
                    sensor.begin_at(begin_s);
                }
                sensor.run_until(now_s, &mut |packet| batch.add(packet))?;
                if let Some(begin_s) = sensor.began_s() {
                    self.begin.get_or_init(|| begin_s);
                }
            }
            Device::Hostile(hostile) => hostile.run_until(now_s, &mut |packet| batch.add(packet)),
        }
        Ok(())
    }

    /// When to look again.
    fn wake(&self) -> Instant {
        let due_s = match &self.device {
            Device::Sensor(sensor) => sensor.next_due_s(),
            Device::Hostile(hostile) => hostile.next_due_s(),
        };
        let now = Instant::now();
        let latest = now + LONGEST_PAUSE;
        self.clock.wall(due_s).unwrap_or(latest).clamp(now + SHORTEST_PAUSE, latest)
    }

    fn take(&mut self, from_host: &[u8]) {
        if let Device::Sensor(sensor) = &mut self.device {
            sensor.take(from_host, self.clock.now_s());
        }
    }

    fn sever_without(&mut self, wire: &Option<Wire>) {
        match (&mut self.device, wire) {
            (_, Some(_)) => {}
            (Device::Sensor(sensor), None) => sensor.sever(self.clock.now_s()),
            (Device::Hostile(hostile), None) => hostile.sever(),
        }
    }

    fn restore(&mut self) {
        match &mut self.device {
            Device::Sensor(sensor) => sensor.restore(self.clock.now_s()),
            Device::Hostile(hostile) => hostile.restore(),
        }
    }

    fn wants_connection(&self) -> bool {
        match &self.device {
            Device::Sensor(sensor) => sensor.wants_connection(),
            Device::Hostile(hostile) => hostile.wants_connection(),
        }
    }

    fn is_finished(&self) -> bool {
        match &self.device {
            Device::Sensor(sensor) => sensor.is_finished(),
            Device::Hostile(hostile) => hostile.is_finished(),
        }
    }
}

/// Reads from the wire, if there is one.
async fn read(wire: &mut Option<Wire>, buffer: &mut [u8]) -> io::Result<usize> {
    match wire {
        Some(wire) => wire.read(buffer).await,
        None => pending().await,
    }
}

/// The connection that is being made, if there is one.
async fn join(
    task: &mut Option<JoinHandle<io::Result<TcpStream>>>,
) -> Result<io::Result<TcpStream>, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => pending().await,
    }
}
