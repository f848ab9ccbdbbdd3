//! `sfm-stream inspect FILE`: the recording's channels and what each is used for.

use std::collections::BTreeMap;
use std::path::Path;

use super::args::ChannelArgs;
use super::{Failure, channel_rules};
use crate::montage::{escaped, table};
use crate::source::{self, Source};

/// Prints the table of channels of `file`.
pub(super) fn run(file: &Path, channels: &ChannelArgs) -> Result<(), Failure> {
    let rules = channel_rules(channels)?;
    let recording = source::open(file).map_err(Failure::input)?;
    let info = recording.info();
    // What a network can take is the bundle's to say; here every channel that fits is shown.
    let montage = rules.assign(&info.signals, &BTreeMap::new()).map_err(Failure::usage)?;
    println!("{}: {}", escaped(&file.display().to_string()), info.format);
    println!("start: {}", info.start.as_deref().unwrap_or("not given"));
    if let Some(duration_s) = info.duration_s {
        println!("length: {:.1} min", duration_s / 60.0);
    }
    for warning in &info.warnings {
        println!("warning: {}", escaped(warning));
    }
    println!("\n{}", table(info, &montage));
    println!("{}", montage.summary());
    Ok(())
}
