//! What a test says where the machine lacks something, and where that is a failure.

/// Says that a test, or a part of it, is skipped for want of `what`, and why.
///
/// # Panics
/// `SFM_REQUIRE` lists `what`: names with commas between them, such as `ort,python`. `.ci/run` lists what
/// it has installed.
pub fn skipped(what: &str, reason: impl std::fmt::Display) {
    let required = std::env::var("SFM_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|required| required.trim() == what);
    assert!(!is_required, "SFM_REQUIRE lists {what}: {reason}");
    println!("skipped: {reason}");
}
