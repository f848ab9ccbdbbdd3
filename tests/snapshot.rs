//! Texts and the shape of JSON beside a stored copy in `tests/snapshots`. A flag or a field that is
//! renamed shows as a difference. `INSTA_UPDATE=always` stores the present ones.

use serde_json::Value;

/// Asserts that `text` is as stored under `name`.
pub fn check(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// A JSON value without its figures: numbers are 0, and of a list only the first element is kept, or
/// where its elements have different kinds the first of each.
pub fn shape(value: &Value) -> Value {
    match value {
        Value::Number(_) => Value::from(0),
        Value::String(text) if is_number(text) => Value::from("#"),
        Value::String(text) => Value::from(words(text)),
        Value::Array(values) => {
            let mut shapes: Vec<Value> = Vec::new();
            for shape in values.iter().map(shape) {
                if shapes.iter().all(|known| keys(known) != keys(&shape)) {
                    shapes.push(shape);
                }
            }
            Value::from(shapes)
        }
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
        }
        other => other.clone(),
    }
}

/// A device's number, or a checksum.
fn is_number(text: &str) -> bool {
    text.len() >= 16 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The names of an object's fields; nothing for other values.
pub fn keys(value: &Value) -> Vec<String> {
    value.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
}

/// A text without its figures, which depend on the processor and the day.
pub fn words(text: &str) -> String {
    let mut words = String::new();
    for c in text.chars() {
        let is_figure = c.is_ascii_digit();
        if !(is_figure && words.ends_with('0')) {
            words.push(if is_figure { '0' } else { c });
        }
    }
    words.replace("0.0", "0")
}

/// JSON with one field a line.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}
