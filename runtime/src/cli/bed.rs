//! One live session from its start to the end of its files: recorded and staged as it comes, then
//! the final pass over the recording. Also finishes a session that was cut.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::args::{Passes, RunArgs};
use super::output::{self, OpenSinks, Output};
use super::progress::Progress;
use super::session_bundle::setup_of;
use super::session_files::{Files, completed, create, go_on};
use super::session_place::{Left, Place};
use super::setup::{Setup, Study, failed, interrupted, stage_changes};
use super::summary::{self, StageChanges};
use super::witness::SessionWitness;
use super::{Failure, channel_rules, live, moved, show_unless_stalled};
use crate::caught::caught;
use crate::event::{Event, Pass};
use crate::health::{Health, Phase, Status};
use crate::journal::{Journal, JournalWindow};
use crate::lights::Lights;
use crate::link::event::SessionEvent;
use crate::link::hub::{FromLinks, Started};
use crate::link::live::LiveSource;
use crate::link::saved::SavedSession;
use crate::link::session::Beginning;
use crate::night::Demographics;
use crate::pipeline::{
    LiveSession, Load, Options, PassOutcome, Surroundings, final_pass, live_session,
};
use crate::recorder::{self, AnnotationLog, AnnotationSink, Recorder, RecorderThread};
use crate::session_folder::SessionFolder;
use crate::signal::{SampleBlock, StreamInfo};
use crate::sink::{self, WhenFull};
use crate::source::{self, Source};

/// How long the disk may take to close the recording: when somebody waits for it, and at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
const CLOSE_AT_END_WITHIN: Duration = Duration::from_secs(60);

/// What a session is run with.
pub(super) struct Run<'a> {
    pub args: &'a RunArgs,
    /// The network of new sessions.
    pub setup: &'a Arc<Setup>,
    pub threads: usize,
    pub stop: &'a AtomicBool,
    /// It is one beside the session that standard output is about.
    pub is_beside: bool,
    /// Takes the session's folder, as soon as there is one.
    pub begun: &'a dyn Fn(&Path),
}

/// Runs the session of `place`, from its start or on from where it was cut. `false` if it ended
/// before it started.
pub(super) fn run(
    run: &Run<'_>,
    mut place: Place,
    from: Receiver<FromLinks>,
    mut witness: SessionWitness,
) -> Result<bool, Failure> {
    let Some(started) = live::wait(&from, &mut witness) else {
        if run.stop.load(Ordering::Relaxed)
            && let Err(reason) = place.close()
        {
            witness.say(&format!("warning: {reason}"));
        }
        return Ok(false);
    };
    let Begun { args, setup, out, files, left } = begin(run, place, &started, &witness)?;
    (run.begun)(&out);
    let bed = Bed {
        args: &args,
        setup: &setup,
        out: &out,
        stop: run.stop,
        is_live: true,
        is_beside: run.is_beside,
    };
    let events = left.iter().map(Left::event).chain(files.events()).collect();
    bed.run(files, from, witness, events)?;
    Ok(true)
}

/// A session that has its files.
struct Begun {
    args: RunArgs,
    setup: Arc<Setup>,
    out: PathBuf,
    files: Files,
    left: Option<Left>,
}

/// Opens the files of the session: those of the one that was cut, if it goes on, or new ones.
fn begin(
    run: &Run<'_>,
    mut place: Place,
    started: &Started,
    witness: &SessionWitness,
) -> Result<Begun, Failure> {
    if let Beginning::Parted(reason) = started.beginning {
        place.part(reason);
    }
    if started.beginning == Beginning::GoesOn
        && let Some(cut) = place.cut.take()
    {
        let out = cut.folder.clone();
        let args = completed(run.args, &cut.saved);
        let (setup, gone) = setup_of(&cut.saved, &out, &args, run.setup, run.threads);
        match go_on(&args, &setup, cut, gone) {
            Ok(files) => return Ok(Begun { args, setup, out, files, left: None }),
            // Its samples have their places, so the new recording begins with a gap.
            Err(failure) => place.left = Some(Left { folder: out, reason: failure.message }),
        }
    }
    let (args, setup) = (run.args.clone(), run.setup.clone());
    let (out, files) = create(&args, &setup, &place, started)?;
    let left = place.left.filter(|left| left.folder != out);
    if started.beginning != Beginning::New {
        left.iter().for_each(|left| witness.say(&left.line(&out)));
    }
    Ok(Begun { args, setup, out, files, left })
}

/// What a session is at work with.
#[derive(Clone, Copy)]
struct Bed<'a> {
    args: &'a RunArgs,
    setup: &'a Setup,
    /// Where the session's files are, or were when it began.
    out: &'a Path,
    stop: &'a AtomicBool,
    /// Sensors may come: nobody expects them of a session that is recovered.
    is_live: bool,
    is_beside: bool,
}

impl Bed<'_> {
    fn run(
        &self,
        files: Files,
        from: Receiver<FromLinks>,
        mut witness: SessionWitness,
        events: Vec<SessionEvent>,
    ) -> Result<(), Failure> {
        let mut study = match self.study(&files.info) {
            // What cannot be staged is recorded all the same.
            Err(failure) if self.is_live => {
                return self.record_only(files, from, witness, events, failure);
            }
            study => study?,
        };
        let resumed_at = files.resumed_at();
        let Files { info, recorder, annotations, mut recorded, mut journal, settled, .. } = files;
        let (mut saved, lock) = (files.saved, files.lock);
        // Until the final pass is over nobody else goes on with the session.
        let folder = SessionFolder::new(recorder.path(), Some(lock));
        let path = recorder.path().to_owned();
        study.explain();
        if let Some(recorded) = &mut recorded {
            recorded.select(&study.used());
        }
        let recorder = self.spawn(recorder, annotations, &folder, &saved, &witness)?;
        let output = self.open_output(&path, resumed_at, &recorder, &witness)?;
        let output = Mutex::new(output);
        witness.begin(&folder, &path, &saved);
        events.into_iter().for_each(|event| witness.note(event));
        let health = witness.health();
        health.phase(if self.is_live { Phase::Live } else { Phase::Finishing });
        let load = witness.load();

        let mut source = LiveSource::new(info, from, recorder, recorded, witness);
        let (known, seen) = ((&mut journal, settled), (load, &*health));
        let staged = caught(|| self.stage(&mut study, &mut source, known, seen, &output, &folder));
        let outcome =
            staged.unwrap_or_else(|reason| Err(Failure::run(format!("staging: {reason}"))));
        let outcome = outcome
            .map_err(|failure| self.record_on(&mut source, &health, &folder.path(), failure));
        // However the pass ended, what was recorded is closed.
        let (recorder, mut witness) = source.finish();
        health.phase(Phase::Finishing);
        // Their last annotations go to the recorder.
        output.lock().unwrap_or_else(PoisonError::into_inner).sinks.catch_up(CLOSE_WITHIN);
        let closed = self.close(recorder, &folder, &mut saved, outcome.is_ok(), &mut witness);
        output.lock().unwrap_or_else(PoisonError::into_inner).follow(&folder);
        let out = folder.path();
        let this = Bed { out: &out, ..*self };
        let path = folder.recording();
        let mut output = output.into_inner().unwrap_or_else(PoisonError::into_inner);
        let result = outcome.and_then(|outcome| {
            this.after(&mut study, outcome, &path, closed.is_ok(), &mut output, &mut witness)
        });
        for failure in output.sinks.finish() {
            witness.say(&format!("warning: {failure}"));
        }
        let (outcome, changed, ended) = result?;
        if let Err(reason) = sink::add_to_night(&out, "links", &saved.links()) {
            witness.say(&format!("warning: {reason}"));
        }
        let shown_to_user = output.shown();
        this.summarize(&study, &outcome, changed);
        let whole = output::whole(&output.sinks);
        let shown = out.display();
        if ended && whole.is_ok() {
            saved.ended = true;
            saved.write(&out).map_err(Failure::run)?;
        } else if ended {
            witness.say(&format!("'sfm-stream recover {shown}' writes what is missing"));
        } else if let Err(reason) = closed {
            return Err(Failure::run(format!("{reason}; 'sfm-stream recover {shown}' closes it")));
        } else {
            witness.say(&format!(
                "stopped; 'sfm-stream recover {shown}' runs the final pass, the next start begins another session"
            ));
        }
        whole.and(shown_to_user)
    }

    /// What becomes of the channels. Rules whose file has gone since the session began are those of
    /// this start.
    fn study(&self, info: &StreamInfo) -> Result<Study, Failure> {
        match channel_rules(&self.args.channels, self.setup.bundle.manifest().channels) {
            Ok(rules) => self.setup.study_sensors(info, &rules),
            Err(failure) => {
                tracing::warn!("{}; the rules of this start are used", failure.message);
                self.setup.study_sensors(info, self.setup.rules())
            }
        }
    }

    /// Starts the recorder's thread, which follows the session's folder while sensors may come.
    fn spawn(
        &self,
        recorder: Recorder,
        annotations: AnnotationLog,
        folder: &SessionFolder,
        saved: &SavedSession,
        witness: &SessionWitness,
    ) -> Result<RecorderThread, Failure> {
        let whereabouts =
            self.is_live.then(|| (folder.clone(), moved::next_folder(folder, saved.start_utc_ms)));
        let observer = witness.recorder_observer();
        recorder::spawn(recorder, Some(annotations), whereabouts, observer)
            .map_err(|e| Failure::run(format!("the recorder's thread cannot start: {e}")))
    }

    /// Closes the recording and notes how the session ended: in order, if it was staged to its end.
    fn close(
        &self,
        recorder: RecorderThread,
        folder: &SessionFolder,
        saved: &mut SavedSession,
        in_order: bool,
        witness: &mut SessionWitness,
    ) -> Result<(), String> {
        let stopped = self.stop.load(Ordering::Relaxed);
        let closed = recorder.finish(if stopped { CLOSE_WITHIN } else { CLOSE_AT_END_WITHIN });
        *saved = witness.conclude(saved.clone());
        saved.closed |= in_order;
        if let Err(reason) = saved.write(&folder.path()) {
            witness.say(&format!("warning: {reason}"));
        }
        saved.unrecorded.iter().for_each(|lost| witness.say(&moved::not_recorded(lost)));
        match &closed {
            Ok(written) => witness.say(&format!(
                "recorded {} records, {} bytes in {}",
                written.records,
                written.bytes,
                written.path.display()
            )),
            Err(reason) => tracing::error!("{reason}"),
        }
        closed.map(drop)
    }

    /// A session whose channels cannot be staged is recorded; at the end it counts as failed.
    fn record_only(
        &self,
        files: Files,
        from: Receiver<FromLinks>,
        mut witness: SessionWitness,
        events: Vec<SessionEvent>,
        failure: Failure,
    ) -> Result<(), Failure> {
        let Files { info, recorder, annotations, mut saved, lock, .. } = files;
        let folder = SessionFolder::new(recorder.path(), Some(lock));
        let path = recorder.path().to_owned();
        let recorder = self.spawn(recorder, annotations, &folder, &saved, &witness)?;
        witness.begin(&folder, &path, &saved);
        events.into_iter().for_each(|event| witness.note(event));
        witness.only_recorded(failure.message.clone());
        let health = witness.health();
        health.phase(Phase::Live);
        let mut source = LiveSource::new(info, from, recorder, None, witness);
        let mut block = SampleBlock::default();
        while source.next_block(&mut block).map_err(Failure::input)? {}
        let (recorder, mut witness) = source.finish();
        health.phase(Phase::Finishing);
        self.close(recorder, &folder, &mut saved, true, &mut witness).map_err(Failure::run)?;
        let (out, reason) = (folder.path(), failure.message);
        let out = out.display();
        Err(Failure::run(format!("{out}: recorded, not staged: {reason}")))
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
        let place =
            sink::Place { out_dir, study: &study, recording, labels, quantiles, resumed, health };
        let OpenSinks { mut sinks, refused } = self.sinks(&place, witness)?;
        sinks.extend(witness.room().as_ref().map(output::page_sink));
        sinks.push(Box::new(AnnotationSink(recorder.annotations())));
        let mut output = Output::start(sinks, WhenFull::Drop, self.args.json, false)?;
        output.sinks.stay_in(self.out.to_owned());
        output.sinks.leave_out(refused);
        Ok(output)
    }

    /// The sinks, and why some cannot be opened. A session that is recovered needs all of them; one
    /// that is recorded goes on without, and its health says so.
    fn sinks(
        &self,
        place: &sink::Place<'_>,
        witness: &SessionWitness,
    ) -> Result<OpenSinks, Failure> {
        if !self.is_live {
            let sinks = output::sinks(self.args, self.setup, place)?;
            return Ok(OpenSinks { sinks, refused: Vec::new() });
        }
        let open = output::sinks_that_open(self.args, self.setup, place);
        let refused = &open.refused;
        refused.iter().for_each(|reason| tracing::error!("{reason}; recording goes on without"));
        let told = || format!("not written, recording goes on: {}", refused.join("; "));
        let condition = (!refused.is_empty()).then(|| (Status::Degraded, told()));
        witness.health().condition("files", condition);
        Ok(open)
    }

    /// The live pass, to the end of the source.
    fn stage(
        &self,
        study: &mut Study,
        source: &mut dyn Source,
        (journal, settled): (&mut Journal, Vec<JournalWindow>),
        (load, health): (Arc<Load>, &Health),
        output: &Mutex<Output>,
        folder: &SessionFolder,
    ) -> Result<PassOutcome, Failure> {
        let send = |event| {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.follow(folder);
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
            lights: &|| Lights::of(&folder.recording()),
        };
        let mut kept = moved::JournalKeeper::new(journal, folder);
        let session = LiveSession {
            settled,
            restore: &mut |event| restore(event),
            closed_window: &mut |window| {
                health.meter.settled(window.epochs.len() as u64);
                kept.append(window);
            },
            load,
        };
        let options = self.options();
        let (montage, network) = (&study.montage, &self.setup.network);
        live_session(source, montage, network, &options, &mut around, session)
            .map_err(|e| failed(e, self.out))
    }

    /// Staging has failed. A night without stages can be staged later, one that is not recorded is
    /// lost: so the session goes on to its end, and its health says why.
    fn record_on(
        &self,
        source: &mut dyn Source,
        health: &Health,
        out: &Path,
        failure: Failure,
    ) -> Failure {
        if !self.is_live {
            return failure;
        }
        let reason = super::one_line(&failure.message);
        tracing::error!("nothing more is staged, recording goes on: {reason}");
        let told = format!("nothing is staged any more, recording goes on: {reason}");
        health.condition("staging", Some((Status::Failing, told)));
        let mut block = SampleBlock::default();
        // What a source reads of the past may fail; what comes is recorded by reading it.
        while source.next_block(&mut block).unwrap_or(true) {
            health.heartbeat.touch();
        }
        let out = out.display();
        Failure::run(format!("{reason}; it is recorded, 'sfm-stream recover {out}' stages it"))
    }

    /// Those of the session; the arguments were checked at the start.
    fn demographics(&self) -> Option<Demographics> {
        let (age_years, sex) = self.args.age.zip(self.args.sex)?;
        Some(Demographics { age_years, sex })
    }

    fn options(&self) -> Options {
        Options {
            demographics: self.demographics(),
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
        output.wait_when_full();
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

    fn summarize(&self, study: &Study, outcome: &PassOutcome, changed: Option<StageChanges>) {
        if !self.args.json && !self.is_beside {
            let (night, labels) = (&outcome.night, &self.setup.labels);
            show_unless_stalled(summary::table(night, &study.started, labels, self.out, changed));
        }
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
    let bed = Bed { args, setup, out, stop, is_live: false, is_beside: false };
    let events = files.events();
    bed.run(files, from, witness, events)?;
    if stop.load(Ordering::Relaxed) { Err(interrupted(out)) } else { Ok(()) }
}
