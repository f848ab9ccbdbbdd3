//! What the network says beyond stages: relative hazards and apnea. The two sections that a reader
//! may take for more than they are, so they say what they are first, and are not there at all where
//! the night is no ground for them. Apnea needs neither age nor sex nor a cohort, as hazards do.

use maud::{Markup, html};

use super::super::text::fill;
use super::{Page, untrusted};
use crate::event::Started;
use crate::hazards::{self, Hazard, NoGround, Withheld};
use crate::text::escaped;

/// The section of apnea, or nothing.
pub(super) fn apnea(page: &Page<'_>, started: &Started) -> Markup {
    let text = page.text;
    let shown = page.night.apnea.as_ref().filter(|_| page.night.is_ground().is_ok());
    let Some(apnea) = shown else { return html! {} };
    let percent = |part: f32| format!("{:.0} %", 100.0 * part);
    let [none, mild, moderate, severe] = apnea.severity.map(percent);
    let (five, fifteen) = (percent(apnea.ahi_5), percent(apnea.ahi_15));
    let figures = [&five, &fifteen, &none, &mild, &moderate, &severe].map(String::as_str);
    html! {
        section aria-labelledby="apnea" {
            h2 id="apnea" { (text.apnea) }
            p { (fill(text.apnea_said, &figures)) }
            @if let Some(caution) = &started.caution { p.caution { (escaped(caution)) } }
        }
    }
}

/// The section of hazards, or nothing.
pub(super) fn hazards(page: &Page<'_>, started: &Started) -> Markup {
    let text = page.text;
    let Ok((hazards, all)) = hazards::highest(page.night) else { return html! {} };
    let lead = fill(text.risk_lead, &[&hazards.len().to_string(), &all.to_string()]);
    html! {
        section aria-labelledby="risk" {
            h2 id="risk" { (text.risk) }
            p { (lead) }
            @if let Some(caution) = &started.caution { p.caution { (escaped(caution)) } }
            p { (cohort(page, started)) }
            p { (text.risk_caveat) }
            div.scroll tabindex="0" role="group" aria-label=(fill(text.table, &[text.risk])) { table {
                thead { tr {
                    th scope="col" { (text.phenotype) }
                    th scope="col" { "Phecode" }
                    th.number scope="col" { (text.percentile) }
                    th.number scope="col" { (text.log_hazard) }
                } }
                tbody { @for hazard in &hazards { (row(page, hazard)) } }
            } }
        }
    }
}

fn cohort(page: &Page<'_>, started: &Started) -> String {
    let (name, recordings) = match &page.about.cohort {
        Some((name, recordings)) => (escaped(name), recordings.to_string()),
        None => (page.text.not_known.to_owned(), "–".to_owned()),
    };
    fill(page.text.risk_cohort, &[&name, &recordings, &escaped(&started.training_data)])
}

fn row(page: &Page<'_>, hazard: &Hazard) -> Markup {
    let (phecode, name) = page
        .about
        .labels
        .get(hazard.index)
        .map_or(("", ""), |(code, name)| (code.as_str(), name.as_str()));
    html! {
        tr {
            th scope="row" {
                @if name.is_empty() { (fill(page.text.no_name, &[&hazard.index.to_string()])) }
                @else { (untrusted(name)) }
            }
            td { (untrusted(phecode)) }
            td.number { (format!("{:.1}", hazard.percentile)) }
            td.number { (format!("{:+.3}", hazard.log_hazard)) }
        }
    }
}

/// Why there is none, for the notes; `None` where a note of the night says it.
pub(super) fn withheld(page: &Page<'_>, reason: Withheld) -> Option<String> {
    let text = page.text;
    match reason {
        Withheld::NoGround(NoGround::LittleSleep) => Some(text.withheld_sleep.to_owned()),
        Withheld::NoGround(NoGround::Modalities) => {
            let names: Vec<&str> = page.night.missing.iter().map(|m| m.as_str()).collect();
            Some(fill(text.withheld_modalities, &[&names.join(", ")]))
        }
        Withheld::NoCohort => Some(text.withheld_cohort.to_owned()),
        Withheld::NotComputed => None,
    }
}
