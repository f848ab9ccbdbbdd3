//! `sfm-train split`: deals recordings into the parts that `pretrain`, `finetune` and `evaluate` read.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Failure, UNREADABLE, USAGE, named, say};
use crate::data::split::Fractions;
use crate::data::{DataError, Demographics, EXTENSION, Split, find};

/// Deals recordings into parts by subject: no subject is in two of them.
#[derive(Args)]
pub struct SplitArgs {
    /// Folder of recordings: a store of `preprocess`, or embeddings of it.
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// What stays together.
    #[arg(long, value_enum, default_value_t = By::Subject)]
    by: By,
    /// Subjects of the recordings; without it each recording is a subject of its own.
    #[arg(long, value_name = "CSV")]
    demographics: Option<PathBuf>,
    /// Shares of the subjects: train,validation or train,validation,test or
    /// pretrain,train,validation,test. Without a share of its own, pretrain is train.
    #[arg(long, value_name = "SHARES", required_unless_present = "folds", conflicts_with = "folds", value_parser = fractions)]
    parts: Option<Fractions>,
    /// Cross-validation: as many splits, each with another fold as test and the next one as
    /// validation.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(3..=1000))]
    folds: Option<u16>,
    /// Seed: the same one deals the same way.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// The split's file; with --folds the folder of split-01.json, split-02.json, ...
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// All recordings of a person.
    Subject,
}

fn fractions(text: &str) -> Result<Fractions, String> {
    let shares: Option<Vec<f64>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    let [pretrain, train, validation, test] = match shares.as_deref() {
        Some(&[train, validation]) => [0.0, train, validation, 0.0],
        Some(&[train, validation, test]) => [0.0, train, validation, test],
        Some(&[pretrain, train, validation, test]) => [pretrain, train, validation, test],
        _ => return Err("give two to four shares, as 0.7,0.15,0.15".into()),
    };
    let fractions = Fractions { pretrain, train, validation, test };
    fractions.check().map(|()| fractions)
}

/// Writes the split or the splits.
pub fn run(args: &SplitArgs) -> Result<(), Failure> {
    let failure = |e: DataError| (e.exit_code(), e.to_string());
    let people =
        args.demographics.as_deref().map(Demographics::read).transpose().map_err(failure)?;
    let found = find(&args.store, &[EXTENSION]).map_err(failure)?;
    if found.is_empty() {
        let reason =
            format!("has no recordings (*.{EXTENSION}); make them with sfm-train preprocess");
        return Err((UNREADABLE, named(&args.store, &reason)));
    }
    let recordings: Vec<String> =
        found.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    if people.is_none() {
        eprintln!("note: without --demographics each recording counts as a subject of its own");
    }
    let refused = |reason: String| (USAGE, named(&args.store, &reason));
    let (people, seed) = (people.as_ref(), args.seed);
    match (&args.parts, args.folds) {
        (Some(parts), _) => {
            let mut split = Split::by_subject(&recordings, people, parts, seed).map_err(refused)?;
            if parts.pretrain == 0.0 {
                split.pretrain = split.train.clone();
            }
            write(&split, &args.out)
        }
        (None, folds) => {
            let folds = usize::from(folds.unwrap_or_default());
            let splits = Split::folds(&recordings, people, folds, seed).map_err(refused)?;
            let digits = folds.to_string().len().max(2);
            std::fs::create_dir_all(&args.out)
                .map_err(|e| failure(DataError::unwritable(&args.out, e)))?;
            splits.iter().zip(1..).try_for_each(|(split, number): (_, usize)| {
                write(split, &args.out.join(format!("split-{number:0digits$}.json")))
            })
        }
    }
}

fn write(split: &Split, path: &std::path::Path) -> Result<(), Failure> {
    split.write(path).map_err(|e| (e.exit_code(), e.to_string()))?;
    let sizes: Vec<String> =
        split.parts().map(|(name, part)| format!("{name} {}", part.len())).collect();
    say(format_args!("written  {}: {}", path.display(), sizes.join(", ")));
    Ok(())
}
