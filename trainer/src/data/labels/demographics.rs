//! Age, sex and AHI of the person recorded: `Study ID,subject,age_years,sex,ahi`, or the
//! reference's `Study ID,age,gender` with the age already scaled to 0..1 and 1 for male.

use std::collections::BTreeMap;
use std::path::Path;

use sfm_runtime::night::Sex;

use super::{Table, is_empty, shown};
use crate::data::DataError;

const OLDEST_YEARS: f64 = 130.0;
/// Events an hour; the highest ever seen is about half of it.
const MAX_AHI: f64 = 300.0;

/// An age as its file has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Age {
    /// In years.
    Years(f64),
    /// Scaled to 0..1 by whoever wrote the file.
    Scaled(f64),
}

/// The person of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// Who it is: several recordings may be of one subject. The recording's id where not given.
    pub subject: String,
    /// Age at the recording.
    pub age: Option<Age>,
    /// Sex.
    pub sex: Option<Sex>,
    /// Apnea-hypopnea index, events per hour of sleep.
    pub ahi: Option<f64>,
}

impl Person {
    /// Age and sex as the risk head takes them: `age_range` years to 0..1, and 1 for male. A
    /// scaled age goes as it is. `None` if either is unknown.
    pub fn inputs(&self, age_range: (f64, f64)) -> Option<[f32; 2]> {
        let (youngest, oldest) = age_range;
        let age = match self.age? {
            Age::Years(years) => (years - youngest) / (oldest - youngest),
            Age::Scaled(scaled) => scaled,
        };
        let male = match self.sex? {
            Sex::F => 0.0,
            Sex::M => 1.0,
        };
        Some([age as f32, male])
    }
}

/// The persons of recordings by id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Demographics {
    people: BTreeMap<String, Person>,
}

impl Demographics {
    /// Reads a file of either format. Empty cells are unknown.
    ///
    /// # Errors
    /// [`DataError`] with the line, for values that are no age, sex or AHI, and ids given twice.
    pub fn read(path: &Path) -> Result<Demographics, DataError> {
        let mut table = Table::open(path)?;
        let id = table.column("Study ID")?;
        let years = table.find("age_years");
        let age = match years {
            Some(column) => column,
            None => table.column("age")?,
        };
        let sex = match table.find("sex") {
            Some(column) => column,
            None => table.column("gender")?,
        };
        let (subject, ahi) = (table.find("subject"), table.find("ahi"));
        let mut people = BTreeMap::new();
        while table.next()? {
            let id = table.text(id).to_owned();
            if id.is_empty() {
                return Err(table.refuse("has no Study ID"));
            }
            let subject = subject.map(|column| table.text(column)).filter(|s| !s.is_empty());
            let person = Person {
                subject: subject.unwrap_or(&id).to_owned(),
                age: read_age(&table, age, years.is_some())?,
                sex: read_sex(&table, sex)?,
                ahi: ahi.map(|column| read_ahi(&table, column)).transpose()?.flatten(),
            };
            if people.insert(id.clone(), person).is_some() {
                return Err(table.refuse(format!("'{}' occurs twice; keep one row", shown(&id))));
            }
        }
        Ok(Demographics { people })
    }

    /// The person of a recording.
    pub fn person(&self, id: &str) -> Option<&Person> {
        self.people.get(id)
    }

    /// Recordings and their persons, sorted by id.
    pub fn people(&self) -> impl Iterator<Item = (&str, &Person)> {
        self.people.iter().map(|(id, person)| (id.as_str(), person))
    }
}

fn read_age(table: &Table, column: usize, in_years: bool) -> Result<Option<Age>, DataError> {
    match (table.number(column)?, in_years) {
        (None, _) => Ok(None),
        (Some(years), true) if (0.0..=OLDEST_YEARS).contains(&years) => Ok(Some(Age::Years(years))),
        (Some(years), true) => Err(table.refuse(format!("{years} is no age in years"))),
        // Scaled by the training cohort's range: a person outside of it is a little outside of 0..1.
        (Some(scaled), false) if (-1.0..=2.0).contains(&scaled) => Ok(Some(Age::Scaled(scaled))),
        (Some(age), false) => Err(table.refuse(format!(
            "age {age} is not scaled to 0..1; name the column age_years if it is in years"
        ))),
    }
}

fn read_sex(table: &Table, column: usize) -> Result<Option<Sex>, DataError> {
    let text = table.text(column).to_ascii_lowercase();
    match text.as_str() {
        "f" | "female" | "0" | "0.0" => Ok(Some(Sex::F)),
        "m" | "male" | "1" | "1.0" => Ok(Some(Sex::M)),
        _ if is_empty(&text) => Ok(None),
        _ => Err(table.refuse(format!("'{}' is no sex; use f or m", shown(&text)))),
    }
}

fn read_ahi(table: &Table, column: usize) -> Result<Option<f64>, DataError> {
    match table.number(column)? {
        Some(ahi) if !(0.0..=MAX_AHI).contains(&ahi) => {
            Err(table.refuse(format!("{ahi} is no apnea-hypopnea index")))
        }
        ahi => Ok(ahi),
    }
}
