//! `sfm-stream score --reference HYPNOGRAM OUT`: how far the stages of a run agree with somebody
//! else's, and a timeline of where they do not.

use std::fmt::Write;

use serde_json::{Value, json};
use sfm_models::SleepStage;

use super::args::ScoreArgs;
use super::{Failure, say, show};
use crate::confusion::ClassFigures;
use crate::hypnogram::agreement::Agreement;
use crate::hypnogram::{self, Scoring, timeline};
use crate::montage::escaped;
use crate::sink::write_whole;

/// Reads both, prints the figures and draws the timeline.
pub(super) fn run(args: &ScoreArgs) -> Result<(), Failure> {
    let reference = hypnogram::read(&args.reference).map_err(Failure::input)?;
    let ours = hypnogram::read(&args.out).map_err(Failure::input)?;
    for (name, scoring) in [("reference", &reference), ("run", &ours)] {
        say(&format!("{name}: {}", described(scoring)));
    }
    let (theirs, stages) = (reference.epochs(), ours.epochs());
    let agreement = Agreement::of(&theirs, &stages);
    if agreement.confusion.total() == 0 {
        return Err(Failure::input(format!(
            "{}: no epoch is scored both there and in {}",
            args.reference.display(),
            args.out.display()
        )));
    }
    let names = [&args.reference, &args.out].map(|path| {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        escaped(&name)
    });
    let title = headline(&agreement);
    let svg = timeline::svg(&title, [&names[0], &names[1]], &theirs, &stages);
    let path = args.svg.clone().unwrap_or_else(|| {
        let folder = if args.out.is_dir() { Some(args.out.as_path()) } else { args.out.parent() };
        folder.unwrap_or(&args.out).join("score.svg")
    });
    write_whole(&path, svg.as_bytes()).map_err(Failure::run)?;
    if args.json {
        return show(&format!("{}\n", as_json(&agreement)));
    }
    show(&format!("{}\ntimeline: {}\n", table(&agreement), escaped(&path.display().to_string())))
}

/// What was read and how, for the user.
fn described(scoring: &Scoring) -> String {
    let mut text = scoring.format.to_owned();
    for note in &scoring.notes {
        let _ = write!(text, "; {note}");
    }
    if !scoring.is_on_grid() {
        text.push_str("; not in 30-s epochs: each takes the stage it is longest in");
    }
    text
}

fn headline(agreement: &Agreement) -> String {
    let confusion = &agreement.confusion;
    format!(
        "accuracy {:.3}, kappa {}, macro-F1 {:.3} over {} epochs",
        confusion.accuracy(),
        figure(confusion.kappa()),
        confusion.macro_f1(),
        confusion.total()
    )
}

fn table(agreement: &Agreement) -> String {
    let Agreement { confusion, .. } = agreement;
    let compared = confusion.total();
    let both = agreement.reference_epochs.min(agreement.our_epochs);
    let mut text = format!(
        "{}\ncompared {compared} of {both} epochs (reference {}, run {}): {} not scored by the \
         reference, {} by the run\n\n",
        headline(agreement),
        agreement.reference_epochs,
        agreement.our_epochs,
        agreement.unscored_reference,
        agreement.unscored_ours
    );
    // Writing into a string does not fail.
    let _ = writeln!(text, "stage  precision  recall     F1  epochs");
    for stage in SleepStage::ALL {
        let ClassFigures { precision, recall, f1, support } = confusion.class(stage.index());
        let [precision, recall, f1] = [precision, recall, f1].map(figure);
        let _ = writeln!(text, "{stage:<5}  {precision:>9}  {recall:>6}  {f1:>5}  {support:>6}");
    }
    text.push_str("\nreference (rows), run (columns)\n     ");
    SleepStage::ALL.iter().for_each(|stage| text.push_str(&format!("{stage:>7}")));
    for (stage, row) in SleepStage::ALL.iter().zip(confusion.rows()) {
        let _ = write!(text, "\n{stage:<5}");
        row.iter().for_each(|count| text.push_str(&format!("{count:>7}")));
    }
    text.push('\n');
    text
}

/// Three decimals; `-` where the figure is not defined.
fn figure(value: f64) -> String {
    if value.is_nan() { "-".into() } else { format!("{value:.3}") }
}

/// All figures; null where one is not defined.
fn as_json(agreement: &Agreement) -> Value {
    let confusion = &agreement.confusion;
    let stages: serde_json::Map<String, Value> = SleepStage::ALL
        .into_iter()
        .map(|stage| (stage.to_string(), json!(confusion.class(stage.index()))))
        .collect();
    json!({
        "accuracy": confusion.accuracy(),
        "kappa": confusion.kappa(),
        "macro_f1": confusion.macro_f1(),
        "epochs": confusion.total(),
        "reference_epochs": agreement.reference_epochs,
        "run_epochs": agreement.our_epochs,
        "unscored_reference": agreement.unscored_reference,
        "unscored_run": agreement.unscored_ours,
        "stages": stages,
        "labels": SleepStage::ALL.map(SleepStage::as_str),
        "confusion": confusion.rows(),
    })
}
