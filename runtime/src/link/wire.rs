//! What links tell the hub, and how the bytes of a stream get there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::budget::{Bucket, Rate};
use super::refusals::Refusals;
use super::standing::{Rank, Standing};
use super::types::LinkId;

/// Pause before the second try; later ones are longer.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;
/// Messages to a device that does not take them, at most; further ones are dropped.
pub(super) const SEND_QUEUE: usize = 256;
/// Reads of a connection that has not said hello yet, at a speed of 1; then it has to wait, so that
/// those who have are served first.
const STRANGER_READS: Rate = Rate { per_s: 100.0, burst: 200.0 };
const STRANGER_PAUSE: Duration = Duration::from_millis(20);
/// A sensor that takes no message for this long gets no further ones.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// A link that is there.
#[derive(Debug)]
pub struct NewLink {
    /// Its number.
    pub link: LinkId,
    /// Its name.
    pub name: String,
    /// Takes bytes for the other end.
    pub sender: mpsc::Sender<Vec<u8>>,
    /// What its transport is to know of the other end.
    pub standing: Standing,
    /// It was made from here, as the user wanted: its absence is worth a remark.
    pub is_configured: bool,
}

/// What links tell.
#[derive(Debug)]
pub enum Wire {
    /// A link is there.
    Up(NewLink),
    /// Bytes came.
    Bytes(LinkId, Vec<u8>),
    /// A link is gone.
    Down(LinkId, String),
    /// An endpoint cannot be opened now; it is tried again.
    Waiting(String, String),
}

/// Takes what links tell; a full queue makes TCP's flow control work.
#[derive(Clone)]
pub struct Wires {
    /// To the hub.
    pub queue: mpsc::Sender<Wire>,
    /// What is refused before the hub hears of it.
    pub refusals: Arc<Refusals>,
    /// Multiple of real time that sensors run at.
    pub speed: f64,
}

impl Wires {
    /// Tells the hub.
    ///
    /// # Errors
    /// The hub is gone.
    pub async fn send(&self, wire: Wire) -> Result<(), mpsc::error::SendError<Wire>> {
        self.queue.send(wire).await
    }

    /// Whether the hub is gone.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

static LINKS: AtomicU64 = AtomicU64::new(1);

pub(super) fn next_link() -> LinkId {
    LINKS.fetch_add(1, Ordering::Relaxed)
}

/// A stream that is a link.
pub(super) struct Stream<S> {
    /// Moves its bytes.
    pub stream: S,
    /// Its number.
    pub link: LinkId,
    /// Its name.
    pub name: String,
    /// What the hub knows of the other end.
    pub standing: Standing,
    /// As in [`NewLink`].
    pub is_configured: bool,
}

/// Carries a stream's bytes until either side closes it, or `displaced` ends.
pub(super) async fn carry<S: AsyncRead + AsyncWrite + Send>(
    stream: Stream<S>,
    wires: &Wires,
    displaced: impl Future<Output = ()>,
) {
    let Stream { stream, link, name, standing, is_configured } = stream;
    let (sender, mut to_send) = mpsc::channel(SEND_QUEUE);
    let seen = standing.clone();
    let up = NewLink { link, name, sender, standing, is_configured };
    if wires.send(Wire::Up(up)).await.is_err() {
        return;
    }
    let speed = wires.speed.max(1.0);
    let rate = Rate { per_s: speed * STRANGER_READS.per_s, burst: speed * STRANGER_READS.burst };
    let mut budget = Bucket::new(&rate, Instant::now());
    let (mut input, mut output) = tokio::io::split(stream);
    let mut buffer = vec![0; READ_BYTES];
    // Beside the reading: a sensor that never takes a message is still listened to.
    let write = async {
        while let Some(bytes) = to_send.recv().await {
            match tokio::time::timeout(TAKEN_WITHIN, output.write_all(&bytes)).await {
                Ok(written) => written?,
                // It never listens; what is left to do here is to notice that the link is closed.
                Err(_) => while to_send.recv().await.is_some() {},
            }
        }
        Ok::<(), std::io::Error>(())
    };
    tokio::pin!(write, displaced);
    let reason = loop {
        tokio::select! {
            read = input.read(&mut buffer) => match read {
                Ok(0) => break "closed by the other end".to_owned(),
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                    if wires.send(Wire::Bytes(link, bytes)).await.is_err() {
                        return;
                    }
                    let is_stranger = !is_configured && seen.rank() == Rank::Stranger;
                    if is_stranger && !budget.take(&rate, Instant::now()) {
                        tokio::time::sleep(STRANGER_PAUSE).await;
                    }
                }
                Err(e) => break e.to_string(),
            },
            written = &mut write => break match written {
                Ok(()) => "closed here".to_owned(),
                Err(e) => e.to_string(),
            },
            () = &mut displaced => break "closed here for a newer one".to_owned(),
        }
    };
    let _ = wires.send(Wire::Down(link, reason)).await;
}
