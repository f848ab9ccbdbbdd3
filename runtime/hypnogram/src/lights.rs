//! Lights off and lights on in the words of recorders and scorers.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

/// What an annotation says about the lights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LightsText {
    /// They go on or off.
    Mark {
        /// On; else off.
        is_on: bool,
    },
    /// It begins as a mark does and goes on as a sentence.
    Doubtful,
    /// Nothing.
    Other,
}

/// Recorders' and scorers' words, English, German, French, Spanish, Italian, Portuguese, Dutch, with
/// or without accents. After them: nothing, a time, or a remark set off by a punctuation mark.
static MARK: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = r"
        \A[^\p{Alphabetic}]*(?:(?:event|marker|annotation|note|tech)\s*[:-]\s*)?(?:(?P<off>
            lights?[\s_-]*(?:(?:were|was|are|turned|switched)\s+)*(?:off|out)
          | (?:licht(?:er)?|beleuchtung)[\s_-]*(?:(?:wurden?|ist)\s+)?
            (?:aus|ausgeschaltet|ausgemacht|abgeschaltet|gel(?:ö|oe)scht)
          | lumi[eè]res?[\s_-]*(?:off|[eé]teintes?)
          | extinction(?:\s+(?:(?:des?|de\s+la)\s+)?(?:lumi[eè]res?|feux))?
          | luz[\s_-]*apagada | luces[\s_-]*(?:apagadas|off) | luzes[\s_-]*apagadas
          | apaga(?:r|do)\s+(?:(?:de|das|de\s+las|las?|as?)\s+)?(?:luz(?:es)?|luces)
          | luc[ei][\s_-]*spent[ae] | spegnimento\s+(?:dell[ae]\s+)?luc[ei]
          | licht(?:en)?[\s_-]*uit
        )|(?P<on>
            lights?[\s_-]*(?:(?:were|was|are|turned|switched|back)\s+)*on
          | (?:licht(?:er)?|beleuchtung)[\s_-]*(?:(?:wurden?|ist)\s+)?
            (?:an|ein|angeschaltet|eingeschaltet|angemacht)
          | lumi[eè]res?[\s_-]*(?:on|allum[eé]es?)
          | (?:r[eé]?)?allumage(?:\s+(?:(?:des?|de\s+la)\s+)?(?:lumi[eè]res?|feux))?
          | luz[\s_-]*(?:encendida|prendida|acesa) | luces[\s_-]*(?:encendidas|prendidas|on)
          | luzes[\s_-]*acesas
          | (?:encend(?:er|ido)|acender)\s+(?:(?:de|das|de\s+las|las?|as?)\s+)?(?:luz(?:es)?|luces)
          | luc[ei][\s_-]*acces[ae] | accensione\s+(?:dell[ae]\s+)?luc[ei]
          | licht(?:en)?[\s_-]*aan
        ))\b
        (?P<rest>
          (?:\s*(?:(?:at|um|à|alle|om)\s+)?\d{1,2}[:.h]\d{2}(?:[:.]\d{2})?(?:\s*(?:[ap]\.?m\b\.?|uhr|h\b))?)?
          (?:\s+by\s+(?:the\s+)?(?:tech\w*|nurse|staff|patient|pt))?
          (?:[^\p{Alphabetic}]*|\s*[-–—:;,./(\[|=].*)\z
        )?
    ";
    let mut builder = RegexBuilder::new(pattern);
    builder.ignore_whitespace(true).case_insensitive(true).dot_matches_new_line(true).build().ok()
});

/// What the text of an annotation says about the lights.
pub fn lights_text(written: &str) -> LightsText {
    // EDF+ allows a channel after the text.
    let text = written.split("@@").next().unwrap_or_default().trim();
    let Some(found) = MARK.as_ref().and_then(|pattern| pattern.captures(text)) else {
        return LightsText::Other;
    };
    // `Lights off (not yet)`, `Lights on/off calibration`.
    let is_denied = || {
        let rest = found.name("rest").map_or("", |rest| rest.as_str()).to_lowercase();
        let is_both = rest.trim_start().starts_with("/o");
        is_both || ["not ", "calib", "nicht", "test"].iter().any(|word| rest.contains(word))
    };
    match found.name("rest").filter(|_| !is_denied()) {
        Some(_) => LightsText::Mark { is_on: found.name("on").is_some() },
        None => LightsText::Doubtful,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorders_words_are_known() {
        let (off, on) = (LightsText::Mark { is_on: false }, LightsText::Mark { is_on: true });
        for text in [
            "Lights off",
            "Lights off@@EEG F4-A1",
            "Light off",
            "LIGHTS-OFF",
            "lights_out",
            "LightsOut",
            "Lights Out - patient comfortable",
            "Lights off: 23:05",
            "Lights out 22:45:10",
            "Lights out at 22:45",
            "Lights out 10:45 PM, room 3",
            "Lights Off (tech)",
            "* Lights were turned off.",
            "Licht aus",
            "Licht ausgemacht",
            "Licht ist aus",
            "Event: Lights off",
            "Lights off by tech",
            "Extinction lumière",
            "Apagado luces",
            "Apagar das luzes",
            "Licht ausgeschaltet",
            "Lumière éteinte",
            "LUMIERES ETEINTES",
            "Extinction des lumières",
            "Extinction",
            "Luces apagadas",
            "Luci spente",
            "Luzes apagadas",
            "Licht uit",
        ] {
            assert_eq!(lights_text(text), off, "{text}");
        }
        for text in [
            "Lights on@@EEG Fpz-Cz",
            "Light on",
            "LIGHTS ON",
            "Licht an",
            "Licht ein, Patient wach",
            "Lumières allumées",
            "Allumage",
            "Rallumage",
            "Lights back on",
            "Encendido luces",
            "Luz encendida",
            "Luce accesa",
            "Luzes acesas",
            "Lichten aan",
        ] {
            assert_eq!(lights_text(text), on, "{text}");
        }
        for text in [
            "Lights off in 5 min",
            "Light on in the corridor",
            "licht an der Tür",
            "Lights Off (not yet)",
            "Lights on/off calibration",
        ] {
            assert_eq!(lights_text(text), LightsText::Doubtful, "{text}");
        }
        for text in [
            "Light sleep",
            "Lights",
            "Snoring",
            "",
            "Loffler",
            "Long apnea",
            "Flights on",
            "Extinctions",
            "Lights onset",
            "Lichtanlage",
            "Recording start",
            "Luz",
            "Sleep stage N1@@Lights off",
        ] {
            assert_eq!(lights_text(text), LightsText::Other, "{text}");
        }
    }
}
