//! Connections of the HTTP servers: how many each client may have, and a deadline for each whatever
//! its client does. Nobody is shut out: where there are too many, the client that has the most of
//! them loses the one that has got on the least. It owns the listening socket. Runs on the thread of
//! the server that it is given to.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::crowd::{Crowd, Place};

/// When a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// So long after its beginning.
    Whole(Duration),
    /// If no answer has begun `first` after its beginning, and then so long after the last bytes that
    /// its client took: for answers that go on for hours. A client that only sends puts off neither.
    LastTaken {
        /// For the request, with what it takes to answer it.
        first: Duration,
        /// Between two bytes of the answer.
        then: Duration,
    },
}

/// A socket that listens at `addr`, not yet answering; `what` it is for.
///
/// # Errors
/// One sentence that names the address.
pub fn listen(addr: SocketAddr, what: &str) -> Result<std::net::TcpListener, String> {
    let listener = std::net::TcpListener::bind(addr);
    listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener)).map_err(|e| {
        let why = if e.kind() == std::io::ErrorKind::AddrInUse {
            "is in use by another program; choose another port".to_owned()
        } else {
            format!("cannot be listened on: {e}")
        };
        format!("the address for {what}, {addr}, {why}")
    })
}

/// Accepts connections; each has a place in the crowd.
pub struct Connections {
    listener: TcpListener,
    crowd: Arc<Crowd>,
    deadline: Deadline,
}

impl Connections {
    /// Those of `listener`.
    pub fn new(listener: TcpListener, crowd: Crowd, deadline: Deadline) -> Self {
        Self { listener, crowd: Arc::new(crowd), deadline }
    }
}

impl axum::serve::Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The last one gets to read its request, or a burst would be in its own way.
        tokio::task::yield_now().await;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let deadline = self.deadline;
                    let (Deadline::Whole(within) | Deadline::LastTaken { first: within, .. }) =
                        deadline;
                    let sleep = Box::pin(tokio::time::sleep(within));
                    let (place, cut) = self.crowd.enter(peer.ip());
                    let cut = Some(cut);
                    return (Connection { stream, deadline, sleep, place, cut }, peer);
                }
                Err(error) => {
                    // The client is gone, or the process has no descriptor left: wait for one.
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Who is at the other end of a request's connection.
#[derive(Debug, Clone)]
pub struct Client(pub Arc<Place>);

impl Connected<IncomingStream<'_, Connections>> for Client {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        Self(stream.io().place.clone())
    }
}

/// A connection that fails at its deadline, or when others need its place.
pub struct Connection {
    stream: TcpStream,
    deadline: Deadline,
    sleep: Pin<Box<Sleep>>,
    place: Arc<Place>,
    /// `None` once it has lost its place.
    cut: Option<oneshot::Receiver<()>>,
}

impl Connection {
    fn in_time(&mut self, context: &mut Context<'_>) -> std::io::Result<()> {
        if self.cut.as_mut().is_none_or(|cut| Pin::new(cut).poll(context).is_ready()) {
            self.cut = None;
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        match self.sleep.as_mut().poll(context) {
            Poll::Ready(()) => Err(std::io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.place.leave();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.in_time(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.in_time(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(1..)) = written {
            self.place.got_on();
            if let Deadline::LastTaken { then, .. } = self.deadline {
                self.sleep.as_mut().reset(Instant::now() + then);
                // Registers the new deadline; it cannot be over.
                self.in_time(context)?;
            }
        }
        written
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.in_time(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.in_time(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
