//! What stdout ends with: sleep statistics, the highest hazards, where the files are. Text that
//! comes from a file (labels, names, notes) is shown without control characters.

use std::fmt::Write;
use std::path::Path;

use sfm_models::SleepStage;

use crate::event::{Night, OvernightRisk, Pass, Started};
use crate::sink::Labels;
use crate::statistics::SleepStatistics;

/// Columns of the output.
const WIDTH: usize = 80;

/// Hazards shown.
const TOP: usize = 10;

/// How many epochs have another stage after the final pass than after the live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageChanges {
    /// Epochs whose stage differs.
    pub changed: u32,
    /// Epochs compared.
    pub epochs: u32,
}

/// The summary of a night, lines of at most 80 columns (paths and single long words excepted).
/// `labels` is the (phecode, phenotype) of each hazard, empty where the bundle has none.
pub fn table(
    night: &Night,
    started: &Started,
    labels: &Labels,
    out_dir: &Path,
    changed: Option<StageChanges>,
) -> String {
    let mut text = String::new();
    push_statistics(&mut text, &night.statistics, night.pass);
    if let Some(StageChanges { changed, epochs }) = changed {
        let percent = 100.0 * f64::from(changed) / f64::from(epochs.max(1));
        let line = format!(
            "{changed} of {epochs} epochs ({percent:.1} %) changed their stage between the live \
             and the final pass."
        );
        push_wrapped(&mut text, "\n", "", &line);
    }
    if let Some(risk) = &night.risk {
        push_risk(&mut text, risk, labels);
    }
    for (index, note) in night.notes.iter().enumerate() {
        push_wrapped(&mut text, if index == 0 { "\nNote: " } else { "Note: " }, "      ", note);
    }
    let bundle = format!("{} ({})", started.bundle, started.training_data);
    push_wrapped(&mut text, "\nBundle: ", "        ", &bundle);
    if started.random_weights {
        let line = "random weights: these figures show that the arithmetic works, they mean \
                    nothing about this person";
        push_wrapped(&mut text, "Warning: ", "         ", line);
    }
    let _ = writeln!(text, "Files: {}", printable(&out_dir.display().to_string()));
    text.push_str("Research software, not a medical device.\n");
    text
}

/// Times on the left, stages on the right.
fn push_statistics(text: &mut String, s: &SleepStatistics, pass: Pass) {
    let pass = match pass {
        Pass::Live => "live pass",
        Pass::Final => "final pass",
    };
    let left = [
        ("Total recording time (TRT)", minutes(Some(s.trt_min))),
        ("Total sleep time (TST)", minutes(Some(s.tst_min))),
        ("Sleep efficiency", percent(s.sleep_efficiency_pct) + " %  "),
        ("Sleep onset latency (SOL)", minutes(s.sol_min)),
        ("REM latency from sleep onset", minutes(s.rem_latency_min)),
        ("Wake after sleep onset (WASO)", minutes(s.waso_min)),
    ];
    let stages = SleepStage::ALL
        .map(|stage| (stage.as_str(), s.stage_min[stage], percent(s.stage_pct_of_tst[stage])));
    let right = stages.into_iter().chain([("?", s.unscored_min, percent(None))]);
    let title = format!("Sleep statistics ({pass})");
    let _ = writeln!(text, "{title:<49}{:<5}{:>8}{:>12}", "stage", "min", "% of TST");
    for ((name, value), (stage, min, share)) in left.into_iter().zip(right) {
        let _ = writeln!(text, "  {name:<30}{value:>12}     {stage:<5}{min:>8.1}{share:>12}");
    }
}

fn minutes(value: Option<f64>) -> String {
    value.map_or_else(|| "-    ".to_owned(), |value| format!("{value:.1} min"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

fn push_risk(text: &mut String, risk: &OvernightRisk, labels: &Labels) {
    if risk.log_hazards.is_empty() {
        text.push_str("\nOvernight risk: no hazards without --age and --sex.\n");
        return;
    }
    if labels.is_empty() {
        let line = format!(
            "{} relative log-hazards without names; they are in risk.csv.",
            risk.log_hazards.len()
        );
        push_wrapped(text, "\nOvernight risk: ", "  ", &line);
        return;
    }
    let mut order: Vec<(usize, f32)> =
        risk.log_hazards.iter().copied().enumerate().filter(|(_, h)| h.is_finite()).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let line = format!(
        "the {} highest of {} relative log-hazards. They order people, they are no \
         probabilities and no diagnosis.",
        order.len().min(TOP),
        risk.log_hazards.len()
    );
    push_wrapped(text, "\nOvernight risk: ", "  ", &line);
    let _ = writeln!(text, "  log-hazard  percentile  phecode   phenotype");
    for (index, log_hazard) in order.into_iter().take(TOP) {
        let (phecode, phenotype) =
            labels.get(index).map_or(("", ""), |(code, name)| (code.as_str(), name.as_str()));
        let percentile = risk.percentiles.as_ref().and_then(|p| p.get(index).copied());
        let percentile = percentile
            .filter(|p| p.is_finite())
            .map_or_else(|| "-".to_owned(), |percentile| format!("{percentile:.1}"));
        let _ = writeln!(
            text,
            "  {log_hazard:>10.3}  {percentile:>10}  {:<8}  {}",
            cut(phecode, 8),
            cut(phenotype, 44)
        );
    }
}

/// Text of a file as it may be shown: control characters and the marks that turn the direction of
/// writing become `\u{fffd}`.
fn printable(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

/// At most `width` characters, the last one three dots in one if some are left out.
fn cut(text: &str, width: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// One paragraph, its first line behind `first`, the others behind `rest`.
fn push_wrapped(text: &mut String, first: &str, rest: &str, paragraph: &str) {
    text.push_str(first);
    let mut column = first.trim_start_matches('\n').chars().count();
    let mut at_start = true;
    for word in printable(paragraph).split_whitespace() {
        let length = word.chars().count();
        if !at_start && column + 1 + length > WIDTH {
            text.push('\n');
            text.push_str(rest);
            column = rest.chars().count();
            at_start = true;
        }
        if !at_start {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
        at_start = false;
    }
    text.push('\n');
}
