//! One live session from its start to the end of its files: recorded and staged as it comes, then
//! the final pass over the recording. Also finishes a session that was cut.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::args::{Passes, RunArgs};
use super::output::{self, Output};
use super::progress::Progress;
use super::session_files::{Files, create};
use super::setup::{Setup, Study, failed, interrupted, stage_changes};
use super::summary::{self, StageChanges};
use super::witness::SessionWitness;
use super::{Failure, live, show};
use crate::event::{Event, Pass};
use crate::journal::{Journal, JournalWindow};
use crate::lights::Lights;
use crate::link::hub::FromLinks;
use crate::link::live::LiveSource;
use crate::pipeline::{
    LiveSession, Load, Options, PassOutcome, Surroundings, final_pass, live_session,
};
use crate::recorder::{self, AnnotationSink, RecorderThread};
use crate::service::health::{Health, Phase};
use crate::sink::{self, Place, WhenFull};
use crate::source::{self, Source};

/// How long the disk may take to close the recording: when somebody waits for it, and at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
const CLOSE_AT_END_WITHIN: Duration = Duration::from_secs(60);

/// Runs a session: `files` are those of one that goes on. `false` if it ended before it started.
pub(super) fn run(
    args: &RunArgs,
    setup: &Setup,
    out: &Path,
    files: Option<Files>,
    from: Receiver<FromLinks>,
    mut witness: SessionWitness,
    stop: &AtomicBool,
) -> Result<bool, Failure> {
    let files = match files {
        Some(files) => files,
        None => {
            let Some(started) = live::wait(&from, |line| witness.keep(line)) else {
                return Ok(false);
            };
            create(args, setup, out, &started)?
        }
    };
    let bed = Bed { args, setup, out, stop, is_live: true };
    bed.run(files, from, witness)?;
    Ok(true)
}

/// What a session is run with.
struct Bed<'a> {
    args: &'a RunArgs,
    setup: &'a Setup,
    out: &'a Path,
    stop: &'a AtomicBool,
    /// Sensors may come: nobody expects them of a session that is recovered.
    is_live: bool,
}

impl Bed<'_> {
    fn run(
        &self,
        files: Files,
        from: Receiver<FromLinks>,
        mut witness: SessionWitness,
    ) -> Result<(), Failure> {
        let Files { info, recorder, annotations, recorded, mut journal, settled, mut saved, lock } =
            files;
        // Until the final pass is over nobody else goes on with the session.
        let _lock = lock;
        let path = recorder.path().to_owned();
        let mut study = self.setup.study(&info, "this session")?;
        study.explain();
        let mut recorded = recorded;
        if let Some(recorded) = &mut recorded {
            recorded.select(&study.used());
        }
        let resumed = recorded.is_some() || !settled.is_empty();
        let stopped = witness.recorder_stopped();
        let recorder = recorder::spawn(recorder, Some(annotations), stopped)
            .map_err(|e| Failure::run(format!("the recorder's thread cannot start: {e}")))?;
        let output = Mutex::new(self.open_output(
            &path,
            resumed.then_some(settled.len() as u32),
            &recorder,
            &witness,
        )?);
        witness.begin(self.out, &path, &saved)?;
        let health = witness.health();
        health.phase(if self.is_live { Phase::Live } else { Phase::Finishing });
        let load = witness.load();

        let mut source = LiveSource::new(info, from, recorder, recorded, witness);
        let (known, seen) = ((&mut journal, settled), (load, &*health));
        let outcome = self.stage(&mut study, &mut source, known, seen, &output, &path);
        // However the pass ended, what was recorded is closed.
        let (recorder, mut witness) = source.finish();
        health.phase(Phase::Finishing);
        // Their last annotations go to the recorder.
        output.lock().unwrap_or_else(PoisonError::into_inner).sinks.catch_up(CLOSE_WITHIN);
        let stopped = self.stop.load(Ordering::Relaxed);
        let closed = recorder.finish(if stopped { CLOSE_WITHIN } else { CLOSE_AT_END_WITHIN });
        saved = witness.conclude(saved);
        saved.write(self.out).map_err(Failure::run)?;
        match &closed {
            Ok(written) => witness.say(&format!(
                "recorded {} records, {} bytes in {}",
                written.records,
                written.bytes,
                written.path.display()
            )),
            Err(reason) => tracing::error!("{reason}"),
        }
        let mut output = output.into_inner().unwrap_or_else(PoisonError::into_inner);
        let result = outcome.and_then(|outcome| {
            self.after(&mut study, outcome, &path, closed.is_ok(), &mut output, &mut witness)
        });
        for failure in output.sinks.finish() {
            witness.say(&format!("warning: {failure}"));
        }
        let (outcome, changed, ended) = result?;
        if let Err(reason) = sink::add_to_night(self.out, "links", &saved.links()) {
            witness.say(&format!("warning: {reason}"));
        }
        self.summarize(&study, &outcome, changed, output.shown)?;
        if ended {
            saved.ended = true;
            saved.write(self.out).map_err(Failure::run)?;
        } else if let Err(reason) = closed {
            let out = self.out.display();
            return Err(Failure::run(format!("{reason}; 'sfm-stream recover {out}' closes it")));
        } else {
            let out = self.out.display();
            witness.say(&format!(
                "stopped; 'sfm-stream recover {out}' runs the final pass, the same command goes on"
            ));
        }
        output::whole(&output.sinks)
    }

    fn open_output(
        &self,
        recording: &Path,
        resumed: Option<u32>,
        recorder: &RecorderThread,
        witness: &SessionWitness,
    ) -> Result<Output, Failure> {
        let study = self.out.file_name().unwrap_or_default().to_string_lossy();
        let labels = &self.setup.labels;
        let (out_dir, quantiles) = (self.out, self.setup.quantiles.as_ref());
        let health = witness.health();
        let health = Some(&health);
        let place = Place { out_dir, study: &study, recording, labels, quantiles, resumed, health };
        let mut sinks = output::sinks(self.args, self.setup, &place)?;
        sinks.extend(witness.room().as_ref().map(output::page_sink));
        sinks.push(Box::new(AnnotationSink(recorder.annotations())));
        Output::start(sinks, WhenFull::Drop, self.args.json, false)
    }

    /// The live pass, to the end of the source.
    fn stage(
        &self,
        study: &mut Study,
        source: &mut dyn Source,
        (journal, settled): (&mut Journal, Vec<JournalWindow>),
        (load, health): (Arc<Load>, &Health),
        output: &Mutex<Output>,
        recording: &Path,
    ) -> Result<PassOutcome, Failure> {
        let send = |event| {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            let before = output.sinks.dropped();
            output.send(event);
            health.meter.events_dropped(output.sinks.dropped() - before);
        };
        let restore =
            |event| output.lock().unwrap_or_else(PoisonError::into_inner).sinks.restore(event);
        study.started.pass = Pass::Live;
        let started = Event::Started(Box::new(study.started.clone()));
        if settled.is_empty() {
            send(started)
        } else {
            restore(started)
        }
        // The source ends when the links do, so that the last samples are staged.
        let never = AtomicBool::new(false);
        let mut around = Surroundings {
            emit: &mut |event| send(event),
            progress: &mut |_| (),
            stop: &never,
            lights: &|| Lights::of(recording),
        };
        let mut journal_failed = false;
        let session = LiveSession {
            settled,
            restore: &mut |event| restore(event),
            closed_window: &mut |window| {
                health.meter.settled(window.epochs.len() as u64);
                if let Err(e) = journal.append(&window)
                    && !std::mem::replace(&mut journal_failed, true)
                {
                    tracing::warn!("{e}; after a cut this part of the night is computed again");
                }
            },
            load,
        };
        let options = self.options();
        let (montage, network) = (&study.montage, &self.setup.network);
        live_session(source, montage, network, &options, &mut around, session)
            .map_err(|e| failed(e, self.out))
    }

    fn options(&self) -> Options {
        Options {
            demographics: self.setup.demographics,
            signals: output::want_signals(self.args),
            ..Options::default()
        }
    }

    /// The final pass, where the session came to its end and its recording is whole. Returns
    /// whether nothing is left to do.
    fn after(
        &self,
        study: &mut Study,
        mut live: PassOutcome,
        recording: &Path,
        closed: bool,
        output: &mut Output,
        witness: &mut SessionWitness,
    ) -> Result<(PassOutcome, Option<StageChanges>, bool), Failure> {
        let stopped = self.stop.load(Ordering::Relaxed);
        if self.args.pass == Some(Passes::Live) || stopped || !closed {
            return Ok((live, None, !stopped && closed));
        }
        live.log.truncate(0);
        live.log.shrink();
        output.sinks.wait_when_full();
        let path = recording;
        let mut recording = source::open(path).map_err(Failure::input)?;
        recording.select(&study.used());
        study.started.duration_s = recording.info().duration_s;
        study.begin(Pass::Final, |event| output.send(event));
        let mut progress = study.progress(!self.args.tui.tui, Instant::now());
        let health = witness.health();
        let mut around = Surroundings {
            emit: &mut |event| output.send(event),
            progress: &mut |position_s| {
                health.heartbeat.touch();
                progress.iter_mut().for_each(|progress| progress.at(position_s));
            },
            stop: self.stop,
            lights: &|| Lights::of(path),
        };
        let options = Options { stats: Some(live.stats.clone()), ..self.options() };
        let (montage, network) = (&study.montage, &self.setup.network);
        let last = final_pass(&mut recording, montage, network, &options, &mut around);
        progress.into_iter().for_each(Progress::finish);
        let last = last.map_err(|e| failed(e, self.out))?;
        let changed = stage_changes(&live.hypnogram, &last.hypnogram);
        Ok((last, Some(changed), true))
    }

    fn summarize(
        &self,
        study: &Study,
        outcome: &PassOutcome,
        changed: Option<StageChanges>,
        shown: Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.args.json {
            return shown;
        }
        let (night, labels) = (&outcome.night, &self.setup.labels);
        show(&summary::table(night, &study.started, labels, self.out, changed))
    }
}

/// `sfm-stream recover DIR`: what a cut left undone is done.
pub(super) fn recover(
    args: &RunArgs,
    setup: &Setup,
    out: &Path,
    files: Files,
    witness: SessionWitness,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    // Nothing comes any more.
    let (to, from) = crate::link::hub::queue();
    drop(to);
    let bed = Bed { args, setup, out, stop, is_live: false };
    bed.run(files, from, witness)?;
    if stop.load(Ordering::Relaxed) { Err(interrupted(out)) } else { Ok(()) }
}
