//! `sfm-stream batch`: every recording of an archive through the final pass of a replay, a folder
//! each, several at a time on one network and one pool of workers; then table and page of what is
//! done. What is done is known by a marker in each folder, so the same command goes on after a kill.

mod progress;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sfm_models::Bundle;

use self::progress::{Ended, Nights};
use super::args::{BatchArgs, ChannelArgs, RunArgs, Shard};
use super::progress::{NIGHT_S, figure};
use super::replay::Replay;
use super::setup::{Setup, labels, threads};
use super::{Failure, bundle, out_folder, say, show};
use crate::batch::archive::{Entry, recordings, shard_of};
use crate::batch::cohort::Frame;
use crate::batch::demographics::People;
use crate::batch::files::{self as cohort_files, Collected};
use crate::batch::marker::{Identity, Marker, Progress, QualitySink, claim};
use crate::batch::outputs::{Before, Look};
use crate::batch::page::Page;
use crate::batch::run::each;
use crate::files;
use crate::night::Demographics;
use crate::service::stop as signals;
use sfm_models::EPOCH_S;

/// More pipelines at a time than any machine is good for.
const MAX_JOBS: usize = 64;
/// No list of channels is longer.
const MAX_RULES_BYTES: u64 = 1 << 20;
/// Failures shown at the end; `failures.csv` has all.
const SHOWN_FAILURES: usize = 20;

/// Runs a batch.
pub(super) fn run(args: &BatchArgs) -> Result<(), Failure> {
    if !(1..=MAX_JOBS).contains(&args.jobs) {
        return Err(Failure::usage(format!("--jobs {} is not in 1 to {MAX_JOBS}", args.jobs)));
    }
    let of_a_run = args.of_a_run().map_err(Failure::usage)?;
    let threads = threads(&of_a_run)?;
    let settings = settings(&of_a_run)?;
    let people = args.demographics.as_deref().map(People::read).transpose();
    let people = people.map_err(Failure::usage)?.unwrap_or_default();
    let bundle = bundle::open(of_a_run.bundle.as_deref())?;
    let _claim = out_folder::unless_session(&args.out)?;
    let archive = Archive::list(args, &people, &bundle, &settings)?;
    out_folder::protect(&of_a_run);
    let listed = [Some(&args.input), args.demographics.as_ref(), args.config.as_ref()];
    let recordings = archive.entries.iter().map(|entry| &entry.file);
    listed.into_iter().flatten().chain(recordings).for_each(|path| files::protect(path));
    std::fs::create_dir_all(&args.out).map_err(|e| {
        let out = args.out.display();
        Failure::run(format!("{out}: cannot be made a folder ({e}); choose another one with --out"))
    })?;
    let worked = if args.collect {
        Worked::default()
    } else {
        archive.work_off(args, &of_a_run, threads)?
    };
    let collected = archive.collect(&bundle, &worked)?;
    archive.conclude(&worked, &collected)
}

/// What decides about results besides recording, bundle and person, as text.
fn settings(args: &RunArgs) -> Result<String, Failure> {
    let ChannelArgs { map, channel_groups, channel_rules, derive, no_derive, policy } =
        &args.channels;
    let rules = channel_groups.iter().chain(channel_rules).map(|path| {
        let text = files::read_input(path, MAX_RULES_BYTES);
        text.map(|text| sfm_models::bundle::sha256_hex(&text))
            .map_err(|e| Failure::usage(format!("{}: cannot be read: {e}", path.display())))
    });
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    let keep_bad = if args.keep_bad { " keep-bad" } else { "" };
    let RunArgs { pass, report, formats, .. } = args;
    let electrodes = match (derive.as_slice(), no_derive, policy) {
        ([], false, None) => String::new(),
        electrodes => format!(" {electrodes:?}"),
    };
    Ok(format!("{pass:?} {map:?} {rules:?} {report:?} {formats:?}{keep_bad}{electrodes}"))
}

/// The recordings and where their results are.
struct Archive {
    out: PathBuf,
    entries: Vec<Entry>,
    identities: Vec<Identity>,
    people: Vec<Option<Demographics>>,
    shard: Shard,
}

/// What this run did.
#[derive(Default)]
struct Worked {
    /// Recordings of this shard that were not done yet.
    wanted: usize,
    done: usize,
    /// Name and reason.
    failed: Vec<(String, Failure)>,
    recorded_s: f64,
    elapsed_s: f64,
    interrupted: bool,
}

impl Archive {
    fn list(
        args: &BatchArgs,
        people: &People,
        bundle: &Bundle,
        settings: &str,
    ) -> Result<Self, Failure> {
        let (entries, passed_over) = recordings(&args.input, &args.out).map_err(Failure::input)?;
        passed_over.iter().for_each(|line| say(line));
        let (people, ambiguous) = people.of(&entries);
        if ambiguous > 0 {
            say(&format!(
                "warning: {ambiguous} recordings share a file name that --demographics has without folders; no age and sex for them"
            ));
        }
        let sha256 = bundle.sha256();
        let identity =
            |(entry, person): (&Entry, &Option<_>)| Identity::of(entry, &sha256, settings, *person);
        Ok(Self {
            out: args.out.clone(),
            identities: entries.iter().zip(&people).map(identity).collect(),
            entries,
            people,
            shard: args.shard.unwrap_or(Shard { index: 0, count: 1 }),
        })
    }

    /// The recordings of this shard.
    fn own(&self) -> Vec<usize> {
        let Shard { index, count } = self.shard;
        let own = |&at: &usize| shard_of(&self.entries[at].name, count) == index;
        (0..self.entries.len()).filter(own).collect()
    }

    /// Those of `own` that are still to be done; says which were done before and have to be again.
    fn open(&self, own: &[usize]) -> Vec<usize> {
        let (mut open, mut changed, mut unlisted) = (Vec::new(), 0, 0);
        for &at in own {
            let (entry, identity) = (&self.entries[at], &self.identities[at]);
            match Marker::progress(&self.out.join(&entry.folder), identity, Look::Contents) {
                Progress::Done => continue,
                Progress::Open => {}
                Progress::Changed(file) => {
                    changed += 1;
                    if changed <= SHOWN_FAILURES {
                        let (name, file) = (&entry.name, shown(&file));
                        say(&format!(
                            "warning: {name}: {file} is not as it was written; done again"
                        ));
                    }
                }
                Progress::Unlisted => unlisted += 1,
            }
            open.push(at);
        }
        if changed > SHOWN_FAILURES {
            say(&format!("warning: and files of {} more", changed - SHOWN_FAILURES));
        }
        if unlisted > 0 {
            say(&format!(
                "{unlisted} recordings were done by a version that did not list their files; done again"
            ));
        }
        open
    }

    /// Runs what is still to be done.
    fn work_off(
        &self,
        args: &BatchArgs,
        of_a_run: &RunArgs,
        threads: usize,
    ) -> Result<Worked, Failure> {
        let own = self.own();
        let open = self.open(&own);
        self.announce(own.len(), open.len());
        let mut worked = Worked { wanted: open.len(), ..Worked::default() };
        if open.is_empty() {
            return Ok(worked);
        }
        let stop = start_workers(threads)?;
        let setup = Setup::open_for_many(of_a_run, threads)?;
        say(&format!("backend: {}", setup.backend.why()));
        let begun = Instant::now();
        let nights = Nights::new(open.len(), begun);
        let work = |&at: &usize| self.night(at, &setup, of_a_run, &stop);
        let ended = |place: usize, result: Result<Result<f64, Failure>, String>| {
            let result = result.unwrap_or_else(|reason| Err(Failure::run(reason)));
            self.ended(open[place], result, &stop, &nights, &mut worked);
        };
        each(&open, args.jobs, &stop, work, ended, || nights.tick())
            .map_err(|e| Failure::run(format!("no thread for a recording can start: {e}")))?;
        nights.finish();
        worked.elapsed_s = begun.elapsed().as_secs_f64();
        worked.interrupted = stop.load(Ordering::Relaxed);
        Ok(worked)
    }

    fn announce(&self, own: usize, open: usize) {
        let Shard { index, count } = self.shard;
        if count > 1 {
            let all = self.entries.len();
            say(&format!("shard {} of {count}: {own} of {all} recordings", index + 1));
        }
        if own > open {
            say(&format!("{} of {own} recordings are done already", own - open));
        }
    }

    /// A recording's run has ended. What a stop cut short is neither done nor failed.
    fn ended(
        &self,
        at: usize,
        result: Result<f64, Failure>,
        stop: &AtomicBool,
        nights: &Nights,
        worked: &mut Worked,
    ) {
        let name = &self.entries[at].name;
        let is_cut = stop.load(Ordering::Relaxed) && result.is_err();
        nights.ended(name, if is_cut { Ended::Cut } else { Ended::of(&result) });
        match result {
            Ok(recorded_s) => {
                worked.done += 1;
                worked.recorded_s += recorded_s;
            }
            Err(failure) if !is_cut => {
                self.mark_failed(at, &failure);
                worked.failed.push((name.clone(), failure));
            }
            Err(_) => {}
        }
    }

    /// One recording, to its marker; returns how long it is, seconds.
    fn night(
        &self,
        at: usize,
        setup: &Setup,
        args: &RunArgs,
        stop: &AtomicBool,
    ) -> Result<f64, Failure> {
        let (entry, folder) = (&self.entries[at], self.out.join(&self.entries[at].folder));
        let _claim = out_folder::unless_session(&folder)?;
        let _lock = claim(&folder).map_err(Failure::run)?;
        let unwritten = |e| Failure::run(format!("{}: cannot be written ({e})", folder.display()));
        let before = Before::of(&folder).map_err(unwritten)?;
        let (to, quality) = std::sync::mpsc::channel();
        let sink = Box::new(QualitySink::new(to));
        let mut replay = Replay::open(setup, args, &entry.file, &folder, self.people[at])?.quiet();
        let replayed = replay.run(vec![sink], stop)?;
        if stop.load(Ordering::Relaxed) {
            return Err(super::setup::interrupted(&folder));
        }
        if let Some(failure) = replayed.failures.into_iter().next() {
            return Err(Failure::run(failure));
        }
        // On the disk before the marker that says so.
        let outputs = before.written(&folder).map_err(unwritten)?;
        let identity = self.identities[at].clone();
        let marker = Marker::done(identity, quality.try_iter().last(), outputs);
        marker.write(&folder).map_err(Failure::run)?;
        Ok(replayed.outcome.hypnogram.len() as f64 * EPOCH_S)
    }

    /// Leaves the reason in the recording's folder, for the table; if that fails too, the end of
    /// this run still tells it.
    fn mark_failed(&self, at: usize, failure: &Failure) {
        let folder = self.out.join(&self.entries[at].folder);
        let reason = super::one_line(&failure.message);
        let marker = Marker::failed(self.identities[at].clone(), reason);
        let Ok(_lock) = claim(&folder) else { return };
        if let Err(reason) = marker.write(&folder) {
            say(&format!("warning: {reason}"));
        }
    }

    /// Table and page of all shards' nights.
    fn collect(&self, bundle: &Bundle, worked: &Worked) -> Result<Collected, Failure> {
        let manifest = bundle.manifest();
        let (labels, sha256) = (labels(bundle)?, bundle.sha256());
        let frame = Frame {
            bundle: &manifest.name,
            bundle_sha256: &sha256,
            embed_dim: manifest.base.embed_dim,
            hazards: manifest.risk.as_ref().map_or(0, |risk| risk.classes),
            labels: &labels,
        };
        let page = Page {
            bundle: (&manifest.name, &sha256),
            training_data: &manifest.training.data,
            caution: manifest.training.caution(),
        };
        let failed = worked.failed.iter();
        let failed = failed.map(|(name, f)| (name.clone(), super::one_line(&f.message))).collect();
        cohort_files::write(&self.out, &self.entries, &self.identities, &failed, &frame, &page)
            .map_err(Failure::run)
    }

    /// What stdout ends with, and the exit code.
    fn conclude(&self, worked: &Worked, collected: &Collected) -> Result<(), Failure> {
        let (all, out) = (self.entries.len(), self.out.display().to_string());
        let failed = collected.rows.iter().filter(|row| row.reason.is_some()).count();
        let (done, pending) = (collected.rows.len() - failed, collected.pending);
        let mut text =
            format!("{done} of {all} recordings done, {failed} failed, {pending} to do\n");
        if worked.done > 0 {
            text += &format!(
                "{} in this run, {} h of recording in {} s: {} nights/h\n",
                worked.done,
                figure(worked.recorded_s / 3600.0),
                figure(worked.elapsed_s),
                figure(worked.recorded_s / worked.elapsed_s * 3600.0 / NIGHT_S)
            );
        }
        for (name, failure) in worked.failed.iter().take(SHOWN_FAILURES) {
            let reason = super::one_line(&failure.message);
            text += &format!("failed: {}: {}\n", shown(name), shown(&reason));
        }
        if worked.failed.len() > SHOWN_FAILURES {
            text += &format!("and {} more\n", worked.failed.len() - SHOWN_FAILURES);
        }
        let out_shown = shown(&out);
        text += &format!("In {out_shown}: cohort.csv, cohort.parquet, cohort.html, failures.csv\n");
        text += "Research software, not a medical device.\n";
        show(&text)?;
        self.verdict(worked, &out)
    }

    fn verdict(&self, worked: &Worked, out: &str) -> Result<(), Failure> {
        let (wanted, failed) = (worked.wanted, worked.failed.len());
        if worked.interrupted {
            let left = wanted - worked.done - failed;
            return Err(Failure::run(format!(
                "interrupted with {left} of {wanted} recordings to do; the same command goes on"
            )));
        }
        if failed == 0 {
            return Ok(());
        }
        if failed == self.own().len() && worked.failed.iter().all(|(_, failure)| failure.code == 3)
        {
            return Err(Failure::input(format!(
                "none of the {failed} recordings could be read; {out}/failures.csv says why"
            )));
        }
        Err(Failure::run(format!(
            "{failed} of {wanted} recordings failed; {out}/failures.csv says why, the same command tries them again"
        )))
    }
}

/// Workers for all recordings, and the flag that a signal sets. Recordings run beside the workers
/// and not on them, as beds do.
fn start_workers(threads: usize) -> Result<Arc<AtomicBool>, Failure> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Failure::run(format!("the worker threads cannot start: {e}")))?;
    let stop = Arc::new(AtomicBool::new(false));
    signals::on_signal(stop.clone()).map_err(Failure::run)?;
    Ok(stop)
}

/// Untrusted text for a terminal.
fn shown(text: &str) -> String {
    crate::text::escaped(text)
}
