//! `night.json` (statistics, risk embedding, gap ledger, provenance) and `risk.csv`, written when
//! a pass is over; a later pass replaces both.

use std::path::Path;

use serde::Serialize;
use sfm_models::Modality;

use super::no_formula;
use super::replace::ReplacedFile;
use super::{Labels, Sink, SinkError};
use crate::event::{ApneaEstimate, ChannelLedger, Event, Night, OvernightRisk, Pass, Started};
use crate::files;
use crate::lights::Lights;
use crate::statistics::SleepStatistics;

/// No night's file is longer.
const MAX_NIGHT_BYTES: u64 = 64 << 20;

/// Writes `night.json` and `risk.csv`.
#[derive(Debug)]
pub struct NightSink {
    night: ReplacedFile,
    risk: ReplacedFile,
    labels: Vec<(String, String)>,
    started: Option<Box<Started>>,
    /// A night that is not written yet.
    unwritten: Option<Box<Night>>,
}

/// The content of `night.json`.
#[derive(Serialize)]
struct NightFile<'a> {
    software: &'static str,
    notice: &'static str,
    pass: Pass,
    statistics: &'a SleepStatistics,
    lights: &'a Lights,
    counted_epochs: [usize; 2],
    modalities_missing: &'a [Modality],
    risk: Option<&'a OvernightRisk>,
    apnea: Option<&'a ApneaEstimate>,
    gap_ledger: &'a [ChannelLedger],
    notes: &'a [String],
    provenance: Option<&'a Started>,
}

impl NightSink {
    /// Takes the places of both files in `out_dir`. `labels` is the (phecode, phenotype) of each
    /// hazard and may be empty.
    ///
    /// # Errors
    /// The place of a file cannot be freed.
    pub fn open(out_dir: &Path, labels: Vec<(String, String)>) -> Result<Self, SinkError> {
        Ok(NightSink {
            night: ReplacedFile::open(out_dir, "night.json")?,
            risk: ReplacedFile::open(out_dir, "risk.csv")?,
            labels,
            started: None,
            unwritten: None,
        })
    }

    /// Goes on in `out_dir`, where both files are replaced at the end of the night.
    pub fn reopen(out_dir: &Path, labels: Vec<(String, String)>) -> Self {
        NightSink {
            night: ReplacedFile::reopen(out_dir, "night.json"),
            risk: ReplacedFile::reopen(out_dir, "risk.csv"),
            labels,
            started: None,
            unwritten: None,
        }
    }

    fn write(&self, night: &Night) -> Result<(), SinkError> {
        let content = NightFile {
            software: concat!("sfm-stream ", env!("CARGO_PKG_VERSION")),
            notice: "research software, not a medical device; log-hazards are relative: no \
                     probabilities, no diagnosis",
            pass: night.pass,
            statistics: &night.statistics,
            lights: &night.lights,
            counted_epochs: [night.counted.start, night.counted.end],
            modalities_missing: &night.missing,
            risk: night.risk.as_ref(),
            apnea: night.apnea.as_ref(),
            gap_ledger: &night.ledger,
            notes: &night.notes,
            provenance: self.started.as_deref(),
        };
        let mut json = serde_json::to_vec_pretty(&content)
            .map_err(|reason| self.night.cannot_write(reason))?;
        json.push(b'\n');
        self.night.write(&json)?;
        let risk = risk_csv(night.risk.as_ref(), &self.labels)
            .map_err(|reason| self.risk.cannot_write(reason))?;
        self.risk.write(&risk)
    }
}

impl Sink for NightSink {
    fn name(&self) -> String {
        self.night.path().display().to_string()
    }

    fn can_try_again(&self) -> bool {
        true
    }

    fn move_to(&mut self, out_dir: &Path) -> Result<(), SinkError> {
        self.night.move_to(out_dir);
        self.risk.move_to(out_dir);
        Ok(())
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        match event {
            Event::Started(started) => self.started = Some(started.clone()),
            Event::Night(night) => {
                self.unwritten = Some(night.clone());
                self.publish()?;
            }
            _ => {}
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<(), SinkError> {
        if let Some(night) = &self.unwritten {
            self.write(night)?;
            self.unwritten = None;
        }
        Ok(())
    }
}

/// Adds `value` under `name` to the `night.json` of `out_dir`: what a live session knows besides its
/// events.
///
/// # Errors
/// The file cannot be read or replaced.
pub fn add_to_night(out_dir: &Path, name: &str, value: &impl Serialize) -> Result<(), SinkError> {
    let file = ReplacedFile::reopen(out_dir, "night.json");
    let text = files::read_text(file.path(), MAX_NIGHT_BYTES).map_err(|e| file.cannot_write(e))?;
    let value = serde_json::to_string_pretty(value).map_err(|e| file.cannot_write(e))?;
    let Some(object) = text.trim_end().strip_suffix('}') else {
        return Err(file.cannot_write("it holds no object"));
    };
    let object = object.trim_end();
    let value = value.replace('\n', "\n  ");
    file.write(format!("{object},\n  \"{name}\": {value}\n}}\n").as_bytes())
}

/// One row a hazard; the percentile is empty where the bundle brings no reference cohort.
fn risk_csv(risk: Option<&OvernightRisk>, labels: &Labels) -> Result<Vec<u8>, csv::Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["label_idx", "phecode", "phenotype", "log_hazard", "percentile"])?;
    let hazards = risk.map_or(&[][..], |risk| &risk.log_hazards);
    for (index, log_hazard) in hazards.iter().enumerate() {
        let (phecode, phenotype) =
            labels.get(index).map_or(("", ""), |(code, name)| (code.as_str(), name.as_str()));
        let percentiles = risk.and_then(|risk| risk.percentiles.as_ref());
        let percentile = percentiles.and_then(|p| p.get(index)).filter(|p| p.is_finite());
        table.write_record([
            index.to_string().as_str(),
            &no_formula(phecode),
            &no_formula(phenotype),
            &log_hazard.to_string(),
            &percentile.map_or_else(String::new, f32::to_string),
        ])?;
    }
    table.into_inner().map_err(|e| e.into_error().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_added_to_the_night() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("night.json"), "{\n  \"a\": 1\n}\n").expect("written");
        add_to_night(dir.path(), "links", &serde_json::json!({"lost": [2, 3]})).expect("added");
        let text = std::fs::read_to_string(dir.path().join("night.json")).expect("read");
        let night: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&night["a"], &night["links"]["lost"][1]), (&1.into(), &3.into()));
        assert!(add_to_night(Path::new("/nowhere"), "links", &1).is_err());
    }

    #[test]
    fn a_missing_label_or_percentile_is_an_empty_field() {
        let risk = OvernightRisk {
            embedding: vec![],
            log_hazards: vec![-0.25, 1.5],
            percentiles: Some(vec![97.5, f32::NAN]),
            tokens: 2,
            tokens_left_out: 0,
        };
        let labels = [("427.2".to_owned(), "Fibrillation, \"atrial\"".to_owned())];
        let csv = risk_csv(Some(&risk), &labels).expect("text");
        assert_eq!(
            String::from_utf8(csv).expect("UTF-8"),
            "label_idx,phecode,phenotype,log_hazard,percentile\n\
             0,427.2,\"Fibrillation, \"\"atrial\"\"\",-0.25,97.5\n1,,,1.5,\n"
        );
    }
}
