//! `evaluate staging`, live against final: of a bundle that stages recordings here, or of what
//! `sfm-stream` has already staged.

use std::path::Path;

use serde::Serialize;
use sfm_models::{Bundle, SleepStage};
use sfm_runtime::text::escaped;

use super::run_failure;
use super::staging::{StagingArgs, say_stages};
use crate::cli::{FAILED, Failure, REFUSED, named, say};
use crate::data::study_id;
use crate::evaluate::outputs;
use crate::evaluate::replay::{Hypnograms, Replay};
use crate::evaluate::stages::{self, Recording, StageFigures};
use crate::evaluate::staging::{EPOCH_TOKENS, epoch_stage};

/// Stages recordings with `bundle` in both passes.
pub fn of_bundle(args: &StagingArgs, bundle: &Path, edf: &Path) -> Result<(), Failure> {
    let opened = Bundle::open(bundle).map_err(|e| (REFUSED, named(bundle, &e)))?;
    let replay = Replay::load(&opened).map_err(|e| (REFUSED, named(bundle, &e)))?;
    say(format_args!("backend: {}", replay.engine));
    live_against_final(args, bundle.display().to_string(), |recording| {
        replay.stage(&edf.join(recording).with_extension("edf"))
    })
}

/// Takes the stages of output folders of `sfm-stream`.
pub fn of_outputs(args: &StagingArgs, folders: &Path) -> Result<(), Failure> {
    live_against_final(args, folders.display().to_string(), |recording| {
        let folder = outputs::folder(folders, recording).ok_or_else(|| {
            format!("{}: no output folder of {recording} in it", folders.display())
        })?;
        outputs::read(&folder)
    })
}

/// Measures the stages that `hypnograms` gives of each recording.
fn live_against_final(
    args: &StagingArgs,
    of: String,
    hypnograms: impl Fn(&str) -> Result<Hypnograms, String>,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Metrics<'a> {
        part: &'a str,
        of: &'a str,
        provisional: &'a StageFigures,
        live: &'a StageFigures,
        last: &'a StageFigures,
        /// Share of epochs whose stage differs.
        live_differs_from_final: f64,
        provisional_differs_from_live: f64,
        failed: &'a [String],
    }
    let common = &args.common;
    let paths = common.recordings(None)?;
    let report = common.report()?;
    let mut sets: [Vec<Recording>; 3] = Default::default();
    let (mut epochs, mut changed) = (0_usize, [0_usize; 2]);
    let mut failed = Vec::new();
    let folder = args.stages.folder();
    for path in &paths {
        let staged = hypnograms(path).and_then(|hypnograms| {
            let tokens = EPOCH_TOKENS * hypnograms.last.len();
            let file = folder.find(path).map_err(|e| e.to_string())?;
            let missing = || format!("{}: no scoring of {path} in it", folder.path.display());
            let scored = folder.read(&file.ok_or_else(missing)?, tokens);
            let scored = scored.map_err(|e| e.to_string())?;
            scored.warnings.iter().for_each(|text| eprintln!("note: {}", escaped(text)));
            Ok((scored.stages, hypnograms))
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
        return Err((FAILED, format!("none of {} recording(s) could be used", paths.len())));
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
        of: &of,
        provisional: &provisional,
        live: &live,
        last: &last,
        live_differs_from_final: differs,
        provisional_differs_from_live: provisional_differs,
        failed: &failed,
    };
    report.metrics(&metrics).map_err(run_failure)
}
