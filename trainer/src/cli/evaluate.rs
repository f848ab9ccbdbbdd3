//! `sfm-train evaluate staging|risk|apnea`: figures of a head on a part of a split.

use std::path::{Path, PathBuf};

use burn::backend::Flex;
use clap::{Args, Subcommand};
use serde::Serialize;
use sfm_models::{Bundle, SleepStage};

use super::{FAILED, Failure, REFUSED, UNREADABLE, USAGE, named, say};
use crate::data::{Demographics, Events, Split, labels, study_id};
use crate::evaluate::replay::Replay;
use crate::evaluate::report::Report;
use crate::evaluate::stages::{self, Recording, StageFigures};
use crate::evaluate::staging::{EPOCH_TOKENS, epoch_stage, epochs_of, night_logits};
use crate::evaluate::{apnea, risk};
use crate::finetune::FinetuneError;
use crate::finetune::apnea::{Breathers, Scores, whole};
use crate::finetune::followed::Followed;
use crate::finetune::head::{HeadAbout, Kind, WEIGHTS, read_apnea, read_risk, read_stager};
use crate::finetune::nights::{Nights, Tokens};
use crate::finetune::risk::{Cohort, Variant, whole_log_hazards};
use crate::finetune::staging::{Scored, stages_path};
use crate::finetune::stretch::Subset;
use crate::finetune::supervised::{Signals, Supervised};
use crate::run::{BEST, RunError, SPLIT};

/// Measures a head.
#[derive(Args)]
pub struct EvaluateArgs {
    #[command(subcommand)]
    head: Head,
}

#[derive(Subcommand)]
enum Head {
    /// Sleep stages: by stage, by recording, by subset of modalities, live against final.
    Staging(StagingArgs),
    /// Hazards: C-index, AUROC and calibration by label.
    Risk(RiskArgs),
    /// Presence and severity of sleep apnea.
    Apnea(ApneaArgs),
}

#[derive(Args)]
struct Common {
    /// Folder of the run whose best head is measured.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Folder of embeddings.
    #[arg(long, value_name = "DIR")]
    embeddings: Option<PathBuf>,
    /// The split [default: the run's].
    #[arg(long, value_name = "JSON")]
    split: Option<PathBuf>,
    /// Part of the split.
    #[arg(long, value_name = "NAME", default_value = "test")]
    part: String,
    /// Where results go [default: evaluate-<part> in the run's folder].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct StagingArgs {
    #[command(flatten)]
    common: Common,
    /// Folder of scored stages: <cohort>/<id>.csv or <id>.csv.
    #[arg(long, value_name = "DIR")]
    stages: PathBuf,
    /// Only with all modalities, not with each of the 15 subsets.
    #[arg(long)]
    no_subsets: bool,
    /// A bundle, staged live and after the night by the runtime.
    #[arg(long, value_name = "FILE.sfm", requires = "edf")]
    bundle: Option<PathBuf>,
    /// Folder of recordings for --bundle: <cohort>/<id>.edf.
    #[arg(long, value_name = "DIR", requires = "bundle")]
    edf: Option<PathBuf>,
}

#[derive(Args)]
struct RiskArgs {
    #[command(flatten)]
    common: Common,
    /// Folder with is_event.csv and time_to_event.csv.
    #[arg(long, value_name = "DIR")]
    events: PathBuf,
    /// Age, sex and subject.
    #[arg(long, value_name = "CSV")]
    demographics: PathBuf,
    /// The store of signals, for a head of the variant `supervised`.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The truth of a simulated cohort, for the ceiling of the C-index.
    #[arg(long, value_name = "JSON")]
    truth: Option<PathBuf>,
    /// When the AUROC is taken [default: the median time to an event].
    #[arg(long, value_name = "YEARS")]
    horizon: Option<f64>,
    /// Bootstrap samples.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    bootstrap: u32,
    /// Seed of the bootstrap.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct ApneaArgs {
    #[command(flatten)]
    common: Common,
    /// The AHI of each recording.
    #[arg(long, value_name = "CSV")]
    demographics: PathBuf,
}

/// Measures the head.
pub fn run(args: EvaluateArgs) -> Result<(), Failure> {
    match args.head {
        Head::Staging(args) => staging(&args),
        Head::Risk(args) => risk(&args),
        Head::Apnea(args) => apnea(&args),
    }
}

impl Common {
    fn run(&self) -> Result<&Path, Failure> {
        self.run.as_deref().ok_or_else(|| (USAGE, "give --run, the folder of a run".to_owned()))
    }

    fn embeddings(&self) -> Result<&Path, Failure> {
        let missing = || (USAGE, "give --embeddings, the folder that embed wrote".to_owned());
        self.embeddings.as_deref().ok_or_else(missing)
    }

    /// The recordings of the part.
    fn recordings(&self, people: Option<&Demographics>) -> Result<Vec<String>, Failure> {
        let path = match (&self.split, &self.run) {
            (Some(split), _) => split.clone(),
            (None, Some(run)) => run.join(SPLIT),
            (None, None) => return Err((USAGE, "give --split".to_owned())),
        };
        let split = Split::read(&path, people).map_err(|e| (e.exit_code(), e.to_string()))?;
        let part = split.parts().find(|(name, _)| *name == self.part);
        match part {
            Some((_, recordings)) if !recordings.is_empty() => Ok(recordings.to_vec()),
            _ => {
                let reason = format!("has no recordings in part '{}'", self.part);
                Err((UNREADABLE, named(&path, &reason)))
            }
        }
    }

    fn report(&self) -> Result<Report, Failure> {
        let folder = match (&self.out, &self.run) {
            (Some(out), _) => out.clone(),
            (None, Some(run)) => run.join(format!("evaluate-{}", self.part)),
            (None, None) => return Err((USAGE, "give --out".to_owned())),
        };
        Report::open(&folder).map_err(run_failure)
    }
}

fn run_failure(error: RunError) -> Failure {
    (error.exit_code(), error.to_string())
}

fn failure(error: FinetuneError) -> Failure {
    (error.exit_code(), error.to_string())
}

fn tell(nights: &Nights) {
    for note in &nights.notes {
        eprintln!("note: {}", sfm_runtime::montage::escaped(note));
    }
}

fn read_people(path: &Path) -> Result<Demographics, Failure> {
    Demographics::read(path).map_err(|e| (e.exit_code(), e.to_string()))
}

fn staging(args: &StagingArgs) -> Result<(), Failure> {
    if let (Some(bundle), Some(edf)) = (&args.bundle, &args.edf) {
        return live_against_final(args, bundle, edf);
    }
    #[derive(Serialize)]
    struct Metrics<'a> {
        part: &'a str,
        head: &'a HeadAbout,
        all: &'a StageFigures,
        by_subset: &'a [(String, StageFigures)],
    }
    let common = &args.common;
    let device = Default::default();
    let (about, stager) =
        read_stager::<Flex>(&common.run()?.join(BEST), &device).map_err(run_failure)?;
    let paths = common.recordings(None)?;
    let scored = Scored::read(common.embeddings()?, &args.stages, &paths).map_err(failure)?;
    tell(&scored.nights);
    fits(&about, &scored.nights)?;
    let report = common.report()?;
    let with = |kept: Subset| -> Result<Vec<Recording>, Failure> {
        let nights = scored.nights.recordings().iter().zip(&scored.stages).enumerate();
        nights
            .map(|(index, (recording, stages))| {
                let night = scored.nights.night(index).map_err(|e| failure(e.into()))?;
                let longest = about.config.max_seq_length;
                let logits = night_logits(&stager, &night, kept, longest, &device);
                Ok(Recording::new(&recording.id, epochs_of(stages, &logits)))
            })
            .collect()
    };
    let recordings = with(Subset::ALL)?;
    let all = stages::figures(&recordings);
    stages::write(&report, "", &recordings, &all).map_err(run_failure)?;
    say_stages("all modalities", &all);
    let mut by_subset = Vec::new();
    if !args.no_subsets {
        for kept in Subset::every() {
            let figures = stages::figures(&with(kept)?);
            say_stages(&kept.name(), &figures);
            by_subset.push((kept.name(), figures));
        }
        stages::write_subsets(&report, &by_subset).map_err(run_failure)?;
    }
    let metrics = Metrics { part: &common.part, head: &about, all: &all, by_subset: &by_subset };
    report.metrics(&metrics).map_err(run_failure)?;
    say(format_args!("written {}", report.file("metrics.json").display()));
    Ok(())
}

fn say_stages(name: &str, figures: &StageFigures) {
    say(format_args!(
        "{name}: macro-F1 {:.4}, accuracy {:.4}, kappa {:.4}, {} epochs, {} without a stage",
        figures.macro_f1, figures.accuracy, figures.kappa, figures.epochs, figures.unstaged
    ));
}

fn fits(about: &HeadAbout, nights: &Nights) -> Result<(), Failure> {
    if about.embed_dim == nights.embed_dim() {
        return Ok(());
    }
    let reason = format!(
        "the head takes tokens of {} values, but the embeddings have {}; embed with its network",
        about.embed_dim,
        nights.embed_dim()
    );
    Err((REFUSED, reason))
}

fn live_against_final(args: &StagingArgs, bundle: &Path, edf: &Path) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Metrics<'a> {
        part: &'a str,
        bundle: String,
        provisional: &'a StageFigures,
        live: &'a StageFigures,
        last: &'a StageFigures,
        /// Share of epochs whose stage differs.
        live_differs_from_final: f64,
        provisional_differs_from_live: f64,
        failed: &'a [String],
    }
    let common = &args.common;
    let opened = Bundle::open(bundle).map_err(|e| (REFUSED, named(bundle, &e)))?;
    let replay = Replay::load(&opened).map_err(|e| (REFUSED, named(bundle, &e)))?;
    say(format_args!("backend: {}", replay.engine));
    let paths = common.recordings(None)?;
    let report = common.report()?;
    let mut sets: [Vec<Recording>; 3] = Default::default();
    let (mut epochs, mut changed) = (0_usize, [0_usize; 2]);
    let mut failed = Vec::new();
    for path in &paths {
        let file = edf.join(path).with_extension("edf");
        let staged = replay.stage(&file).and_then(|hypnograms| {
            let tokens = EPOCH_TOKENS * hypnograms.last.len();
            let stages = labels::stages(&stages_path(&args.stages, path), tokens);
            Ok((stages.map_err(|e| e.to_string())?, hypnograms))
        });
        let (truth, h) = match staged {
            Ok(staged) => staged,
            Err(reason) => {
                eprintln!("failed: {reason}");
                failed.push(reason);
                continue;
            }
        };
        let truth: Vec<Option<SleepStage>> = truth.chunks(EPOCH_TOKENS).map(epoch_stage).collect();
        let id = study_id(Path::new(path));
        for (set, stages) in sets.iter_mut().zip([&h.provisional, &h.settled, &h.last]) {
            set.push(Recording::new(&id, truth.iter().copied().zip(stages.iter().copied())));
        }
        epochs += h.last.len();
        let differ = |a: &[_], b: &[_]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        changed[0] += differ(&h.settled, &h.last);
        changed[1] += differ(&h.provisional, &h.settled);
        say(format_args!("{id}: {} epochs", h.last.len()));
    }
    if epochs == 0 {
        return Err((FAILED, format!("none of {} recording(s) could be staged", paths.len())));
    }
    let [provisional, live, last] = sets.each_ref().map(|set| stages::figures(set));
    for (prefix, set, figures) in [
        ("provisional_", &sets[0], &provisional),
        ("live_", &sets[1], &live),
        ("final_", &sets[2], &last),
    ] {
        stages::write(&report, prefix, set, figures).map_err(run_failure)?;
        say_stages(prefix.trim_end_matches('_'), figures);
    }
    let [differs, provisional_differs] = changed.map(|count| count as f64 / epochs as f64);
    say(format_args!("live and final differ in {:.1} % of epochs", 100.0 * differs));
    let metrics = Metrics {
        part: &common.part,
        bundle: bundle.display().to_string(),
        provisional: &provisional,
        live: &live,
        last: &last,
        live_differs_from_final: differs,
        provisional_differs_from_live: provisional_differs,
        failed: &failed,
    };
    report.metrics(&metrics).map_err(run_failure)
}

fn risk(args: &RiskArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Metrics<'a> {
        part: &'a str,
        head: &'a HeadAbout,
        recordings: usize,
        mean_c_index: f64,
        mean_ceiling_c_index: f64,
        labels: &'a [risk::LabelFigures],
    }
    let common = &args.common;
    let people = read_people(&args.demographics)?;
    let files = ["is_event.csv", "time_to_event.csv"].map(|name| args.events.join(name));
    let events = Events::read(&files[0], &files[1]).map_err(|e| (e.exit_code(), e.to_string()))?;
    let paths = common.recordings(Some(&people))?;
    let path = common.run()?.join(BEST);
    let (about, _) = HeadAbout::read(&path, Kind::Risk).map_err(run_failure)?;
    if about.labels != events.labels {
        return Err((
            UNREADABLE,
            named(&files[0], &"has other labels than the head was trained on"),
        ));
    }
    let tokens = Tokens::Recorded(about.config.max_seq_length);
    let mut nights = Nights::read(common.embeddings()?, &paths, tokens).map_err(failure)?;
    if about.signals.is_none() {
        fits(&about, &nights)?;
    }
    let range = about.age_range;
    let followed =
        Followed::find(&mut nights, &events, &people, range, about.demographics, &args.events)
            .map_err(failure)?;
    tell(&nights);
    let cohort = Cohort { nights, followed };
    let log_hazards = log_hazards(&path, &about, &cohort, args.store.as_deref())?;
    let ids: Vec<&str> = cohort.nights.recordings().iter().map(|r| r.id.as_str()).collect();
    let truth = match &args.truth {
        Some(path) => Some(
            risk::read_truth(path, &ids, about.classes)
                .map_err(|e| (e.exit_code(), e.to_string()))?,
        ),
        None => None,
    };
    let measures = risk::Measures {
        draws: args.bootstrap as usize,
        horizon: args.horizon.unwrap_or_else(|| risk::median_event_time(&cohort.followed)),
        seed: args.seed,
    };
    let names = (about.labels.as_slice(), about.learned.as_slice());
    let figures = risk::figures(names, &log_hazards, truth.as_deref(), &cohort.followed, measures);
    let report = common.report()?;
    risk::write(&report, &figures).map_err(run_failure)?;
    for f in &figures {
        let shown = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.3}"));
        let (low, high) = f.c_index_95.unzip();
        say(format_args!(
            "{}: C-index {} ({} to {}), ceiling {}, AUROC {}, slope {}, {} events",
            f.label,
            shown(f.c_index),
            shown(low),
            shown(high),
            shown(f.ceiling_c_index),
            shown(f.auroc),
            shown(f.calibration_slope),
            f.events
        ));
    }
    let mean = |of: fn(&risk::LabelFigures) -> Option<f64>| {
        let known: Vec<f64> = figures.iter().filter_map(of).collect();
        known.iter().sum::<f64>() / known.len() as f64
    };
    let metrics = Metrics {
        part: &common.part,
        head: &about,
        recordings: cohort.followed.len(),
        mean_c_index: mean(|f| f.c_index),
        mean_ceiling_c_index: mean(|f| f.ceiling_c_index),
        labels: &figures,
    };
    report.metrics(&metrics).map_err(run_failure)?;
    say(format_args!("mean C-index {:.4}", metrics.mean_c_index));
    say(format_args!("written {}", report.file("metrics.json").display()));
    Ok(())
}

fn log_hazards(
    path: &Path,
    about: &HeadAbout,
    cohort: &Cohort<Nights>,
    store: Option<&Path>,
) -> Result<Vec<f64>, Failure> {
    let device = Default::default();
    let log_hazards = if let Some((network, windows)) = &about.signals {
        let missing = || (USAGE, "a supervised head takes signals: give --store".to_owned());
        let store = store.ok_or_else(missing)?;
        let (_, mut checkpoint) = HeadAbout::read(path, Kind::Risk).map_err(run_failure)?;
        let record = checkpoint.record::<Flex, _>(WEIGHTS, &device).map_err(run_failure)?;
        let head = Supervised::<Flex> {
            base: network.base().init(&device),
            risk: about.config.risk(about.embed_dim, about.classes, true).init(&device),
        };
        let head = burn::module::Module::load_record(head, record);
        let nights = Signals::of(store, &cohort.nights, network, *windows).map_err(failure)?;
        let cohort = Cohort { nights, followed: cohort.followed.clone() };
        whole_log_hazards::<Flex, _, _>(&head, &cohort, Subset::ALL, &device)
    } else if about.variant == Some(Variant::DemographicsOnly) {
        let (_, mut checkpoint) = HeadAbout::read(path, Kind::Risk).map_err(run_failure)?;
        let record = checkpoint.record::<Flex, _>(WEIGHTS, &device).map_err(run_failure)?;
        let config = about.config.demographics(about.embed_dim, about.classes);
        let head = burn::module::Module::load_record(config.init::<Flex>(&device), record);
        whole_log_hazards::<Flex, _, _>(&head, cohort, Subset::ALL, &device)
    } else {
        let (_, head) = read_risk::<Flex>(path, &device).map_err(run_failure)?;
        whole_log_hazards::<Flex, _, _>(&head, cohort, Subset::ALL, &device)
    };
    log_hazards.map_err(failure)
}

fn apnea(args: &ApneaArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Metrics<'a> {
        part: &'a str,
        head: &'a HeadAbout,
        #[serde(flatten)]
        figures: &'a apnea::ApneaFigures,
    }
    let common = &args.common;
    let device = Default::default();
    let people = read_people(&args.demographics)?;
    let paths = common.recordings(Some(&people))?;
    let (about, head) =
        read_apnea::<Flex>(&common.run()?.join(BEST), &device).map_err(run_failure)?;
    let tokens = Tokens::Recorded(about.config.max_seq_length);
    let nights = Nights::read(common.embeddings()?, &paths, tokens).map_err(failure)?;
    fits(&about, &nights)?;
    let cohort = Breathers::find(nights, &people).map_err(failure)?;
    tell(&cohort.nights);
    let scores = (0..cohort.ahi.len())
        .map(|night| {
            whole(&head, &cohort.nights, night, Subset::ALL, &device).map(|a| Scores::of(&a))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(failure)?;
    let figures = apnea::figures(&scores, &cohort.ahi);
    let report = common.report()?;
    let ids: Vec<&str> = cohort.nights.recordings().iter().map(|r| r.id.as_str()).collect();
    apnea::write(&report, &ids, &scores, &cohort.ahi, &figures).map_err(run_failure)?;
    for f in &figures.presence {
        say(format_args!(
            "AHI >= {}: AUROC {}, accuracy {:.3}, F1 {:.3}, {} of {}",
            f.ahi,
            f.auroc.map_or("-".to_owned(), |auroc| format!("{auroc:.3}")),
            f.accuracy,
            f.f1,
            f.positive,
            figures.recordings
        ));
    }
    say(format_args!(
        "severity: accuracy {:.3}, kappa {:.3}, macro-F1 {:.3}",
        figures.severity_accuracy, figures.severity_kappa, figures.severity_macro_f1
    ));
    let metrics = Metrics { part: &common.part, head: &about, figures: &figures };
    report.metrics(&metrics).map_err(run_failure)?;
    say(format_args!("written {}", report.file("metrics.json").display()));
    Ok(())
}
