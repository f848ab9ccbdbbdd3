use std::sync::Arc;

use sfm_firmware_bridge::{Hello, PROTOCOL_VERSION, SCHEMA_HASH, Status};

use super::*;
use crate::link::refusals::Refusals;

fn frame(message: &FromDevice<'_>) -> Vec<u8> {
    let mut buffer = [0; MAX_FRAME_BYTES];
    encode(message, &mut buffer).expect("a frame").to_vec()
}

fn hello() -> Vec<u8> {
    frame(&FromDevice::Hello(Hello {
        protocol: PROTOCOL_VERSION,
        schema: SCHEMA_HASH,
        device: 7,
        session: 1,
        tick_hz: 1000,
        channels: 1,
        model: "a test",
    }))
}

fn status() -> Vec<u8> {
    let (battery_percent, temperature_decicelsius) = (None, None);
    frame(&FromDevice::Status(Status {
        tick: 1,
        battery_percent,
        temperature_decicelsius,
        dropped_blocks: 0,
    }))
}

#[test]
fn a_hello_is_found_among_frames_and_nothing_else_is_one() {
    let mut scratch = [0; MAX_FRAME_BYTES];
    let mut of = |bytes: &[u8]| greeting(bytes, &mut scratch);
    assert_eq!(of(&hello()), Greeting::Hello);
    assert_eq!(of(&[vec![0], status(), hello()].concat()), Greeting::Hello);
    assert_eq!(of(&[status(), status()].concat()), Greeting::Frames);
    assert_eq!(of(&[]), Greeting::Noise);
    assert_eq!(of(&[0; 4000]), Greeting::Noise);
    assert_eq!(of(&[0x55; 60_000]), Greeting::Noise);
    let mut damaged = hello();
    damaged[5] ^= 1;
    assert_eq!(of(&damaged), Greeting::Noise);
}

#[test]
fn a_sockets_line_is_found_in_the_kernels_table() {
    let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 1210: 0100007F:1B58 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 12
 1211: 0100007F:1B59 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0
";
    assert_eq!(drops_in(table, 4711), Some(12));
    assert_eq!(drops_in(table, 4712), Some(0));
    assert_eq!(drops_in(table, 12), None);
}

/// What comes out of a socket's task.
struct Bench {
    senders: Senders,
    wire: mpsc::Receiver<Wire>,
}

impl Bench {
    async fn new() -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a socket"));
        let (queue, wire) = mpsc::channel(1 << 16);
        let wires = Wires { queue, refusals: Arc::<Refusals>::default(), speed: 1.0 };
        let (end, _) = mpsc::channel(1);
        Self { senders: Senders::new(socket, wires, end), wire }
    }

    /// A datagram from `127.0.x.y`.
    async fn hear(&mut self, number: usize, bytes: &[u8]) -> Vec<Wire> {
        let [_, _, high, low] = (number as u32).to_be_bytes();
        self.senders.take(bytes, SocketAddr::from(([127, 0, high, low], 1))).await.expect("taken");
        std::iter::from_fn(|| self.wire.try_recv().ok()).collect()
    }

    /// One that says hello; its link.
    async fn meet(&mut self, number: usize) -> Option<NewLink> {
        let wires = self.hear(number, &hello()).await;
        wires.into_iter().find_map(|wire| match wire {
            Wire::Up(new) => Some(new),
            _ => None,
        })
    }
}

#[tokio::test]
async fn strangers_make_room_and_known_devices_never_do() {
    let mut bench = Bench::new().await;
    let mut links = Vec::new();
    for number in 0..MAX_SENDERS {
        links.push(bench.meet(number).await.expect("there is room"));
    }
    for link in &links {
        link.standing.set(Rank::Known);
    }
    links[7].standing.set(Rank::Idle);
    links[9].standing.set(Rank::Greeted);
    // The one that has only said hello goes before the one whose device is silent.
    let wires = bench.hear(MAX_SENDERS, &hello()).await;
    assert!(matches!(wires[0], Wire::Down(link, _) if link == links[9].link), "{wires:?}");
    let wires = bench.hear(MAX_SENDERS + 1, &hello()).await;
    assert!(matches!(wires[0], Wire::Down(_, _)), "the newest stranger: {wires:?}");
    let Some(Wire::Up(new)) = wires.into_iter().nth(1) else { panic!("no link") };
    new.standing.set(Rank::Known);
    let wires = bench.hear(MAX_SENDERS + 2, &hello()).await;
    assert!(matches!(wires[0], Wire::Down(link, _) if link == links[7].link), "{wires:?}");
    let Some(Wire::Up(new)) = wires.into_iter().nth(1) else { panic!("no link") };
    new.standing.set(Rank::Candidate);
    assert!(bench.meet(MAX_SENDERS + 3).await.is_none());
    let wires = bench.hear(3, &status()).await;
    assert!(matches!(wires[..], [Wire::Bytes(link, _)] if link == links[3].link), "{wires:?}");
    assert_eq!(bench.senders.known.len(), MAX_SENDERS);
}

#[tokio::test]
async fn only_a_hello_opens_a_link_and_only_within_its_budget() {
    let mut bench = Bench::new().await;
    for number in 0..2000 {
        assert!(bench.hear(number, &status()).await.is_empty());
        assert!(bench.hear(number, &[0x55; 100]).await.is_empty());
    }
    assert!(bench.senders.known.is_empty());
    // One machine, many ports.
    let mut met = 0;
    for port in 1..3000 {
        let from = SocketAddr::from(([192, 0, 2, 1], port));
        bench.senders.take(&hello(), from).await.expect("taken");
        met = bench.senders.known.len();
    }
    assert!((512..900).contains(&met), "{met}");
    assert!(bench.meet(1).await.is_some(), "another machine is heard");
}

#[tokio::test]
async fn who_was_cut_off_is_not_heard_and_who_was_closed_is() {
    let mut bench = Bench::new().await;
    let (one, two) = (bench.meet(1).await.expect("room"), bench.meet(2).await.expect("room"));
    one.standing.cut_off();
    for (number, link) in [(1, one.link), (2, two.link)] {
        bench.senders.ended(&Ended { from: SocketAddr::from(([127, 0, 0, number], 1)), link });
    }
    assert!(bench.meet(1).await.is_none());
    let again = bench.meet(2).await.expect("it may come again");
    // A late word of the old link does not end the new one.
    bench.senders.ended(&Ended { from: SocketAddr::from(([127, 0, 0, 2], 1)), link: two.link });
    let wires = bench.hear(2, &status()).await;
    assert!(matches!(wires[..], [Wire::Bytes(link, _)] if link == again.link), "{wires:?}");
}
