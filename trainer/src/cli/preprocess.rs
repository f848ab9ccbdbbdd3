//! `sfm-train preprocess`: a folder of EDF and BDF recordings to a store of HDF5 files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use sfm_models::manifest::{ChannelPolicy, Preprocessing};
use sfm_runtime::batch::archive::{EXPORTED, Search};
use sfm_runtime::cli::args::ChannelArgs;
use sfm_runtime::montage::ChannelRules;

use super::{Failure, UNREADABLE, USAGE, named};
use crate::data::EXTENSION;
use crate::jobs::{self, Done};
use crate::preprocess::{Preprocess, preprocessing};

/// What the store was made with, beside its cohorts.
const ABOUT: &str = "store.json";
const OTHERWISE: &str = "the store was made with other rules, --map or --all-channels; use the same ones or another --out";

/// Folders below --edf are kept. A recording that is in the store already is left as it is.
#[derive(Args)]
pub struct PreprocessArgs {
    /// Folder with EDF, EDF+, BDF or BDF+ recordings, searched through.
    #[arg(long, value_name = "DIR")]
    edf: PathBuf,
    /// The store: one HDF5 file a recording.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Recordings at once, about 500 MB of memory each [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// How channels are mapped.
    #[command(flatten)]
    channels: ChannelArgs,
    /// Keep channels that no rule maps too.
    #[arg(long)]
    all_channels: bool,
}

/// `store.json`: a store is made in one way, also if several runs make it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    preprocessing: Preprocessing,
    /// `built-in`, or the SHA-256 of the file of rules.
    rules: String,
    map: Vec<String>,
    all_channels: bool,
    /// What becomes of electrodes; of older stores, the reference's way.
    #[serde(default)]
    channels: ChannelPolicy,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    derive: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    no_derive: bool,
}

/// Preprocesses what is not in the store yet.
pub fn run(args: PreprocessArgs) -> Result<(), Failure> {
    let (rules, rules_are) = rules(&args.channels)?;
    let rules = rules
        .with_policy(args.channels.policy.unwrap_or_default())
        .with_derivations(&args.channels.derive)
        .map_err(|e| (USAGE, e.to_string()))?;
    let rules = if args.channels.no_derive { rules.without_derivations() } else { rules };
    let preprocess = Preprocess::new(rules, &args.channels.map, args.all_channels)
        .map_err(|e| (USAGE, e.to_string()))?;
    let recordings = recordings(&args)?;
    let about = About {
        preprocessing: preprocessing(),
        rules: rules_are,
        map: args.channels.map.clone(),
        all_channels: args.all_channels,
        channels: args.channels.policy.unwrap_or_default(),
        derive: args.channels.derive.clone(),
        no_derive: args.channels.no_derive,
    };
    jobs::keep_settings(&args.out.join(ABOUT), &about, OTHERWISE)?;
    let jobs = targets(&recordings);
    let workers = args.workers.map_or_else(jobs::default_workers, usize::from);
    let tally = jobs::run("preprocess", &jobs, workers, |job| {
        let from = args.edf.join(&job.from);
        if let Some(first) = &job.same_name {
            let first = args.edf.join(first);
            let reason = format!("has the same name as {}; rename one", first.display());
            return Err(named(&from, &reason));
        }
        let to = args.out.join(&job.to);
        if to.exists() {
            return Ok(Done { already: true, ..Done::default() });
        }
        let notes = preprocess.recording(&from, &to).map_err(|e| e.to_string())?;
        Ok(Done { already: false, notes })
    });
    // Entries for channels of recordings that are in the store already cannot be told from others.
    if tally.already == 0 {
        for entry in preprocess.unused_map() {
            eprintln!("note: --map '{entry}': no recording has a channel of this label");
        }
    }
    tally.conclude("preprocessed")
}

/// The recordings below --edf, relative to it; names what is passed over.
fn recordings(args: &PreprocessArgs) -> Result<Vec<PathBuf>, Failure> {
    let found = Search::folder(&args.edf, &args.out, &EXPORTED)
        .map_err(|e| (UNREADABLE, named(&args.edf, &format_args!("cannot be read: {e}"))))?;
    let passed_over = found.passed_over();
    if found.files.is_empty() {
        let also = passed_over.map_or_else(String::new, |line| format!(" ({line})"));
        let reason = format!(
            "holds no .edf, .bdf or .rec recording{also}; give the folder of the recordings"
        );
        return Err((UNREADABLE, named(&args.edf, &reason)));
    }
    passed_over.iter().for_each(|line| jobs::print(line));
    let below = |file: &PathBuf| file.strip_prefix(&args.edf).unwrap_or(file).to_owned();
    let mut recordings: Vec<PathBuf> = found.files.iter().map(below).collect();
    recordings.sort();
    Ok(recordings)
}

struct Job {
    from: PathBuf,
    to: PathBuf,
    /// Another recording that would be the same file of the store.
    same_name: Option<PathBuf>,
}

fn targets(recordings: &[PathBuf]) -> Vec<Job> {
    let mut taken: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let job = |from: &PathBuf| {
        let to = from.with_extension(EXTENSION);
        let same_name = taken.get(&to).cloned();
        taken.entry(to.clone()).or_insert_with(|| from.clone());
        Job { from: from.clone(), to, same_name }
    };
    recordings.iter().map(job).collect()
}

fn rules(channels: &ChannelArgs) -> Result<(ChannelRules, String), Failure> {
    let hashed = |path: &Path| -> Result<String, (u8, String)> {
        let bytes = std::fs::read(path).map_err(|e| (USAGE, named(path, &e)))?;
        Ok(sfm_models::bundle::sha256_hex(&bytes))
    };
    let refuse = |e: sfm_runtime::montage::MontageError| (USAGE, e.to_string());
    match (&channels.channel_groups, &channels.channel_rules) {
        (Some(json), _) => {
            Ok((ChannelRules::read_channel_groups(json).map_err(refuse)?, hashed(json)?))
        }
        (None, Some(toml)) => Ok((ChannelRules::read_toml(toml).map_err(refuse)?, hashed(toml)?)),
        (None, None) => Ok((ChannelRules::built_in().map_err(refuse)?, "built-in".to_owned())),
    }
}
