//! What is told of an epoch's signals before the epoch itself: bad channels, and modalities that
//! were lost or are back.

use sfm_models::Modality;

use crate::event::{EpochQuality, Event, ModalityChange, Pass};
use crate::intake::Intake;
use sfm_models::EPOCH_S;

/// Watches the signals of one pass.
pub(super) struct Watch {
    pass: Pass,
    lost: [bool; Modality::COUNT],
    /// Epochs of which nothing of a modality was present.
    lost_epochs: [usize; Modality::COUNT],
}

impl Watch {
    pub(super) fn new(pass: Pass) -> Self {
        Self { pass, lost: [false; Modality::COUNT], lost_epochs: [0; Modality::COUNT] }
    }

    /// Epochs so far of which nothing of a modality with channels was present.
    pub(super) fn lost_epochs(&self, modality: Modality) -> usize {
        self.lost_epochs[modality.index()]
    }

    /// Tells what is to be told of epoch `epoch`, of which `part` (0 to 1) is in the recording, to
    /// `emit`; `modalities` are those with channels, and whether any patch of the epoch is present.
    /// Returns the part of the present signal that is sound.
    pub(super) fn epoch(
        &mut self,
        epoch: u32,
        part: f64,
        modalities: impl Iterator<Item = (Modality, bool)>,
        intake: &mut Intake,
        emit: &mut dyn FnMut(Event),
    ) -> f32 {
        let pass = self.pass;
        for (modality, present) in modalities {
            self.lost_epochs[modality.index()] += usize::from(!present);
            let lost = &mut self.lost[modality.index()];
            // The end of a recording is no loss: channels end a sample or a patch apart.
            if *lost != present || (!present && part < 1.0) {
                continue;
            }
            *lost = !present;
            let onset_s = f64::from(epoch) * EPOCH_S;
            emit(Event::Modality(ModalityChange { pass, modality, present, epoch, onset_s }));
        }
        let (channels, sound) = intake.take_quality(epoch, part);
        if !channels.is_empty() {
            emit(Event::Quality(Box::new(EpochQuality { pass, epoch, sound, channels })));
        }
        sound
    }
}
