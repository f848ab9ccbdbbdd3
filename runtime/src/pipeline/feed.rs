//! The source's thread: blocks from the source into the rings, at its own pace, at a multiple of
//! real time, or as fast as the pipeline takes them.

use std::time::{Duration, Instant};

use super::{Network, PipelineError};
use crate::event::Pass;
use crate::intake::Intake;
use crate::montage::Montage;
use crate::ring::{RingWriter, WhenFull, rings};
use crate::signal::{SampleBlock, StreamInfo};
use crate::source::{Source, SourceError};
use crate::timing::{Step, Timings};

/// Runs the source on a thread of its own and `drive` on this one.
pub(super) fn run<T>(
    source: &mut dyn Source,
    montage: &Montage,
    network: &Network,
    pass: Pass,
    rings_s: f64,
    speed: Option<f64>,
    drive: impl FnOnce(Intake) -> Result<T, PipelineError>,
) -> Result<T, PipelineError> {
    let info = source.info().clone();
    let rates: Vec<Option<f64>> = info
        .signals
        .iter()
        .zip(&montage.decisions)
        .map(|(signal, decision)| decision.modality.map(|_| signal.rate_hz))
        .collect();
    let (writer, readers, state) = rings(&rates, rings_s, when_full(source));
    let preprocessing = &network.manifest.preprocessing;
    let mut intake = Intake::new(&info, montage, preprocessing, readers, state, pass)
        .map_err(PipelineError::Channel)?;
    intake.mask_pieces(&info, preprocessing, network.mask);
    std::thread::scope(|scope| {
        let feeder = scope.spawn(|| feed(source, &info, writer, speed, network.timings()));
        // `drive` owns the intake: however it ends, the rings close and the feeder with them.
        let result = drive(intake);
        match feeder.join() {
            Ok(fed) => {
                let outcome = result?;
                fed?;
                Ok(outcome)
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Moves blocks from the source into the rings until either side is done.
fn feed(
    source: &mut dyn Source,
    info: &StreamInfo,
    mut writer: RingWriter,
    speed: Option<f64>,
    timings: &Timings,
) -> Result<(), SourceError> {
    let begin = Instant::now();
    let mut block = SampleBlock::default();
    loop {
        match timings.measure(Step::Source, || source.next_block(&mut block)) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                writer.break_off();
                return Err(error);
            }
        }
        if let Some(speed) = speed {
            let end = block.start.saturating_add(block.samples.len() as u64) as f64;
            let due_s = end / info.signals[block.channel].rate_hz / speed;
            // Beyond any clock: now and never are the same.
            let due =
                Duration::try_from_secs_f64(due_s).ok().and_then(|due| begin.checked_add(due));
            wait_until(due.unwrap_or(begin), &writer);
        }
        writer.when_full(when_full(source));
        if !writer.push(&block) {
            return Ok(());
        }
    }
}

/// Sleeps until `due`, or until the pipeline wants no more: a hole may be hours long.
fn wait_until(due: Instant, writer: &RingWriter) {
    while writer.is_wanted() {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

fn when_full(source: &dyn Source) -> WhenFull {
    if source.can_wait() { WhenFull::Wait } else { WhenFull::Drop }
}
