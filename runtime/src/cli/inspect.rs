//! `sfm-stream inspect FILE`: the recording's channels and what each is used for.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::args::ChannelArgs;
use super::{Failure, channel_rules, show};
use crate::montage::{escaped, table};
use crate::source::{self, Source};

/// Prints the table of channels of `file`.
pub(super) fn run(file: &Path, channels: &ChannelArgs) -> Result<(), Failure> {
    let rules = channel_rules(channels)?;
    let recording = source::open(file).map_err(Failure::input)?;
    let info = recording.info();
    // What a network can take is the bundle's to say; here every channel that fits is shown.
    let montage = rules.assign(&info.signals, &BTreeMap::new()).map_err(Failure::usage)?;
    let mut text = String::new();
    let _ = writeln!(text, "{}: {}", escaped(&file.display().to_string()), info.format);
    let _ = writeln!(text, "start: {}", info.start.as_deref().unwrap_or("not given"));
    if let Some(duration_s) = info.duration_s {
        let _ = writeln!(text, "length: {}", length(duration_s));
    }
    for warning in &info.warnings {
        let _ = writeln!(text, "warning: {}", escaped(warning));
    }
    let _ = write!(text, "\n{}", table(info, &montage));
    show(&text)
}

/// `7:59:30`, or seconds where minutes would hide them.
fn length(duration_s: f64) -> String {
    if duration_s < 60.0 {
        return format!("{duration_s} s");
    }
    let s = duration_s as u64;
    format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}
