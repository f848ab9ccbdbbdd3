//! Files in other programs' formats: `--format` and `--annotated-edf`. A sink each, so that one
//! that fails takes no other with it; written when a pass is over, and replaced as a whole.

mod annotated;
mod fhir;
mod numpy;
mod parquet;
mod stages;

#[cfg(test)]
mod tests;

use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::annotated::AnnotatedSink;
use self::fhir::FhirSink;
use self::numpy::NumpySink;
use self::parquet::ParquetSink;
use self::stages::StagesSink;
use super::replace::ReplacedFile;
use super::{Opened, Place, Sink, SinkError};

/// Arguments.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct FormatArgs {
    /// More files: stages for other programs, embeddings as Parquet or NumPy, a FHIR bundle; may be
    /// repeated or be a list with commas
    #[arg(long, value_name = "FORMAT", value_delimiter = ',')]
    pub format: Vec<Format>,
    /// Copy of the recording with the stages as annotations, without who was recorded
    #[arg(long)]
    pub annotated_edf: bool,
    /// Leave the patient and recording fields in that copy
    #[arg(long)]
    pub keep_identity: bool,
}

/// A `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// hypnogram.annot for Luna
    Luna,
    /// hypnogram.nsrr.xml of the National Sleep Research Resource
    NsrrXml,
    /// hypnogram.profusion.xml of Compumedics
    ProfusionXml,
    /// hypnogram.usleep.tsv and .npy of U-Sleep
    Usleep,
    /// hypnogram.yasa.csv
    Yasa,
    /// events.tsv and events.json of BIDS
    Bids,
    /// embeddings.parquet and embeddings.5min.parquet
    Parquet,
    /// embeddings.MODALITY.npy and embeddings.5min.MODALITY.npy
    Numpy,
    /// fhir.json, a bundle of HL7 FHIR R4
    Fhir,
}

impl Format {
    /// Its files.
    pub fn files(self) -> &'static [&'static str] {
        match self {
            Format::Luna => &["hypnogram.annot"],
            Format::NsrrXml => &["hypnogram.nsrr.xml"],
            Format::ProfusionXml => &["hypnogram.profusion.xml"],
            Format::Usleep => &["hypnogram.usleep.tsv", "hypnogram.usleep.npy"],
            Format::Yasa => &["hypnogram.yasa.csv"],
            Format::Bids => &["events.tsv", "events.json"],
            Format::Parquet => &["embeddings.parquet", "embeddings.5min.parquet"],
            Format::Numpy => &[
                "embeddings.BAS.npy",
                "embeddings.RESP.npy",
                "embeddings.EKG.npy",
                "embeddings.EMG.npy",
                "embeddings.5min.BAS.npy",
                "embeddings.5min.RESP.npy",
                "embeddings.5min.EKG.npy",
                "embeddings.5min.EMG.npy",
            ],
            Format::Fhir => &["fhir.json"],
        }
    }
}

impl FormatArgs {
    /// These arguments, completed from a configuration file's.
    pub fn or(&self, file: Self) -> Self {
        Self {
            format: if self.format.is_empty() { file.format } else { self.format.clone() },
            annotated_edf: self.annotated_edf || file.annotated_edf,
            keep_identity: self.keep_identity || file.keep_identity,
        }
    }

    /// What lies in the folder of formats that nobody asks for now: perhaps an earlier run's, and of
    /// another recording; perhaps somebody else's, so nothing is removed. One sentence for the user.
    pub fn left_over(&self, place: &Place<'_>) -> Option<String> {
        let asked = |format: &Format| self.format.contains(format);
        let formats = Format::value_variants().iter().filter(|format| !asked(format));
        let copies = ANNOTATED.iter().filter(|_| !self.annotated_edf);
        let names = formats.flat_map(|format| format.files()).chain(copies);
        let is_there = |name: &str| {
            let path = place.out_dir.join(name);
            path.exists() && !is_same(&path, place.recording)
        };
        let there: Vec<&str> = names.copied().filter(|name| is_there(name)).collect();
        let out = place.out_dir.display();
        (!there.is_empty()).then(|| {
            format!(
                "{out} holds {}, which this run does not write: not of this recording, perhaps",
                there.join(", ")
            )
        })
    }

    /// The sinks these arguments ask for.
    ///
    /// # Errors
    /// One sentence with the file and the reason.
    pub fn sinks(&self, place: &Place<'_>) -> Result<Vec<Box<dyn Sink>>, SinkError> {
        self.each(place).into_iter().collect()
    }

    /// As [`sinks`](Self::sinks), each on its own.
    pub(crate) fn each(&self, place: &Place<'_>) -> Vec<Opened> {
        let mut sinks = Vec::new();
        for (index, format) in self.format.iter().enumerate() {
            // Said twice is once: two sinks would write one file.
            if !self.format.iter().take(index).any(|earlier| earlier == format) {
                sinks.push(sink(*format, place));
            }
        }
        if self.annotated_edf {
            let copy = AnnotatedSink::open(place, self.keep_identity);
            sinks.push(copy.map(|copy| Box::new(copy) as Box<dyn Sink>));
        }
        sinks
    }
}

fn sink(format: Format, place: &Place<'_>) -> Opened {
    Ok(match format {
        Format::Parquet => Box::new(ParquetSink::open(place)?),
        Format::Numpy => Box::new(NumpySink::open(place)?),
        Format::Fhir => Box::new(FhirSink::open(place)?),
        stages => Box::new(StagesSink::open(stages, place)?),
    })
}

/// Names of the copy that --annotated-edf makes.
const ANNOTATED: [&str; 2] = ["annotated.edf", "annotated.bdf"];

/// Names of all files that these arguments can ask for.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let formats = Format::value_variants().iter().flat_map(|format| format.files());
    formats.chain(&ANNOTATED).copied()
}

/// Whether two paths are one file.
fn is_same(a: &Path, b: &Path) -> bool {
    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// Takes a file's place: what an earlier run left there goes, what this session left stays.
fn file(place: &Place<'_>, name: &str) -> Result<ReplacedFile, SinkError> {
    match place.resumed {
        Some(_) => Ok(ReplacedFile::reopen(place.out_dir, name)),
        None => ReplacedFile::open(place.out_dir, name),
    }
}
