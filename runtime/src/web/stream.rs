//! A bed's messages as server-sent events. A browser that takes them too slowly is told to fetch
//! everything anew; one that is gone is noticed by the next sign of life that it does not take.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use tokio_stream::wrappers::BroadcastStream;

use super::room::{Message, Room, reset};
use super::server::{NO_BED, Served, last_event};
use crate::service::connection::Client;

/// Time between two signs of life, so that both ends notice when the other one is gone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// What a browser waits before it comes again.
const COME_AGAIN: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
pub(super) struct After {
    after: Option<String>,
}

pub(super) async fn events(
    State(served): State<Arc<Served>>,
    ConnectInfo(Client(place)): ConnectInfo<Client>,
    Path(bed): Path<String>,
    Query(After { after }): Query<After>,
    headers: HeaderMap,
) -> Response {
    let Some(room) = served.rooms.find(&bed) else { return NO_BED.into_response() };
    place.become_stream();
    let last = last_event(&headers, after);
    let events = messages(room.clone(), last.as_deref())
        .map(move |message| Ok::<_, Infallible>(event(&room, &message)));
    let alive =
        KeepAlive::new().interval(SIGN_OF_LIFE).event(Event::default().event("alive").data("{}"));
    Sse::new(events).keep_alive(alive).into_response()
}

/// What the browser missed, what comes, and nothing behind the end of the run.
fn messages(room: Arc<Room>, last: Option<&str>) -> impl Stream<Item = Arc<Message>> + use<> {
    let subscription = room.subscribe(last);
    let coming = BroadcastStream::new(subscription.coming)
        .map(|message| message.unwrap_or_else(|_lost_some| reset()));
    let messages = stream::iter(subscription.missed).chain(coming);
    stream::unfold((messages, false), async |(mut messages, is_over)| {
        if is_over {
            return None;
        }
        let message = messages.next().await?;
        let is_over = message.name == "ended";
        Some((message, (messages, is_over)))
    })
}

fn event(room: &Room, message: &Message) -> Event {
    let event = Event::default().event(message.name).data(&message.data);
    match message.number {
        Some(number) => event.id(room.id(number)),
        // Messages of the moment come first, and say how long to wait before the next try.
        None => event.retry(COME_AGAIN),
    }
}
