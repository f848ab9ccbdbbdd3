//! Many clients at a time: one that opens connections and does nothing with them, or streams and does
//! not look at them, shuts out nobody; wrong tokens are answered late.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use sfm_runtime::service::bind::RemoteAccess;
use sfm_runtime::web::{Origin, Web, WebArgs};

use crate::client::connect;
use crate::http::until;

const PATIENCE: Duration = Duration::from_secs(60);
const STREAM: &str = "/api/beds/1/events";

fn host(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

/// A server with one bed, which others may reach.
fn web() -> (Web, SocketAddr) {
    let args = WebArgs { web: "127.0.0.1:0".parse().ok() };
    let access = || Ok(RemoteAccess { listen_remote: false, token: None });
    let web = Web::start(&args, access, None).expect("starts").expect("is wanted");
    let address = web.address();
    (web, address)
}

/// Sends `text` from `from`; the server may have cut the connection off already.
fn send(from: Ipv4Addr, to: SocketAddr, text: &str) -> TcpStream {
    let mut stream = connect(from, to);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let _ = stream.write_all(text.as_bytes());
    stream
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// The first line of the answer, if there is one.
fn status(stream: &mut TcpStream) -> Option<String> {
    let mut line = String::new();
    let mut byte = [0];
    while !line.ends_with('\n') {
        stream.read_exact(&mut byte).ok()?;
        line.push(char::from(byte[0]));
    }
    Some(line)
}

fn is_served(from: Ipv4Addr, to: SocketAddr, path: &str) -> Option<TcpStream> {
    let mut stream = send(from, to, &request(path));
    status(&mut stream).filter(|line| line.contains(" 200 ")).map(|_| stream)
}

/// Whether the server has ended it.
fn is_over(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("asked");
    let over = loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(e) => break e.kind() != std::io::ErrorKind::WouldBlock,
        }
    };
    stream.set_nonblocking(false).expect("asked");
    over
}

#[test]
fn two_hundred_half_requests_shut_out_nobody() {
    let (_web, address) = web();
    let half = "GET / HTTP/1.1\r\nHost: localhost\r\nX: ";
    let mut slow: Vec<TcpStream> = (0..200).map(|_| send(host(2), address, half)).collect();
    slow.extend((0..200).map(|_| send(host(3), address, half)));
    let begun = Instant::now();
    for client in [1, 2, 3, 4] {
        assert!(is_served(host(client), address, "/api/beds").is_some(), "client {client}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Dripping bytes does not keep a place for longer.
    let mut dripping = send(host(5), address, half);
    let cut = until("the end of a request that does not end", || {
        let _ = dripping.write_all(b"x");
        std::thread::sleep(Duration::from_millis(100));
        is_over(&mut dripping).then(|| begun.elapsed())
    });
    assert!(cut < Duration::from_secs(30), "{cut:?}");
    until("the end of the others", || slow.iter_mut().all(is_over).then_some(()));
}

#[test]
fn idle_streams_shut_out_nobody() {
    let (web, address) = web();
    let _bed = web.rooms().open("1", "night", Origin::Replay, None);
    let open = |client: u8| is_served(host(client), address, STREAM).expect("a stream");
    let mut first: Vec<TcpStream> = (0..64).map(|_| open(2)).collect();
    // The 65th of another client, and of the same one: the oldest goes.
    let mut others = [open(3), open(4)];
    until("room for others", || (is_over(&mut first[0]) && is_over(&mut first[1])).then_some(()));
    assert!(!first[2..].iter_mut().any(is_over), "one too many");
    let mut same = open(2);
    until("room for its own", || is_over(&mut first[2]).then_some(()));
    assert!(!first[3..].iter_mut().any(is_over), "one too many");
    assert!(!is_over(&mut same) && !others.iter_mut().any(is_over));
    assert!(is_served(host(2), address, "/api/beds").is_some(), "all else goes on");
}
