//! Files in other programs' formats: `--format` and `--annotated-edf`. A sink each, so that one
//! that fails takes no other with it; written when a pass is over, and replaced as a whole.

mod annotated;
mod fhir;
mod numpy;
mod parquet;
mod stages;

#[cfg(test)]
mod tests;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::annotated::AnnotatedSink;
use self::fhir::FhirSink;
use self::numpy::NumpySink;
use self::parquet::ParquetSink;
use self::stages::StagesSink;
use super::replace::ReplacedFile;
use super::{Place, Sink, SinkError};

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

impl FormatArgs {
    /// These arguments, completed from a configuration file's.
    pub fn or(&self, file: Self) -> Self {
        Self {
            format: if self.format.is_empty() { file.format } else { self.format.clone() },
            annotated_edf: self.annotated_edf || file.annotated_edf,
            keep_identity: self.keep_identity || file.keep_identity,
        }
    }

    /// The sinks these arguments ask for. What an earlier run left of any format is removed, asked
    /// for or not, so that the folder never tells of two recordings.
    ///
    /// # Errors
    /// One sentence with the file and the reason.
    pub fn sinks(&self, place: &Place<'_>) -> Result<Vec<Box<dyn Sink>>, SinkError> {
        for format in Format::value_variants() {
            sink(*format, place)?;
        }
        ["annotated.edf", "annotated.bdf"]
            .iter()
            .try_for_each(|name| file(place, name).map(drop))?;
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        for (index, format) in self.format.iter().enumerate() {
            // Said twice is once: two sinks would write one file.
            if !self.format.iter().take(index).any(|earlier| earlier == format) {
                sinks.push(sink(*format, place)?);
            }
        }
        if self.annotated_edf {
            sinks.push(Box::new(AnnotatedSink::open(place, self.keep_identity)?));
        }
        Ok(sinks)
    }
}

fn sink(format: Format, place: &Place<'_>) -> Result<Box<dyn Sink>, SinkError> {
    Ok(match format {
        Format::Parquet => Box::new(ParquetSink::open(place)?),
        Format::Numpy => Box::new(NumpySink::open(place)?),
        Format::Fhir => Box::new(FhirSink::open(place)?),
        stages => Box::new(StagesSink::open(stages, place)?),
    })
}

/// Takes a file's place: what an earlier run left there goes, what this session left stays.
fn file(place: &Place<'_>, name: &str) -> Result<ReplacedFile, SinkError> {
    match place.resumed {
        Some(_) => Ok(ReplacedFile::reopen(place.out_dir, name)),
        None => ReplacedFile::open(place.out_dir, name),
    }
}
