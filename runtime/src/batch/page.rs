//! `cohort.html`: how the nights of a batch are distributed, which are unlike the others, which
//! failed. One file without anything from elsewhere, light and dark, for screens and A4. Every text
//! that a file name or a bundle brought is escaped by maud; paths in links are percent-encoded.

use std::fmt::Write;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::cohort::{FIGURES, Figure, Row};
use super::outlier::{self, Spread};

/// Rows of a table on the page; the CSV files have all.
const MAX_ROWS: usize = 500;
/// Bars of a histogram.
const BINS: usize = 24;
/// Its size, in the units of its own picture.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 64.0;

const STYLE: &str = include_str!("page.css");

/// What the page says besides the nights.
pub struct Page<'a> {
    /// The bundle's name and checksum.
    pub bundle: (&'a str, &'a str),
    /// What its weights were trained on.
    pub training_data: &'a str,
    /// What has to be said wherever results are shown.
    pub caution: Option<&'a str>,
}

/// The whole page.
pub fn html(page: &Page<'_>, rows: &[Row], pending: usize) -> String {
    let failed: Vec<&Row> = rows.iter().filter(|row| row.reason.is_some()).collect();
    let done: Vec<&Row> = rows.iter().filter(|row| row.night.is_some()).collect();
    let body = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Cohort of " (done.len()) " nights" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (heading(page, done.len(), failed.len(), pending))
                (distributions(rows))
                (outliers(rows))
                (failures(&failed))
                (nights(&done))
            }
        }
    };
    body.into_string()
}

fn heading(page: &Page<'_>, done: usize, failed: usize, pending: usize) -> Markup {
    let (name, sha256) = page.bundle;
    html! {
        h1 { "Cohort" }
        p.notice { strong { "Research software, not a medical device." } " No diagnosis, and no basis for one." }
        @if let Some(caution) = page.caution {
            p.notice { strong { "Caution: " } (shown(caution)) }
        }
        p { (done) " nights done, " (failed) " failed, " (pending) " still to do." }
        p.small {
            "Bundle " (shown(name)) ", SHA-256 " code { (sha256) } "; trained on " (shown(page.training_data)) ". "
            "All figures: cohort.csv, cohort.parquet. Hazards are relative; they and apnea are only there for nights with 4 h of sleep and no more than one modality missing."
        }
    }
}

fn distributions(rows: &[Row]) -> Markup {
    html! {
        h2 { "Distributions" }
        div.grid {
            @for figure in &FIGURES {
                @let values = values(figure, rows);
                @if let Some(median) = outlier::median(&values) {
                    figure {
                        figcaption { (figure.title) }
                        (histogram(&values, median))
                        p.small { "median " (number(median)) ", " (values.len()) " nights" }
                    }
                }
            }
        }
    }
}

fn values(figure: &Figure, rows: &[Row]) -> Vec<f64> {
    let values = rows.iter().filter_map(|row| row.figure(figure));
    values.filter(|value| value.is_finite()).collect()
}

/// Bars from the least to the greatest value, and the median as a line.
fn histogram(values: &[f64], median: f64) -> Markup {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = if greatest > least { greatest - least } else { 1.0 };
    let place = |value: f64| (value - least) / range;
    let mut bins = [0_u32; BINS];
    values
        .iter()
        .for_each(|value| bins[((place(*value) * BINS as f64) as usize).min(BINS - 1)] += 1);
    let most = f64::from(bins.iter().copied().max().unwrap_or(1));
    let mut bars = String::new();
    let width = WIDTH / BINS as f64;
    for (index, &count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (x, height) = (index as f64 * width, HEIGHT * f64::from(count) / most);
        // Writing to a string cannot fail.
        let _ = write!(
            bars,
            "M{:.1} {HEIGHT:.1}v-{height:.1}h{:.1}v{height:.1}z",
            x + 0.5,
            width - 1.0
        );
    }
    let at = format!("{:.1}", WIDTH * place(median));
    html! {
        svg viewBox=(format!("0 -2 {WIDTH} {}", HEIGHT + 16.0)) role="img"
            aria-label=(format!("from {} to {}, median {}", number(least), number(greatest), number(median))) {
            path.bars d=(bars) {}
            line.axis x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
            line.median x1=(at) x2=(at) y1="-2" y2=(HEIGHT) {}
            text x="0" y=(HEIGHT + 12.0) { (number(least)) }
            text x=(WIDTH) y=(HEIGHT + 12.0) text-anchor="end" { (number(greatest)) }
        }
    }
}

fn outliers(rows: &[Row]) -> Markup {
    let mut found: Vec<(&Row, &Figure, f64, Spread, f64)> = Vec::new();
    for figure in &FIGURES {
        let Some(spread) = Spread::of(&values(figure, rows)) else { continue };
        found.extend(rows.iter().filter_map(|row| {
            let value = row.figure(figure)?;
            Some((row, figure, value, spread, spread.outlying(value)?))
        }));
    }
    found.sort_by(|a, b| {
        b.4.abs().total_cmp(&a.4.abs()).then_with(|| a.0.entry.name.cmp(&b.0.entry.name))
    });
    html! {
        h2 { "Outliers" }
        p.small {
            "Farther from the median than " (outlier::LIMIT) " times the scaled median absolute deviation (MAD x 1.4826); "
            "figures of at least " (outlier::MIN_NIGHTS) " nights that are not mostly one value. Unusual, not wrong."
        }
        @if found.is_empty() {
            p { "None." }
        } @else {
            table {
                thead { tr { th { "night" } th { "figure" } th.number { "value" } th.number { "median" } th.number { "deviations" } } }
                tbody {
                    @for (row, figure, value, spread, deviation) in found.iter().take(MAX_ROWS) {
                        tr {
                            td { (link(row)) } td { (figure.title) }
                            td.number { (number(*value)) } td.number { (number(spread.median)) }
                            td.number { (format!("{deviation:+.1}")) }
                        }
                    }
                }
            }
            (more(found.len(), "the figures are in cohort.csv"))
        }
    }
}

fn failures(failed: &[&Row]) -> Markup {
    html! {
        h2 { "Failures" }
        @if failed.is_empty() {
            p { "None." }
        } @else {
            table {
                thead { tr { th { "recording" } th { "reason" } } }
                tbody {
                    @for row in failed.iter().take(MAX_ROWS) {
                        tr { td { (shown(&row.entry.name)) } td { (shown(row.reason.as_deref().unwrap_or_default())) } }
                    }
                }
            }
            (more(failed.len(), "all are in failures.csv"))
        }
    }
}

/// The columns of the list of nights.
const LISTED: [&str; 7] = [
    "tst_min",
    "sleep_efficiency_pct",
    "sol_min",
    "rem_latency_min",
    "n3_pct",
    "r_pct",
    "sound_pct",
];

fn nights(done: &[&Row]) -> Markup {
    let listed = || FIGURES.iter().filter(|figure| LISTED.contains(&figure.name));
    html! {
        h2 { "Nights" }
        @if done.is_empty() {
            p { "None." }
        } @else {
            table {
                thead { tr { th { "night" } @for figure in listed() { th.number { (figure.title) } } } }
                tbody {
                    @for row in done.iter().take(MAX_ROWS) {
                        tr {
                            td { (link(row)) }
                            @for figure in listed() {
                                td.number { (row.figure(figure).map_or_else(|| "-".to_owned(), number)) }
                            }
                        }
                    }
                }
            }
            (more(done.len(), "all are in cohort.csv"))
        }
    }
}

fn more(rows: usize, where_else: &str) -> Markup {
    html! {
        @if rows > MAX_ROWS {
            p.small { (rows - MAX_ROWS) " more; " (where_else) "." }
        }
    }
}

/// The night's name, as a link to its report, or else to its figures.
fn link(row: &Row) -> Markup {
    let file = if row.has_report { "report.html" } else { "night.json" };
    html! { a href=(format!("{}/{file}", encoded(&row.folder()))) { (shown(&row.entry.name)) } }
}

/// Without characters that turn or hide the text around them.
fn shown(text: &str) -> String {
    crate::text::escaped(text)
}

/// A relative path as part of an address: never a scheme, a query or a fragment.
fn encoded(path: &str) -> String {
    let mut address = String::from("./");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            address.push(char::from(byte));
        } else {
            let _ = write!(address, "%{byte:02X}");
        }
    }
    address
}

/// Three digits or so.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => 0,
        size if size >= 1.0 => 1,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::cohort::tests::{failed_row, night_row};

    fn page(rows: &[Row]) -> String {
        let about = Page {
            bundle: ("<b>", "00"),
            training_data: "simulated & <i>sleep</i>",
            caution: Some("simulated"),
        };
        html(&about, rows, 2)
    }

    #[test]
    fn names_are_text_and_links_stay_inside() {
        let name = "<script>alert(1)</script>\u{202e}javascript:?#\"";
        let html = page(&[night_row(name, 400.0, &[]), failed_row("<img src=x>", "a & b")]);
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        assert!(html.contains("&lt;script&gt;") && html.contains("a &amp; b"));
        assert!(html.contains("href=\"./%3Cscript%3Ealert%281%29%3C/script%3E%E2%80%AEjavascript%3A%3F%23%22.sfm-out/night.json\""));
        assert!(!html.contains('\u{202e}') && html.contains("&lt;b&gt;"));
        assert!(!html.contains("http://") && !html.contains("https://"), "nothing from elsewhere");
    }

    #[test]
    fn the_odd_night_is_listed_with_its_distance() {
        let mut rows: Vec<Row> =
            (0..12).map(|k| night_row(&format!("n{k:02}"), 400.0 + f64::from(k), &[])).collect();
        assert!(page(&rows).contains("<h2>Outliers</h2>") && !page(&rows).contains("+3"));
        rows.push(night_row("odd", 10.0, &[]));
        let html = page(&rows);
        let outliers = html.split("<h2>").find(|part| part.starts_with("Outliers")).expect("it");
        assert!(
            outliers.contains("odd.sfm-out") && !outliers.contains("n00.sfm-out"),
            "{outliers}"
        );
        assert!(html.contains("12 nights") || html.contains("13 nights done, 0 failed, 2 still"));
    }

    #[test]
    fn nothing_and_one_night_are_pages_too() {
        assert!(page(&[]).contains("0 nights done"));
        assert!(page(&[night_row("n", 300.0, &[])]).contains("<svg"));
    }
}
