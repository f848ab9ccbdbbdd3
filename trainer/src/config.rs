//! Reads a run's TOML. Strict: a key that is not known is refused with the nearest one that is.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Longest configuration, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Keys less alike than this (Jaro-Winkler) are not worth suggesting.
const ALIKE: f64 = 0.7;

/// Why a configuration was refused. One line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, lacks a key, has one too many, or a value of the wrong type.
    #[error("{}:{line}: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Reads `path` as a `T`, which should deny unknown fields.
///
/// # Errors
/// [`ConfigError`] with the line.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text =
        read_text(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes().iter().take(start).filter(|&&byte| byte == b'\n').count();
        ConfigError::Refused { path: path.to_owned(), line, reason: explain(error.message()) }
    })
}

fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// serde's "unknown field `x`, expected one of `a`, `b`" with the nearest key instead of all.
fn explain(message: &str) -> String {
    let one_line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some(rest) = one_line.strip_prefix("unknown field ") else { return one_line };
    let mut names = rest.split('`').skip(1).step_by(2);
    let Some(unknown) = names.next() else { return one_line };
    let known: Vec<&str> = names.collect();
    let alike = |name: &str| strsim::jaro_winkler(unknown, name);
    match known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b))) {
        Some(nearest) if alike(nearest) >= ALIKE => {
            format!("there is no key '{unknown}'; did you mean '{nearest}'?")
        }
        _ => format!("there is no key '{unknown}'; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its keys matter")]
    struct Example {
        learning_rate: Option<f64>,
        batch_size: Option<usize>,
    }

    fn refusal(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("writes");
        let error = read::<Example>(file.path()).expect_err("is refused").to_string();
        error.replace(&file.path().display().to_string(), "FILE")
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest() {
        assert_eq!(
            refusal("batch_size = 3\nlearning_rat = 0.1\n"),
            "FILE:2: there is no key 'learning_rat'; did you mean 'learning_rate'?"
        );
        assert_eq!(
            refusal("zzz = 1\n"),
            "FILE:1: there is no key 'zzz'; known are learning_rate, batch_size"
        );
    }

    #[test]
    fn a_wrong_type_is_refused_with_its_line() {
        assert!(refusal("\n\nbatch_size = \"many\"\n").starts_with("FILE:3: invalid type: string"));
    }
}
