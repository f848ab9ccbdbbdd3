//! Labels as users write them: which channels they name, and which are nearest where they name none.

use super::normalized;
use crate::signal::SignalInfo;
use crate::text::escaped;

/// The channels a `--map` label names: those with exactly this label, else those that differ from
/// it only in case and separators.
pub(super) fn channels_named<'a>(
    label: &str,
    signals: &'a [SignalInfo],
) -> Vec<(usize, &'a SignalInfo)> {
    let with = |same: &dyn Fn(&str) -> bool| -> Vec<(usize, &'a SignalInfo)> {
        signals.iter().enumerate().filter(|(_, s)| same(s.label.trim())).collect()
    };
    let exact = with(&|other| other == label);
    if !exact.is_empty() {
        return exact;
    }
    let key = normalized(label);
    if key.is_empty() { Vec::new() } else { with(&|other| normalized(other) == key) }
}

pub(super) fn same_label(a: &str, b: &str) -> bool {
    a.trim() == b.trim() || normalized(a) == normalized(b)
}

/// The three labels that are most like `label`, as half a sentence.
pub(super) fn near_labels(label: &str, signals: &[&SignalInfo]) -> String {
    let key = normalized(label);
    let mut near: Vec<(usize, String)> =
        signals.iter().map(|s| (edits(&key, &normalized(&s.label)), escaped(&s.label))).collect();
    near.sort();
    near.dedup();
    near.truncate(3);
    let near: Vec<String> = near.into_iter().map(|(_, label)| format!("'{label}'")).collect();
    match near.as_slice() {
        [] => "the recording has no channels".to_owned(),
        _ => format!("the nearest are {}", near.join(", ")),
    }
}

/// Levenshtein distance of the first 64 letters.
fn edits(a: &str, b: &str) -> usize {
    const MOST: usize = 64;
    let b: Vec<char> = b.chars().take(MOST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(MOST).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        row[0] = left;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = *cell;
            left = substituted.min(left + 1).min(*cell + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}
