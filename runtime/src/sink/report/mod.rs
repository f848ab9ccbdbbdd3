//! `report.html`: the night on a page.

use serde::Deserialize;

use super::{Place, Sink, SinkError};

/// Arguments.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ReportArgs {
    /// No report.html
    #[arg(long)]
    pub no_report: bool,
}

impl ReportArgs {
    /// These arguments, completed from a configuration file's.
    pub fn or(&self, file: Self) -> Self {
        Self { no_report: self.no_report || file.no_report }
    }

    /// The sinks these arguments ask for.
    ///
    /// # Errors
    /// One sentence with the file and the reason.
    pub fn sinks(&self, _place: &Place<'_>) -> Result<Vec<Box<dyn Sink>>, SinkError> {
        Ok(Vec::new())
    }

    /// Whether they look at the signals themselves.
    pub fn want_signals(&self) -> bool {
        !self.no_report
    }
}
