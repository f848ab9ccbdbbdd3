//! The names of sleep stages: AASM's, those of Rechtschaffen and Kales, and what programs make of
//! them.

use sfm_models::SleepStage;

/// The stage a name stands for in any case, `None` for what is no stage but says why there is none
/// (unscored, movement, artifact). `Sleep stage N2`, `Stage 2 sleep|2` and `NREM2` are all N2.
///
/// # Errors
/// The name stands for nothing known.
pub fn stage_named(name: &str) -> Result<Option<SleepStage>, String> {
    let lower = name.trim().to_lowercase();
    let word = lower.split('|').next().unwrap_or_default();
    let bare = word.strip_prefix("sleep ").unwrap_or(word);
    let bare = bare.strip_prefix("stage").map_or(bare, |rest| rest.trim_start_matches([' ', '_']));
    let numbered = bare.len() < word.len();
    let bare = bare.strip_suffix(" sleep").unwrap_or(bare);
    Ok(match bare {
        "w" | "wake" | "awake" | "wakefulness" => Some(SleepStage::Wake),
        "n1" | "s1" | "nrem1" | "nrem 1" => Some(SleepStage::N1),
        "n2" | "s2" | "nrem2" | "nrem 2" => Some(SleepStage::N2),
        "n3" | "s3" | "nrem3" | "nrem 3" | "n4" | "s4" | "nrem4" | "nrem 4" => Some(SleepStage::N3),
        "r" | "rem" => Some(SleepStage::Rem),
        "1" if numbered => Some(SleepStage::N1),
        "2" if numbered => Some(SleepStage::N2),
        "3" | "4" if numbered => Some(SleepStage::N3),
        "?" | "u" | "uns" | "unscored" | "not scored" | "unknown" | "undefined" | "n/a" | "nd"
        | "movement" | "movement time" | "mt" | "move" | "art" | "artifact" | "out_of_bounds" => {
            None
        }
        _ => return Err(format!("'{}' is no sleep stage", shown(name))),
    })
}

/// As [`stage_named`] in files that hold other events too: `None` for the name of something else.
/// What looks like a stage and is none is refused, lest a part of the night goes missing unseen.
///
/// # Errors
/// As [`stage_named`].
pub(super) fn stage_among_events(name: &str) -> Result<Option<Option<SleepStage>>, String> {
    let lower = name.trim().to_lowercase();
    let lettered = matches!(lower.as_bytes(), [b'n' | b's', b'0'..=b'9', ..]);
    let looks_like_one =
        lettered || ["sleep", "stage", "nrem", "rem", "wake"].iter().any(|p| lower.starts_with(p));
    match stage_named(name) {
        Ok(stage) => Ok(Some(stage)),
        Err(reason) if looks_like_one => Err(reason),
        Err(_) => Ok(None),
    }
}

/// Untrusted text in a message: its beginning on one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
