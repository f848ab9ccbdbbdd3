//! The words of scorings: sleep stages by AASM and by Rechtschaffen and Kales, in the languages of
//! common recorders and in the spellings of programs, and the lights. A word that is not known is
//! refused, never guessed.

use sfm_models::SleepStage;

/// Words before the one that says the stage; with one of them a digit is a stage.
const PREFIXES: [&str; 13] = [
    "sleep",
    "stage",
    "stade",
    "stadium",
    "stadio",
    "estadio",
    "etapa",
    "fase",
    "schlafstadium",
    "schlafphase",
    "schlaf",
    "sommeil",
    "sueno",
];
/// The same for non-REM sleep.
const NREM: [&str; 6] = ["nrem", "nonrem", "non rem", "n rem", "nicht rem", "no rem"];
/// Words that say why an epoch has no stage.
const UNSCORED: [&str; 52] = [
    "?",
    "u",
    "uns",
    "unscored",
    "not scored",
    "notscored",
    "unknown",
    "unknown stage",
    "undefined",
    "indeterminate",
    "undetermined",
    "invalid",
    "no stage",
    "nostage",
    "none",
    "n/a",
    "na",
    "nan",
    "nd",
    "ns",
    "movement",
    "movement time",
    "mvt",
    "mt",
    "move",
    "body movement",
    "art",
    "arte",
    "artifact",
    "artefact",
    "artefakt",
    "out of bounds",
    "bewegung",
    "bewegungszeit",
    "unbekannt",
    "unbestimmt",
    "nicht bewertet",
    "ungescort",
    "mouvement",
    "inconnu",
    "non score",
    "non cote",
    "indetermine",
    "movimiento",
    "desconocido",
    "indeterminado",
    "no puntuado",
    "movimento",
    "sconosciuto",
    "artefatto",
    "artefacto",
    "artefacte",
];

/// The stage a name stands for in any case, `None` for what is no stage but says why there is none
/// (unscored, movement, artifact). `Sleep stage N2`, `Stage 2 sleep|2`, `SLEEP-S2`, `NREM2` and
/// `sleep_stage_n2` are all N2.
///
/// # Errors
/// The name is not known.
pub fn stage_named(name: &str) -> Result<Option<SleepStage>, String> {
    let unknown = || {
        let name = shown(name);
        format!(
            "'{name}' is no sleep stage; if it is one, say which: --codes '{name}=W'; if the epoch is \
             not scored: '{name}=?'"
        )
    };
    let word = plain(name.split('|').next().unwrap_or_default());
    known(&word).ok_or_else(unknown)
}

/// The stage of a word in plain letters.
fn known(word: &str) -> Option<Option<SleepStage>> {
    if UNSCORED.contains(&word) {
        return Some(None);
    }
    let mut bare = word;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| behind(bare, prefix)) {
        bare = rest;
    }
    let mut numbered = bare.len() < word.len();
    if numbered && UNSCORED.contains(&bare) {
        return Some(None);
    }
    let bare = bare.strip_suffix(" sleep").or(bare.strip_suffix(" stage")).unwrap_or(bare);
    let bare = match NREM.iter().find_map(|prefix| behind(bare, prefix)) {
        Some(rest) => {
            numbered = true;
            behind(rest, "stage").unwrap_or(rest)
        }
        None => bare,
    };
    if numbered && UNSCORED.contains(&bare) {
        return Some(None);
    }
    Some(Some(match bare {
        "w" | "wk" | "wake" | "awake" | "wakefulness" | "s0" | "wach" | "wachheit" | "eveil"
        | "eveille" | "veille" | "vigilia" | "vigile" | "despierto" | "veglia" | "wakker"
        | "waak" | "vaken" => SleepStage::Wake,
        "n1" | "s1" => SleepStage::N1,
        "n2" | "s2" => SleepStage::N2,
        "n3" | "s3" | "n4" | "s4" => SleepStage::N3,
        "r" | "rem" | "rem schlaf" | "remschlaf" | "paradoxal" | "mor" => SleepStage::Rem,
        "0" if numbered => SleepStage::Wake,
        "1" if numbered => SleepStage::N1,
        "2" if numbered => SleepStage::N2,
        "3" | "4" | "3/4" if numbered => SleepStage::N3,
        _ => return None,
    }))
}

/// What follows a prefix that is a word of its own, or has a digit or a short code right behind it
/// (`Stage1`, `StageW`).
fn behind<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(prefix)?;
    let is_apart = rest.starts_with([' ', '0', '1', '2', '3', '4']);
    let is_code = matches!(rest, "w" | "r" | "n1" | "n2" | "n3" | "n4" | "rem" | "wake" | "?");
    (is_apart || is_code).then(|| rest.trim_start())
}

/// As [`stage_named`] in files that hold other events too: `None` for the name of something else.
/// What looks like a stage and is none is refused, lest a part of the night goes missing unseen.
///
/// # Errors
/// As [`stage_named`].
pub(super) fn stage_among_events(name: &str) -> Result<Option<Option<SleepStage>>, String> {
    // EDF+ names the channel of an annotation behind `@@`.
    let name = name.split("@@").next().unwrap_or_default();
    match stage_named(name) {
        Ok(None) if is_of_events(name) => Ok(None),
        Ok(stage) => Ok(Some(stage)),
        Err(reason) if looks_like_a_stage(name) => Err(reason),
        Err(_) => Ok(None),
    }
}

/// A word that says "not scored" of an epoch, but of an event that something else is going on.
fn is_of_events(name: &str) -> bool {
    let word = plain(name);
    matches!(
        word.as_str(),
        "movement"
            | "move"
            | "body movement"
            | "art"
            | "artifact"
            | "artefact"
            | "artefakt"
            | "bewegung"
            | "mouvement"
            | "movimiento"
            | "movimento"
            | "artefatto"
            | "artefacto"
            | "artefacte"
            | "none"
            | "n/a"
            | "na"
            | "nan"
            | ""
            | "invalid"
    )
}

fn looks_like_a_stage(name: &str) -> bool {
    let word = plain(name);
    let letters: String = word.chars().filter(|c| c.is_alphanumeric()).collect();
    let is_coded = matches!(letters.as_bytes(), [b'n' | b's', b'0'..=b'9']);
    let is_marked = letters != word && matches!(known(&letters), Some(Some(_)));
    let begins = ["sleep stage", "stage ", "nrem"].iter().any(|begin| word.starts_with(begin));
    begins || ((is_coded || is_marked) && !word.contains(' '))
}

/// Lower case without accents; one space for every run of what is neither letter, digit, `?`, `/`
/// nor `#`.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        match c {
            'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' => plain.push('a'),
            'ç' => plain.push('c'),
            'è' | 'é' | 'ê' | 'ë' => plain.push('e'),
            'ì' | 'í' | 'î' | 'ï' => plain.push('i'),
            'ñ' => plain.push('n'),
            'ò' | 'ó' | 'ô' | 'õ' | 'ö' => plain.push('o'),
            'ù' | 'ú' | 'û' | 'ü' => plain.push('u'),
            'ß' => plain.push_str("ss"),
            // Accents that stand on their own.
            '\u{300}'..='\u{36f}' => {}
            c if c.is_alphanumeric() || matches!(c, '?' | '/' | '#') => plain.push(c),
            _ if plain.is_empty() || plain.ends_with(' ') => {}
            _ => plain.push(' '),
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

/// Untrusted text in a message: its beginning on one line.
pub(super) fn shown(text: &str) -> String {
    text.trim().chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_and_languages() {
        use SleepStage::{N1, N2, N3, Rem, Wake};
        for (stage, names) in [
            (
                Wake,
                "W|WK|wake|SLEEP-S0|Sleep stage W|sleep_stage_w|Wach|Éveil|Veille|Vigilia|StageW",
            ),
            (N1, "N1|S1|NREM1|NonREM1|Stage1|Stade 1|Schlafstadium 1|Fase 1|sleep_stage_n1|nrem 1"),
            (
                N2,
                "N2|SLEEP-S2|NREM 2|Stage 2 sleep|Sleep stage 2|NREM-2|Non-REM 2|Stadium 2|stage_2",
            ),
            (N3, "N3|N4|S3|S4|Stage 4|NonREM3|Sleep stage 3/4|Schlafstadium N3|NREM stage 3"),
            (Rem, "R|REM|Rem|SLEEP-REM|Sleep stage R|REM sleep|REM-Schlaf|Sommeil paradoxal|MOR"),
        ] {
            for name in names.split('|') {
                assert_eq!(stage_named(name), Ok(Some(stage)), "{name}");
            }
        }
        for name in
            ["?", "Sleep stage ?", "Unscored", "MT", "SLEEP-MT", "Artefakt", "Movement time"]
        {
            assert_eq!(stage_named(name), Ok(None), "{name}");
        }
        for name in ["", "1", "0", "5", "light", "deep", "N5", "Stage 7", "sleep", "stage", "A"] {
            assert!(stage_named(name).is_err(), "{name}");
        }
    }

    #[test]
    fn other_events_are_none_but_odd_stages_are_refused() {
        for name in
            ["Arousal", "REM latency", "Remark", "Sleep onset", "Wake-up call", "S  1", "MCAP-A1"]
        {
            assert_eq!(stage_among_events(name), Ok(None), "{name}");
        }
        for name in ["Sleep stage X", "N5", "Stage 9", "NREM7", "R?", "S9"] {
            assert!(stage_among_events(name).is_err(), "{name}");
        }
        let linked = stage_among_events("Sleep stage N2@@EEG F4-A1");
        assert_eq!(linked, Ok(Some(Some(SleepStage::N2))));
    }
}
