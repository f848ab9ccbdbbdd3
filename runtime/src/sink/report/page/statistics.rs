//! Tables of sleep statistics, by the AASM manual and as YASA counts, and of transitions. A cell with
//! `data-aasm` or `data-yasa` holds that statistic by its short name, and the section's `data-first`
//! and `data-end` the epochs that are counted: other programs check them.

use maud::{Markup, html};
use sfm_models::SleepStage;

use super::super::agreement::{KINDS, Transitions};
use super::super::text::{Text, fill};
use super::duration;
use crate::event::Night;
use crate::statistics::SleepStatistics;
use sfm_models::EPOCH_S;

/// A statistic by both definitions; `None` where it does not exist.
struct Row {
    name: &'static str,
    key: &'static str,
    aasm: Option<f64>,
    yasa: Option<f64>,
    unit: &'static str,
}

/// The section; `scored` is the number of the night's epochs.
pub(super) fn section(text: &'static Text, night: &Night, scored: usize) -> Markup {
    let s = &night.statistics;
    let epochs = Some(&night.counted).filter(|counted| **counted != (0..scored));
    let at = |epoch: usize| duration(epoch as f64 * EPOCH_S);
    html! {
        section aria-labelledby="statistics" data-first=[epochs.map(|e| e.start)] data-end=[epochs.map(|e| e.end)] {
            h2 id="statistics" { (text.statistics) }
            p {
                (text.statistics_lead) " "
                @match epochs {
                    Some(epochs) => (fill(text.lights_counted, &[&at(epochs.start), &at(epochs.end)])),
                    None => (text.lights_not_counted),
                }
            }
            div.pair {
                div.scroll tabindex="0" role="group" aria-label=(fill(text.table, &[text.statistics])) { table {
                    thead { tr { th scope="col" { (text.measure) } th.number scope="col" { "AASM" } th.number scope="col" { "YASA" } } }
                    tbody { @for row in rows(text, s) {
                        tr {
                            th scope="row" { (row.name) }
                            td.number data-aasm=(row.key) { (with_unit(row.aasm, row.unit)) }
                            td.number data-yasa=(row.key) { (with_unit(row.yasa, row.unit)) }
                        }
                    } }
                } }
                (stages(text, s))
            }
            p.note { (text.definitions) }
        }
    }
}

fn rows(text: &'static Text, s: &SleepStatistics) -> Vec<Row> {
    let same = |name, key, value, unit| Row { name, key, aasm: value, yasa: value, unit };
    let maintenance = (s.spt_min > 0.0).then(|| 100.0 * s.tst_min / s.spt_min);
    let rem_from_start = s.rem_latency_min.zip(s.sol_min).map(|(latency, onset)| latency + onset);
    let within_sleep = s.waso_min.zip(s.terminal_wake_min).map(|(waso, last)| waso - last);
    let count = |name, value: u32| Row {
        name,
        key: "",
        aasm: Some(f64::from(value)),
        yasa: None,
        unit: "",
    };
    vec![
        same(text.trt, "TIB", Some(s.trt_min), text.minutes),
        same(text.spt, "SPT", Some(s.spt_min), text.minutes),
        same(text.tst, "TST", Some(s.tst_min), text.minutes),
        same(text.efficiency, "SE", s.sleep_efficiency_pct, "%"),
        same(text.maintenance, "SME", maintenance, "%"),
        same(text.sol, "SOL", s.sol_min, text.minutes),
        Row {
            name: text.rem_latency,
            key: "Lat_REM",
            aasm: s.rem_latency_min,
            yasa: rem_from_start,
            unit: text.minutes,
        },
        Row {
            name: text.waso,
            key: "WASO",
            aasm: s.waso_min,
            yasa: within_sleep,
            unit: text.minutes,
        },
        count(text.awakenings, s.awakenings),
        count(text.stage_changes, s.stage_changes),
    ]
}

fn stages(text: &'static Text, s: &SleepStatistics) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label=(fill(text.table, &[text.stage])) { table {
            thead { tr { th scope="col" { (text.stage) } th.number scope="col" { (text.minutes) } th.number scope="col" { (text.of_tst) } } }
            tbody {
                @for stage in SleepStage::ALL {
                    tr {
                        th scope="row" { i class=(format!("swatch {}", class(stage))) {} (stage.as_str()) }
                        td.number data-stage=(stage.as_str()) { (number(Some(s.stage_min[stage]))) }
                        td.number data-share=(stage.as_str()) { (number(s.stage_pct_of_tst[stage])) }
                    }
                }
                tr {
                    th scope="row" { i.swatch.hatched {} (text.not_scored) }
                    td.number data-stage="?" { (number(Some(s.unscored_min))) }
                    td.number { (number(None)) }
                }
            }
        } }
    }
}

fn class(stage: SleepStage) -> &'static str {
    match stage {
        SleepStage::Wake => "wake",
        SleepStage::N1 => "n1",
        SleepStage::N2 => "n2",
        SleepStage::N3 => "n3",
        SleepStage::Rem => "rem",
    }
}

/// A matrix of transitions, with what stayed the same in one line.
pub(super) fn transitions(text: &Text, name: &str, step: &Transitions) -> Markup {
    let (epochs, kept) = (step.epochs(), step.kept());
    let percent = format!("{:.1}", 100.0 * f64::from(kept) / f64::from(epochs.max(1)));
    let kinds: Vec<&str> = SleepStage::ALL.iter().map(|s| s.as_str()).chain(["?"]).collect();
    html! {
        div.scroll tabindex="0" role="group" aria-label=(fill(text.table, &[name])) {
            h3 { (name) }
            p {
                (fill(text.kept, &[&kept.to_string(), &epochs.to_string(), &percent]))
                @if let Some(kappa) = step.kappa() { ", " (fill(text.kappa, &[&format!("{kappa:.2}")])) }
                "."
            }
            table.matrix {
                thead { tr { th scope="col" { (text.from_to) } @for kind in &kinds { th.number scope="col" { (kind) } } } }
                tbody { @for from in 0..KINDS {
                    tr {
                        th scope="row" { (kinds[from]) }
                        @for to in 0..KINDS {
                            @let count = step.counts[from][to];
                            td.number.same[from == to].changed[from != to && count > 0] { (count) }
                        }
                    }
                } }
            }
        }
    }
}

/// One decimal; a dash where there is none.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"))
}

fn with_unit(value: Option<f64>, unit: &str) -> String {
    match value {
        Some(value) if unit.is_empty() => format!("{value}"),
        Some(value) => format!("{value:.1} {unit}"),
        None => "–".to_owned(),
    }
}
