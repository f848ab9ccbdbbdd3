//! Links to sensors: serial lines, UDP, TCP in both directions, LSL. Each moves bytes and nothing
//! else, as a task of the links' thread; what breaks is tried again, with growing pauses, for as
//! long as the session lasts. A link is closed from inside by dropping its sender.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_serial::SerialPortBuilderExt;

use super::lsl::{self, LslDevice};
use super::standing::Standing;
use super::tcp;
use super::udp::UdpLink;
use super::wire::{FIRST_PAUSE, NewLink, SEND_QUEUE, Stream, Wire, Wires, carry, next_link};

/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long streams of Lab Streaming Layer are looked for at a time.
const LSL_WITHIN: Duration = Duration::from_secs(5);
/// A port that is being closed may take this long to send its last message.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Where sensors are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A serial line: device file and baud rate.
    Serial(String, u32),
    /// Datagrams to this address.
    Udp(SocketAddr),
    /// A sensor that listens here (host and port).
    TcpConnect(String),
    /// Sensors that connect to here.
    TcpListen(SocketAddr),
    /// Streams of Lab Streaming Layer that match this predicate.
    Lsl(String),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Serial(path, _) => write!(f, "serial {path}"),
            Endpoint::Udp(address) => write!(f, "udp {address}"),
            Endpoint::TcpConnect(address) => write!(f, "tcp {address}"),
            Endpoint::TcpListen(address) => write!(f, "tcp listen:{address}"),
            Endpoint::Lsl(query) => write!(f, "lsl {query}"),
        }
    }
}

/// An endpoint that is bound and will run.
pub enum Bound {
    /// A socket for datagrams.
    Udp(UdpLink),
    /// A port that sensors connect to.
    TcpListen(TcpListener),
    /// A place that is connected to, again and again.
    Dialed(Endpoint),
}

impl Endpoint {
    /// Takes the address, where there is one to take.
    ///
    /// # Errors
    /// One sentence.
    pub async fn bind(self) -> Result<Bound, String> {
        let refuse = |e: std::io::Error| {
            format!("{self}: cannot be opened ({e}); is another program using it?")
        };
        match &self {
            Endpoint::Udp(address) => UdpLink::bind(*address).await.map(Bound::Udp).map_err(refuse),
            Endpoint::TcpListen(address) => {
                TcpListener::bind(address).await.map(Bound::TcpListen).map_err(refuse)
            }
            _ => Ok(Bound::Dialed(self)),
        }
    }
}

impl Bound {
    /// Moves bytes until the queue's other end is gone.
    pub async fn run(self, wires: Wires) {
        match self {
            Bound::Udp(socket) => socket.run(wires).await,
            Bound::TcpListen(listener) => tcp::accept(listener, wires).await,
            Bound::Dialed(endpoint) => dial(endpoint, wires).await,
        }
    }
}

/// Opens a link again and again.
async fn dial(endpoint: Endpoint, wires: Wires) {
    let mut pause = FIRST_PAUSE;
    let mut told = String::new();
    loop {
        let name = endpoint.to_string();
        let begin = Instant::now();
        let refused = match &endpoint {
            Endpoint::TcpConnect(address) => {
                let connected = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address));
                match connected.await {
                    Ok(Ok(stream)) => {
                        tcp::set_up(&stream);
                        stream_link(stream, name.clone(), &wires).await;
                        None
                    }
                    Ok(Err(e)) => Some(e.to_string()),
                    Err(_) => Some("no answer".to_owned()),
                }
            }
            Endpoint::Serial(path, baud) => {
                match tokio_serial::new(path, *baud).open_native_async() {
                    Ok(port) => {
                        stream_link(port, name.clone(), &wires).await;
                        None
                    }
                    Err(e) => Some(e.to_string()),
                }
            }
            Endpoint::Lsl(query) => lsl_link(query, &name, &wires).await,
            Endpoint::Udp(_) | Endpoint::TcpListen(_) => return,
        };
        if wires.is_closed() {
            return;
        }
        if let Some(reason) = refused
            && reason != told
        {
            told.clone_from(&reason);
            let _ = wires.send(Wire::Waiting(name, reason)).await;
        }
        // A link that held for a while is no failure.
        if begin.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
            told.clear();
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

/// Carries the bytes of a stream that was opened from here until either side closes it.
async fn stream_link(stream: impl AsyncRead + AsyncWrite + Send, name: String, wires: &Wires) {
    let (link, standing) = (next_link(), Standing::default());
    let stream = Stream { stream, link, name, standing, is_configured: true };
    carry(stream, wires, std::future::pending()).await;
}

/// Opens every stream that matches and carries their frames until the last one ends; returns why
/// there is none.
async fn lsl_link(query: &str, name: &str, wires: &Wires) -> Option<String> {
    let wanted = query.to_owned();
    let found = tokio::task::spawn_blocking(move || lsl::open(&wanted, LSL_WITHIN)).await;
    let devices = match found {
        Ok(Ok(devices)) => devices,
        Ok(Err(e)) => return Some(e.to_string()),
        Err(_) => return Some("liblsl broke down".to_owned()),
    };
    let mut streams = tokio::task::JoinSet::new();
    for (number, device) in (1..).zip(devices) {
        streams.spawn(lsl_stream(device, format!("{name} #{number}"), wires.clone()));
    }
    while streams.join_next().await.is_some() {}
    None
}

/// Carries one stream's frames.
async fn lsl_stream(mut device: LslDevice, name: String, wires: Wires) {
    let link = next_link();
    let (sender, mut to_send) = mpsc::channel::<Vec<u8>>(SEND_QUEUE);
    let up = NewLink { link, name, sender, standing: Standing::default(), is_configured: true };
    if wires.send(Wire::Up(up)).await.is_err() {
        return;
    }
    let reason = loop {
        tokio::select! {
            frame = device.frames.recv() => match frame {
                Some(frame) => if wires.send(Wire::Bytes(link, frame)).await.is_err() {
                    return;
                },
                None => break "the stream ended",
            },
            bytes = to_send.recv() => match bytes.map(|bytes| device.host.send(bytes)) {
                Some(Ok(())) => {}
                Some(Err(_)) => break "the stream ended",
                None => break "closed here",
            },
        }
    };
    let _ = wires.send(Wire::Down(link, reason.to_owned())).await;
}
