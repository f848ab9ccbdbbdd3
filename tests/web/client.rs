//! Connections from other addresses of this machine, which stand for other clients.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use tokio::net::TcpSocket;

/// A connection from `from` to `to`.
pub fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let stream = runtime.expect("a runtime").block_on(async {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address of this machine");
        socket.connect(to).await.expect("connects").into_std().expect("its socket")
    });
    stream.set_nonblocking(false).expect("waits");
    stream
}
