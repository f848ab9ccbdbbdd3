//! What bytes leave through: sockets and serial lines, and how each gets its connections. Bytes that
//! nobody reads from a serial line are thrown away; a stream waits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_serial::{SerialPort, SerialPortBuilderExt, SerialStream};

use super::super::{Packet, SimError};
use super::Endpoint;

/// Frames that are due together share a datagram of at most this, bytes: below every MTU.
const DATAGRAM_BYTES: usize = 1200;
/// Between two attempts to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a host may take to read what was sent before a connection is closed.
const LINGER: Duration = Duration::from_secs(2);
/// How long nobody may read from a serial line before bytes fall off its end.
const SERIAL_PATIENCE: Duration = Duration::from_millis(200);
const SERIAL_BAUD: u32 = 921_600;

/// What leaves at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where each datagram but the last ends.
    ends: Vec<usize>,
    /// The connection ends behind it.
    pub(super) closes: bool,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.closes = false;
    }

    pub(super) fn add(&mut self, packet: Packet<'_>) {
        match packet {
            Packet::Frame { bytes, .. } => {
                let begin = self.ends.last().copied().unwrap_or_default();
                let filled = self.bytes.len();
                if filled > begin && filled - begin + bytes.len() > DATAGRAM_BYTES {
                    self.ends.push(filled);
                }
                self.bytes.extend_from_slice(bytes);
            }
            Packet::LinkDown { .. } => self.closes = true,
            Packet::LinkUp { .. } => {}
        }
    }

    fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let ends = self.ends.iter().copied().chain([self.bytes.len()]);
        begins.zip(ends).filter_map(|(begin, end)| self.bytes.get(begin..end))
    }
}

/// One link.
#[derive(Debug)]
pub(super) enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Serial(SerialStream),
}

impl Wire {
    /// Sends a batch and returns how many datagrams were refused.
    pub(super) async fn send(&mut self, batch: &Batch) -> io::Result<u64> {
        if batch.bytes.is_empty() {
            return Ok(0);
        }
        match self {
            Wire::Udp(socket) => {
                let mut refused = 0;
                for datagram in batch.datagrams() {
                    // No host yet, or none any more: a sensor does not notice.
                    refused += u64::from(socket.send(datagram).await.is_err());
                }
                Ok(refused)
            }
            Wire::Tcp(stream) => stream.write_all(&batch.bytes).await.map(|()| 0),
            Wire::Serial(line) => {
                match timeout(SERIAL_PATIENCE, line.write_all(&batch.bytes)).await {
                    Ok(written) => written.map(|()| 0),
                    Err(_) => Ok(1),
                }
            }
        }
    }

    /// Reads what the host sent; 0 bytes: a stream is at its end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Udp(socket) => loop {
                // An error tells that a datagram of ours was refused; an empty one says nothing.
                if let Ok(length @ 1..) = socket.recv(buffer).await {
                    return Ok(length);
                }
            },
            Wire::Tcp(stream) => stream.read(buffer).await,
            Wire::Serial(line) => line.read(buffer).await,
        }
    }

    /// Closes a stream so that the host gets all that was sent.
    pub(super) async fn close(self) {
        let Wire::Tcp(mut stream) = self else { return };
        let mut buffer = [0; 4096];
        let drained = async {
            stream.shutdown().await?;
            while stream.read(&mut buffer).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = timeout(LINGER, drained).await;
    }
}

/// Makes a device's connections.
#[derive(Debug)]
pub(super) enum Connector {
    /// There is one, for good.
    Wire(Option<Wire>, Option<SerialStream>),
    Connect(SocketAddr),
    Accept(Arc<Mutex<TcpListener>>),
}

impl Connector {
    pub(super) async fn new(
        endpoint: &Endpoint,
        listener: Option<Arc<Mutex<TcpListener>>>,
        announce: &mut dyn FnMut(&str),
    ) -> Result<Self, SimError> {
        let failed = |what: String| move |e: io::Error| SimError::Failed(format!("{what}: {e}"));
        match (endpoint, listener) {
            (Endpoint::Udp(address), _) => {
                let refuse = failed(format!("no UDP socket to {address}"));
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).await.map_err(&refuse)?;
                socket.connect(address).await.map_err(&refuse)?;
                Ok(Connector::Wire(Some(Wire::Udp(socket)), None))
            }
            (Endpoint::Tcp(address), _) => Ok(Connector::Connect(*address)),
            (Endpoint::Serial(path), _) => {
                let name = path.to_string_lossy();
                let line = tokio_serial::new(name.as_ref(), SERIAL_BAUD).open_native_async();
                let line = line.map_err(|e| SimError::Failed(format!("{name}: {e}")))?;
                Ok(Connector::Wire(Some(Wire::Serial(line)), None))
            }
            (Endpoint::Pty, _) => {
                let (near, far, path) = pseudo_terminal()?;
                announce(&path);
                Ok(Connector::Wire(Some(Wire::Serial(near)), Some(far)))
            }
            (Endpoint::TcpListen(_), Some(listener)) => Ok(Connector::Accept(listener)),
            (Endpoint::TcpListen(_), None) => Err(SimError::Failed("no listener".into())),
        }
    }
}

/// Both ends and the far one's path. The far end stays open here, so that the near one outlives its
/// readers.
#[cfg(unix)]
fn pseudo_terminal() -> Result<(SerialStream, SerialStream, String), SimError> {
    let refuse = |e| SimError::Failed(format!("no pseudo-terminal: {e}"));
    let (near, far) = SerialStream::pair().map_err(refuse)?;
    let path = SerialPort::name(&far);
    path.map(|path| (near, far, path))
        .ok_or_else(|| SimError::Failed("the pseudo-terminal has no name".into()))
}

#[cfg(not(unix))]
fn pseudo_terminal() -> Result<(SerialStream, SerialStream, String), SimError> {
    Err(SimError::Failed("pseudo-terminals exist on Unix alone".into()))
}

/// Waits until a host has read all that waits at the far end of a pseudo-terminal: closing the near
/// one would throw it away.
pub(super) async fn read_out(far: &SerialStream) {
    let until = Instant::now() + LINGER;
    let mut empty = 0;
    // The kernel moves bytes on behind our back: it is empty when it stays so.
    while empty < 5 && Instant::now() < until {
        sleep(Duration::from_millis(10)).await;
        let waiting = SerialPort::bytes_to_read(far).unwrap_or_default();
        empty = if waiting == 0 { empty + 1 } else { 0 };
    }
}

/// A connection to a host, as soon as there is one.
pub(super) async fn connected(address: SocketAddr) -> io::Result<TcpStream> {
    let (mut pause, longest) = RETRY;
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(_) => sleep(pause).await,
        }
        pause = (2 * pause).min(longest);
    }
}

/// The next connection from a host.
pub(super) async fn accepted(listener: Arc<Mutex<TcpListener>>) -> io::Result<TcpStream> {
    // Who waits longest is served first.
    listener.lock().await.accept().await.map(|(stream, _)| stream)
}
