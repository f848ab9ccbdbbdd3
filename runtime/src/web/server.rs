//! The page over HTTP: its files, the JSON interface, the streams of messages. One request a
//! connection; it refuses more than [`MAX_CONNECTIONS`] at a time, more than [`MAX_STREAMS`] streams
//! among them, clients that take nothing for [`MAX_WAIT`], and whom [`Access`] does not let in. Runs
//! on the thread `web`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::access::Access;
use super::page;
use super::rooms::Rooms;
use super::stream;
use crate::link::mark::Mark;
use crate::service::connection::{Connections, Deadline};
use crate::sink::json_text;

/// Connections at a time.
pub const MAX_CONNECTIONS: usize = 96;
/// Streams of messages at a time, one a page that is open.
pub const MAX_STREAMS: usize = 64;
/// Longest time that a client takes nothing.
pub const MAX_WAIT: Duration = Duration::from_secs(30);
/// Longest body: a token.
const MAX_BODY: usize = 8192;
/// What whoever tries tokens has to wait.
const AFTER_WRONG_TOKEN: Duration = Duration::from_secs(1);

/// Nothing but what this server sends, and no script in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What requests are answered from.
pub(super) struct Served {
    pub(super) rooms: Arc<Rooms>,
    pub(super) access: Access,
    pub(super) streams: Arc<Semaphore>,
    /// Set when the process ends.
    pub(super) over: watch::Receiver<bool>,
}

/// Answers until `served.over`, and until the streams have said so.
pub(super) async fn serve(listener: TcpListener, served: Arc<Served>) {
    let mut over = served.over.clone();
    let connections = Connections::new(listener, MAX_CONNECTIONS, Deadline::LastTaken(MAX_WAIT));
    let end = axum::serve(connections, routes(served))
        .with_graceful_shutdown(async move {
            // An error says that nobody is there any more to set it.
            let _ = over.wait_for(|over| *over).await;
        })
        .await;
    if let Err(error) = end {
        tracing::error!(%error, "the live page is not served any more");
    }
}

fn routes(served: Arc<Served>) -> Router {
    let api = Router::new()
        .route("/api/beds", get(beds))
        .route("/api/beds/{bed}", get(bed))
        .route("/api/beds/{bed}/events", get(stream::events))
        .route("/api/beds/{bed}/signals", get(signals))
        .route("/api/beds/{bed}/marks", post(mark))
        .layer(from_fn_with_state(served.clone(), ask_token));
    page::routes()
        .merge(api)
        .route("/api/login", post(log_in))
        .fallback(async || (StatusCode::NOT_FOUND, "nothing is here\n"))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(served.clone(), admit))
        .with_state(served)
}

async fn admit(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let mut response = match served.access.admit(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONNECTION, "close"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn ask_token(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    if served.access.knows_token(request.headers()) {
        return next.run(request).await;
    }
    let challenge = [(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    (StatusCode::UNAUTHORIZED, challenge, "the token is missing or wrong\n").into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogIn {
    token: String,
}

async fn log_in(
    State(served): State<Arc<Served>>,
    body: Result<Json<LogIn>, JsonRejection>,
) -> Response {
    let Ok(Json(LogIn { token })) = body else {
        return (StatusCode::BAD_REQUEST, "send {\"token\": \"...\"}\n").into_response();
    };
    let cookie = served.access.log_in(&token).map(HeaderValue::try_from);
    if let Some(Ok(cookie)) = cookie {
        return (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response();
    }
    tokio::time::sleep(AFTER_WRONG_TOKEN).await;
    (StatusCode::UNAUTHORIZED, "the token is wrong\n").into_response()
}

/// What a bed that is not there is answered with.
pub(super) const NO_BED: (StatusCode, &str) = (StatusCode::NOT_FOUND, "no such bed\n");

fn json(value: &impl Serialize) -> Response {
    let kind = HeaderValue::from_static("application/json");
    match json_text(value) {
        Ok(text) => ([(CONTENT_TYPE, kind)], text).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

#[derive(Serialize)]
struct BedList<'a> {
    version: &'static str,
    beds: &'a [super::room::Summary],
}

async fn beds(State(served): State<Arc<Served>>) -> Response {
    let beds: Vec<_> = served.rooms.all().iter().map(|room| room.summary()).collect();
    json(&BedList { version: env!("CARGO_PKG_VERSION"), beds: &beds })
}

async fn bed(State(served): State<Arc<Served>>, Path(bed): Path<String>) -> Response {
    match served.rooms.find(&bed) {
        Some(room) => json(&room.snapshot()),
        None => NO_BED.into_response(),
    }
}

#[derive(Deserialize)]
struct From {
    #[serde(default)]
    from: u32,
}

#[derive(Serialize)]
struct SignalAnswer<'a> {
    #[serde(flatten)]
    extent: super::signals::Extent,
    patches: Vec<&'a super::signals::ShownPatch>,
}

async fn signals(
    State(served): State<Arc<Served>>,
    Path(bed): Path<String>,
    Query(From { from }): Query<From>,
) -> Response {
    let Some(room) = served.rooms.find(&bed) else { return NO_BED.into_response() };
    let (extent, patches) = room.signals(from);
    json(&SignalAnswer { extent, patches: patches.iter().map(AsRef::as_ref).collect() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMark {
    mark: Mark,
}

async fn mark(
    State(served): State<Arc<Served>>,
    Path(bed): Path<String>,
    body: Result<Json<NewMark>, JsonRejection>,
) -> Response {
    let Some(room) = served.rooms.find(&bed) else { return NO_BED.into_response() };
    let Ok(Json(NewMark { mark })) = body else {
        let what =
            "send {\"mark\": \"lights_off\"}, \"lights_on\" or \"event\" as application/json\n";
        return (StatusCode::BAD_REQUEST, what).into_response();
    };
    match room.mark(mark) {
        Ok(()) => (StatusCode::ACCEPTED, json(&serde_json::json!({ "mark": mark.text() })))
            .into_response(),
        Err(why) => (StatusCode::CONFLICT, format!("{why}\n")).into_response(),
    }
}

/// The number after which a browser goes on: what it repeats of its own accord goes before what is
/// in the address.
pub(super) fn last_event(headers: &HeaderMap, after: Option<String>) -> Option<String> {
    let repeated = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    repeated.map(str::to_owned).or(after)
}
