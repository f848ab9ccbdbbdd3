//! Names of topics (MQTT) and subjects (NATS) made of untrusted text: a study is a file's name or a
//! device's id. Whatever it is, it becomes one level that is legal in both, and two studies never
//! become the same one.

use std::fmt::Write;

/// What separates levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separator {
    /// `/`, of MQTT.
    Slash,
    /// `.`, of NATS.
    Dot,
}

/// The topics of one study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
    study: String,
    separator: char,
}

impl Topics {
    /// Topics below `prefix`, which is the user's: levels of letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// One sentence, for any other prefix.
    pub fn new(prefix: &str, study: &str, separator: Separator) -> Result<Self, String> {
        let separator = match separator {
            Separator::Slash => '/',
            Separator::Dot => '.',
        };
        let legal = |level: &str| !level.is_empty() && level.bytes().all(is_plain);
        if prefix.len() > 200 || !prefix.split(separator).all(legal) {
            return Err(format!(
                "`{}` is no prefix of topics; use letters, digits, - and _, in levels separated by {separator}",
                prefix.escape_debug()
            ));
        }
        Ok(Self { prefix: prefix.to_owned(), study: level(study), separator })
    }

    /// The topic `leaf` of the study.
    pub fn of(&self, leaf: &str) -> String {
        let Self { prefix, study, separator } = self;
        format!("{prefix}{separator}{study}{separator}{leaf}")
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// `text` as one level: bytes other than letters, digits, `-` and `_` of ASCII become `%` and two
/// hexadecimal digits, and no text at all a single `%`.
pub fn level(text: &str) -> String {
    if text.is_empty() {
        return "%".to_owned();
    }
    let mut level = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            level.push(char::from(byte));
        } else {
            let _ = write!(level, "%{byte:02X}");
        }
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `level` made of a text, made a text again.
    fn decoded(level: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let mut rest = level.as_bytes();
        while let [first, after @ ..] = rest {
            rest = after;
            if *first != b'%' {
                bytes.push(*first);
                continue;
            }
            if bytes.is_empty() && after.is_empty() {
                break;
            }
            let (digits, after) = after.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        }
        String::from_utf8(bytes).ok()
    }

    proptest! {
        #[test]
        fn a_level_is_legal_and_stands_for_one_text(text in any::<String>()) {
            let level = level(&text);
            prop_assert!(!level.is_empty());
            prop_assert!(level.bytes().all(|b| is_plain(b) || b == b'%'), "{}", level);
            prop_assert_eq!(decoded(&level), Some(text));
        }

        #[test]
        fn nothing_of_a_study_makes_levels(text in "[/+#.*> $\u{0}-\u{1f}<\"'\u{7f}-\u{9f}a]{0,9}") {
            let topic = Topics::new("sfm", &text, Separator::Slash).expect("a prefix").of("stage");
            prop_assert_eq!(topic.split('/').count(), 3);
            let subject = Topics::new("sfm", &text, Separator::Dot).expect("a prefix").of("stage");
            prop_assert_eq!(subject.split('.').filter(|level| !level.is_empty()).count(), 3);
        }
    }

    #[test]
    fn levels_of_names() {
        assert_eq!(level("night-7_b"), "night-7_b");
        assert_eq!(level("a/b"), "a%2Fb");
        assert_eq!(level("a%2Fb"), "a%252Fb");
        assert_eq!(level("<script>"), "%3Cscript%3E");
        assert_eq!(level("Zoë"), "Zo%C3%AB");
        assert_eq!(level(""), "%");
        assert_eq!(level("%"), "%25");
    }

    #[test]
    fn a_prefix_is_plain_levels() {
        for prefix in ["sfm", "ward/3/sleep", "A_b-9"] {
            Topics::new(prefix, "x", Separator::Slash).expect(prefix);
        }
        for prefix in ["", "/sfm", "sfm/", "a//b", "a+", "#", "$SYS", "a b", "ä", "a\n"] {
            let refused = Topics::new(prefix, "x", Separator::Slash).expect_err(prefix);
            assert!(!refused.contains(char::is_control), "{refused:?}");
        }
        Topics::new("ward.3", "x", Separator::Dot).expect("levels of NATS");
        Topics::new("ward/3", "x", Separator::Dot).expect_err("levels of MQTT");
    }
}
