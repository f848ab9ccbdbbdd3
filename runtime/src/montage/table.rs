//! What `sfm-stream inspect` prints: one line a channel. Labels and units are untrusted: no
//! control character of theirs reaches the terminal.

use std::fmt::Write as _;

use super::Montage;
use crate::signal::{SignalInfo, StreamInfo};

const HEADINGS: [&str; 7] = ["#", "label", "rate", "unit", "physical range", "modality", "rule"];
const RIGHT_ALIGNED: [bool; 7] = [true, false, true, false, true, false, false];

/// The channels of `info` with the decisions of `montage`, as aligned columns and a summary line;
/// every line ends with a line break.
pub fn table(info: &StreamInfo, montage: &Montage) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    for decision in &montage.decisions {
        let Some(signal) = info.signals.get(decision.channel) else { continue };
        let rule = escaped(&decision.rule);
        let (modality, rule) = match decision.modality {
            Some(modality) => (modality.to_string(), rule),
            None => ("-".to_owned(), format!("left out: {rule}")),
        };
        rows.push([
            decision.channel.to_string(),
            escaped(&signal.label),
            format!("{} Hz", number(signal.rate_hz)),
            escaped(&signal.unit),
            physical_range(signal),
            modality,
            rule,
        ]);
    }
    let mut text = aligned(&rows);
    let _ = writeln!(text, "{}", montage.summary());
    text
}

/// `text` for a terminal: control characters, and those that turn or hide text, are written as
/// `\u{1b}`.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A character that a terminal obeys or that turns or hides the text around it.
pub fn is_hidden(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// Line separators, marks of writing direction, and characters without width.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
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

fn physical_range(signal: &SignalInfo) -> String {
    format!("{} .. {}", number(signal.physical_min), number(signal.physical_max))
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
