//! `sfm-stream inspect FILE`: the recording's channels and what each is used for.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::args::ChannelArgs;
use super::setup::{channel_limits, montage_of};
use super::{Failure, bundle, channel_rules, show};
use crate::montage::{ChannelRow, rows, table};
use crate::source::{self, Source};
use crate::text::escaped;

/// What `--json` prints.
#[derive(Serialize)]
struct Inspected<'a> {
    file: String,
    format: &'a str,
    start: Option<&'a str>,
    duration_s: Option<f64>,
    warnings: &'a [String],
    /// The recording's channels, and behind them what is derived.
    channels: Vec<ChannelRow>,
}

/// Prints the table of channels of `file`, or the same as JSON. Which electrodes give way is the policy of
/// the bundle, or of the built-in one; only a bundle that is named has a limit of channels.
pub(super) fn run(
    file: &Path,
    channels: &ChannelArgs,
    of_bundle: Option<&Path>,
    json: bool,
) -> Result<(), Failure> {
    let bundle = bundle::open(of_bundle)?;
    let rules = channel_rules(channels, bundle.manifest().channels)?;
    let mut recording = source::open(file).map_err(Failure::input)?;
    let limits = of_bundle.map(|_| channel_limits(bundle.manifest())).unwrap_or_default();
    let montage = montage_of(&rules, &limits, &mut recording, bundle.manifest())?;
    let info = recording.info();
    if json {
        let inspected = Inspected {
            file: file.display().to_string(),
            format: &info.format,
            start: info.start.as_deref(),
            duration_s: info.duration_s,
            warnings: &info.warnings,
            channels: rows(info, &montage),
        };
        let text = serde_json::to_string_pretty(&inspected).map_err(Failure::run)?;
        return show(&(text + "\n"));
    }
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
