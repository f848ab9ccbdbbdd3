//! Messages to other systems.

use serde::Deserialize;

use crate::sink::{Place, Sink, SinkError};

/// Arguments.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PublishArgs {
    /// MQTT broker
    #[arg(long, value_name = "URL")]
    pub mqtt: Option<String>,
}

impl PublishArgs {
    /// These arguments, completed from a configuration file's.
    pub fn or(&self, file: Self) -> Self {
        Self { mqtt: self.mqtt.clone().or(file.mqtt) }
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
        false
    }
}
