//! Text that others made, or that others read: without characters that a terminal obeys.

use std::fmt::Write;

use serde::Serialize;

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

/// Anything as a line of JSON that no terminal obeys, its newline included.
///
/// # Errors
/// [`serde_json::Error`] for what JSON cannot hold.
pub fn json_text(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(value)?;
    let mut line = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if is_hidden(c) {
            // Such a character is part of a string, where this form stands for it.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    Ok(line)
}

/// A device's number as people write it.
pub fn hex(number: u64) -> String {
    format!("{number:016x}")
}
