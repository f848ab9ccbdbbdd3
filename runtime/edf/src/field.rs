//! The fixed-width text fields of an EDF header: lenient reading of what recorders write,
//! strict refusal of what could be misread, exact writing. Knows nothing of their meaning.

use std::borrow::Cow;

/// A number read from a header field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// The value; always finite.
    pub value: f64,
    /// The field broke a rule (NUL padding, decimal comma, leading spaces) but is unambiguous.
    pub dirty: bool,
}

/// Text as written: UTF-8 if it is that, Latin-1 otherwise; cut at the first NUL, control
/// characters become spaces, trimmed.
pub fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|&b| b == 0).next().unwrap_or_default();
    let decoded = decode(bytes);
    let printable: String = decoded.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    printable.trim().to_owned()
}

/// UTF-8 with Latin-1 as the fallback: a Latin-1 text with accents is practically never
/// well-formed UTF-8, so the order cannot confuse the two.
pub fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(utf8) => Cow::Borrowed(utf8),
        Err(_) => Cow::Owned(bytes.iter().map(|&b| char::from(b)).collect()),
    }
}

/// A finite decimal number; `None` for anything else, including `NaN`, digits followed by other
/// characters, and spaces between digits.
pub fn number(bytes: &[u8]) -> Option<Number> {
    let unpadded = bytes.split(|&b| b == 0).next()?;
    let padded_by_nul = unpadded.len() != bytes.len();
    let written = std::str::from_utf8(unpadded).ok()?.trim_end_matches(' ');
    let trimmed = written.trim();
    let allowed = |c: char| c.is_ascii_digit() || "+-.,eE".contains(c);
    if trimmed.is_empty() || !trimmed.chars().all(allowed) {
        return None;
    }
    let decimal_comma = trimmed.contains(',');
    let value: f64 = trimmed.replace(',', ".").parse().ok()?;
    let dirty = padded_by_nul || decimal_comma || trimmed.len() != written.len();
    value.is_finite().then_some(Number { value, dirty })
}

/// A whole number within `i32`; otherwise as [`number`].
pub fn integer(bytes: &[u8]) -> Option<(i32, bool)> {
    let Number { value, dirty } = number(bytes)?;
    let fits = value.fract() == 0.0 && value.abs() <= f64::from(i32::MAX);
    // In range and whole, so the conversion is exact.
    fits.then_some((value as i32, dirty))
}

/// The value in at most eight characters: exact if they suffice, else as many digits as fit.
/// `None` if the magnitude is too large for the field.
pub fn format_number(value: f64) -> Option<String> {
    if !value.is_finite() {
        return None;
    }
    let exact = value.to_string();
    if exact.len() <= 8 {
        return Some(exact);
    }
    (0..=6).rev().map(|digits| format!("{value:.digits$}")).find(|rounded| rounded.len() <= 8)
}

/// Appends `text` as exactly `width` bytes of printable ASCII: cut or padded by spaces, other
/// characters replaced.
pub fn push_text(out: &mut Vec<u8>, text: &str, width: usize) {
    let ascii = text.chars().map(|c| match c {
        // The micro sign and the Greek letter, as EDF+ asks for the unit.
        '\u{b5}' | '\u{3bc}' => b'u',
        ' '..='~' => c as u8,
        _ => b'_',
    });
    out.extend(ascii.chain(std::iter::repeat(b' ')).take(width));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_numbers() {
        for (field, value) in [
            (&b"256     "[..], 256.0),
            (b"-32768  ", -32768.0),
            (b"0.5     ", 0.5),
            (b"+3276.7 ", 3276.7),
            (b"1E2     ", 100.0),
            (b"-8388608", -8_388_608.0),
        ] {
            assert_eq!(number(field), Some(Number { value, dirty: false }));
        }
    }

    #[test]
    fn dirty_numbers_are_read_and_marked() {
        for (field, value) in [
            (&b"256\0\0\0\0\0"[..], 256.0),
            (b"0,5     ", 0.5),
            (b"    -200", -200.0),
            (b"1\0garbag", 1.0),
        ] {
            assert_eq!(number(field), Some(Number { value, dirty: true }));
        }
    }

    #[test]
    fn ambiguous_numbers_are_refused() {
        for field in
            ["        ", "NaN     ", "inf     ", "256abc  ", "2 56    ", "1,000.5 ", "1e999   "]
        {
            assert_eq!(number(field.as_bytes()), None, "{field}");
        }
        assert_eq!(number(b"\xff\xfe\0\0"), None);
        assert_eq!(number(b""), None);
        assert_eq!(integer(b"2.5"), None);
        assert_eq!(integer(b"9999999999"), None);
    }

    #[test]
    fn latin1_and_utf8_texts() {
        assert_eq!(text(b"\xb5V      "), "\u{b5}V");
        assert_eq!(text("\u{b5}V     ".as_bytes()), "\u{b5}V");
        assert_eq!(text(b"EEG\x1b[31m\n "), "EEG [31m");
        assert_eq!(text(b"EMG\0rest"), "EMG");
    }

    #[test]
    fn formatted_numbers_fit_and_keep_their_value() {
        for value in [0.0, -32768.0, 0.1, 1.0 / 3.0, -199.987_654_3, 12_345_678.0, 8_388_607.0] {
            let text = format_number(value).expect("fits");
            assert!(text.len() <= 8, "{text}");
            let back: f64 = text.parse().expect("a number");
            assert!((back - value).abs() <= 1e-5 * value.abs().max(1.0), "{value} -> {text}");
        }
        assert_eq!(format_number(123_456_789.0), None);
        assert_eq!(format_number(f64::NAN), None);
    }
}
