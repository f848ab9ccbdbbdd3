//! An LSL stream of sleep stages, `--lsl-outlet`: one sample an epoch of the live pass, the first
//! word on it (provisional; settled where the provisional one was skipped), in the order of the
//! night. What is known better later is in the files and messages: a stream cannot take back.

use sfm_models::SleepStage;

use crate::event::{Event, Pass, SleepEpoch};
use crate::link::lsl::outlet::{Outlet, OutletChannel};
use crate::sink::{Sink, SinkError};

/// The stream's channels and their units.
const CHANNELS: [OutletChannel; 8] = [
    OutletChannel { label: "stage", unit: "0 Wake, 1 N1, 2 N2, 3 N3, 4 REM, -1 unknown" },
    OutletChannel { label: "p_wake", unit: "probability" },
    OutletChannel { label: "p_n1", unit: "probability" },
    OutletChannel { label: "p_n2", unit: "probability" },
    OutletChannel { label: "p_n3", unit: "probability" },
    OutletChannel { label: "p_rem", unit: "probability" },
    OutletChannel { label: "confidence", unit: "0 to 1, no probability" },
    OutletChannel { label: "epoch", unit: "30-s epochs from the start of the recording" },
];

/// Sends samples to whoever has subscribed.
pub struct LslSink {
    name: String,
    outlet: Outlet,
    /// The first epoch nothing was said of.
    next: u32,
}

impl LslSink {
    /// Announces the stream on the network. `study` tells it from other beds'.
    ///
    /// # Errors
    /// One sentence: liblsl is not there, or refuses.
    pub fn open(name: &str, study: &str) -> Result<Self, SinkError> {
        let source = format!("sfm-stream {}", super::topic::level(study));
        let outlet = Outlet::open(name, "Stage", &source, &CHANNELS).map_err(|reason| {
            SinkError(format!("--lsl-outlet {}: {reason}", name.escape_debug()))
        })?;
        Ok(Self { name: format!("LSL stream {}", name.escape_debug()), outlet, next: 0 })
    }
}

impl Sink for LslSink {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn is_output(&self) -> bool {
        false
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        if let Event::Epoch(epoch) = event
            && epoch.pass == Pass::Live
            && epoch.epoch >= self.next
        {
            self.next = epoch.epoch + 1;
            self.outlet.push(&sample(epoch));
        }
        Ok(())
    }

    /// What was said before a restart was said.
    fn restore(&mut self, event: &Event) -> Result<(), SinkError> {
        if let Event::Epoch(epoch) = event {
            self.next = self.next.max(epoch.epoch + 1);
        }
        Ok(())
    }
}

fn sample(epoch: &SleepEpoch) -> [f32; CHANNELS.len()] {
    let code = epoch.stage.map_or(-1.0, |stage: SleepStage| stage.index() as f32);
    let [wake, n1, n2, n3, rem] = epoch.probabilities;
    [code, wake, n1, n2, n3, rem, epoch.confidence, epoch.epoch as f32]
}
