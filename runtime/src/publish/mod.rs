//! Messages to other systems: MQTT, NATS JetStream, an LSL stream. Each is a sink that never waits:
//! messages go to an outbox in the output folder ([`outbox`]), from where a thread delivers them,
//! however long the server is away. Nothing here can slow or stop the pipeline.

pub mod delivery;
pub mod frames;
mod lsl;
mod message;
mod mqtt;
mod nats;
pub mod outbox;
mod pulse;
pub mod server;
pub mod topic;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio_rustls::rustls::ClientConfig;

use self::delivery::MessageSink;
use self::frames::{FrameSink, Frames};
use self::lsl::LslSink;
use self::mqtt::Broker;
use self::nats::Server;
use self::outbox::Beginning;
use self::pulse::Pulse;
use self::server::{Address, Login, MQTT, NATS};
use self::topic::{Separator, Topics};
use crate::session_folder;
use crate::sink::{Place, Sink, SinkError};

/// Names of the outboxes in the output folder.
const MQTT_OUTBOX: &str = "mqtt.outbox";
const NATS_OUTBOX: &str = "nats.outbox";

/// Last level of the topic that says how the session is.
const HEALTH: &str = "health";

/// First levels of topics without `--mqtt-prefix` or `--nats-prefix`.
const PREFIX: &str = "sfm";

/// Arguments.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PublishArgs {
    /// MQTT broker for stages, gaps and the night: mqtt://HOST:PORT, or mqtts:// with TLS
    #[arg(long, value_name = "URL")]
    pub mqtt: Option<String>,
    /// First levels of the topics, PREFIX/STUDY/stage [default: sfm]
    #[arg(long, value_name = "PREFIX")]
    pub mqtt_prefix: Option<String>,
    /// File of two lines, user and password
    #[arg(long, value_name = "FILE")]
    pub mqtt_login: Option<PathBuf>,
    /// NATS server with JetStream for the same: nats://HOST:PORT, or tls:// with TLS
    #[arg(long, value_name = "URL")]
    pub nats: Option<String>,
    /// First levels of the subjects, PREFIX.STUDY.stage [default: sfm]
    #[arg(long, value_name = "PREFIX")]
    pub nats_prefix: Option<String>,
    /// File of two lines, user and password, or a .creds file
    #[arg(long, value_name = "FILE")]
    pub nats_login: Option<PathBuf>,
    /// Send the signals to NATS too, 5 s a message
    #[arg(long)]
    pub publish_frames: bool,
    /// Authorities that TLS trusts instead of the system's, PEM
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Stages as a stream of Lab Streaming Layer
    #[arg(long, value_name = "NAME")]
    pub lsl_outlet: Option<String>,
}

impl PublishArgs {
    /// These arguments, completed from a configuration file's.
    pub fn or(&self, file: Self) -> Self {
        Self {
            mqtt: self.mqtt.clone().or(file.mqtt),
            mqtt_prefix: self.mqtt_prefix.clone().or(file.mqtt_prefix),
            mqtt_login: self.mqtt_login.clone().or(file.mqtt_login),
            nats: self.nats.clone().or(file.nats),
            nats_prefix: self.nats_prefix.clone().or(file.nats_prefix),
            nats_login: self.nats_login.clone().or(file.nats_login),
            publish_frames: self.publish_frames || file.publish_frames,
            ca_file: self.ca_file.clone().or(file.ca_file),
            lsl_outlet: self.lsl_outlet.clone().or(file.lsl_outlet),
        }
    }

    /// What is wrong with these arguments, before anything runs.
    ///
    /// # Errors
    /// One sentence with the argument and the reason.
    pub fn check(&self) -> Result<(), String> {
        self.broker("")?;
        self.server("")?;
        if self.publish_frames && self.nats.is_none() {
            return Err("--publish-frames goes to a NATS server; give one with --nats".to_owned());
        }
        Ok(())
    }

    /// What the user should know, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let addresses = [(&self.mqtt, MQTT), (&self.nats, NATS)]
            .into_iter()
            .filter_map(|(url, schemes)| Address::parse(url.as_ref()?, schemes).ok()?.warning());
        addresses.collect()
    }

    /// The sinks these arguments ask for.
    ///
    /// # Errors
    /// One sentence with the file and the reason.
    pub fn sinks(&self, place: &Place<'_>) -> Result<Vec<Box<dyn Sink>>, SinkError> {
        let beginning = place.resumed.map_or(Beginning::Anew, |_| Beginning::GoOn);
        // A live session lies in its own folder, and is gone on with there.
        let may_go_on = place.recording.starts_with(place.out_dir);
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        if let Some(target) = self.broker(place.study).map_err(SinkError)? {
            let pulse = Pulse::new(target.topics.of(HEALTH), place.health.cloned());
            let sink = target.mqtt(place.out_dir, beginning, Some(pulse))?;
            sinks.push(Box::new(sink.that_may_go_on(may_go_on)));
        }
        if let Some(target) = self.server(place.study).map_err(SinkError)? {
            let topics = target.topics.clone();
            let frames = self.publish_frames.then(Arc::<Frames>::default);
            let pulse = Pulse::new(target.topics.of(HEALTH), place.health.cloned());
            let sink = target.nats(place.out_dir, beginning, Some(pulse), frames.clone())?;
            if let Some(frames) = frames {
                sinks.push(Box::new(FrameSink::new(sink.name(), &topics, frames, sink.shared())));
            }
            sinks.push(Box::new(sink.that_may_go_on(may_go_on)));
        }
        if let Some(name) = &self.lsl_outlet {
            sinks.push(Box::new(LslSink::open(name, place.study)?));
        }
        Ok(sinks)
    }

    /// Whether they look at the signals themselves.
    pub fn want_signals(&self) -> bool {
        self.publish_frames
    }

    /// Delivers what runs left in the outboxes of `dir`, until nothing waits or `stop` is set.
    /// Returns the number of messages.
    ///
    /// # Errors
    /// One sentence: there is no outbox, or something is left.
    pub fn deliver(&self, dir: &Path, stop: &AtomicBool) -> Result<u64, String> {
        self.check()?;
        let broker = self.broker("")?.map(|target| (MQTT_OUTBOX, target));
        let server = self.server("")?.map(|target| (NATS_OUTBOX, target));
        let may_go_on = dir.join(session_folder::SESSION).exists();
        let mut delivered = 0;
        for (name, target) in broker.into_iter().chain(server) {
            if !dir.join(name).exists() {
                return Err(format!("{}: holds no {name}; all was delivered", dir.display()));
            }
            let sink = match name {
                MQTT_OUTBOX => target.mqtt(dir, Beginning::GoOn, None),
                _ => target.nats(dir, Beginning::GoOn, None, None),
            };
            let sink = sink.map_err(|e| e.to_string())?;
            delivered += all_of(sink.that_may_go_on(may_go_on), stop)?;
        }
        Ok(delivered)
    }

    fn broker(&self, study: &str) -> Result<Option<Target>, String> {
        let Some(url) = &self.mqtt else { return Ok(None) };
        let prefix = self.mqtt_prefix.as_deref().unwrap_or(PREFIX);
        let target = Target {
            address: Address::parse(url, MQTT)?,
            topics: Topics::new(prefix, study, Separator::Slash)
                .map_err(|reason| format!("--mqtt-prefix {reason}"))?,
            prefix: prefix.to_owned(),
            login: self.mqtt_login.as_deref().map(Login::read).transpose()?,
            tls: None,
        };
        match target.login {
            Some(Login::Credentials(_)) => {
                Err("--mqtt-login: a .creds file is for NATS; give user and password".to_owned())
            }
            _ => target.with_tls(self.ca_file.as_deref()).map(Some),
        }
    }

    fn server(&self, study: &str) -> Result<Option<Target>, String> {
        let Some(url) = &self.nats else { return Ok(None) };
        let prefix = self.nats_prefix.as_deref().unwrap_or(PREFIX);
        let target = Target {
            address: Address::parse(url, NATS)?,
            topics: Topics::new(prefix, study, Separator::Dot)
                .map_err(|reason| format!("--nats-prefix {reason}"))?,
            prefix: prefix.to_owned(),
            login: self.nats_login.as_deref().map(Login::read).transpose()?,
            tls: None,
        };
        target.with_tls(self.ca_file.as_deref()).map(Some)
    }
}

/// A server, and what is said to it under which names.
struct Target {
    address: Address,
    prefix: String,
    topics: Topics,
    login: Option<Login>,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    fn with_tls(mut self, ca_file: Option<&Path>) -> Result<Self, String> {
        if self.address.tls {
            self.tls = Some(server::tls(ca_file)?);
        }
        Ok(self)
    }

    /// Delivers the outbox in `dir` to a broker, and the `pulse` of a session that runs.
    fn mqtt(
        self,
        dir: &Path,
        is: Beginning,
        health: Option<Pulse>,
    ) -> Result<MessageSink, SinkError> {
        let Self { address, topics, login, tls, .. } = self;
        let name = address.to_string();
        MessageSink::start(&dir.join(MQTT_OUTBOX), is, topics, name, move |shared| {
            let client_id = format!("sfm{}", shared.outbox().session());
            mqtt::deliver(Broker { address, login, tls, client_id, health }, shared)
        })
    }

    /// The same to a NATS server, and `frames` beside it.
    fn nats(
        self,
        dir: &Path,
        is: Beginning,
        health: Option<Pulse>,
        frames: Option<Arc<Frames>>,
    ) -> Result<MessageSink, SinkError> {
        let Self { address, prefix, topics, login, tls } = self;
        let name = address.to_string();
        MessageSink::start(&dir.join(NATS_OUTBOX), is, topics, name, move |shared| {
            nats::deliver(Server { address, login, tls, prefix, health }, frames, shared)
        })
    }
}

/// Waits until `sink` has delivered all, or `stop` is set. Returns the number of messages.
fn all_of(mut sink: MessageSink, stop: &AtomicBool) -> Result<u64, String> {
    let shared = sink.shared();
    let waiting = shared.outbox().waiting();
    while shared.outbox().waiting() > 0 && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
    sink.conclude(Duration::ZERO).map(|()| waiting).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_checked_before_anything_runs() {
        let of = |mqtt: &str, nats: Option<&str>| PublishArgs {
            mqtt: Some(mqtt.into()),
            nats: nats.map(str::to_owned),
            ..PublishArgs::default()
        };
        assert_eq!(of("mqtt://localhost", None).check(), Ok(()));
        assert!(of("localhost", None).check().is_err());
        assert!(of("mqtt://a", Some("http://b")).check().is_err());
        let frames = PublishArgs { publish_frames: true, ..of("mqtt://a", None) };
        assert!(frames.check().expect_err("refused").contains("--nats"));
        let prefix = PublishArgs { mqtt_prefix: Some("a/#".into()), ..of("mqtt://a", None) };
        assert!(prefix.check().expect_err("refused").contains("--mqtt-prefix"));
        assert_eq!(of("mqtt://localhost", Some("nats://192.0.2.7")).warnings().len(), 1);
    }

    /// Nobody listens at the port: the run ends soon, and its messages wait for another one.
    #[test]
    fn without_a_server_everything_waits() {
        let dir = tempfile::tempdir().expect("a folder");
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = closed.local_addr().expect("an address").port();
        drop(closed);
        let args = PublishArgs {
            mqtt: Some(format!("mqtt://127.0.0.1:{port}")),
            nats: Some(format!("nats://127.0.0.1:{port}")),
            ..PublishArgs::default()
        };
        let place = Place {
            out_dir: dir.path(),
            study: "a night",
            recording: Path::new("a night.edf"),
            labels: &[],
            quantiles: None,
            resumed: None,
            health: None,
        };
        for run in 1..=2 {
            let began = std::time::Instant::now();
            for mut sink in args.sinks(&place).expect("sinks") {
                sink.take(&crate::event::Event::Warning { message: "x".into() }).expect("taken");
                let told = sink.finish().expect_err("not delivered").to_string();
                assert!(told.contains(&format!("{run} messages wait in")), "{told}");
                assert!(told.contains("sfm-stream deliver") && !told.contains('\n'), "{told}");
            }
            assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        }
    }
}
