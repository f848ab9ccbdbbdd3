//! What `sfm-stream inspect` prints: one line a channel. Labels and units are untrusted: no
//! control character of theirs reaches the terminal.

use std::fmt::Write as _;

use serde::Serialize;
use sfm_models::Modality;

use super::Montage;
use crate::signal::{SignalInfo, StreamInfo};
use crate::text::escaped;

const HEADINGS: [&str; 7] = ["#", "label", "rate", "unit", "physical range", "modality", "rule"];
const RIGHT_ALIGNED: [bool; 7] = [true, false, true, false, true, false, false];

/// One channel and what becomes of it. Labels and units are as in the recording.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelRow {
    /// Index in the recording; of derived channels, behind those.
    pub channel: usize,
    /// Its label.
    pub label: String,
    /// Sampling rate, Hz.
    pub rate_hz: f64,
    /// Physical dimension.
    pub unit: String,
    /// Physical minimum.
    pub physical_min: f64,
    /// Physical maximum.
    pub physical_max: f64,
    /// The modality that it goes into, itself or in a derivation; `None` if it is left out.
    pub modality: Option<Modality>,
    /// The network gets it as it is, not in a derivation.
    pub is_used: bool,
    /// It is made of other channels.
    pub is_derived: bool,
    /// The rule that decided, or why it is left out.
    pub rule: String,
}

/// The channels of `info` with the decisions of `montage`, and what is derived of them.
pub fn rows(info: &StreamInfo, montage: &Montage) -> Vec<ChannelRow> {
    let info = montage.extended(info);
    let row = |(signal, decision): (&SignalInfo, &super::Decision)| ChannelRow {
        channel: decision.channel,
        label: signal.label.clone(),
        rate_hz: signal.rate_hz,
        unit: signal.unit.clone(),
        physical_min: signal.physical_min,
        physical_max: signal.physical_max,
        modality: decision.modality.or(decision.electrode_of),
        is_used: decision.modality.is_some(),
        is_derived: decision.channel >= montage.recorded(),
        rule: decision.rule.clone(),
    };
    info.signals.iter().zip(&montage.decisions).map(row).collect()
}

/// The channels of `info` with the decisions of `montage`, as aligned columns and a summary line;
/// every line ends with a line break.
pub fn table(info: &StreamInfo, montage: &Montage) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    for row in rows(info, montage) {
        let rule = escaped(&row.rule);
        let (modality, rule) = match row.modality {
            Some(modality) => (modality.to_string(), rule),
            None => ("-".to_owned(), format!("left out: {rule}")),
        };
        lines.push([
            row.channel.to_string(),
            escaped(&row.label),
            format!("{} Hz", number(row.rate_hz)),
            escaped(&row.unit),
            format!("{} .. {}", number(row.physical_min), number(row.physical_max)),
            modality,
            rule,
        ]);
    }
    let mut text = aligned(&lines);
    let _ = writeln!(text, "{}", montage.summary());
    text
}

fn aligned(rows: &[[String; 7]]) -> String {
    let mut widths = [0; 7];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(widths).zip(RIGHT_ALIGNED) {
            let _ = if right {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// At most four digits after the point, none that are zero; powers of ten for extremes.
fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || value == 0.0 || (1e-3..1e9).contains(&size) {
        let text = format!("{value:.4}");
        let text = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            &text
        };
        return text.to_owned();
    }
    format!("{value:.3e}")
}
