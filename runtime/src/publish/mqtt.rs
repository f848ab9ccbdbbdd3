//! Delivers to an MQTT 5 broker, in order, with QoS 1: a message leaves the outbox when the broker
//! has acknowledged it. A connection that breaks comes back by itself; where the broker kept our
//! session, what was in flight goes again under its packet numbers, else all that is not
//! acknowledged does. QoS 1 lets the broker see a message twice then, hence the `id` in each.
//! `health` says `online` and how the session is, and by the last will `offline`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, LastWill, LastWillProperties, Packet, PubAck, PubAckReason,
    PublishProperties,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Request};
use rumqttc::{Outgoing, TlsConfiguration, Transport};
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

use super::delivery::{Delivering, GOODBYE_WITHIN, Pause, Shared};
use super::outbox::Message;
use super::pulse::{Pulse, until_due};
use super::server::{Address, Login};

/// Messages on the way at a time; after a break no more than these go again.
const IN_FLIGHT: u16 = 16;
/// The broker notices within one and a half times this that we are gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the broker keeps our session, seconds: it is no more than packet numbers.
const SESSION_EXPIRY_S: u32 = 3600;
/// What a packet has beside topic, id and text, at most.
const OVERHEAD_BYTES: usize = 64;

/// A broker.
#[derive(Debug)]
pub struct Broker {
    /// Where it is.
    pub address: Address,
    /// Who we say we are.
    pub login: Option<Login>,
    /// TLS where the address asks for it.
    pub tls: Option<Arc<ClientConfig>>,
    /// Names this session to the broker: 1 to 23 letters and digits, which every broker takes.
    pub client_id: String,
    /// What `health` says; none if no session runs.
    pub health: Option<Pulse>,
}

impl Broker {
    fn options(&self) -> MqttOptions {
        let Address { host, port, .. } = &self.address;
        let mut options = MqttOptions::new(&self.client_id, host, *port);
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = Some(SESSION_EXPIRY_S);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_start(true)
            .set_connect_properties(properties)
            .set_outgoing_inflight_upper_limit(IN_FLIGHT);
        if let Some(pulse) = &self.health {
            options.set_last_will(will(pulse));
        }
        if let Some(Login::Password { user, password }) = &self.login {
            options.set_credentials(user, password);
        }
        if let Some(tls) = &self.tls {
            options
                .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
        }
        options
    }
}

/// What the broker says for us when we are gone.
fn will(pulse: &Pulse) -> LastWill {
    let about = LastWillProperties {
        delay_interval: None,
        payload_format_indicator: Some(1),
        message_expiry_interval: None,
        content_type: Some("application/json".to_owned()),
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let text = pulse.offline("the connection was lost");
    LastWill::new(&pulse.topic, text, QoS::AtLeastOnce, true, Some(about))
}

/// Delivers what is and comes in the outbox.
pub fn deliver(broker: Broker, shared: Arc<Shared>) -> Delivering {
    Box::pin(async move {
        let (client, mut events) = AsyncClient::new(broker.options(), usize::from(IN_FLIGHT) + 4);
        let mut delivery = Delivery::new(&broker, &shared, client);
        let mut pause = Pause::default();
        while !shared.is_over() {
            match delivery.next(&mut events).await {
                Some(Ok(Event::Incoming(Packet::ConnAck(accepted)))) => {
                    // From now on the session is ours to resume.
                    events.options.set_clean_start(false);
                    delivery.accepted(&accepted);
                    pause = Pause::default();
                }
                Some(Ok(event)) => delivery.take(&event),
                Some(Err(error)) => {
                    delivery.broken(&mut events, &error);
                    shared.pause(&mut pause).await;
                }
                None => {}
            }
        }
        let _ = timeout(GOODBYE_WITHIN, delivery.say_goodbye(&mut events)).await;
    })
}

/// A packet that is on its way or about to be.
struct Packeted {
    /// Its number, once it is sent.
    number: Option<u16>,
    /// Whether it has arrived, once that is known; else why it never will.
    verdict: Option<Result<(), String>>,
    /// Of the outbox: where it ends, and itself if it is retained.
    message: Option<(u64, Option<Message>)>,
}

struct Delivery<'a> {
    broker: &'a Broker,
    shared: &'a Shared,
    client: AsyncClient,
    in_flight: VecDeque<Packeted>,
    /// Where the next message to be sent begins.
    cursor: u64,
    connected: bool,
    /// Largest packet that the broker takes.
    max_bytes: usize,
    /// The last retained message by topic, for a broker that forgets.
    retained: BTreeMap<String, Message>,
    pulse: Option<Pulse>,
}

impl<'a> Delivery<'a> {
    fn new(broker: &'a Broker, shared: &'a Shared, client: AsyncClient) -> Self {
        Self {
            broker,
            shared,
            client,
            in_flight: VecDeque::new(),
            cursor: shared.outbox().acknowledged(),
            connected: false,
            max_bytes: usize::MAX,
            retained: BTreeMap::new(),
            pulse: broker.health.clone(),
        }
    }

    /// The next thing that happens on the connection, while new messages go to it; `None` if the
    /// run is over.
    async fn next(&mut self, events: &mut EventLoop) -> Option<Result<Event, ConnectionError>> {
        // Kept over a wake: what it has begun must not be lost.
        let poll = events.poll();
        tokio::pin!(poll);
        loop {
            self.fill();
            tokio::select! {
                event = &mut poll => return Some(event),
                () = self.shared.woken() => if self.shared.is_over() { return None },
                () = until_due(&self.pulse) => self.beat(),
            }
        }
    }

    /// Hands over messages as long as few are on the way.
    fn fill(&mut self) {
        while self.connected && self.in_flight.len() < usize::from(IN_FLIGHT) {
            let Some((message, end)) = self.shared.next(self.cursor) else { return };
            if message.topic.len() + message.id.len() + message.body.len() + OVERHEAD_BYTES
                > self.max_bytes
            {
                let verdict = Some(Err(format!("the broker takes {} bytes", self.max_bytes)));
                self.in_flight.push_back(Packeted {
                    number: Some(0),
                    verdict,
                    message: Some((end, None)),
                });
                self.settle();
            } else if !self.send(&message, Some(end)) {
                return;
            }
            self.cursor = end;
        }
    }

    fn send(&mut self, message: &Message, end: Option<u64>) -> bool {
        let about = PublishProperties {
            payload_format_indicator: Some(1),
            content_type: Some("application/json".to_owned()),
            user_properties: vec![("id".to_owned(), message.id.clone())],
            ..PublishProperties::default()
        };
        let Message { topic, retain, body, .. } = message;
        let (topic, body) = (topic.as_str(), body.clone().into_bytes());
        let sent =
            self.client.try_publish_with_properties(topic, QoS::AtLeastOnce, *retain, body, about);
        if sent.is_ok() {
            let message = end.map(|end| (end, retain.then(|| message.clone())));
            self.in_flight.push_back(Packeted { number: None, verdict: None, message });
        }
        sent.is_ok()
    }

    /// Says how the session is, where that is due and the broker is there.
    fn beat(&mut self) {
        let due = self.pulse.as_mut().and_then(Pulse::due);
        if let Some(text) = due.filter(|_| self.connected) {
            self.say("online", text);
        }
    }

    fn say(&mut self, status: &str, body: String) {
        let Some(pulse) = &self.pulse else { return };
        let id =
            format!("{}-{status}-{:08x}", self.broker.client_id, crc32fast::hash(body.as_bytes()));
        self.send(&Message { id, topic: pulse.topic.clone(), retain: true, body }, None);
    }

    /// The broker takes us.
    fn accepted(&mut self, accepted: &ConnAck) {
        let properties = accepted.properties.as_ref();
        self.max_bytes = properties.and_then(|p| p.max_packet_size).unwrap_or(u32::MAX) as usize;
        self.connected = true;
        self.shared.connected();
        if !accepted.session_present {
            self.begin_anew();
        }
        if let Some(text) = self.pulse.as_mut().map(Pulse::online) {
            self.say("online", text);
        }
    }

    /// Takes note of what was sent and what has arrived.
    fn take(&mut self, event: &Event) {
        match event {
            Event::Incoming(Packet::PubAck(ack)) => self.acknowledged(ack),
            Event::Outgoing(Outgoing::Publish(number)) => self.numbered(*number),
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
    }

    /// The broker knows nothing of us, and so perhaps nothing of what it was to retain.
    fn begin_anew(&mut self) {
        self.in_flight.clear();
        self.cursor = self.shared.outbox().acknowledged();
        for message in self.retained.values().cloned().collect::<Vec<_>>() {
            self.send(&message, None);
        }
    }

    /// The next packet without a number was sent under this one. One that is sent again has it.
    fn numbered(&mut self, number: u16) {
        if !self.in_flight.iter().any(|p| p.number == Some(number) && p.verdict.is_none())
            && let Some(packet) = self.in_flight.iter_mut().find(|p| p.number.is_none())
        {
            packet.number = Some(number);
        }
    }

    fn acknowledged(&mut self, ack: &PubAck) {
        let of_ack = |p: &&mut Packeted| p.number == Some(ack.pkid) && p.verdict.is_none();
        if let Some(packet) = self.in_flight.iter_mut().find(of_ack) {
            packet.verdict = Some(match ack.reason {
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
                reason => Err(format!("the broker says {reason:?}")),
            });
        }
        self.settle();
    }

    /// Tells of the oldest packets, up to the first one whose end is open.
    fn settle(&mut self) {
        while self.in_flight.front().is_some_and(|packet| packet.verdict.is_some()) {
            let Some(Packeted { verdict, message: Some((end, retained)), .. }) =
                self.in_flight.pop_front()
            else {
                continue;
            };
            match verdict {
                Some(Err(why)) => self.shared.refused(end, why),
                _ => {
                    self.shared.delivered(end);
                    self.retained.extend(retained.map(|message| (message.topic.clone(), message)));
                }
            }
        }
    }

    /// The connection is gone. What was sent stays with the event loop, in the order it was sent
    /// in, for a broker that has kept the session; what was not sent is taken back.
    fn broken(&mut self, events: &mut EventLoop, error: &ConnectionError) {
        while let Some(event) = events.state.events.pop_front() {
            self.take(&event);
        }
        self.connected = false;
        self.shared.problem(format!("{}: {error}", self.broker.address));
        events.state.collision = None;
        self.in_flight.retain(|packet| packet.number.is_some());
        let ends = self.in_flight.iter().filter_map(|p| p.message.as_ref().map(|(end, _)| *end));
        self.cursor = ends.max().unwrap_or_else(|| self.shared.outbox().acknowledged());
        let place = |request: &Request| match request {
            Request::Publish(publish) if publish.pkid != 0 => {
                self.in_flight.iter().position(|packet| packet.number == Some(publish.pkid))
            }
            _ => None,
        };
        let mut pending: Vec<_> = std::mem::take(&mut events.pending)
            .into_iter()
            .filter_map(|request| Some((place(&request)?, request)))
            .collect();
        pending.sort_by_key(|(place, _)| *place);
        events.pending = pending.into_iter().map(|(_, request)| sent_again(request)).collect();
    }

    /// Says `offline` itself: the last will is for ends that are none of ours.
    async fn say_goodbye(&mut self, events: &mut EventLoop) {
        if !self.connected {
            return;
        }
        if let Some(text) = self.pulse.as_ref().map(|pulse| pulse.offline("the run is over")) {
            self.say("offline", text);
        }
        while !self.in_flight.is_empty() {
            match events.poll().await {
                Ok(event) => self.take(&event),
                Err(_) => return,
            }
        }
        if self.client.try_disconnect().is_ok() {
            while !matches!(events.poll().await, Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_))
            {
            }
        }
    }
}

fn sent_again(request: Request) -> Request {
    match request {
        Request::Publish(mut publish) => {
            publish.dup = true;
            Request::Publish(publish)
        }
        other => other,
    }
}
