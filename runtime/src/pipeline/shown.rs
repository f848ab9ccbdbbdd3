//! Signals for pictures: each patch once, as soon as every channel has it.

use crate::event::Event;
use crate::intake::Intake;

/// How far signals have been shown.
pub(super) struct Shown {
    wanted: bool,
    next: u64,
    /// Patches below this were emitted before a restart.
    known: u64,
}

impl Shown {
    pub(super) fn new(wanted: bool, known: u64) -> Self {
        Self { wanted, next: 0, known }
    }

    /// Emits what is ready and was not yet shown; comes before the patches are taken. Tells `emit`
    /// whether the patch was emitted before a restart.
    pub(super) fn show(&mut self, intake: &Intake, emit: &mut dyn FnMut(Event, bool)) {
        while self.wanted && self.next < intake.ready_patches() {
            let signals = Event::Signals(Box::new(intake.signals(self.next)));
            emit(signals, self.next < self.known);
            self.next += 1;
        }
    }
}
