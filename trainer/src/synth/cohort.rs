//! The folder of a cohort: what is known of every night in it. `truth.json` is the register; the
//! other files are written from it, so nights added later join those that are there.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::SynthError;
use super::hypnogram::EPOCHS_PER_H;
use super::montage::Laboratory;
use super::night::Night;
use super::noise::stream;
use super::outcome::{OUTCOMES, Observed, concordance, observe};
use super::person::TRAITS;
use super::recording::replace;

/// Shares of subjects for pretraining, training, validation and test.
pub type Shares = [f64; 4];
const PARTS: [&str; 4] = ["pretrain", "train", "validation", "test"];
/// Subjects are dealt out in groups of this size, so that small cohorts get their shares too.
const GROUP: u64 = 20;

/// What is known of a night.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Where it was recorded.
    pub laboratory: Laboratory,
    /// Length of the recording.
    pub hours: f64,
    /// Name of the sleeper.
    pub subject: String,
    /// Number of the sleeper.
    pub subject_number: u64,
    /// Age, years.
    pub age_years: f64,
    /// `f` or `m`.
    pub sex: String,
    /// Apneas and hypopneas per hour of this night's sleep.
    pub ahi: f64,
    /// Arousals per hour of this night's sleep.
    pub arousals_per_h: f64,
    /// Standardized traits by name.
    pub traits: BTreeMap<String, f64>,
    /// True linear predictor of each label.
    pub log_hazards: Vec<f64>,
    /// Whether the event of each label was seen.
    pub events: Vec<bool>,
    /// Years to the event or the end of observation, of each label.
    pub years: Vec<f64>,
}

/// The register of a cohort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cohort {
    /// Says what it is.
    pub about: String,
    /// Seed of all nights.
    pub seed: u64,
    /// Shares of subjects for pretraining, training, validation and test.
    pub split: Shares,
    /// Log hazard ratio of each trait, by label.
    pub coefficients: BTreeMap<String, BTreeMap<String, f64>>,
    /// C-index of the true linear predictor over the subjects, by label: no model does better.
    pub ceiling_c_index: BTreeMap<String, Option<f64>>,
    /// Nights by `Study ID`.
    pub nights: BTreeMap<String, Truth>,
}

/// Kept digits are few enough that reading and writing again gives the same text.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

impl Truth {
    /// What is known of `night`.
    pub fn new(seed: u64, night: &Night) -> Truth {
        let person = &night.person;
        let observed = observe(seed, person);
        let asleep_h = night.stages.iter().filter(|&&s| s != sfm_models::SleepStage::Wake).count()
            as f64
            / EPOCHS_PER_H as f64;
        let traits = TRAITS.iter().zip(person.traits);
        Truth {
            laboratory: night.laboratory,
            hours: rounded(night.stages.len() as f64 / EPOCHS_PER_H as f64),
            subject: format!("sim-{:04}", person.subject),
            subject_number: person.subject,
            age_years: (person.age_years * 10.0).round() / 10.0,
            sex: if person.male { "m" } else { "f" }.into(),
            ahi: rounded(night.events.ahi(&night.stages)),
            arousals_per_h: rounded(night.events.arousals.len() as f64 / asleep_h.max(0.1)),
            traits: traits.map(|(name, value)| ((*name).into(), rounded(value))).collect(),
            log_hazards: observed.iter().map(|o| rounded(o.log_hazard)).collect(),
            events: observed.iter().map(|o| o.event).collect(),
            years: observed.iter().map(|o| rounded(o.years)).collect(),
        }
    }
}

impl Cohort {
    /// The register of `folder`, or a new one if there is none.
    ///
    /// # Errors
    /// [`SynthError::Register`] if it cannot be read or is of another seed or split.
    pub fn open(folder: &Path, seed: u64, split: Shares) -> Result<Cohort, SynthError> {
        let path = folder.join("truth.json");
        let refuse = |reason: String| SynthError::Register { path: path.clone(), reason };
        let new = Cohort::new(seed, split);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(new),
            Err(e) => return Err(refuse(e.to_string())),
        };
        let there: Cohort = serde_json::from_str(&text)
            .map_err(|e| refuse(format!("is no register of a simulated cohort: {e}")))?;
        if (there.seed, there.split) != (seed, split) {
            return Err(refuse(format!(
                "the nights there are of seed {} and split {:?}; give the same or another --out",
                there.seed, there.split
            )));
        }
        Ok(Cohort { nights: there.nights, ..new })
    }

    fn new(seed: u64, split: Shares) -> Cohort {
        let by_trait = |c: [f64; TRAITS.len()]| {
            TRAITS.iter().zip(c).map(|(name, value)| ((*name).to_owned(), value)).collect()
        };
        Cohort {
            about: "simulated sleep: shows that the path works, says nothing about people".into(),
            seed,
            split,
            coefficients: OUTCOMES
                .iter()
                .map(|o| (o.phecode.to_owned(), by_trait(o.coefficients)))
                .collect(),
            ceiling_c_index: BTreeMap::new(),
            nights: BTreeMap::new(),
        }
    }

    /// Writes all files of the cohort as a whole.
    ///
    /// # Errors
    /// [`SynthError::Write`].
    pub fn write(&mut self, folder: &Path) -> Result<(), SynthError> {
        self.ceiling_c_index = self.ceilings();
        let event = |t: &Truth, k: usize| t.events.get(k).map(|&e| u8::from(e).to_string());
        let years = |t: &Truth, k: usize| t.years.get(k).map(|y| format!("{y:.6}"));
        let texts = [
            ("is_event.csv", Ok(self.by_label(event))),
            ("time_to_event.csv", Ok(self.by_label(years))),
            ("demographics.csv", Ok(self.demographics())),
            ("labels.csv", Ok(labels())),
            ("split.json", serde_json::to_string_pretty(&self.by_part())),
            ("truth.json", serde_json::to_string_pretty(self)),
        ];
        for (name, text) in texts {
            let write = |path: &Path| {
                let text = text.map_err(std::io::Error::from)?;
                let mut file = fs::File::create(path)?;
                Ok(file.write_all(format!("{}\n", text.trim_end()).as_bytes())?)
            };
            replace(&folder.join(name), write)?;
        }
        Ok(())
    }

    /// A row a night, a column a label.
    fn by_label(&self, value: impl Fn(&Truth, usize) -> Option<String>) -> String {
        let columns: String = (0..OUTCOMES.len()).map(|k| format!(",{k}")).collect();
        let mut text = format!("Study ID{columns}\n");
        for (id, truth) in &self.nights {
            text += id;
            for k in 0..OUTCOMES.len() {
                text += &format!(",{}", value(truth, k).unwrap_or_default());
            }
            text += "\n";
        }
        text
    }

    fn demographics(&self) -> String {
        let mut text = "Study ID,subject,age_years,sex,ahi\n".to_owned();
        for (id, t) in &self.nights {
            text += &format!("{id},{},{:.1},{},{:.2}\n", t.subject, t.age_years, t.sex, t.ahi);
        }
        text
    }

    /// Paths in the store by part. A subject's part never changes when nights are added.
    fn by_part(&self) -> BTreeMap<&'static str, Vec<String>> {
        let mut parts: BTreeMap<&str, Vec<String>> =
            PARTS.iter().map(|&part| (part, Vec::new())).collect();
        for (id, truth) in &self.nights {
            let path = format!("{}/{id}.hdf5", truth.laboratory.as_str());
            let part = part(self.seed, truth.subject_number, &self.split);
            parts.entry(part).or_default().push(path);
        }
        parts
    }

    /// C-index of the true linear predictor over subjects, each taken once.
    fn ceilings(&self) -> BTreeMap<String, Option<f64>> {
        let subjects: BTreeMap<u64, &Truth> =
            self.nights.values().map(|t| (t.subject_number, t)).collect();
        let observed = |k: usize| {
            let one = |t: &&Truth| {
                let (&log_hazard, &event, &years) =
                    (t.log_hazards.get(k)?, t.events.get(k)?, t.years.get(k)?);
                Some(Observed { log_hazard, event, years })
            };
            subjects.values().filter_map(one).collect::<Vec<_>>()
        };
        let labels = OUTCOMES.iter().enumerate();
        let ceiling = |k: usize| concordance(&observed(k)).map(rounded);
        labels.map(|(k, outcome)| (outcome.phecode.to_owned(), ceiling(k))).collect()
    }
}

fn labels() -> String {
    let rows = OUTCOMES.iter().enumerate();
    let rows = rows.map(|(k, o)| format!("{k},{},{}\n", o.phecode, o.phenotype));
    "label_idx,phecode,phenotype\n".to_owned() + &rows.collect::<String>()
}

/// The part of a subject: every group of subjects is shuffled and dealt out by the shares.
fn part(seed: u64, subject: u64, split: &Shares) -> &'static str {
    let mut ranks: Vec<u64> = (0..GROUP).collect();
    ranks.shuffle(&mut stream(seed, "split", subject / GROUP));
    let rank = ranks.get((subject % GROUP) as usize).copied().unwrap_or(0);
    let place = (rank as f64 + 0.5) / GROUP as f64;
    let total: f64 = split.iter().sum();
    let mut end = 0.0;
    for (part, share) in PARTS.into_iter().zip(split) {
        end += share / total;
        if place < end {
            return part;
        }
    }
    PARTS[PARTS.len() - 1]
}
