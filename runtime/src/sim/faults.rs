//! What happens to single frames on the way. A frame's fate is drawn from the seed and from what the
//! frame is (device, session, channel, counter, attempt), never from when it is sent: the same
//! samples are lost however a run is paced.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sfm_firmware_bridge::{Decoder, FromDevice, MAX_FRAME_BYTES};

use super::SimError;

/// A frame that is held back arrives this much later at most, seconds of true time.
pub const MAX_REORDER_S: f64 = 0.4;
const MIN_REORDER_S: f64 = 0.1;
/// Bits that one corruption flips at most.
const MAX_FLIPPED_BITS: u32 = 4;

/// Probabilities for each samples frame, and jitter of all frames. The first and the last block of a
/// channel in a session are exempt from all but jitter.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// Frames are delayed by 0 to so many seconds and keep their order.
    pub jitter_s: f64,
    /// A frame does not arrive at all.
    pub loss: f64,
    /// A frame arrives twice.
    pub duplicate: f64,
    /// A frame is held back 0.1 s to [`MAX_REORDER_S`], past those behind it.
    pub reorder: f64,
    /// Bits of a frame (each copy on its own) are flipped; no zero byte comes or goes, so it stays
    /// one frame, which the host's check sums refuse.
    pub corrupt: f64,
}

impl Faults {
    pub(super) fn check(&self) -> Result<(), SimError> {
        let probabilities = [self.loss, self.duplicate, self.reorder, self.corrupt];
        if probabilities.iter().any(|p| !(0.0..=1.0).contains(p)) {
            return Err(SimError::Spec("probabilities are from 0 to 1".into()));
        }
        if !(0.0..=10.0).contains(&self.jitter_s) {
            return Err(SimError::Spec("jitter is from 0 to 10000 ms".into()));
        }
        Ok(())
    }

    /// The fate of the frame that `key` names.
    pub(super) fn fate(&self, base: &ChaCha8Rng, key: &[u64]) -> Fate {
        let mut rng = base.clone();
        rng.set_stream(mixed(key));
        let jitter_s = self.jitter_s * rng.random::<f64>();
        let lost = rng.random::<f64>() < self.loss;
        let twice = rng.random::<f64>() < self.duplicate;
        let held = rng.random::<f64>() < self.reorder;
        let held_s = if held { rng.random_range(MIN_REORDER_S..MAX_REORDER_S) } else { 0.0 };
        let corrupted = [(); 2].map(|()| rng.random::<f64>() < self.corrupt);
        let copies = match (lost, twice) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        Fate { jitter_s, copies, held_s, corrupted, rng }
    }
}

/// What becomes of one frame.
#[derive(Debug)]
pub(super) struct Fate {
    pub jitter_s: f64,
    /// 0: lost.
    pub copies: usize,
    /// How long it is held back, seconds.
    pub held_s: f64,
    /// Which copies are corrupted.
    pub corrupted: [bool; 2],
    rng: ChaCha8Rng,
}

impl Fate {
    /// Flips bits of a frame (its zero byte at the end included in `frame`) until it is refused.
    pub fn corrupt(&mut self, frame: &mut [u8]) {
        let Some((_end, body)) = frame.split_last_mut() else { return };
        loop {
            let wanted = self.rng.random_range(1..=MAX_FLIPPED_BITS);
            for _ in 0..wanted {
                let (place, bit) =
                    (self.rng.random_range(0..body.len()), self.rng.random_range(0..8));
                let flipped = body[place] ^ (1 << bit);
                if flipped != 0 {
                    body[place] = flipped;
                }
            }
            if is_refused(body) {
                return;
            }
        }
    }
}

/// The bytes of a frame without its zero byte hold no message.
fn is_refused(body: &[u8]) -> bool {
    let mut buffer = [0; MAX_FRAME_BYTES];
    let mut decoder = Decoder::new(&mut buffer);
    let (mut body, mut end): (&[u8], &[u8]) = (body, &[0]);
    decoder.push::<FromDevice>(&mut body).is_none()
        && matches!(decoder.push::<FromDevice>(&mut end), Some(Err(_)))
}

/// The generator that fates are drawn from.
pub(super) fn generator(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// One number of several, each bit depending on all of them (the finalizer of SplitMix64).
pub(super) fn mixed(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |hash, &part| {
        let z = (hash ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}
