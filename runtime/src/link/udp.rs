//! Datagrams: one socket, a link for each address that says hello to it. Takes constant time a
//! datagram and bounded memory, whoever sends: a stranger without a hello costs a look at its
//! bytes, one with a hello a token of its address' budget; known devices are always served.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfm_firmware_bridge::{Decoder, FromDevice, FromHost, MAX_FRAME_BYTES, encode};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::budget::{Barred, Bucket, Budgets, Rate};
use super::standing::{Rank, Standing};
use super::types::{LinkId, Refused};
use super::wire::{NewLink, SEND_QUEUE, Wire, Wires, next_link};

/// What the kernel is asked to hold while this program does not run: of the datagrams of four full
/// montages a minute's, if `net.core.rmem_max` lets it.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Senders that are kept apart.
const MAX_SENDERS: usize = 1024;
/// A sender that was cut off is not heard for this long, and how many are remembered.
const BARRED: Duration = Duration::from_secs(60);
const MAX_BARRED: usize = 4096;
/// Hellos of strangers, each of which may open a link: of an address (a ward behind one gateway
/// comes back at once after a power cut), and of all together.
const HELLOS: (Rate, Rate) =
    (Rate { per_s: 50.0, burst: 512.0 }, Rate { per_s: 200.0, burst: 2048.0 });
/// Strangers that speak the protocol are asked to say hello.
const ANSWERS: (Rate, Rate) =
    (Rate { per_s: 50.0, burst: 512.0 }, Rate { per_s: 500.0, burst: 2048.0 });
/// Datagrams of one sender, at a speed of 1: before and after it is known. A sensor sends 10 to 50;
/// what has queued up comes at once.
const UNKNOWN: Rate = Rate { per_s: 500.0, burst: 2000.0 };
const KNOWN: Rate = Rate { per_s: 10_000.0, burst: 100_000.0 };
/// A stranger's hello stands in its datagram's first bytes.
const LOOKED_AT: usize = 4096;
/// How often the kernel's count of dropped datagrams is read.
const LOOK: Duration = Duration::from_secs(2);

/// A bound socket.
pub struct UdpLink {
    socket: UdpSocket,
    drops: KernelDrops,
}

impl UdpLink {
    /// Binds `address` and asks for a large receive buffer; the log says what was granted.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let options = SockRef::from(&socket);
        let asked = options.set_recv_buffer_size(RECEIVE_BUFFER);
        let granted = options.recv_buffer_size().unwrap_or(0);
        // Linux reports twice what was asked for: half of it is its own bookkeeping.
        let granted = if cfg!(target_os = "linux") { granted / 2 } else { granted };
        let (asked_kib, granted_kib) = (RECEIVE_BUFFER >> 10, granted >> 10);
        let line = format!(
            "udp {address}: receive buffer of {asked_kib} KiB asked for, {granted_kib} KiB granted"
        );
        match asked.is_ok() && granted >= RECEIVE_BUFFER {
            true => tracing::info!("{line}"),
            false => tracing::info!("{line}; net.core.rmem_max is the limit"),
        }
        let drops = KernelDrops::of(&socket);
        Ok(Self { socket, drops })
    }

    /// Moves datagrams until the queue's other end is gone.
    pub(super) async fn run(self, wires: Wires) {
        let socket = Arc::new(self.socket);
        let (end, mut ended) = mpsc::channel(MAX_SENDERS);
        let mut senders = Senders::new(socket.clone(), wires, end);
        let mut drops = self.drops;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let on = tokio::select! {
                biased;
                Some(ended) = ended.recv() => {
                    senders.ended(&ended);
                    Some(())
                }
                _ = looks.tick() => {
                    senders.wires.refusals.count(Refused::Overrun, drops.since_last());
                    Some(())
                }
                received = socket.recv_from(&mut buffer) => match received {
                    Ok((count, from)) => {
                        senders.take(buffer.get(..count).unwrap_or_default(), from).await
                    }
                    // An ICMP answer to something sent shows up here and says nothing of the socket.
                    Err(_) => Some(()),
                },
            };
            if on.is_none() {
                return;
            }
        }
    }
}

/// A link that was closed.
struct Ended {
    from: SocketAddr,
    link: LinkId,
}

/// One address that said hello.
struct Sender {
    link: LinkId,
    standing: Standing,
    budget: Bucket,
}

/// All addresses of a socket.
struct Senders {
    socket: Arc<UdpSocket>,
    wires: Wires,
    end: mpsc::Sender<Ended>,
    known: HashMap<SocketAddr, Sender>,
    barred: Barred<SocketAddr>,
    hellos: Budgets,
    answers: Budgets,
    /// By rank: before and after a device is known.
    rates: (Rate, Rate),
    /// Where frames of strangers are decoded.
    scratch: [u8; MAX_FRAME_BYTES],
    /// The frame that asks for a hello.
    start: Vec<u8>,
}

impl Senders {
    fn new(socket: Arc<UdpSocket>, wires: Wires, end: mpsc::Sender<Ended>) -> Self {
        let now = Instant::now();
        let mut frame = [0; MAX_FRAME_BYTES];
        let start = encode(&FromHost::Start, &mut frame).map(<[u8]>::to_vec).unwrap_or_default();
        let speed = wires.speed.max(1.0);
        let faster = |rate: Rate| Rate { per_s: speed * rate.per_s, burst: speed * rate.burst };
        Self {
            socket,
            wires,
            end,
            known: HashMap::new(),
            barred: Barred::new(BARRED, MAX_BARRED),
            hellos: Budgets::new(HELLOS.0, HELLOS.1, now),
            answers: Budgets::new(ANSWERS.0, ANSWERS.1, now),
            rates: (faster(UNKNOWN), faster(KNOWN)),
            scratch: [0; MAX_FRAME_BYTES],
            start,
        }
    }

    /// Takes a datagram; `None` if nobody takes it from here.
    async fn take(&mut self, bytes: &[u8], from: SocketAddr) -> Option<()> {
        let now = Instant::now();
        let link = match self.known.get_mut(&from) {
            Some(sender) => {
                let is_known = sender.standing.rank() >= Rank::Idle;
                let rate = if is_known { &self.rates.1 } else { &self.rates.0 };
                if !sender.budget.take(rate, now) {
                    self.wires.refusals.count(Refused::OverBudget, 1);
                    return Some(());
                }
                sender.link
            }
            None => match self.stranger(bytes, from, now).await? {
                Some(link) => link,
                None => return Some(()),
            },
        };
        self.wires.send(Wire::Bytes(link, bytes.to_vec())).await.ok()
    }

    /// A link for a stranger, if it says hello.
    async fn stranger(
        &mut self,
        bytes: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Option<Option<LinkId>> {
        let refusals = self.wires.refusals.clone();
        if self.barred.holds(&from, now) {
            refusals.count(Refused::Barred, 1);
            return Some(None);
        }
        match greeting(bytes, &mut self.scratch) {
            Greeting::Hello => {}
            Greeting::Frames => {
                // A device whose address changed does not know it: it is asked who it is.
                if self.answers.take(from.ip(), now) {
                    let _ = self.socket.try_send_to(&self.start, from);
                }
                refusals.count(Refused::NoHello, 1);
                return Some(None);
            }
            Greeting::Noise => {
                refusals.count(Refused::NoHello, 1);
                return Some(None);
            }
        }
        if !self.hellos.take(from.ip(), now) {
            refusals.count(Refused::OverBudget, 1);
            return Some(None);
        }
        if self.known.len() >= MAX_SENDERS && !self.make_room().await? {
            refusals.count(Refused::NoRoom, 1);
            return Some(None);
        }
        self.open(from, now).await.map(Some)
    }

    async fn open(&mut self, from: SocketAddr, now: Instant) -> Option<LinkId> {
        let (link, (sender, to_send)) = (next_link(), mpsc::channel(SEND_QUEUE));
        let standing = Standing::default();
        let budget = Bucket::new(&self.rates.1, now);
        self.known.insert(from, Sender { link, standing: standing.clone(), budget });
        let ended = Ended { from, link };
        tokio::spawn(answer(self.socket.clone(), ended, to_send, self.end.clone()));
        let name = format!("udp {from}");
        let up = NewLink { link, name, sender, standing, is_configured: false };
        self.wires.send(Wire::Up(up)).await.ok()?;
        Some(link)
    }

    /// Gives up the least of the links, the oldest among equals. `false` if all are worth more than
    /// a stranger's.
    async fn make_room(&mut self) -> Option<bool> {
        let least = self
            .known
            .iter()
            .map(|(from, sender)| (sender.standing.rank(), sender.link, *from))
            .min()
            .filter(|(rank, ..)| rank.is_expendable());
        let Some((rank, link, from)) = least else { return Some(false) };
        self.known.remove(&from);
        if rank < Rank::Idle {
            self.wires.refusals.count(Refused::Displaced, 1);
        }
        let reason = "closed here for a newer one".to_owned();
        self.wires.send(Wire::Down(link, reason)).await.ok()?;
        Some(true)
    }

    /// The hub has closed a link. Its address may have a newer one already.
    fn ended(&mut self, ended: &Ended) {
        let Some(sender) = self.known.get(&ended.from).filter(|s| s.link == ended.link) else {
            return;
        };
        if sender.standing.is_cut_off() {
            self.barred.insert(ended.from, Instant::now());
        }
        self.known.remove(&ended.from);
    }
}

/// Sends a peer what is queued for it until its link is closed.
async fn answer(
    socket: Arc<UdpSocket>,
    ended: Ended,
    mut to_send: mpsc::Receiver<Vec<u8>>,
    end: mpsc::Sender<Ended>,
) {
    while let Some(bytes) = to_send.recv().await {
        // What the network does not take is lost, as datagrams are.
        let _ = socket.send_to(&bytes, ended.from).await;
    }
    let _ = end.send(ended).await;
}

/// What a stranger's datagram says.
#[derive(Debug, PartialEq, Eq)]
enum Greeting {
    /// A hello is in it.
    Hello,
    /// Frames of the protocol, but no hello.
    Frames,
    /// Nothing of the protocol.
    Noise,
}

fn greeting(bytes: &[u8], scratch: &mut [u8]) -> Greeting {
    let mut rest = bytes.get(..LOOKED_AT).unwrap_or(bytes);
    let mut decoder = Decoder::new(scratch);
    let mut greeting = Greeting::Noise;
    while let Some(frame) = decoder.push::<FromDevice<'_>>(&mut rest) {
        match frame {
            Ok(FromDevice::Hello(_)) => return Greeting::Hello,
            Ok(_) => greeting = Greeting::Frames,
            Err(_) => {}
        }
    }
    greeting
}

/// The kernel's count of datagrams that found no room in a socket's buffer. Linux alone tells it.
struct KernelDrops {
    inode: Option<u64>,
    last: u64,
}

impl KernelDrops {
    fn of(socket: &UdpSocket) -> Self {
        Self { inode: inode(socket), last: 0 }
    }

    /// Those since this was last asked.
    fn since_last(&mut self) -> u64 {
        let Some(inode) = self.inode else { return 0 };
        let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"];
        let tables = tables.iter().filter_map(|path| std::fs::read_to_string(path).ok());
        let drops = tables.filter_map(|table| drops_in(&table, inode)).next();
        let now = drops.unwrap_or(self.last);
        now.saturating_sub(std::mem::replace(&mut self.last, now))
    }
}

#[cfg(target_os = "linux")]
fn inode(socket: &UdpSocket) -> Option<u64> {
    rustix::fs::fstat(socket).ok().map(|about| about.st_ino)
}

#[cfg(not(target_os = "linux"))]
fn inode(_: &UdpSocket) -> Option<u64> {
    None
}

/// The last column of the socket's line in a table of /proc/net.
fn drops_in(table: &str, inode: u64) -> Option<u64> {
    let inode = inode.to_string();
    table.lines().skip(1).find_map(|line| {
        let is_it = line.split_ascii_whitespace().nth(9) == Some(&inode);
        is_it.then(|| line.split_ascii_whitespace().last()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
#[path = "udp_tests.rs"]
mod tests;
