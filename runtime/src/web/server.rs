//! The page over HTTP: its files, the JSON interface, the streams of messages. One request a
//! connection; it refuses clients that have not sent a request within [`MAX_REQUEST`] or take nothing
//! for [`MAX_WAIT`], and whom [`Access`] does not let in. Beyond [`MAX_REQUESTS`] at a time, and
//! [`MAX_STREAMS`] streams beside them, the client that has the most of them loses one. Runs on the
//! thread `web`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::access::{Access, Shown};
use super::page;
use super::rooms::Rooms;
use super::stream;
use crate::link::mark::Mark;
use crate::service::connection::{Client, Connections, Deadline};
use crate::service::crowd::{Crowd, Places};
use crate::service::guesses::{Guesses, TooMany};
use crate::service::http::{TOO_MANY_GUESSES, not_admitted};
use crate::text::json_text;

/// Requests at a time, and those of one client among them.
pub const MAX_REQUESTS: usize = 96;
/// See [`MAX_REQUESTS`].
pub const MAX_BY_CLIENT: usize = 48;
/// Streams of messages at a time, one a page that is open.
pub const MAX_STREAMS: usize = 64;
/// Longest time from a connection to the beginning of its answer.
pub const MAX_REQUEST: Duration = Duration::from_secs(10);
/// Longest time that a client takes nothing.
pub const MAX_WAIT: Duration = Duration::from_secs(30);
/// Longest body: a token.
const MAX_BODY: usize = 8192;

/// Nothing but what this server sends, and no script in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What requests are answered from.
pub(super) struct Served {
    pub(super) rooms: Arc<Rooms>,
    pub(super) access: Access,
    pub(super) guesses: Guesses,
    /// Set when the process ends.
    pub(super) over: watch::Receiver<bool>,
}

/// Answers until `served.over`, and until the streams have said so.
pub(super) async fn serve(listener: TcpListener, served: Arc<Served>) {
    let mut over = served.over.clone();
    let places = Places { requests: MAX_REQUESTS, by_client: MAX_BY_CLIENT, streams: MAX_STREAMS };
    let deadline = Deadline::LastTaken { first: MAX_REQUEST, then: MAX_WAIT };
    let connections = Connections::new(listener, Crowd::new(places), deadline);
    let end =
        axum::serve(connections, routes(served).into_make_service_with_connect_info::<Client>())
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

async fn ask_token(
    State(served): State<Arc<Served>>,
    ConnectInfo(Client(place)): ConnectInfo<Client>,
    request: Request,
    next: Next,
) -> Response {
    match served.access.shown(request.headers()) {
        Shown::Right => next.run(request).await,
        Shown::Nothing => not_admitted(None, &place).await,
        Shown::Wrong => not_admitted(Some(&served.guesses), &place).await,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogIn {
    token: String,
}

async fn log_in(
    State(served): State<Arc<Served>>,
    ConnectInfo(Client(place)): ConnectInfo<Client>,
    body: Result<Json<LogIn>, JsonRejection>,
) -> Response {
    let Ok(Json(LogIn { token })) = body else {
        return (StatusCode::BAD_REQUEST, "send {\"token\": \"...\"}\n").into_response();
    };
    let cookie = served.access.log_in(&token).map(HeaderValue::try_from);
    if let Some(Ok(cookie)) = cookie {
        return (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response();
    }
    match served.guesses.wrong(place.client()).await {
        Ok(()) => (StatusCode::UNAUTHORIZED, "the token is wrong\n").into_response(),
        Err(TooMany) => TOO_MANY_GUESSES.into_response(),
    }
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
