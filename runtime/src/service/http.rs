//! `GET /metrics` and `GET /healthz`. It answers one request a connection. It refuses requests with a
//! body, requests to this machine under a foreign name, clients slower than [`MAX_DURATION`], and,
//! where a token is set, whoever does not show it. Beyond [`MAX_CONNECTIONS`] at a time the client that
//! has the most of them loses one. Port and connections are its own, so that nothing that happens to
//! the live page matters here. Runs on the service's thread.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use super::bind::Token;
use super::connection::{Client, Connections, Deadline};
use super::crowd::{Crowd, Place, Places};
use super::guesses::Guesses;
use crate::health::{Beds, Status};

/// Connections at a time, and those of one client among them.
pub const MAX_CONNECTIONS: usize = 16;
/// See [`MAX_CONNECTIONS`].
pub const MAX_BY_CLIENT: usize = 8;

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
    /// Wrong ones.
    pub(super) guesses: Guesses,
    /// Only this machine can reach the server.
    pub(super) is_local: bool,
}

/// Answers until it is dropped.
pub(super) async fn serve(listener: TcpListener, served: Arc<Served>) {
    let deadline = Deadline::Whole(MAX_DURATION);
    let places = Places { requests: MAX_CONNECTIONS, by_client: MAX_BY_CLIENT, streams: 0 };
    let connections = Connections::new(listener, Crowd::new(places), deadline);
    let service = routes(served).into_make_service_with_connect_info::<Client>();
    let end = axum::serve(connections, service).await;
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

async fn admit(
    State(served): State<Arc<Served>>,
    ConnectInfo(Client(place)): ConnectInfo<Client>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let mut response = if !shows_token(served.token.as_ref(), headers) {
        let is_guess = headers.contains_key(AUTHORIZATION);
        not_admitted(is_guess.then_some(&served.guesses), &place).await
    } else if served.is_local
        && !headers.get(HOST).is_none_or(|host| host.to_str().is_ok_and(is_this_machine))
    {
        (StatusCode::MISDIRECTED_REQUEST, NOT_HERE).into_response()
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

/// The answer to who does not show the token, or shows a wrong one.
pub(crate) async fn not_admitted(guesses: Option<&Guesses>, place: &Place) -> Response {
    if let Some(guesses) = guesses
        && guesses.wrong(place.client()).await.is_err()
    {
        return TOO_MANY_GUESSES.into_response();
    }
    let challenge = [(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    (StatusCode::UNAUTHORIZED, challenge, "the token is missing or wrong\n").into_response()
}

/// The answer where too many wait that have shown a wrong token.
pub(crate) const TOO_MANY_GUESSES: (StatusCode, &str) =
    (StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens at a time\n");

/// What a request is told that names another host: a page of another site that had its name pointed
/// here (DNS rebinding).
pub(crate) const NOT_HERE: &str = "only localhost, 127.0.0.1 and [::1] are served here\n";

/// Whether a `Host` header is this machine by a name that no DNS server gives out.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

pub(crate) fn shows_token(token: Option<&Token>, headers: &HeaderMap) -> bool {
    token.is_none_or(|token| {
        headers.get(AUTHORIZATION).is_some_and(|value| token.is_shown_by(value.as_bytes()))
    })
}

pub(crate) fn has_body(headers: &HeaderMap) -> bool {
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
