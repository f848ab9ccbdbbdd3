//! Connections of the HTTP servers: so many at a time, and each with a deadline whatever its client
//! does. It owns the listening socket. Runs on the thread of the server that it is given to.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// What a connection's deadline counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// The connection's beginning.
    Whole(Duration),
    /// The last bytes that its client took: for answers that go on for hours. A client that only
    /// sends does not put it off.
    LastTaken(Duration),
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

/// Accepts a connection when one is free; the next ones wait in the operating system's queue.
pub struct Connections {
    listener: TcpListener,
    free: Arc<Semaphore>,
    deadline: Deadline,
}

impl Connections {
    /// At most `most` of them at a time.
    pub fn new(listener: TcpListener, most: usize, deadline: Deadline) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(most)), deadline }
    }
}

impl axum::serve::Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // Nothing closes the semaphore; without a permit the connection would only go uncounted.
            let permit = self.free.clone().acquire_owned().await.ok();
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let (Deadline::Whole(within) | Deadline::LastTaken(within)) = self.deadline;
                    let sleep = Box::pin(tokio::time::sleep(within));
                    let deadline = self.deadline;
                    return (Connection { stream, deadline, sleep, _permit: permit }, peer);
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

/// A connection that fails at its deadline.
pub struct Connection {
    stream: TcpStream,
    deadline: Deadline,
    sleep: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn in_time(&mut self, context: &mut Context<'_>) -> std::io::Result<()> {
        match self.sleep.as_mut().poll(context) {
            Poll::Ready(()) => Err(std::io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
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
        if let (Poll::Ready(Ok(1..)), Deadline::LastTaken(within)) = (&written, self.deadline) {
            self.sleep.as_mut().reset(Instant::now() + within);
            // Registers the new deadline; it cannot be over.
            self.in_time(context)?;
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
