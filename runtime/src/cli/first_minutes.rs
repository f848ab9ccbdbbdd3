//! How good the signals of a recording are in its first minutes: what decides between channels that are
//! equal otherwise. Reads the recording from its start, and leaves it there.

use sfm_models::manifest::Preprocessing;

use crate::montage::Montage;
use crate::quality::{MaskRule, PieceMeter};
use crate::signal::SampleBlock;
use crate::source::{Recording, Source, SourceError};

/// How much is looked at, seconds.
const LOOK_AT_S: f64 = 300.0;

/// One channel as far as it was read.
struct Looked {
    meter: PieceMeter,
    piece_slots: f64,
    /// Samples in each piece.
    received: Vec<u64>,
}

/// The part of the first five minutes in which each recorded channel that `montage` uses is neither
/// missing nor bad, 0 to 1; `None` of the others.
///
/// # Errors
/// The recording breaks off.
pub(super) fn good_parts(
    recording: &mut Recording,
    montage: &Montage,
    preprocessing: &Preprocessing,
) -> Result<Vec<Option<f32>>, SourceError> {
    let info = recording.info().clone();
    let patch_s = preprocessing.patch_samples as f64 / f64::from(preprocessing.rate_hz);
    let most_s = info.duration_s.unwrap_or(LOOK_AT_S).min(LOOK_AT_S);
    let pieces = (most_s / patch_s).floor() as usize;
    let mut looked: Vec<Option<Looked>> = montage.decisions[..montage.recorded()]
        .iter()
        .map(|decision| {
            let modality = decision.modality.or(decision.electrode_of)?;
            let signal = &info.signals[decision.channel];
            let meter = PieceMeter::new(signal, modality, preprocessing, MaskRule::Bad);
            let piece_slots = signal.rate_hz * patch_s;
            Some(Looked { meter, piece_slots, received: vec![0; pieces] })
        })
        .collect();
    recording.select(&montage.to_read());
    let mut block = SampleBlock::default();
    while recording.next_block(&mut block)? {
        let start_s = block.start as f64 / info.signals[block.channel].rate_hz;
        if start_s >= most_s {
            break;
        }
        if let Some(Some(channel)) = looked.get_mut(block.channel) {
            channel.take(&block);
        }
    }
    let all: Vec<usize> = (0..info.signals.len()).collect();
    recording.select(&all);
    Ok(looked.into_iter().map(|channel| Some(channel?.good_part())).collect())
}

impl Looked {
    fn take(&mut self, block: &SampleBlock) {
        self.meter.take(block.start, &block.samples);
        for slot in block.start..block.start + block.samples.len() as u64 {
            let piece = (slot as f64 / self.piece_slots) as usize;
            if let Some(received) = self.received.get_mut(piece) {
                *received += 1;
            }
        }
    }

    fn good_part(mut self) -> f32 {
        let is_good = |(index, received): (usize, &u64)| {
            !self.meter.is_bad(index as u64) && 2.0 * *received as f64 >= self.piece_slots
        };
        let good = self.received.iter().enumerate().map(is_good).filter(|good| *good).count();
        good as f32 / self.received.len().max(1) as f32
    }
}
