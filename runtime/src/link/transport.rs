//! Links to sensors: serial lines, UDP, TCP in both directions, LSL. Each moves bytes and nothing
//! else, as a task of the links' thread; what breaks is tried again, with growing pauses, for as
//! long as the session lasts. A link is closed from inside by dropping its sender.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio_serial::SerialPortBuilderExt;

use super::LinkId;
use super::lsl::{self, LslDevice};

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;
/// Messages to a device that does not take them, at most; further ones are dropped.
const SEND_QUEUE: usize = 256;
/// Pauses between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Senders of datagrams that are kept apart.
const MAX_SENDERS: usize = 256;
/// A sender that was cut off is not heard for this long.
const BARRED: Duration = Duration::from_secs(60);
/// Connections that are accepted at the same time.
const MAX_CONNECTIONS: usize = 512;
/// A sensor that takes no message for this long gets no further ones.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
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

/// What links tell.
#[derive(Debug)]
pub enum Wire {
    /// A link is there.
    Up {
        /// Its number.
        link: LinkId,
        /// Its name.
        name: String,
        /// Takes bytes for the other end.
        sender: mpsc::Sender<Vec<u8>>,
    },
    /// Bytes came.
    Bytes(LinkId, Vec<u8>),
    /// A link is gone.
    Down(LinkId, String),
    /// An endpoint cannot be opened now; it is tried again.
    Waiting(String, String),
}

/// Takes what links tell; a full queue makes TCP's flow control work.
pub type Wires = mpsc::Sender<Wire>;

static LINKS: AtomicU64 = AtomicU64::new(1);

fn next_link() -> LinkId {
    LINKS.fetch_add(1, Ordering::Relaxed)
}

/// An endpoint that is bound and will run.
pub enum Bound {
    /// A socket for datagrams.
    Udp(UdpSocket),
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
            Endpoint::Udp(address) => {
                UdpSocket::bind(address).await.map(Bound::Udp).map_err(refuse)
            }
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
            Bound::Udp(socket) => datagrams(socket, wires).await,
            Bound::TcpListen(listener) => accept(listener, wires).await,
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
                        let _ = stream.set_nodelay(true);
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

async fn accept(listener: TcpListener, wires: Wires) {
    let open = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = open.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                let wires = wires.clone();
                tokio::spawn(async move {
                    stream_link(stream, format!("tcp {peer}"), &wires).await;
                    drop(permit);
                });
            }
            // Out of file descriptors: the ones in use will be given back.
            Err(_) => tokio::time::sleep(FIRST_PAUSE).await,
        }
        if wires.is_closed() {
            return;
        }
    }
}

/// Carries a stream's bytes until either side closes it.
async fn stream_link(stream: impl AsyncRead + AsyncWrite + Send, name: String, wires: &Wires) {
    let link = next_link();
    let (sender, mut to_send) = mpsc::channel(SEND_QUEUE);
    if wires.send(Wire::Up { link, name, sender }).await.is_err() {
        return;
    }
    let (mut input, mut output) = tokio::io::split(stream);
    let mut buffer = vec![0; READ_BYTES];
    // Beside the reading: a sensor that never takes a message is still listened to.
    let write = async {
        while let Some(bytes) = to_send.recv().await {
            match tokio::time::timeout(TAKEN_WITHIN, output.write_all(&bytes)).await {
                Ok(written) => written?,
                // It never listens; what is left to do here is to notice that the link is closed.
                Err(_) => while to_send.recv().await.is_some() {},
            }
        }
        Ok::<(), std::io::Error>(())
    };
    tokio::pin!(write);
    let reason = loop {
        tokio::select! {
            read = input.read(&mut buffer) => match read {
                Ok(0) => break "closed by the other end".to_owned(),
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                    if wires.send(Wire::Bytes(link, bytes)).await.is_err() {
                        return;
                    }
                }
                Err(e) => break e.to_string(),
            },
            written = &mut write => break match written {
                Ok(()) => "closed here".to_owned(),
                Err(e) => e.to_string(),
            },
        }
    };
    let _ = wires.send(Wire::Down(link, reason)).await;
}

/// One socket, a link for each address that sends to it.
async fn datagrams(socket: UdpSocket, wires: Wires) {
    let socket = Arc::new(socket);
    let (end, mut ended) = mpsc::channel::<SocketAddr>(MAX_SENDERS);
    let mut peers: HashMap<SocketAddr, LinkId> = HashMap::new();
    let mut barred: HashMap<SocketAddr, Instant> = HashMap::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (count, from) = tokio::select! {
            // An ICMP answer to something sent shows up here and says nothing of the socket.
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                Err(_) => continue,
            },
            Some(from) = ended.recv() => {
                peers.remove(&from);
                barred.insert(from, Instant::now());
                continue;
            }
        };
        barred.retain(|_, since| since.elapsed() < BARRED);
        if barred.contains_key(&from) {
            continue;
        }
        let link = match peers.get(&from) {
            Some(link) => *link,
            None if peers.len() == MAX_SENDERS => continue,
            None => {
                let (link, (sender, to_send)) = (next_link(), mpsc::channel(SEND_QUEUE));
                peers.insert(from, link);
                tokio::spawn(answer(socket.clone(), from, to_send, end.clone()));
                let up = Wire::Up { link, name: format!("udp {from}"), sender };
                if wires.send(up).await.is_err() {
                    return;
                }
                link
            }
        };
        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
        if wires.send(Wire::Bytes(link, bytes)).await.is_err() {
            return;
        }
    }
}

/// Sends a peer what is queued for it until its link is closed.
async fn answer(
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    mut to_send: mpsc::Receiver<Vec<u8>>,
    end: mpsc::Sender<SocketAddr>,
) {
    while let Some(bytes) = to_send.recv().await {
        // What the network does not take is lost, as datagrams are.
        let _ = socket.send_to(&bytes, to).await;
    }
    let _ = end.send(to).await;
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
    if wires.send(Wire::Up { link, name, sender }).await.is_err() {
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
