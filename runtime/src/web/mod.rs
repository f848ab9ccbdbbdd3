//! The live page.

use serde::Deserialize;

/// Arguments.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct WebArgs {
    /// Serve the live page
    #[arg(long, value_name = "ADDR")]
    pub web: Option<std::net::SocketAddr>,
}

impl WebArgs {
    /// These arguments, completed from a configuration file's.
    pub fn or(&self, file: Self) -> Self {
        Self { web: self.web.or(file.web) }
    }
}
