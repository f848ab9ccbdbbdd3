//! `sfm-stream score --reference HYPNOGRAM OUT`: how far the stages of a run agree with somebody
//! else's, and a timeline of where they do not.

use std::fmt::Write;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use sfm_models::SleepStage;

use super::args::ScoreArgs;
use super::{Failure, say, show};
use crate::files;
use crate::hypnogram::agreement::{Agreement, Alignment, check_epoch_lengths};
use crate::hypnogram::confusion::ClassFigures;
use crate::hypnogram::{self, Codes, ReadOptions, Scoring, timeline};
use crate::sink::write_whole;
use crate::text::escaped;

/// Reads both, prints the figures and draws the timeline.
pub(super) fn run(args: &ScoreArgs) -> Result<(), Failure> {
    let path = args.svg.clone().unwrap_or_else(|| {
        let folder = if args.out.is_dir() { Some(args.out.as_path()) } else { args.out.parent() };
        folder.unwrap_or(&args.out).join("score.svg")
    });
    for read in [&args.reference, &args.out] {
        files::protect(read);
        files::protect(&read.join("hypnogram.csv"));
    }
    may_be_replaced(&path)?;
    let reference = read(&args.reference, args.codes.clone(), args.epoch_s)?;
    let codes = args.run_codes.clone().or(args.codes.clone());
    let run = read(&args.out, codes, args.run_epoch_s.or(args.epoch_s))?;
    let files = [&args.reference, &args.out].map(|path| path.display().to_string());
    check_epoch_lengths(&reference, &run, [&files[0], &files[1]]).map_err(Failure::input)?;
    let alignment = Alignment::of(&reference, &run, args.offset_s);
    let agreement = Agreement::of(&reference, &run, alignment)
        .map_err(|reason| Failure::input(format!("{}: {reason}", files[0])))?;
    let unused = unused_options(args, &reference, &run);
    let compared = Compared { reference, run, agreement, unused };
    if compared.agreement.confusion.total() == 0 {
        return Err(Failure::input(compared.nothing_in_common(&files)));
    }
    compared.say_how();
    let names = [&args.reference, &args.out].map(|path| {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        escaped(&name)
    });
    let agreement = &compared.agreement;
    let title = headline(agreement);
    let svg = timeline::svg(&title, [&names[0], &names[1]], &agreement.reference, &agreement.run);
    write_whole(&path, svg.as_bytes()).map_err(Failure::run)?;
    if args.json {
        return show(&format!("{}\n", compared.as_json()));
    }
    show(&format!("{}\ntimeline: {}\n", table(agreement), escaped(&path.display().to_string())))
}

/// Refuses to write the picture over anything but a picture.
fn may_be_replaced(path: &Path) -> Result<(), Failure> {
    let refuse = |what: &str| {
        let path = path.display();
        Err(Failure::usage(format!("--svg {path}: {what}; choose another name")))
    };
    if files::is_input(path) {
        return refuse("that is a hypnogram to compare");
    }
    let Ok(about) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !about.is_file() {
        return refuse("that is there already and no regular file");
    }
    let is_svg = files::open_input(path).is_ok_and(|mut file| {
        let mut begin = [0; 64];
        let read = file.read(&mut begin).unwrap_or_default();
        let begin = begin.get(..read).unwrap_or_default().trim_ascii_start();
        read == 0 || begin.starts_with(b"<svg") || begin.starts_with(b"<?xml")
    });
    if is_svg { Ok(()) } else { refuse("that is there already and no picture of score's") }
}

fn read(path: &Path, codes: Option<Codes>, epoch_s: Option<f64>) -> Result<Scoring, Failure> {
    hypnogram::read(path, &ReadOptions { codes, epoch_s }).map_err(Failure::input)
}

fn offset(alignment: &Alignment) -> String {
    match alignment.offset_s {
        0.0 => "both begin at the same time".to_owned(),
        s if s > 0.0 => format!("the reference begins {s} s behind the run"),
        s => format!("the reference begins {} s before the run", -s),
    }
}

/// Options that have no effect on these files, one sentence each.
fn unused_options(args: &ScoreArgs, reference: &Scoring, run: &Scoring) -> Vec<String> {
    let has_epochs = |scoring: &Scoring, s: f64| scoring.epoch.is_some_and(|epoch| epoch.s == s);
    let has_numbers = |scoring: &Scoring| scoring.code.is_some();
    let mut unused = Vec::new();
    let mut check = |option: &str, is_used: bool| {
        let reason = match option.ends_with("codes") {
            true => "no stage there is a bare number",
            false => "the files say how long their epochs are",
        };
        if !is_used {
            unused.push(format!("{option} is not used: {reason}"));
        }
    };
    if args.codes.is_some() {
        let is_runs = args.run_codes.is_none() && has_numbers(run);
        check("--codes", has_numbers(reference) || is_runs);
    }
    if args.run_codes.is_some() {
        check("--run-codes", has_numbers(run));
    }
    if let Some(s) = args.epoch_s {
        let is_runs = args.run_epoch_s.is_none() && has_epochs(run, s);
        check("--epoch-s", has_epochs(reference, s) || is_runs);
    }
    if let Some(s) = args.run_epoch_s {
        check("--run-epoch-s", has_epochs(run, s));
    }
    unused
}

/// Both scorings and how they agree.
struct Compared {
    reference: Scoring,
    run: Scoring,
    agreement: Agreement,
    /// Options that have no effect on them, one sentence each.
    unused: Vec<String>,
}

impl Compared {
    /// What was read, how it was aligned, and what may be wrong, on stderr.
    fn say_how(&self) {
        for (name, scoring) in [("reference", &self.reference), ("run", &self.run)] {
            say(&format!("{name}: {}", described(scoring)));
        }
        let alignment = &self.agreement.alignment;
        say(&format!("aligned {}; {}", alignment.by.about(), offset(alignment)));
        self.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
    }

    /// What may be wrong or was assumed, one sentence each.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let options = [("reference", "--codes"), ("run", "--run-codes")];
        for ((name, option), scoring) in options.into_iter().zip([&self.reference, &self.run]) {
            warnings.extend(scoring.warnings.iter().map(|warning| format!("{name}: {warning}")));
            if let Some(code) = scoring.code.as_ref().filter(|code| code.is_assumed) {
                let code = &code.name;
                warnings
                    .push(format!("{name}: its numbers are taken as {code}'s; else give {option}"));
            }
        }
        warnings.extend(self.agreement.warnings.iter().chain(&self.unused).cloned());
        warnings
    }

    /// The refusal of two scorings without an epoch that both have scored.
    fn nothing_in_common(&self, files: &[String; 2]) -> String {
        let mut reason = format!("{}: no epoch is scored both there and in {}", files[0], files[1]);
        if self.agreement.both().is_empty() {
            let offset = offset(&self.agreement.alignment);
            // Writing into a string does not fail.
            let _ = write!(
                reason,
                ": {offset}; if they are of one night, say where the reference begins behind the run: \
                 --offset-s"
            );
        }
        reason
    }

    /// All figures; null where one is not defined.
    fn as_json(&self) -> Value {
        let agreement = &self.agreement;
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
            "reference_epochs": agreement.reference_range.len(),
            "run_epochs": agreement.run_range.len(),
            "unscored_reference": agreement.unscored_reference,
            "unscored_run": agreement.unscored_run,
            "only_reference": agreement.only_reference(),
            "only_run": agreement.only_run(),
            "aligned_by": agreement.alignment.by.as_str(),
            "offset_s": agreement.alignment.offset_s,
            "reference_format": self.reference.format,
            "run_format": self.run.format,
            "codes_assumed": assumed_code(&self.reference),
            "run_codes_assumed": assumed_code(&self.run),
            "epoch_s_assumed": assumed_epoch_s(&self.reference),
            "run_epoch_s_assumed": assumed_epoch_s(&self.run),
            "reference_notes": self.reference.notes,
            "run_notes": self.run.notes,
            "warnings": self.warnings(),
            "stages": stages,
            "labels": SleepStage::ALL.map(SleepStage::as_str),
            "confusion": confusion.rows(),
        })
    }
}

fn assumed_code(scoring: &Scoring) -> Option<&str> {
    scoring.code.as_ref().filter(|code| code.is_assumed).map(|code| code.name.as_str())
}

fn assumed_epoch_s(scoring: &Scoring) -> Option<f64> {
    scoring.epoch.filter(|epoch| epoch.is_assumed).map(|epoch| epoch.s)
}

/// What was read and how, for the user.
fn described(scoring: &Scoring) -> String {
    let mut text = scoring.format.to_owned();
    for note in &scoring.notes {
        let _ = write!(text, "; {note}");
    }
    if let Some(epoch) = scoring.epoch.filter(|epoch| epoch.is_assumed) {
        let _ = write!(text, "; epochs of {} s assumed", epoch.s);
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
    let mut text = format!(
        "{}\ncompared {compared} of {} epochs (reference {}, run {}): {} not scored by the reference, {} \
         by the run\n",
        headline(agreement),
        agreement.both().len(),
        agreement.reference_range.len(),
        agreement.run_range.len(),
        agreement.unscored_reference,
        agreement.unscored_run
    );
    let (theirs, ours) = (agreement.only_reference(), agreement.only_run());
    if theirs + ours > 0 {
        text.push_str(&format!(
            "only in one: {theirs} epochs of the reference, {ours} of the run\n"
        ));
    }
    text.push('\n');
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
