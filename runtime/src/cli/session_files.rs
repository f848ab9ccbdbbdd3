//! The files of a live session: made for a new one, or opened again for one that was cut. Refuses
//! to write where a recording is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::RunArgs;
use super::session_bundle;
use super::session_place::{CutSession, Place, lock, start_of};
use super::setup::Setup;
use super::{Failure, say};
use crate::journal::{Journal, JournalNetwork, JournalWindow};
use crate::link::event::SessionEvent;
use crate::link::hub::Started;
use crate::link::saved::SavedSession;
use crate::recorder::{AnnotationLog, Recorder, RecorderError};
use crate::session_folder::{ANNOTATIONS, JOURNAL, LOCK};
use crate::signal::{SignalInfo, StreamInfo};
use crate::source::edf::EdfSource;
use crate::text::hex;
use sfm_models::EPOCH_S;

/// More than the low-pass filter looks ahead, seconds.
const LOOK_AHEAD_S: f64 = 2.0;

/// Folders that are tried before a session gives up.
const MAX_ATTEMPTS: u32 = 3;

/// The files of a session, open.
pub(super) struct Files {
    /// The session as a source.
    pub info: StreamInfo,
    /// Writes the recording.
    pub recorder: Recorder,
    /// Writes `annotations.edf`.
    pub annotations: AnnotationLog,
    /// The recording as it was before a cut.
    pub recorded: Option<EdfSource>,
    /// Writes the journal.
    pub journal: Journal,
    /// Windows that were settled before a cut.
    pub settled: Vec<JournalWindow>,
    /// `session.json`.
    pub saved: SavedSession,
    /// Why nothing of an earlier staging is kept.
    pub staged_again: Option<String>,
    /// Held as long as somebody is at work on the session.
    pub lock: File,
}

impl Files {
    /// Windows that are known, of a session that goes on with what it has staged.
    pub fn resumed_at(&self) -> Option<u32> {
        let goes_on = self.recorded.is_some() || !self.settled.is_empty();
        (goes_on && self.staged_again.is_none()).then_some(self.settled.len() as u32)
    }

    /// What the session log says of how they were found.
    pub fn events(&self) -> Vec<SessionEvent> {
        let reason = self.staged_again.clone();
        reason.map(|reason| SessionEvent::StagedAgain { reason }).into_iter().collect()
    }
}

/// Arguments of a session that goes on, completed from its own.
pub(super) fn completed(args: &RunArgs, saved: &SavedSession) -> RunArgs {
    let mut args = args.clone();
    (args.age, args.sex) = (args.age.or(saved.age), args.sex.or(saved.sex));
    // The tokens of its journal were made so.
    args.keep_bad = saved.keep_bad;
    args.report = args.report.or(saved.report.clone());
    args.formats = args.formats.or(saved.formats.clone());
    let channels = &mut args.channels;
    if channels.map.is_empty() {
        channels.map.clone_from(&saved.map);
    }
    if channels.channel_groups.is_none() && channels.channel_rules.is_none() {
        channels.channel_groups.clone_from(&saved.channel_groups);
        channels.channel_rules.clone_from(&saved.channel_rules);
    }
    // Its channels are those that it began with.
    channels.policy = saved.channel_policy;
    channels.derive.clone_from(&saved.derive);
    channels.no_derive = saved.no_derive;
    args
}

/// Makes the folder and the files of a session that starts, under the first free name.
pub(super) fn create(
    args: &RunArgs,
    setup: &Arc<Setup>,
    place: &Place,
    started: &Started,
) -> Result<(PathBuf, Files), Failure> {
    let (mut from, mut attempts) = (1, 0);
    loop {
        let (number, out) = place.free(from)?;
        std::fs::create_dir_all(&out).map_err(|e| {
            let out = out.display();
            Failure::run(format!("{out}: cannot be made a folder ({e}); choose another with --out"))
        })?;
        match create_in(args, setup, place, &out, started) {
            Ok(Some(files)) => return Ok((out, files)),
            // Somebody else was faster.
            Ok(None) => from = number + 1,
            // Something in the folder may be in the way; on a full disk no other one helps.
            Err(failure) => {
                let _ = std::fs::remove_dir(&out);
                attempts += 1;
                if attempts == MAX_ATTEMPTS {
                    return Err(failure);
                }
                say(&format!("warning: {}", failure.message));
                from = number + 1;
            }
        }
    }
}

/// `None` if the folder has become another session's.
fn create_in(
    args: &RunArgs,
    setup: &Arc<Setup>,
    place: &Place,
    out: &Path,
    started: &Started,
) -> Result<Option<Files>, Failure> {
    let refused = |reason| Failure::run(format!("{}: {reason}", out.display()));
    let Some(lock) = lock(out).map_err(refused)? else { return Ok(None) };
    let signals: Vec<SignalInfo> = started.channels.iter().map(|c| c.signal.clone()).collect();
    let start = started.start;
    let recorder = match Recorder::create(out, &signals, start) {
        Ok(recorder) => recorder,
        Err(RecorderError::Refused { path, .. }) if path.exists() => return Ok(None),
        Err(e) => return Err(Failure::run(e)),
    };
    let saved = saved(args, setup, place, started);
    let path = recorder.path().to_owned();
    let others = || -> Result<_, Failure> {
        let annotations = AnnotationLog::create(out, start).map_err(Failure::run)?;
        let journal = Journal::create(out, network(setup, &setup.bundle.sha256()));
        let journal = journal.map_err(Failure::run)?;
        // Last: a folder with this file has all the others.
        saved.write(out).map_err(Failure::run)?;
        Ok((annotations, journal))
    };
    let (annotations, journal) = others().inspect_err(|_| {
        // They hold nothing yet.
        let made = [&path, &out.join(ANNOTATIONS), &out.join(JOURNAL), &out.join(LOCK)];
        made.into_iter().for_each(|file| drop(std::fs::remove_file(file)));
    })?;
    if args.bundle.is_some() {
        session_bundle::keep(setup, out);
    }
    let info = stream_info(recorder.path(), start.to_string(), signals);
    let (recorded, settled, staged_again) = (None, Vec::new(), None);
    Ok(Some(Files {
        info,
        recorder,
        annotations,
        recorded,
        journal,
        settled,
        saved,
        staged_again,
        lock,
    }))
}

fn saved(args: &RunArgs, setup: &Setup, place: &Place, started: &Started) -> SavedSession {
    let start = (started.start_utc_ms, started.start.to_string());
    let mut saved = SavedSession::new(start, &started.channels);
    saved.session.clone_from(&place.id);
    saved.bundle = args.bundle.as_ref().and_then(|path| std::path::absolute(path).ok());
    (saved.bundle_sha256, saved.network_sha256) =
        (setup.bundle.sha256(), setup.bundle.network_sha256());
    (saved.age, saved.sex) = (args.age, args.sex);
    saved.map.clone_from(&args.channels.map);
    saved.keep_bad = args.keep_bad;
    (saved.report, saved.formats) = (args.report.clone(), args.formats.clone());
    saved.channel_groups.clone_from(&args.channels.channel_groups);
    saved.channel_rules.clone_from(&args.channels.channel_rules);
    saved.channel_policy = Some(args.channels.policy.unwrap_or(setup.bundle.manifest().channels));
    saved.derive.clone_from(&args.channels.derive);
    saved.no_derive = args.channels.no_derive;
    let left_out = started.left_out.iter().map(|(device, label)| (hex(*device), label.clone()));
    saved.left_out = left_out.collect();
    saved
}

/// Opens the files of a session that goes on, with its own age and sex unless others are given.
pub(super) fn go_on(
    args: &RunArgs,
    setup: &Arc<Setup>,
    cut: CutSession,
    bundle_is_gone: Option<String>,
) -> Result<Files, Failure> {
    let CutSession { folder, mut saved, lock, .. } = cut;
    if (saved.age, saved.sex) != (args.age, args.sex) {
        let folder = folder.display();
        say(&format!(
            "warning: {folder}: its session began with another --age or --sex; now these hold"
        ));
    }
    (saved.age, saved.sex) = (args.age, args.sex);
    (saved.closed, saved.ended) = (false, false);
    let is_gone = bundle_is_gone.is_some();
    if is_gone {
        saved.bundle = args.bundle.as_ref().and_then(|path| std::path::absolute(path).ok());
    }
    let files = reopen(setup, &folder, saved, lock, bundle_is_gone)?;
    files.saved.write(&folder).map_err(Failure::run)?;
    if is_gone && args.bundle.is_some() {
        session_bundle::keep(setup, &folder);
    }
    Ok(files)
}

/// Opens the files of a session that was cut; damaged ends of them are dropped. What the journal
/// knows is left out where it is not of this network.
pub(super) fn reopen(
    setup: &Arc<Setup>,
    out: &Path,
    mut saved: SavedSession,
    lock: File,
    bundle_is_gone: Option<String>,
) -> Result<Files, Failure> {
    let (recorder, found) = Recorder::reopen(out).map_err(Failure::input)?;
    let start = start_of(&found)?;
    let identity = match saved.bundle_sha256.is_empty() || bundle_is_gone.is_some() {
        true => setup.bundle.sha256(),
        false => saved.bundle_sha256.clone(),
    };
    let network = network(setup, &identity);
    let known = match bundle_is_gone {
        Some(reason) => Err(reason),
        None => Journal::reopen(out, network.clone()).map_err(|e| e.to_string()),
    };
    let (journal, settled, staged_again) = match known {
        Ok(known) => {
            let (journal, settled) = covered(setup, out, known, &network, found.end_s)?;
            (journal, settled, None)
        }
        Err(reason) => {
            let journal = Journal::create(out, network).map_err(Failure::run)?;
            (journal, Vec::new(), Some(reason))
        }
    };
    (saved.bundle_sha256, saved.network_sha256) = (identity, setup.bundle.network_sha256());
    let annotations = AnnotationLog::reopen(out, start).map_err(Failure::run)?;
    // Before its first record there is nothing to read.
    let recorded = match found.end_s > 0.0 {
        true => Some(EdfSource::open(&found.path).map_err(Failure::input)?),
        false => None,
    };
    let mut info = stream_info(&found.path, start.to_string(), found.signals);
    info.warnings = found.warnings;
    Ok(Files { info, recorder, annotations, recorded, journal, settled, saved, staged_again, lock })
}

/// The windows that the recording covers to their end and the filter's look-ahead: the pipeline had
/// samples that the recording may have lost. The journal is cut back to them.
fn covered(
    setup: &Setup,
    out: &Path,
    (journal, mut settled): (Journal, Vec<JournalWindow>),
    network: &JournalNetwork,
    recorded_s: f64,
) -> Result<(Journal, Vec<JournalWindow>), Failure> {
    let manifest = setup.bundle.manifest();
    let window_s = manifest.base.window_patches as f64 * EPOCH_S
        / manifest.preprocessing.epoch_patches() as f64;
    let whole = ((recorded_s - LOOK_AHEAD_S) / window_s).floor().max(0.0) as usize;
    if settled.len() <= whole {
        return Ok((journal, settled));
    }
    settled.truncate(whole);
    drop(journal);
    let mut journal = Journal::create(out, network.clone()).map_err(Failure::run)?;
    for window in &settled {
        journal.append(window).map_err(Failure::run)?;
    }
    Ok((journal, settled))
}

fn network(setup: &Setup, bundle_sha256: &str) -> JournalNetwork {
    let base = &setup.bundle.manifest().base;
    JournalNetwork {
        bundle_sha256: bundle_sha256.to_owned(),
        embed_dim: base.embed_dim as u32,
        window_patches: base.window_patches as u32,
    }
}

fn stream_info(recording: &Path, start: String, signals: Vec<SignalInfo>) -> StreamInfo {
    let is_bdf = recording.extension().is_some_and(|extension| extension == "bdf");
    StreamInfo {
        format: if is_bdf { "BDF+D" } else { "EDF+D" }.to_owned(),
        start: Some(start),
        duration_s: None,
        preprocessed: false,
        signals,
        warnings: Vec::new(),
    }
}
