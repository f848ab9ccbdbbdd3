//! Files in other programs' formats.

use serde::Deserialize;

use super::{Place, Sink, SinkError};

/// Arguments.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct FormatArgs {
    /// Copy of the recording with the stages as annotations
    #[arg(long)]
    pub annotated_edf: bool,
}

impl FormatArgs {
    /// These arguments, completed from a configuration file's.
    pub fn or(&self, file: Self) -> Self {
        Self { annotated_edf: self.annotated_edf || file.annotated_edf }
    }

    /// The sinks these arguments ask for.
    ///
    /// # Errors
    /// One sentence with the file and the reason.
    pub fn sinks(&self, _place: &Place<'_>) -> Result<Vec<Box<dyn Sink>>, SinkError> {
        Ok(Vec::new())
    }
}
