//! One link's bytes to messages, with an eye on whether a sensor is at the other end. Frames that
//! are damaged are counted; who sends nothing else, or no hello, is shown the door.

use sfm_firmware_bridge::{Decoder, FrameError, FromDevice, MAX_FRAME_BYTES};

use super::clock::HostSeconds;
use super::ledger::FrameLedger;
use super::types::Violation;

/// Hellos within [`HELLO_WINDOW_S`]: devices that cannot listen send one every 10 s.
const MAX_HELLOS: u32 = 50;
const HELLO_WINDOW_S: f64 = 10.0;
/// A link that has no device behind it by now is closed, real seconds.
const HELLO_WITHIN_S: f64 = 30.0;
/// Bytes without a good frame.
const MAX_GARBAGE: u64 = 256 << 10;

/// The receiving end of a link.
#[derive(Debug)]
pub struct Port {
    /// What kind of link and where, for people.
    pub name: String,
    buffer: Vec<u8>,
    /// Bytes of an open frame, kept between calls.
    open: Vec<u8>,
    opened_s: HostSeconds,
    /// The device that said hello here and is used.
    pub device: Option<u64>,
    /// The device that last said hello here.
    pub said_hello: Option<u64>,
    hellos: u32,
    hello_window_s: HostSeconds,
    garbage: u64,
    /// Frames so far.
    pub frames: FrameLedger,
    logged_rejected: u64,
}

impl Port {
    /// A link that was opened at `now_s`.
    pub fn new(name: String, now_s: HostSeconds) -> Self {
        Self {
            name,
            buffer: vec![0; MAX_FRAME_BYTES],
            open: Vec::new(),
            opened_s: now_s,
            device: None,
            said_hello: None,
            hellos: 0,
            hello_window_s: now_s,
            garbage: 0,
            frames: FrameLedger::default(),
            logged_rejected: 0,
        }
    }

    /// Takes bytes as they came; `message` gets every message in them.
    ///
    /// # Errors
    /// [`Violation`], of this link or of `message`: it is to be closed.
    pub fn bytes(
        &mut self,
        bytes: &[u8],
        now_s: HostSeconds,
        mut message: impl FnMut(&mut Option<u64>, &FromDevice<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        // The decoder borrows its buffer and lives for one call: what a frame has so far is fed
        // again. A frame has 1,024 bytes at most, so this is bounded.
        let whole = bytes.iter().rposition(|&b| b == 0).map_or(0, |last| last + 1);
        let (complete, rest) = bytes.split_at(whole);
        self.garbage += bytes.len() as u64;
        if !complete.is_empty() {
            let open = std::mem::take(&mut self.open);
            let mut decoder = Decoder::new(&mut self.buffer);
            for mut piece in [open.as_slice(), complete] {
                while let Some(frame) = decoder.push::<FromDevice<'_>>(&mut piece) {
                    match frame {
                        Ok(decoded) => {
                            self.frames.received += 1;
                            self.garbage = 0;
                            if let FromDevice::Hello(hello) = &decoded {
                                self.said_hello = Some(hello.device);
                                count_hello(&mut self.hellos, &mut self.hello_window_s, now_s)?;
                            }
                            message(&mut self.device, &decoded)?;
                        }
                        Err(FrameError::Message) => self.frames.foreign += 1,
                        Err(_) => self.frames.rejected += 1,
                    }
                }
            }
        }
        // Too long for a frame whatever follows: kept at that length, to be refused as such.
        let room = (MAX_FRAME_BYTES + 1).saturating_sub(self.open.len());
        self.open.extend_from_slice(rest.get(..room.min(rest.len())).unwrap_or_default());
        if self.garbage > MAX_GARBAGE {
            return Err(Violation(format!("sent {MAX_GARBAGE} bytes without a good frame")));
        }
        Ok(())
    }

    /// Whether no device has shown itself in time.
    pub fn is_overdue(&self, now_s: HostSeconds, speed: f64) -> bool {
        self.device.is_none() && (now_s - self.opened_s) / speed.max(1.0) > HELLO_WITHIN_S
    }

    /// It was not listened to for so long.
    pub fn forgive(&mut self, stall_s: f64) {
        self.opened_s += stall_s;
    }

    /// Rejected frames so far, if there are new ones since this was last asked.
    pub fn newly_rejected(&mut self) -> Option<u64> {
        let rejected = self.frames.rejected + self.frames.foreign;
        let is_new = rejected > self.logged_rejected;
        self.logged_rejected = rejected;
        is_new.then_some(rejected)
    }
}

fn count_hello(
    hellos: &mut u32,
    window_s: &mut HostSeconds,
    now_s: HostSeconds,
) -> Result<(), Violation> {
    if now_s - *window_s > HELLO_WINDOW_S {
        (*hellos, *window_s) = (0, now_s);
    }
    *hellos += 1;
    if *hellos > MAX_HELLOS {
        return Err(Violation(format!("said hello {MAX_HELLOS} times in {HELLO_WINDOW_S} s")));
    }
    Ok(())
}
