//! What the figures rest on: the channels in numbers, and the provenance.

use maud::{Markup, html};

use super::super::Checksum;
use super::super::record::Flaw;
use super::super::text::fill;
use super::{Page, duration, untrusted};
use crate::event::{ChannelLedger, Started};
use crate::text::escaped;
use sfm_models::EPOCH_S;

/// The gap ledger and the flaws of each mapped channel.
pub(super) fn channels(page: &Page<'_>, started: &Started) -> Markup {
    let text = page.text;
    html! {
        section aria-labelledby="channels" {
            h2 id="channels" { (text.channels) }
            p { (text.channels_lead) }
            div.scroll tabindex="0" role="group" aria-label=(fill(text.table, &[text.channels])) { table {
                thead { tr {
                    th scope="col" { (text.channel) }
                    th scope="col" { (text.used_for) }
                    @for name in [text.missing, text.gaps, text.longest_value] {
                        th.number scope="col" { (name) }
                    }
                    th scope="col" { (text.bad_epochs) }
                } }
                tbody { @for line in &page.night.ledger { (channel(page, started, line)) } }
            } }
        }
    }
}

fn channel(page: &Page<'_>, started: &Started, line: &ChannelLedger) -> Markup {
    let used = started.channels.iter().find(|used| used.channel == line.channel);
    let rate_hz = used.map_or(0.0, |used| used.rate_hz);
    let text = page.text;
    let modality = used.and_then(|used| used.modality).map_or("", |m| m.as_str());
    let (lacking, all) = line.missing_of();
    let missing = 100.0 * lacking as f64 / all.max(1) as f64;
    let missing_s = if rate_hz > 0.0 { lacking as f64 / rate_hz } else { 0.0 };
    let flaws = page.record.flaws.get(&line.channel).map_or(&[][..], Vec::as_slice);
    let kinds = [
        (Flaw::Missing, text.gap),
        (Flaw::Flat, text.flat),
        (Flaw::OutOfRange, text.out_of_range),
        (Flaw::LineNoise, text.line_noise),
    ];
    let count = |kind: Flaw| flaws.iter().filter(|flaw| **flaw == kind).count();
    let kinds: Vec<(usize, &str)> =
        kinds.map(|(kind, name)| (count(kind), name)).into_iter().filter(|(n, _)| *n > 0).collect();
    let bad: usize = kinds.iter().map(|(count, _)| count).sum();
    html! {
        tr {
            th scope="row" { (untrusted(&line.label)) }
            td { (modality) }
            td.number { @if missing > 0.0 { (duration(missing_s)) " (" (format!("{missing:.1}")) " %)" } @else { "–" } }
            td.number { (line.gaps) }
            td.number { @if line.flat_s > 0.0 { (duration(line.flat_s)) } @else { "–" } }
            td {
                (bad)
                @if bad > 0 { " (" (duration(bad as f64 * EPOCH_S)) "): " }
                @for (index, (count, name)) in kinds.iter().enumerate() {
                    @if index > 0 { ", " }
                    (count) " " (name)
                }
            }
        }
    }
}

/// Program, bundle, engine, recording, settings, channel map.
pub(super) fn provenance(page: &Page<'_>, started: &Started) -> Markup {
    let text = page.text;
    let checksum = match page.checksum {
        Checksum::Known(sha256) => html! { code { (sha256) } },
        Checksum::Later => html! { (text.checksum_later) },
        Checksum::Unreadable => html! { (text.checksum_unreadable) },
    };
    let rows = [
        (text.software, html! { (concat!("sfm-stream ", env!("CARGO_PKG_VERSION"))) }),
        (
            text.bundle,
            html! { (untrusted(&started.bundle)) ", SHA-256 " code { (started.bundle_sha256) } },
        ),
        (text.trained_on, html! { (untrusted(&started.training_data)) }),
        (text.engine, html! { (untrusted(&started.backend)) }),
        (text.recording, html! { (untrusted(page.study)) ", " (started.format) }),
        (text.checksum, checksum),
    ];
    html! {
        section aria-labelledby="provenance" {
            h2 id="provenance" { (text.provenance) }
            dl.provenance {
                @for (name, value) in rows { div { dt { (name) } dd { (value) } } }
                div { dt { (text.settings) } dd {
                    @if page.about.settings.is_empty() { "–" }
                    @for (index, (name, value)) in page.about.settings.iter().enumerate() {
                        @if index > 0 { ", " }
                        code { "--" (name) @if !value.is_empty() { " " (escaped(value)) } }
                    }
                } }
            }
            h3 { (text.channel_map) }
            (channel_map(page, started))
        }
    }
}

fn channel_map(page: &Page<'_>, started: &Started) -> Markup {
    let text = page.text;
    html! {
        div.scroll tabindex="0" role="group" aria-label=(fill(text.table, &[text.channel_map])) { table.small {
            thead { tr {
                th scope="col" { (text.channel) }
                th.number scope="col" { (text.rate) }
                th scope="col" { (text.unit) }
                th scope="col" { (text.used_for) }
                th scope="col" { (text.rule) }
            } }
            tbody { @for used in &started.channels {
                tr {
                    th scope="row" { (untrusted(&used.label)) }
                    td.number { (used.rate_hz) " Hz" }
                    td { (untrusted(&used.unit)) }
                    td { (used.modality.map_or(text.not_used, |m| m.as_str())) }
                    td { (untrusted(&used.rule)) }
                }
            } }
        } }
    }
}
