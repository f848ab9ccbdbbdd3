//! A row a night, from what lies in the nights' folders: marker and `night.json`. The figures are
//! those of the files, never computed anew. Reads nothing else; a folder that cannot be read is a
//! failed night.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use sfm_models::SleepStage;

use super::archive::Entry;
use super::marker::{Marker, Status};
use super::table::{Column, Table, Values};
use crate::hazards::may_be_shown;
use crate::sink::Labels;
use crate::statistics::SleepStatistics;

/// A `night.json` longer than this is none.
const MAX_NIGHT_BYTES: u64 = 64 << 20;

/// A figure of a night.
pub struct Figure {
    /// Its column.
    pub name: &'static str,
    /// What it is, and its unit.
    pub title: &'static str,
    /// Its value, where there is one.
    pub of: fn(&Night) -> Option<f64>,
}

/// The figures of a night that are numbers, in the table's order.
pub const FIGURES: [Figure; 32] = {
    const fn figure(
        name: &'static str,
        title: &'static str,
        of: fn(&Night) -> Option<f64>,
    ) -> Figure {
        Figure { name, title, of }
    }
    use SleepStage::{N1, N2, N3, Rem, Wake};
    [
        figure("duration_s", "Recording, s", |n| n.duration_s),
        figure("trt_min", "Total recording time, min", |n| Some(n.statistics.trt_min)),
        figure("tst_min", "Total sleep time, min", |n| Some(n.statistics.tst_min)),
        figure("spt_min", "Sleep period time, min", |n| Some(n.statistics.spt_min)),
        figure("sleep_efficiency_pct", "Sleep efficiency, %", |n| {
            n.statistics.sleep_efficiency_pct
        }),
        figure("sol_min", "Sleep onset latency, min", |n| n.statistics.sol_min),
        figure("rem_latency_min", "REM latency from sleep onset, min", |n| {
            n.statistics.rem_latency_min
        }),
        figure("waso_min", "Wake after sleep onset, min", |n| n.statistics.waso_min),
        figure("terminal_wake_min", "Wake after the last sleep, min", |n| {
            n.statistics.terminal_wake_min
        }),
        figure("unscored_min", "Not staged, min", |n| Some(n.statistics.unscored_min)),
        figure("w_min", "W, min", |n| Some(n.statistics.stage_min[Wake])),
        figure("n1_min", "N1, min", |n| Some(n.statistics.stage_min[N1])),
        figure("n2_min", "N2, min", |n| Some(n.statistics.stage_min[N2])),
        figure("n3_min", "N3, min", |n| Some(n.statistics.stage_min[N3])),
        figure("r_min", "R, min", |n| Some(n.statistics.stage_min[Rem])),
        figure("n1_pct", "N1, % of sleep", |n| n.statistics.stage_pct_of_tst[N1]),
        figure("n2_pct", "N2, % of sleep", |n| n.statistics.stage_pct_of_tst[N2]),
        figure("n3_pct", "N3, % of sleep", |n| n.statistics.stage_pct_of_tst[N3]),
        figure("r_pct", "R, % of sleep", |n| n.statistics.stage_pct_of_tst[Rem]),
        figure("awakenings", "Awakenings", |n| Some(n.statistics.awakenings.into())),
        figure("stage_changes", "Stage changes", |n| Some(n.statistics.stage_changes.into())),
        figure("present_pct", "Signal present, %", |n| n.quality.present_pct),
        figure("sound_pct", "Signal sound, %", |n| n.quality.sound_pct),
        figure("missing_pct", "Samples missing, %", |n| n.quality.missing_pct),
        figure("lead_off_min", "A lead off, min", |n| Some(n.quality.lead_off_epochs as f64 / 2.0)),
        figure("gaps", "Gaps", |n| Some(n.quality.gaps as f64)),
        figure("apnea_ahi_5", "Network's probability of AHI >= 5/h", |n| n.apnea(|a| a.ahi_5)),
        figure("apnea_ahi_15", "Network's probability of AHI >= 15/h", |n| n.apnea(|a| a.ahi_15)),
        figure("apnea_none", "Of no apnea", |n| n.apnea(|a| a.severity[0])),
        figure("apnea_mild", "Of mild apnea", |n| n.apnea(|a| a.severity[1])),
        figure("apnea_moderate", "Of moderate apnea", |n| n.apnea(|a| a.severity[2])),
        figure("apnea_severe", "Of severe apnea", |n| n.apnea(|a| a.severity[3])),
    ]
};

/// A night that is done or has failed.
pub struct Row {
    /// The recording.
    pub entry: Entry,
    /// Why it failed, if it did.
    pub reason: Option<String>,
    /// Age and sex as they were given.
    pub person: (Option<f64>, Option<&'static str>),
    /// The night, if it did not fail.
    pub night: Option<Night>,
    /// There is a `report.html`.
    pub has_report: bool,
}

/// What is known of a night.
pub struct Night {
    /// Sleep statistics.
    pub statistics: SleepStatistics,
    duration_s: Option<f64>,
    quality: super::marker::Quality,
    apnea: Option<Apnea>,
    /// Modalities without a channel.
    pub absent: Vec<String>,
    /// Those, and the ones that were lost for most of the night.
    pub missing: Vec<String>,
    pass: String,
    embedding: Vec<Option<f32>>,
    log_hazards: Vec<Option<f32>>,
}

impl Night {
    fn apnea(&self, of: fn(&Apnea) -> Option<f64>) -> Option<f64> {
        self.apnea.as_ref().filter(|_| self.allows_hazards()).and_then(of)
    }

    /// Whether the night is long and whole enough for its hazards and its apnea to be looked at.
    pub fn allows_hazards(&self) -> bool {
        may_be_shown(self.statistics.tst_min, self.missing.len()).is_ok()
    }
}

/// The parts of `night.json` that the table takes. A figure that is no number is null there.
#[derive(Deserialize)]
struct NightFile {
    pass: String,
    statistics: SleepStatistics,
    modalities_missing: Vec<String>,
    risk: Option<Risk>,
    apnea: Option<Apnea>,
    provenance: Provenance,
}

#[derive(Deserialize)]
struct Risk {
    embedding: Vec<Option<f32>>,
    log_hazards: Vec<Option<f32>>,
}

#[derive(Deserialize)]
struct Apnea {
    ahi_5: Option<f64>,
    ahi_15: Option<f64>,
    severity: [Option<f64>; 4],
}

#[derive(Deserialize)]
struct Provenance {
    duration_s: Option<f64>,
    modalities_absent: Vec<String>,
}

/// The row of a night whose marker was found in `folder`.
pub fn row(entry: &Entry, folder: &Path, marker: &Marker) -> Row {
    let night = match marker.status {
        Status::Done => read(folder, marker),
        Status::Failed => Err(marker.reason.clone().unwrap_or_default()),
    };
    let (night, reason) = match night {
        Ok(night) => (Some(night), None),
        Err(reason) => (None, Some(reason)),
    };
    Row {
        entry: entry.clone(),
        reason,
        person: (marker.identity.age_years, marker.identity.sex.map(|sex| sex.as_str())),
        night,
        has_report: folder.join("report.html").is_file(),
    }
}

fn read(folder: &Path, marker: &Marker) -> Result<Night, String> {
    let path = folder.join("night.json");
    let refuse = |reason: String| format!("{}: cannot be read ({reason})", path.display());
    let mut json = Vec::new();
    crate::files::open_input(&path)
        .and_then(|file| file.take(MAX_NIGHT_BYTES).read_to_end(&mut json))
        .map_err(|e| refuse(e.to_string()))?;
    let file: NightFile = serde_json::from_slice(&json).map_err(|e| refuse(e.to_string()))?;
    let (embedding, log_hazards) =
        file.risk.map_or_else(Default::default, |risk| (risk.embedding, risk.log_hazards));
    Ok(Night {
        statistics: file.statistics,
        duration_s: file.provenance.duration_s,
        quality: marker.quality.unwrap_or_default(),
        apnea: file.apnea,
        absent: file.provenance.modalities_absent,
        missing: file.modalities_missing,
        pass: file.pass,
        embedding,
        log_hazards,
    })
}

/// The table's sizes and names, which are the bundle's.
pub struct Frame<'a> {
    /// The bundle's name.
    pub bundle: &'a str,
    /// Its SHA-256.
    pub bundle_sha256: &'a str,
    /// E.
    pub embed_dim: usize,
    /// K, the number of hazards.
    pub hazards: usize,
    /// Their names; may be empty.
    pub labels: &'a Labels,
}

impl Frame<'_> {
    /// One row a night. Hazards are there where [`Night::allows_hazards`]; the columns are the same
    /// for any rows.
    pub fn table(&self, rows: &[Row]) -> Table {
        let text = |name: &str, of: &dyn Fn(&Row) -> Option<String>| Column {
            name: name.to_owned(),
            values: Values::Text(rows.iter().map(of).collect()),
        };
        let of_night = |row: &Row, of: fn(&Night) -> String| row.night.as_ref().map(of);
        let mut columns = vec![
            text("recording", &|row| Some(row.entry.name.clone())),
            text("status", &|row| Some(row.status().to_owned())),
            text("reason", &|row| row.reason.clone()),
            text("folder", &|row| Some(row.folder())),
            text("bundle", &|row| row.night.as_ref().map(|_| self.bundle.to_owned())),
            text("bundle_sha256", &|row| row.night.as_ref().map(|_| self.bundle_sha256.to_owned())),
            text("pass", &|row| of_night(row, |night| night.pass.clone())),
            Column {
                name: "age_years".to_owned(),
                values: Values::Number(rows.iter().map(|row| row.person.0).collect()),
            },
            text("sex", &|row| row.person.1.map(str::to_owned)),
            text("modalities_absent", &|row| of_night(row, |night| night.absent.join(" "))),
        ];
        columns.extend(FIGURES.iter().map(|figure| figure_column(figure, rows)));
        let singles = |name: String, of: &dyn Fn(&Night) -> Option<f32>| {
            let value = |row: &Row| row.night.as_ref().and_then(of);
            Column { name, values: Values::Single(rows.iter().map(value).collect()) }
        };
        columns.extend((0..self.embed_dim).map(|index| {
            singles(format!("e_{index}"), &|night| night.embedding.get(index).copied().flatten())
        }));
        columns.extend(self.hazard_names().into_iter().enumerate().map(|(index, name)| {
            let hazard = |night: &Night| night.log_hazards.get(index).copied().flatten();
            singles(name, &|night| hazard(night).filter(|_| night.allows_hazards()))
        }));
        Table { columns }
    }

    /// `hazard_<phecode>`; by number where the bundle has no name, or one twice.
    fn hazard_names(&self) -> Vec<String> {
        let mut seen = std::collections::BTreeSet::new();
        let name = |index: usize| {
            let code = self.labels.get(index).map_or("", |(phecode, _)| phecode.as_str());
            let is_new = !code.is_empty() && seen.insert(code);
            if is_new { format!("hazard_{code}") } else { format!("hazard_label_{index}") }
        };
        (0..self.hazards).map(name).collect()
    }
}

impl Row {
    /// `done` or `failed`.
    pub fn status(&self) -> &'static str {
        if self.reason.is_none() { "done" } else { "failed" }
    }

    /// The folder below the batch's, with `/` between its parts.
    pub fn folder(&self) -> String {
        let parts: Vec<_> = self.entry.folder.iter().map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    }

    /// A figure's value, where the night has one.
    pub fn figure(&self, figure: &Figure) -> Option<f64> {
        self.night.as_ref().and_then(figure.of)
    }
}

/// Counts are whole numbers.
fn figure_column(figure: &Figure, rows: &[Row]) -> Column {
    let values = rows.iter().map(|row| row.figure(figure));
    let values = if ["awakenings", "stage_changes", "gaps"].contains(&figure.name) {
        Values::Count(values.map(|value| value.map(|value| value as i64)).collect())
    } else {
        Values::Number(values.collect())
    };
    Column { name: figure.name.to_owned(), values }
}

/// The recordings that failed, and why.
pub fn failures(rows: &[Row]) -> Table {
    let failed: Vec<&Row> = rows.iter().filter(|row| row.reason.is_some()).collect();
    let column = |name: &str, of: &dyn Fn(&&Row) -> Option<String>| Column {
        name: name.to_owned(),
        values: Values::Text(failed.iter().map(of).collect()),
    };
    Table {
        columns: vec![
            column("recording", &|row| Some(row.entry.name.clone())),
            column("reason", &|row| row.reason.clone()),
        ],
    }
}

#[cfg(test)]
#[path = "cohort_tests.rs"]
pub(super) mod tests;
