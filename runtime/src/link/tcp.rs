//! TCP: connections that are made from here, and those that sensors make. The port is always open
//! to the newest: where there are too many connections, one that has said no hello goes. A peer
//! that is gone without a word is noticed within a minute.

use std::collections::BTreeMap;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::standing::{Rank, Standing};
use super::types::{LinkId, Refused};
use super::wire::{FIRST_PAUSE, Stream, Wires, carry, next_link};

/// Connections that are accepted at the same time.
const MAX_CONNECTIONS: usize = 512;
/// A peer that says nothing is asked after this, and again.
const IDLE: Duration = Duration::from_secs(20);
const ASK_EVERY: Duration = Duration::from_secs(10);
/// What was sent is acknowledged within this, or the peer is gone.
#[cfg(target_os = "linux")]
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(50);

/// Small frames are sent at once, and a peer that is gone ends the connection.
pub(super) fn set_up(stream: &TcpStream) {
    // Without them the connection works as well, but for its end.
    let _ = stream.set_nodelay(true);
    let options = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(ASK_EVERY);
    let _ = options.set_tcp_keepalive(&keepalive);
    // The host asks for the time every 5 s, and the kernel asks nothing while that is on its way.
    #[cfg(target_os = "linux")]
    let _ = options.set_tcp_user_timeout(Some(ACKNOWLEDGED_WITHIN));
}

/// An accepted connection.
struct Connection {
    standing: Standing,
    /// Closes it.
    close: oneshot::Sender<()>,
}

/// Takes connections until the queue's other end is gone.
pub(super) async fn accept(listener: TcpListener, wires: Wires) {
    let mut open: BTreeMap<LinkId, Connection> = BTreeMap::new();
    let (end, mut ended) = mpsc::channel(MAX_CONNECTIONS);
    loop {
        tokio::select! {
            biased;
            Some(link) = ended.recv() => {
                open.remove(&link);
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if open.len() >= MAX_CONNECTIONS && !make_room(&mut open, &wires) {
                        wires.refusals.count(Refused::NoRoom, 1);
                        continue;
                    }
                    set_up(&stream);
                    let (link, standing, (close, closed)) =
                        (next_link(), Standing::default(), oneshot::channel());
                    open.insert(link, Connection { standing: standing.clone(), close });
                    let name = format!("tcp {peer}");
                    let stream = Stream { stream, link, name, standing, is_configured: false };
                    let (wires, end) = (wires.clone(), end.clone());
                    tokio::spawn(async move {
                        carry(stream, &wires, async { drop(closed.await) }).await;
                        let _ = end.send(link).await;
                    });
                }
                // Out of file descriptors.
                Err(_) => {
                    make_room(&mut open, &wires);
                    tokio::time::sleep(FIRST_PAUSE).await;
                }
            }
        }
        if wires.is_closed() {
            return;
        }
    }
}

/// Closes the least of the connections, the oldest among equals. `false` if all are worth more than
/// a stranger's.
fn make_room(open: &mut BTreeMap<LinkId, Connection>, wires: &Wires) -> bool {
    let least = open
        .iter()
        .map(|(link, connection)| (connection.standing.rank(), *link))
        .min()
        .filter(|(rank, _)| rank.is_expendable());
    let Some((rank, link)) = least else { return false };
    if rank < Rank::Idle {
        wires.refusals.count(Refused::Displaced, 1);
    }
    if let Some(connection) = open.remove(&link) {
        let _ = connection.close.send(());
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::link::refusals::Refusals;
    use crate::link::wire::Wire;

    #[tokio::test]
    async fn half_open_connections_make_room_for_the_newest() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (queue, mut wire) = mpsc::channel(16);
        let wires = Wires { queue, refusals: Arc::<Refusals>::default(), speed: 1.0 };
        tokio::spawn(accept(listener, wires));
        let (mut kept, mut links, mut down) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..MAX_CONNECTIONS + 1 {
            kept.push(TcpStream::connect(address).await.expect("connects"));
            while links.len() <= number {
                match wire.recv().await.expect("it goes on") {
                    Wire::Up(new) => links.push(new),
                    Wire::Down(link, _) => down.push(link),
                    other => panic!("{other:?}"),
                }
            }
            // The first is a device's.
            if let Some(first) = links.first() {
                first.standing.set(Rank::Known);
            }
        }
        if down.is_empty() {
            let Some(Wire::Down(link, _)) = wire.recv().await else { panic!("none is closed") };
            down.push(link);
        }
        assert_eq!(down, [links[1].link]);
    }
}
