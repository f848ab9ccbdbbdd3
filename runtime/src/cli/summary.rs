//! What stdout ends with: sleep statistics, the highest hazards, where the files are. Text that
//! comes from a file (labels, names, notes) is shown without control characters.

use std::fmt::Write;
use std::path::Path;

use sfm_models::SleepStage;

use crate::event::{ApneaEstimate, Night, Pass, Started};
use crate::hazards::{self, Hazard, NoGround, Withheld};
use crate::sink::Labels;
use crate::statistics::SleepStatistics;
use crate::text::is_hidden;

/// Columns of the output.
const WIDTH: usize = 80;

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
    if let Some(StageChanges { changed, epochs }) = changed.filter(|c| c.epochs > 0) {
        let percent = 100.0 * f64::from(changed) / f64::from(epochs);
        let line = format!(
            "{changed} of {epochs} epochs ({percent:.1} %) changed their stage between the live \
             and the final pass."
        );
        push_wrapped(&mut text, "\n", "", &line);
    }
    push_risk(&mut text, night, labels);
    if let Some(apnea) = night.apnea.as_ref().filter(|_| night.is_ground().is_ok()) {
        push_apnea(&mut text, apnea);
    }
    for (index, note) in night.notes.iter().enumerate() {
        push_wrapped(&mut text, if index == 0 { "\nNote: " } else { "Note: " }, "      ", note);
    }
    let bundle = format!("{} ({})", started.bundle, started.training_data);
    push_wrapped(&mut text, "\nBundle: ", "        ", &bundle);
    if let Some(caution) = &started.caution {
        push_wrapped(&mut text, "Warning: ", "         ", caution);
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
        ("Sleep efficiency", efficiency(s.sleep_efficiency_pct)),
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

fn efficiency(value: Option<f64>) -> String {
    value.map_or_else(|| "-    ".to_owned(), |value| format!("{value:.1} %  "))
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

/// The highest hazards, as in the report, or why there are none.
fn push_risk(text: &mut String, night: &Night, labels: &Labels) {
    // A note of the night says why there are none.
    if night.risk.as_ref().is_none_or(|risk| risk.log_hazards.is_empty()) {
        return;
    }
    let why = match hazards::highest(night) {
        Ok((hazards, all)) => return push_hazards(text, &hazards, all, labels),
        Err(Withheld::NotComputed) => return,
        Err(Withheld::NoGround(NoGround::LittleSleep)) => "they need 4 h of sleep",
        Err(Withheld::NoGround(NoGround::Modalities)) => "two kinds of signals or more are missing",
        Err(Withheld::NoCohort) => "the bundle brings no cohort to compare them with",
    };
    let line = format!("no relative hazards are shown: {why}. They are in risk.csv.");
    push_wrapped(text, "\nOvernight risk: ", "  ", &line);
}

fn push_hazards(text: &mut String, hazards: &[Hazard], all: usize, labels: &Labels) {
    let line = format!(
        "the {} highest of {all} relative log-hazards by percentile in the bundle's cohort. They order \
         people, they are no probabilities and no diagnosis.",
        hazards.len(),
    );
    push_wrapped(text, "\nOvernight risk: ", "  ", &line);
    let _ = writeln!(text, "  percentile  log-hazard  phecode   phenotype");
    for &Hazard { index, log_hazard, percentile } in hazards {
        let unnamed = format!("label {index}, without a name");
        let (phecode, phenotype) = labels
            .get(index)
            .map_or(("-", unnamed.as_str()), |(code, name)| (code.as_str(), name.as_str()));
        let _ = writeln!(
            text,
            "  {percentile:>10.1}  {log_hazard:>10.3}  {:<8}  {}",
            cut(phecode, 8),
            cut(phenotype, 44)
        );
    }
}

fn push_apnea(text: &mut String, apnea: &ApneaEstimate) {
    let percent = |p: f32| format!("{:.0} %", 100.0 * p);
    let [none, mild, moderate, severe] = apnea.severity.map(percent);
    let line = format!(
        "the network gives an apnea-hypopnea index of at least 5/h {}, of at least 15/h {}; none \
         {none}, mild {mild}, moderate {moderate}, severe {severe}. No diagnosis.",
        percent(apnea.ahi_5),
        percent(apnea.ahi_15)
    );
    push_wrapped(text, "\nApnea: ", "  ", &line);
}

/// Text of a file as it may be shown: what a terminal would obey becomes `\u{fffd}`.
fn printable(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { '\u{fffd}' } else { c }).collect()
}

/// At most `width` characters; an ellipsis stands for what is left out.
fn cut(text: &str, width: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= width {
        return text;
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
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

#[cfg(test)]
mod tests {
    use sfm_models::Modality;

    use super::*;
    use crate::event::OvernightRisk;

    fn night(letters: &str) -> Night {
        let hypnogram: Vec<_> = letters
            .chars()
            .map(|letter| SleepStage::ALL.get("W123R".find(letter)?).copied())
            .collect();
        Night {
            statistics: SleepStatistics::from_hypnogram(&hypnogram),
            ..Night::empty(Pass::Final)
        }
    }

    fn started() -> Started {
        Started {
            pass: Pass::Final,
            format: "EDF".to_owned(),
            start: None,
            duration_s: None,
            channels: vec![],
            modalities_absent: vec![],
            bundle: "sleepfm-import".to_owned(),
            bundle_sha256: String::new(),
            training_data: "unknown".to_owned(),
            caution: None,
            backend: String::new(),
        }
    }

    fn risk(log_hazards: Vec<f32>, percentiles: Option<Vec<f32>>) -> Option<OvernightRisk> {
        let embedding = vec![];
        Some(OvernightRisk { embedding, log_hazards, percentiles, tokens: 9, tokens_left_out: 0 })
    }

    #[test]
    fn statistics_are_aligned() {
        let night = night("WW111222333233RRRRWW?");
        let changed = Some(StageChanges { changed: 3, epochs: 21 });
        let text = table(&night, &started(), &[], Path::new("study.sfm-out"), changed);
        let want = "\
Sleep statistics (final pass)                    stage     min    % of TST
  Total recording time (TRT)        10.5 min     W         2.0           -
  Total sleep time (TST)             8.0 min     N1        1.5        18.8
  Sleep efficiency                  76.2 %       N2        2.0        25.0
  Sleep onset latency (SOL)          1.0 min     N3        2.5        31.2
  REM latency from sleep onset       6.0 min     R         2.0        25.0
  Wake after sleep onset (WASO)      1.0 min     ?         0.5           -

3 of 21 epochs (14.3 %) changed their stage between the live and the final pass.

Bundle: sleepfm-import (unknown)
Files: study.sfm-out
Research software, not a medical device.
";
        assert_eq!(text, want);
    }

    #[test]
    fn the_highest_hazards_come_first_and_names_are_harmless() {
        let mut night = night(&"2".repeat(480));
        let hazards = (0..12).map(|k| k as f32 / 4.0).chain([f32::NAN, -1.0]).collect();
        let percentiles = (0..14).map(|k| 5.0 * k as f32).collect();
        night.risk = risk(hazards, Some(percentiles));
        let mut labels: Vec<_> =
            (0..14).map(|k| (format!("{k}.1"), format!("Disease {k}"))).collect();
        labels[11].1 =
            "Red\u{1b}[31m\nalert\u{202e} with a name that is longer than any line".into();
        let text = table(&night, &started(), &labels, Path::new("out"), None);
        let rows: Vec<_> =
            text.lines().skip_while(|line| !line.contains("phenotype")).skip(1).take(11).collect();
        assert_eq!(rows[0], "        65.0      -1.000  13.1      Disease 13");
        assert_eq!(
            rows[1],
            "        55.0       2.750  11.1      Red\u{fffd}[31m\u{fffd}alert\u{fffd} with a name that is longer…"
        );
        assert_eq!(rows[9], "        15.0       0.750  3.1       Disease 3");
        assert_eq!(rows[10], "", "ten of them");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(words.join(" ").contains("no probabilities and no diagnosis"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut night = night("W");
        night.notes = vec![
            "the recording is longer than the risk head's longest sequence, so \
                            that its last 12 minutes are left out"
                .to_owned(),
        ];
        night.risk = risk(vec![], None);
        let caution =
            Some("random weights: these figures show that the arithmetic works".to_owned());
        let started = Started { caution, ..started() };
        let text = table(&night, &started, &[], Path::new("out"), None);
        assert!(!text.contains("Overnight risk"));
        assert!(text.contains("random weights: these figures show that the arithmetic works"));
        assert!(text.contains("Sleep onset latency (SOL)            -         N3"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        night.risk = risk(vec![1.0, 2.0], Some(vec![3.0, 4.0]));
        // On one line, however it is wrapped.
        let said = |night: &Night| {
            let text = table(night, &started, &[], Path::new("out"), None);
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(said(&night).contains("no relative hazards are shown: they need 4 h of sleep."));
        night.statistics.tst_min = 240.0;
        assert!(said(&night).contains(" - label 1, without a name"));
        night.missing = vec![Modality::Emg, Modality::Ekg];
        assert!(said(&night).contains("two kinds of signals or more are missing"));
    }
}
