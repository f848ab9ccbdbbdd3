//! `evaluate risk`: C-index, AUROC and calibration by label.

use std::path::{Path, PathBuf};

use burn::backend::Flex;
use clap::Args;
use serde::Serialize;

use super::{Common, failure, fits, read_people, run_failure, tell};
use crate::cli::{Failure, UNREADABLE, USAGE, named, say};
use crate::data::Events;
use crate::evaluate::risk;
use crate::finetune::followed::Followed;
use crate::finetune::head::{HeadAbout, Kind, WEIGHTS, read_risk};
use crate::finetune::nights::{Nights, Tokens};
use crate::finetune::risk::{Cohort, Variant, whole_log_hazards};
use crate::finetune::stretch::Subset;
use crate::finetune::supervised::{Signals, Supervised};
use crate::run::BEST;

/// Arguments of `evaluate risk`.
#[derive(Args)]
pub struct RiskArgs {
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

/// Measures a risk head.
pub fn run(args: &RiskArgs) -> Result<(), Failure> {
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
