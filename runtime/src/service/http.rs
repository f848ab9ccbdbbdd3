//! `GET /metrics` and `GET /healthz`. It owns the listening socket and answers one request a
//! connection. It refuses requests with a body, more than [`MAX_CONNECTIONS`] at a time, clients
//! slower than [`MAX_DURATION`], and, where a token is set, whoever does not show it. Runs on the
//! service's thread, so that no client can keep anything else waiting.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING,
    WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::bind::Token;
use super::health::{Beds, Status};

/// Connections at a time; the next ones wait in the operating system's queue.
pub const MAX_CONNECTIONS: usize = 16;

/// Longest time from a connection to the end of its answer.
pub const MAX_DURATION: Duration = Duration::from_secs(10);

/// What requests are answered from.
pub(super) struct Served {
    /// The series.
    pub(super) metrics: PrometheusHandle,
    /// How the sessions are.
    pub(super) beds: Arc<Beds>,
    /// What a request has to show.
    pub(super) token: Option<Token>,
}

/// A socket that listens at `addr`, not yet answering.
///
/// # Errors
/// One sentence that names the address.
pub(super) fn listen(addr: SocketAddr) -> Result<std::net::TcpListener, String> {
    let listener = std::net::TcpListener::bind(addr);
    listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener)).map_err(|e| {
        let what = if e.kind() == std::io::ErrorKind::AddrInUse {
            "is in use by another program; choose another port".to_owned()
        } else {
            format!("cannot be listened on: {e}")
        };
        format!("the address for metrics, {addr}, {what}")
    })
}

/// Answers until it is dropped.
pub(super) async fn serve(listener: TcpListener, served: Arc<Served>) {
    let connections = Connections { listener, free: Arc::new(Semaphore::new(MAX_CONNECTIONS)) };
    let end = axum::serve(connections, routes(served)).await;
    tracing::error!(?end, "metrics are not served any more");
}

fn routes(served: Arc<Served>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .fallback(async || (StatusCode::NOT_FOUND, "/metrics and /healthz are all there is\n"))
        .layer(from_fn_with_state(served.clone(), admit))
        .with_state(served)
}

async fn admit(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let mut response = if !shows_token(served.token.as_ref(), headers) {
        let challenge = [(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
        (StatusCode::UNAUTHORIZED, challenge, "the token is missing or wrong\n").into_response()
    } else if has_body(headers) {
        (StatusCode::PAYLOAD_TOO_LARGE, "no request takes a body\n").into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn shows_token(token: Option<&Token>, headers: &HeaderMap) -> bool {
    token.is_none_or(|token| {
        headers.get(AUTHORIZATION).is_some_and(|value| token.is_shown_by(value.as_bytes()))
    })
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

async fn metrics(State(served): State<Arc<Served>>) -> Response {
    // Sets the gauges that follow from the sessions' state.
    served.beds.report();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, kind)], served.metrics.render()).into_response()
}

async fn healthz(State(served): State<Arc<Served>>) -> Response {
    let report = served.beds.report();
    let status = match report.status {
        Status::Ok | Status::Degraded => StatusCode::OK,
        Status::Failing => StatusCode::SERVICE_UNAVAILABLE,
    };
    let kind = HeaderValue::from_static("application/json");
    match serde_json::to_string(&report) {
        Ok(json) => (status, [(CONTENT_TYPE, kind)], json + "\n").into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

/// Accepts a connection when one is free.
struct Connections {
    listener: TcpListener,
    free: Arc<Semaphore>,
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
                    let deadline = Box::pin(tokio::time::sleep(MAX_DURATION));
                    return (Connection { stream, deadline, _permit: permit }, peer);
                }
                Err(error) => {
                    // The client is gone, or the process has no descriptor left: wait for one.
                    tracing::debug!(%error, "a connection for metrics was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails at its deadline, whatever the client does.
struct Connection {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn in_time(&mut self, context: &mut Context<'_>) -> std::io::Result<()> {
        match self.deadline.as_mut().poll(context) {
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
        Pin::new(&mut self.stream).poll_write(context, bytes)
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
