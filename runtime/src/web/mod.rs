//! The live page (`--web`): every bed of the process in a browser, as the night happens. It owns the
//! thread `web` and its port; runs tell it through a [`Room`] and never wait for it. It refuses an
//! address that other machines can reach unless the user said so and set a token.

mod access;
mod page;
mod room;
mod rooms;
mod server;
mod session;
mod signals;
mod sink;
mod state;
mod stream;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use self::access::Access;
pub use self::room::{Origin, Room};
pub use self::rooms::{Occupied, Rooms};
use self::server::Served;
pub use self::sink::WebSink;
use crate::health::Beds;
use crate::service::bind::{self, RemoteAccess};
use crate::service::connection;
use crate::service::guesses::Guesses;

/// Where the page is without an address.
const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Time between two looks at how the beds are.
const LOOK: Duration = Duration::from_secs(2);
/// How long browsers have to take the last message.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Arguments.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct WebArgs {
    /// Serve the live page [address without ADDR: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "127.0.0.1:8080")]
    pub web: Option<SocketAddr>,
}

impl WebArgs {
    /// These arguments, completed from a configuration file's.
    pub fn or(&self, file: Self) -> Self {
        Self { web: self.web.or(file.web) }
    }
}

impl<'de> Deserialize<'de> for WebArgs {
    /// In a file: `web = "ADDR"`, or `true` for the usual address.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "use web = \"127.0.0.1:8080\", or true")]
        enum Value {
            Wanted(bool),
            At(SocketAddr),
        }
        let web = match Value::deserialize(from)? {
            Value::At(address) => Some(address),
            Value::Wanted(wanted) => wanted.then_some(DEFAULT),
        };
        Ok(Self { web })
    }
}

/// The page's server. Dropping it tells the browsers and ends it.
pub struct Web {
    rooms: Arc<Rooms>,
    address: SocketAddr,
    over: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// Opens the port and begins to answer; `None` if no page is wanted. `beds` knows how live
    /// sessions are.
    ///
    /// # Errors
    /// One sentence: what of the configuration cannot be used. For exit code 2.
    pub fn start(
        args: &WebArgs,
        access: impl FnOnce() -> Result<RemoteAccess, String>,
        beds: Option<Arc<Beds>>,
    ) -> Result<Option<Self>, String> {
        let Some(wanted) = args.web else { return Ok(None) };
        let access = access()?;
        bind::allowed_http(wanted, &access)?;
        let refuse = |e: std::io::Error| format!("the live page's thread cannot start: {e}");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refuse)?;
        let listener = connection::listen(wanted, "the live page")?;
        let address = listener.local_addr().map_err(refuse)?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener).map_err(refuse)?
        };
        let rooms = Arc::new(Rooms::default());
        let (over, is_over) = watch::channel(false);
        let served = Served {
            rooms: rooms.clone(),
            access: Access::new(address, access.token),
            guesses: Guesses::new("the live page"),
            over: is_over,
        };
        let run = move || run(&runtime, listener, Arc::new(served), beds);
        let thread = std::thread::Builder::new().name("web".to_owned()).spawn(run);
        Ok(Some(Self { rooms, address, over, thread: Some(thread.map_err(refuse)?) }))
    }

    /// The beds, for runs that begin.
    pub fn rooms(&self) -> Arc<Rooms> {
        self.rooms.clone()
    }

    /// Where the page is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// One line for the user; a second one where others can listen in.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("live page at http://{}/", self.address)];
        if !bind::is_loopback(self.address) {
            lines.push(
                "warning: the live page is not encrypted; a proxy with TLS before it is".to_owned(),
            );
        }
        lines
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.rooms.all().iter().for_each(|room| room.end("the program ended"));
        self.over.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing left to do about it.
            let _ = thread.join();
        }
    }
}

fn run(runtime: &Runtime, listener: TcpListener, served: Arc<Served>, beds: Option<Arc<Beds>>) {
    runtime.block_on(async {
        let (rooms, mut over) = (served.rooms.clone(), served.over.clone());
        let serve = tokio::spawn(server::serve(listener, served));
        if let Some(beds) = beds {
            tokio::spawn(look_after(beds, rooms));
        }
        // An error says that the owner is gone, which is the end too.
        let _ = over.wait_for(|over| *over).await;
        let _ = tokio::time::timeout(LAST_WORDS, serve).await;
    });
}

async fn look_after(beds: Arc<Beds>, rooms: Arc<Rooms>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        rooms.health(beds.report());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        web: WebArgs,
        #[arg(long)]
        other: bool,
    }

    fn line(args: &[&str]) -> WebArgs {
        let args = ["sfm-stream"].iter().chain(args);
        <Line as clap::Parser>::try_parse_from(args).expect("parses").web
    }

    #[test]
    fn the_address_may_be_left_out() {
        assert_eq!(line(&[]).web, None);
        assert_eq!(line(&["--web", "--other"]).web, Some(DEFAULT));
        assert_eq!(line(&["--web", "[::1]:9"]).web, "[::1]:9".parse().ok());
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        struct File {
            web: WebArgs,
        }
        let file = |text: &str| toml::from_str::<File>(text).map(|file| file.web.web);
        assert_eq!(file("web = true"), Ok(Some(DEFAULT)));
        assert_eq!(file("web = false"), Ok(None));
        assert_eq!(file("web = '[::1]:9'"), Ok("[::1]:9".parse().ok()));
        assert_eq!(file(""), Ok(None));
        let refused = file("web = 'localhost'").expect_err("refused").to_string();
        assert!(refused.contains("127.0.0.1:8080"), "{refused}");
        let given = line(&["--web", "[::1]:9"]).or(WebArgs { web: Some(DEFAULT) });
        assert_eq!(given.web, "[::1]:9".parse().ok());
    }

    #[test]
    fn what_cannot_be_served_is_one_line() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken = other.local_addr().expect("its address");
        let start = |address: &str, listen_remote| {
            let args = WebArgs { web: address.parse().ok() };
            let access = || Ok(RemoteAccess { listen_remote, token: None });
            Web::start(&args, access, None).err().expect("refused")
        };
        for (address, listen_remote, reason) in [
            ("0.0.0.0:0", false, "--listen-remote"),
            ("0.0.0.0:0", true, "--token-file"),
            (&taken.to_string(), false, "in use"),
        ] {
            let message = start(address, listen_remote);
            assert!(message.contains(reason) && !message.contains('\n'), "{message}");
        }
    }
}
