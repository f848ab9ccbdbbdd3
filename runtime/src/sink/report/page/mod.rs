//! The page: one file with everything in it, that asks the network for nothing. maud escapes every
//! text; what comes from the recording goes through [`untrusted`] besides.

mod evidence;
mod outlook;
mod statistics;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::agreement::Transitions;
use super::figures::{Figure, Pictures};
use super::record::Record;
use super::text::{Text, fill};
use super::{About, Checksum};
use crate::event::{EpochStatus, Night, Pass, Started};
use crate::hazards;
use crate::text::escaped;

const STYLE: &str = include_str!("../style.css");
/// Shorter than this a recording is no night, seconds.
const SHORT_S: f64 = 3600.0;

/// What the page tells.
pub(super) struct Page<'a> {
    pub text: &'static Text,
    pub study: &'a str,
    pub about: &'a About,
    pub record: &'a Record,
    pub night: &'a Night,
    pub pictures: &'a Pictures,
    pub checksum: &'a Checksum,
}

impl Page<'_> {
    /// The whole document.
    pub fn html(&self) -> String {
        let text = self.text;
        let Some(started) = self.record.started.as_deref() else { return String::new() };
        html! {
            (DOCTYPE)
            html lang=(text.code) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="generator" content=(concat!("sfm-stream ", env!("CARGO_PKG_VERSION")));
                    meta http-equiv="Content-Security-Policy"
                        content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                    title { (self.title()) }
                    style { (PreEscaped(STYLE)) }
                }
                (self.body(started))
            }
        }
        .into_string()
    }

    /// The document's title.
    pub fn title(&self) -> String {
        format!("{} · {}", escaped(self.study), self.text.title)
    }

    /// What is on it, which is XML too: no element or attribute is left open.
    pub fn body(&self, started: &Started) -> Markup {
        let text = self.text;
        html! {
            body {
                header { (self.head(started)) }
                main {
                    (self.key_figures())
                    (self.figures())
                    (statistics::section(text, self.night, self.record.scored))
                    (self.agreement())
                    (evidence::channels(self, started))
                    (outlook::hazards(self, started))
                    (outlook::apnea(self, started))
                    (self.notes())
                    (evidence::provenance(self, started))
                }
                footer { p { (text.research) } }
            }
        }
    }

    fn head(&self, started: &Started) -> Markup {
        let text = self.text;
        let pass = match self.night.pass {
            Pass::Live => text.pass_live,
            Pass::Final => text.pass_final,
        };
        let length = started.duration_s.unwrap_or(self.record.scored_s());
        html! {
            h1 { (text.title) " " span.study { (untrusted(self.study)) } }
            dl.head {
                div { dt { (text.start) } dd {
                    @match &started.start {
                        Some(start) => (escaped(&start.replacen('T', " ", 1))),
                        None => (text.not_known),
                    }
                } }
                div { dt { (text.duration) } dd { (duration(length)) } }
                div { dt { (text.pass) } dd { (pass) } }
            }
            p.research role="note" { (text.research) }
            @if let Some(caution) = &started.caution { p.caution role="note" { (escaped(caution)) } }
        }
    }

    fn key_figures(&self) -> Markup {
        let (text, s) = (self.text, &self.night.statistics);
        let figures = [
            (text.tst, Some(s.tst_min).filter(|_| s.trt_min > s.unscored_min), text.minutes),
            (text.efficiency, s.sleep_efficiency_pct, "%"),
            (text.sol, s.sol_min, text.minutes),
            (text.rem_latency, s.rem_latency_min, text.minutes),
            (text.waso, s.waso_min, text.minutes),
        ];
        html! {
            @for sentence in self.sentences() { p.said { (sentence) } }
            dl.key {
                @for (name, value, unit) in figures {
                    div { dt { (name) } dd { (statistics::number(value)) @if value.is_some() { " " small { (unit) } } } }
                }
            }
        }
    }

    /// What has to be said of a night that is none.
    fn sentences(&self) -> Vec<String> {
        let (text, s, scored_s) = (self.text, &self.night.statistics, self.record.scored_s());
        let mut said = Vec::new();
        if scored_s == 0.0 {
            said.push(text.no_epochs.to_owned());
        } else if s.unscored_min == s.trt_min {
            said.push(text.all_unscored.to_owned());
        } else if s.tst_min == 0.0 {
            said.push(text.no_sleep.to_owned());
        }
        if scored_s > 0.0 && scored_s < SHORT_S {
            said.push(fill(text.short, &[&duration(scored_s)]));
        }
        if self.record.is_cut() {
            said.push(text.cut.to_owned());
        }
        said
    }

    fn figures(&self) -> Markup {
        let (text, pictures) = (self.text, self.pictures);
        if pictures.figures.is_empty() {
            return html! {};
        }
        let time = if pictures.axis.is_clock() { text.clock } else { text.hours };
        html! {
            section.night aria-labelledby="night" {
                h2 id="night" { (text.figures) }
                div.lanes role="region" aria-label=(text.scroll) tabindex="0" {
                    @for figure in &pictures.figures {
                        figure {
                            figcaption { strong { (figure.title) } (self.legend(figure)) }
                            (figure.themed())
                        }
                    }
                }
                p.note {
                    (time) " "
                    @if !pictures.absent.is_empty() { (fill(text.not_shown, &[&pictures.absent.join("; ")])) " " }
                    @if pictures.axis.marks.is_empty() { (text.lights_unknown) }
                    @for (at, name) in &pictures.axis.marks { (name) " " (duration(*at)) ". " }
                }
            }
        }
    }

    fn legend(&self, figure: &Figure) -> Markup {
        let text = self.text;
        let entries: &[(&str, &str)] = match figure.name {
            "hypnogram" => &[("rem", "R"), ("hatched", text.unscored)],
            "hypnodensity" => &[
                ("wake", "W"),
                ("rem", "R"),
                ("n1", "N1"),
                ("n2", "N2"),
                ("n3", "N3"),
                ("hatched", text.unscored),
            ],
            "spo2" => &[("trace", text.mean), ("trace-low", text.lowest)],
            "quality" => &[
                ("sound", text.sound),
                ("hum", text.line_noise),
                ("range", text.out_of_range),
                ("flat", text.flat),
                ("hatched", text.gap),
            ],
            "spectrogram" => {
                return html! { span.legend { (figure.description) " " (text.spectrogram_unit) } };
            }
            _ => return html! {},
        };
        html! {
            span.legend {
                @for (class, name) in entries { span.entry { i class=(format!("swatch {class}")) {} (name) } }
            }
        }
    }

    fn agreement(&self) -> Markup {
        use EpochStatus::{Final, Provisional, Settled};
        let text = self.text;
        let steps = [
            (text.provisional_settled, Transitions::of(&self.record.epochs, Provisional, Settled)),
            (text.settled_final, Transitions::of(&self.record.epochs, Settled, Final)),
        ];
        let steps: Vec<_> = steps.into_iter().filter(|(_, step)| step.epochs() > 0).collect();
        html! {
            section aria-labelledby="agreement" {
                h2 id="agreement" { (text.agreement) }
                @if steps.is_empty() { p { (text.agreement_none) } } @else { p { (text.agreement_lead) } }
                div.pair { @for (name, step) in &steps { (statistics::transitions(text, name, step)) } }
            }
        }
    }

    fn notes(&self) -> Markup {
        let withheld = hazards::highest(self.night).err();
        let withheld = withheld.and_then(|reason| outlook::withheld(self, reason));
        let told = self.record.warnings.iter().chain(&self.night.notes);
        let notes: Vec<String> =
            withheld.into_iter().chain(told.map(|note| escaped(note))).collect();
        html! {
            @if !notes.is_empty() {
                section aria-labelledby="notes" {
                    h2 id="notes" { (self.text.notes) }
                    ul { @for note in notes { li { (note) } } }
                }
            }
        }
    }
}

/// Text from the recording: no control characters, and its direction does not touch its neighbors.
fn untrusted(text: &str) -> Markup {
    html! { bdi { (escaped(text)) } }
}

/// Hours and minutes; minutes and seconds below an hour.
fn duration(seconds: f64) -> String {
    let seconds = seconds.clamp(0.0, 1e9).round() as u64;
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, rest) {
        (0, 0) => format!("{minutes} min"),
        (0, rest) => format!("{minutes} min {rest} s"),
        (hours, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_at_a_glance() {
        let said = [0.0, 90.0, 600.0, 28_800.0, 86_430.0].map(duration);
        assert_eq!(said, ["0 min", "1 min 30 s", "10 min", "8 h 00 min", "24 h 00 min"]);
    }
}
