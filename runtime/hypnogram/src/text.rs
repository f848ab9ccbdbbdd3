//! The characters of a file: UTF-8, UTF-16 with or without its mark, else Latin-1; every kind of
//! line end becomes one.

/// The text of a file; `None` if it is none.
pub(super) fn decoded(bytes: &[u8]) -> Option<String> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        // The first character of a scoring is of ASCII.
        [1..=127, 0, _, 0, ..] => utf16(bytes, u16::from_le_bytes)?,
        [0, 1..=127, 0, _, ..] => utf16(bytes, u16::from_be_bytes)?,
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
        },
    };
    let is_control =
        |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r' | '\x0c' | '\x1a');
    if text.contains(is_control) {
        return None;
    }
    // The end of file of old programs, and form feeds, are no data.
    let text = text.trim_start_matches('\u{feff}').replace(['\x0c', '\x1a'], "");
    Some(text.replace("\r\n", "\n").replace('\r', "\n"))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| unit(*pair));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.ok().filter(|_| rest.is_empty())
}
