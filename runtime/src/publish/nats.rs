//! Delivers to NATS JetStream, in order: a message leaves the outbox when the stream has stored it.
//! Its id is in `Nats-Msg-Id`, by which the server leaves repeats out for as long as the stream's
//! duplicate window says: a day for the stream that is made here if none takes our subjects. The
//! signals go beside it as plain messages, which nobody stores.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{
    Context, ContextBuilder, GetStreamByNameErrorKind, PublishAckFuture, PublishError,
    PublishErrorKind,
};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::{Client, ConnectOptions};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::delivery::{Delivering, GOODBYE_WITHIN, Pause, Shared};
use super::frames::Frames;
use super::pulse::{Pulse, until_due};
use super::server::{Address, Login};

/// Messages on the way at a time.
const IN_FLIGHT: usize = 16;
/// For the stream to say that a message is stored, and for whatever is asked of the server.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long the stream that is made here remembers ids. An outage longer than this may bring the
/// messages twice that were on the way when it began.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// The stream that is made here forgets the oldest messages beyond this.
const STREAM_BYTES: i64 = 1 << 30;

/// A server's first line is not longer.
const MAX_INFO_BYTES: u64 = 1 << 16;

/// What of a study a stream stores.
const LEAVES: [&str; 8] =
    ["stage", "epoch", "gap", "quality", "modality", "warning", "started", "night"];

/// A server.
#[derive(Debug)]
pub struct Server {
    /// Where it is.
    pub address: Address,
    /// Who we say we are.
    pub login: Option<Login>,
    /// TLS where the address asks for it.
    pub tls: Option<Arc<ClientConfig>>,
    /// First levels of all subjects.
    pub prefix: String,
    /// What `health` says; none if no session runs. NATS has no last will: a session that says
    /// nothing more is gone.
    pub health: Option<Pulse>,
}

impl Server {
    fn options(&self, shared: &Arc<Shared>) -> Result<ConnectOptions, String> {
        let theirs = shared.clone();
        let (address, tls) = (self.address.clone(), self.tls.clone());
        let mut options = ConnectOptions::new()
            .name("sfm-stream")
            .retry_on_initial_connect()
            .max_reconnects(None)
            .reconnect_delay_callback(|attempts| {
                Duration::from_millis(250 << attempts.min(5)).min(Duration::from_secs(5))
            })
            .event_callback(move |event| {
                let (theirs, address, tls) = (theirs.clone(), address.clone(), tls.clone());
                async move {
                    use async_nats::Event::{ClientError, Connected, Disconnected, ServerError};
                    match &event {
                        Connected => theirs.connected(),
                        ClientError(_) => {
                            let why = obstacle(&address, tls).await;
                            let why = why.unwrap_or_else(|| event.to_string());
                            theirs.problem(format!("{address}: {why}"));
                        }
                        Disconnected | ServerError(_) => {
                            theirs.problem(format!("{address}: {event}"));
                        }
                        _ => {}
                    }
                    theirs.wake();
                }
            });
        if let Some(tls) = &self.tls {
            options = options.require_tls(true).tls_client_config(ClientConfig::clone(tls));
        }
        match &self.login {
            Some(Login::Password { user, password }) => {
                Ok(options.user_and_password(user.clone(), password.clone()))
            }
            Some(Login::Credentials(text)) => {
                options.credentials(text).map_err(|e| format!("--nats-login: {e}"))
            }
            None => Ok(options),
        }
    }

    /// A stream that stores our subjects: the one that is there, or a new one.
    async fn stream(&self, context: &Context) -> Result<(), String> {
        let Self { prefix, .. } = self;
        match context.stream_by_subject(format!("{prefix}.*.epoch")).await {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == GetStreamByNameErrorKind::NotFound => {}
            Err(e) => return Err(format!("JetStream does not answer ({e})")),
        }
        let config = Config {
            name: prefix.replace('.', "-"),
            subjects: LEAVES.iter().map(|leaf| format!("{prefix}.*.{leaf}")).collect(),
            storage: StorageType::File,
            max_bytes: STREAM_BYTES,
            duplicate_window: DUPLICATE_WINDOW,
            description: Some("Sleep stages, gaps and nights of sfm-stream".to_owned()),
            ..Config::default()
        };
        let made = context.create_stream(config).await;
        made.map(|_| ())
            .map_err(|e| format!("no stream takes {prefix}.*.epoch, and none can be made ({e})"))
    }
}

/// What is in the way of a connection to `address`, found by trying: the client says "IO error" of all
/// of it. `None` if nothing is.
async fn obstacle(address: &Address, tls: Option<Arc<ClientConfig>>) -> Option<String> {
    let attempt = async {
        let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        let mut info = String::new();
        BufReader::new(&mut stream).take(MAX_INFO_BYTES).read_line(&mut info).await?;
        let Some(tls) = tls else {
            let wants_tls = info.contains("\"tls_required\":true");
            return Ok(wants_tls.then(|| "the server wants TLS; use tls://".to_owned()));
        };
        let name = ServerName::try_from(address.host.clone()).map_err(std::io::Error::other)?;
        TlsConnector::from(tls).connect(name, stream).await.map(|_| None)
    };
    match timeout(ANSWER_WITHIN, attempt).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("it does not answer".to_owned()),
    }
}

/// Delivers what is and comes in the outbox, and the frames.
pub fn deliver(server: Server, frames: Option<Arc<Frames>>, shared: Arc<Shared>) -> Delivering {
    Box::pin(async move {
        let connected = match server.options(&shared) {
            Ok(options) => {
                let address = server.address.to_string();
                options.connect(address).await.map_err(|e| format!("{}: {e}", server.address))
            }
            Err(reason) => Err(reason),
        };
        match connected {
            Ok(client) => {
                let mut delivery = Delivery::new(&server, frames.as_deref(), &shared, client);
                delivery.run().await;
                let _ = timeout(GOODBYE_WITHIN, delivery.say_goodbye()).await;
            }
            Err(reason) => {
                shared.problem(reason);
                while !shared.is_over() {
                    shared.woken().await;
                }
            }
        }
    })
}

type Storing = Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>;

struct Delivery<'a> {
    server: &'a Server,
    frames: Option<&'a Frames>,
    shared: &'a Shared,
    client: Client,
    context: Context,
    /// Messages on the way, and where each ends in the outbox.
    in_flight: VecDeque<(u64, Storing)>,
    cursor: u64,
    /// The server has a stream for us.
    ready: bool,
    pulse: Option<Pulse>,
}

impl<'a> Delivery<'a> {
    fn new(
        server: &'a Server,
        frames: Option<&'a Frames>,
        shared: &'a Shared,
        client: Client,
    ) -> Self {
        let context = ContextBuilder::new()
            .timeout(ANSWER_WITHIN)
            .ack_timeout(ANSWER_WITHIN)
            .build(client.clone());
        let cursor = shared.outbox().acknowledged();
        Self {
            server,
            frames,
            shared,
            client,
            context,
            in_flight: VecDeque::new(),
            cursor,
            ready: false,
            pulse: server.health.clone(),
        }
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    async fn run(&mut self) {
        let mut pause = Pause::default();
        while !self.shared.is_over() {
            if !self.is_connected() {
                self.go_back();
                self.ready = false;
                self.shared.woken().await;
                continue;
            }
            match self.step().await {
                Ok(()) => pause = Pause::default(),
                Err(reason) => {
                    self.shared.problem(format!("{}: {reason}", self.server.address));
                    self.go_back();
                    self.shared.pause(&mut pause).await;
                }
            }
        }
    }

    /// What is on the way goes again; the server knows what it has stored.
    fn go_back(&mut self) {
        self.in_flight.clear();
        self.cursor = self.shared.outbox().acknowledged();
    }

    /// Sends what there is, then waits for one thing to happen.
    async fn step(&mut self) -> Result<(), String> {
        if !self.ready {
            self.server.stream(&self.context).await?;
            self.ready = true;
            self.say(|pulse| Some(pulse.online())).await?;
        }
        while let Some(frame) = self.frames.and_then(Frames::take) {
            let sent = self.client.publish(frame.subject, frame.bytes.into()).await;
            sent.map_err(|e| e.to_string())?;
        }
        while self.in_flight.len() < IN_FLIGHT
            && let Some((message, end)) = self.shared.next(self.cursor)
        {
            let publish = PublishMessage::build()
                .message_id(&message.id)
                .payload(message.body.into_bytes().into());
            let sent = self.context.send_publish(message.topic, publish).await;
            let storing: PublishAckFuture = match sent {
                Err(e) if e.kind() == PublishErrorKind::MaxPayloadExceeded => {
                    // It would never pass.
                    self.drain().await?;
                    self.shared.refused(end, e.to_string());
                    self.cursor = end;
                    continue;
                }
                other => other.map_err(|e| e.to_string())?,
            };
            self.in_flight.push_back((end, storing.into_future()));
            self.cursor = end;
        }
        let Some((end, storing)) = self.in_flight.front_mut() else {
            tokio::select! {
                () = self.shared.woken() => return Ok(()),
                () = until_due(&self.pulse) => return self.say(Pulse::due).await,
            }
        };
        tokio::select! {
            stored = storing => {
                let end = *end;
                self.in_flight.pop_front();
                self.stored(end, stored)
            }
            () = self.shared.woken() => Ok(()),
            () = until_due(&self.pulse) => self.say(Pulse::due).await,
        }
    }

    fn stored(&mut self, end: u64, stored: Result<PublishAck, PublishError>) -> Result<(), String> {
        match stored {
            Ok(_) => {
                self.shared.delivered(end);
                Ok(())
            }
            Err(error) => {
                // The stream may have been deleted: look again.
                self.ready = error.kind() == PublishErrorKind::TimedOut && self.ready;
                Err(error.to_string())
            }
        }
    }

    /// Waits for all that is on the way.
    async fn drain(&mut self) -> Result<(), String> {
        while let Some((end, storing)) = self.in_flight.pop_front() {
            let stored = storing.await;
            self.stored(end, stored)?;
        }
        Ok(())
    }

    /// Says what `text` makes of the pulse.
    async fn say(&mut self, text: impl Fn(&mut Pulse) -> Option<String>) -> Result<(), String> {
        let Some(pulse) = &mut self.pulse else { return Ok(()) };
        let Some(text) = text(pulse) else { return Ok(()) };
        let sent = self.client.publish(pulse.topic.clone(), text.into()).await;
        sent.map_err(|e| e.to_string())
    }

    async fn say_goodbye(&mut self) {
        let offline = |pulse: &mut Pulse| Some(pulse.offline("the run is over"));
        if self.is_connected() && self.say(offline).await.is_ok() {
            let _ = self.client.flush().await;
        }
    }
}
