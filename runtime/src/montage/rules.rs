//! The rules that give a label its modality: the built-in `configs/channels.toml`, a file of the
//! same format, or the reference's lists of exact labels. Refuses a file with an unknown field,
//! a pattern that is no regular expression and a `--map` that is not `LABEL=MODALITY`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use sfm_models::Modality;
use sfm_models::manifest::ChannelPolicy;

use super::MontageError;
use super::derive::{Derive, Wanted};
use super::units::{self, Quantity};
use crate::text::escaped;

const BUILT_IN: &str = include_str!("../../../configs/channels.toml");

/// Rules files are small; a larger one is a mistake.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Shorter pieces of labels are sides and numbers rather than names.
const SHORTEST: usize = 3;
/// Pieces of patterns may use other pieces, so deep.
const PART_DEPTH: usize = 3;

/// Rules in the order in which they are asked, and what the user set for single labels.
#[derive(Debug, Clone)]
pub struct ChannelRules {
    pub(super) rules: Vec<Rule>,
    pub(super) overrides: Vec<Override>,
    /// They are the reference's lists, which leave nothing to decide.
    pub(super) is_list: bool,
    /// What becomes of electrodes.
    pub(super) derive: Derive,
}

/// One rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub name: String,
    pub verdict: Verdict,
    /// Rules that do not decide give way to one that does.
    pub decides: bool,
    /// What its channels may measure besides what their modality's usually do.
    pub also: Vec<Quantity>,
    /// What its channels measure, where their unit says anything.
    pub needs: Vec<Quantity>,
    /// A beginning of labels that recorders write before every label: what other rules say of the rest
    /// counts before this one.
    pub prefix: Option<String>,
    /// Where a modality has more channels than the network takes, lower ones come first.
    pub rank: usize,
    matcher: Matcher,
}

/// What becomes of a channel that a rule claims.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    Use(Modality),
    LeaveOut(String),
}

/// How a rule knows its labels.
#[derive(Debug, Clone)]
enum Matcher {
    /// On the whole normalized label.
    Pattern(Regex),
    /// The label itself, letter for letter.
    Exact(BTreeSet<String>),
}

/// `--map LABEL=MODALITY`; `None` leaves the channel out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Override {
    pub label: String,
    pub modality: Option<Modality>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    #[serde(default)]
    parts: BTreeMap<String, String>,
    #[serde(default)]
    leave_out: Vec<LeaveOutEntry>,
    #[serde(default)]
    rule: Vec<RuleEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaveOutEntry {
    name: String,
    reason: String,
    pattern: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    name: String,
    modality: Modality,
    pattern: String,
    #[serde(default)]
    decides: bool,
    #[serde(default)]
    also: Vec<Quantity>,
    #[serde(default)]
    needs: Vec<Quantity>,
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default = "last")]
    rank: usize,
}

/// The rank of a rule that says none.
fn last() -> usize {
    usize::MAX
}

impl ChannelRules {
    /// The rules of `configs/channels.toml` as this binary was built with them.
    ///
    /// # Errors
    /// [`MontageError::Rules`] if that file is broken, which a test of this crate excludes.
    pub fn built_in() -> Result<Self, MontageError> {
        Self::from_toml(BUILT_IN, "built-in channel rules")
    }

    /// Rules in the format of `configs/channels.toml`; `origin` names the text in errors.
    ///
    /// # Errors
    /// [`MontageError::Rules`] for anything but that format.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, MontageError> {
        let refuse = |reason: String| MontageError::Rules { origin: origin.to_owned(), reason };
        let file: RulesFile = toml::from_str(text).map_err(|e| refuse(toml_reason(&e, text)))?;
        let matcher = |name: &str, pattern: &str| {
            compile(pattern, &file.parts)
                .map(Matcher::Pattern)
                .map_err(|reason| refuse(format!("pattern of '{}': {reason}", escaped(name))))
        };
        let mut rules = Vec::with_capacity(file.leave_out.len() + file.rule.len());
        for entry in &file.leave_out {
            let matcher = matcher(&entry.name, &entry.pattern)?;
            let verdict = Verdict::LeaveOut(entry.reason.clone());
            rules.push(Rule {
                name: entry.name.clone(),
                verdict,
                decides: true,
                also: Vec::new(),
                needs: Vec::new(),
                prefix: None,
                rank: last(),
                matcher,
            });
        }
        for entry in &file.rule {
            let matcher = matcher(&entry.name, &entry.pattern)?;
            let verdict = Verdict::Use(entry.modality);
            rules.push(Rule {
                name: entry.name.clone(),
                verdict,
                decides: entry.decides,
                also: entry.also.clone(),
                needs: entry.needs.clone(),
                prefix: entry.prefix.clone(),
                rank: entry.rank,
                matcher,
            });
        }
        if file.rule.is_empty() {
            return Err(refuse("it has no [[rule]]".to_owned()));
        }
        Ok(Self { rules, overrides: Vec::new(), is_list: false, derive: Derive::default() })
    }

    /// The reference's `channel_groups.json`: exact labels by modality, case and spelling as they
    /// are. `origin` names the text in errors.
    ///
    /// # Errors
    /// [`MontageError::Rules`] for anything but an object of the modalities' label lists.
    pub fn from_channel_groups(text: &str, origin: &str) -> Result<Self, MontageError> {
        let refuse = |reason: String| MontageError::Rules { origin: origin.to_owned(), reason };
        let groups: BTreeMap<Modality, Vec<String>> =
            serde_json::from_str(text).map_err(|e| refuse(one_line(&e.to_string())))?;
        if groups.values().all(Vec::is_empty) {
            return Err(refuse("it lists no label".to_owned()));
        }
        let rules = groups.into_iter().map(|(modality, labels)| Rule {
            name: format!("{modality} list"),
            verdict: Verdict::Use(modality),
            decides: false,
            also: Vec::new(),
            needs: Vec::new(),
            prefix: None,
            rank: last(),
            matcher: Matcher::Exact(labels.iter().map(|l| l.trim().to_owned()).collect()),
        });
        let (overrides, derive) = (Vec::new(), Derive::default());
        Ok(Self { rules: rules.collect(), overrides, is_list: true, derive })
    }

    /// [`Self::from_toml`] of a file.
    ///
    /// # Errors
    /// [`MontageError::Rules`] if it cannot be read or is refused.
    pub fn read_toml(path: &Path) -> Result<Self, MontageError> {
        let origin = path.display().to_string();
        Self::from_toml(&read_capped(path, &origin)?, &origin)
    }

    /// [`Self::from_channel_groups`] of a file.
    ///
    /// # Errors
    /// [`MontageError::Rules`] if it cannot be read or is refused.
    pub fn read_channel_groups(path: &Path) -> Result<Self, MontageError> {
        let origin = path.display().to_string();
        Self::from_channel_groups(&read_capped(path, &origin)?, &origin)
    }

    /// Adds the user's `LABEL=MODALITY` entries (`LABEL=none` leaves a channel out). They go
    /// before every rule. The label may itself hold a `=`: the last one counts.
    ///
    /// # Errors
    /// [`MontageError::BadMap`] for an entry of another form.
    pub fn with_map<S: AsRef<str>>(mut self, entries: &[S]) -> Result<Self, MontageError> {
        for entry in entries {
            self.overrides.push(parse_override(entry.as_ref())?);
        }
        Ok(self)
    }

    /// What becomes of electrodes and of more channels than the network takes. The reference's lists stay
    /// with the reference's way.
    #[must_use]
    pub fn with_policy(mut self, policy: ChannelPolicy) -> Self {
        if !self.is_list {
            self.derive.policy = policy;
        }
        self
    }

    /// Of more channels than the network takes, the better ones are chosen.
    pub fn chooses(&self) -> bool {
        self.derive.policy == ChannelPolicy::Aasm
    }

    /// Makes no derivation but those that are asked for by name.
    #[must_use]
    pub fn without_derivations(mut self) -> Self {
        self.derive.only_wanted = true;
        self
    }

    /// Adds the user's `LABEL=PLUS,MINUS` entries: channels to be made of others.
    ///
    /// # Errors
    /// [`MontageError::BadDerivation`] for an entry of another form.
    pub fn with_derivations<S: AsRef<str>>(mut self, entries: &[S]) -> Result<Self, MontageError> {
        for entry in entries {
            self.derive.wanted.push(Wanted::parse(entry.as_ref())?);
        }
        Ok(self)
    }

    /// The first rule that claims a channel of this label, or `None` where no rule does. What the unit
    /// measures decides between rules, where it is known.
    ///
    /// # Errors
    /// [`MontageError::Contested`] if rules of two modalities claim it.
    pub(super) fn claim(
        &self,
        label: &str,
        measured: Option<Quantity>,
    ) -> Result<Option<&Rule>, MontageError> {
        let key = normalized(label);
        let mut claims = self.claims(label, &key, measured);
        // `EEG Position-REF` is a position: a word that stands before every label says little.
        if let [Rule { prefix: Some(prefix), .. }] = claims[..]
            && let Some(rest) = key.strip_prefix(prefix.as_str())
        {
            let behind = [rest, without_reference(rest)]
                .into_iter()
                .filter(|rest| rest.len() >= SHORTEST)
                .map(|key| self.claims(key, key, measured))
                .find(|claims| !claims.is_empty());
            claims = behind.unwrap_or(claims);
        }
        if claims.iter().any(|rule| rule.decides) {
            // What is left out comes first.
            claims.retain(|rule| rule.decides);
        }
        if let Some(quantity) = measured {
            let is_possible = |rule: &&Rule| match rule.verdict {
                Verdict::Use(modality) => units::is_possible(quantity, modality, &rule.also),
                Verdict::LeaveOut(_) => true,
            };
            if claims.iter().any(is_possible) {
                claims.retain(is_possible);
            }
        }
        let Some(&first) = claims.first() else { return Ok(None) };
        let Verdict::Use(modality) = first.verdict else { return Ok(Some(first)) };
        for other in claims {
            let Verdict::Use(claimed) = other.verdict else { continue };
            if claimed != modality {
                return Err(MontageError::Contested {
                    label: escaped(label),
                    first: escaped(&first.name),
                    first_modality: modality,
                    second: escaped(&other.name),
                    second_modality: claimed,
                });
            }
        }
        Ok(Some(first))
    }

    fn claims(&self, label: &str, key: &str, measured: Option<Quantity>) -> Vec<&Rule> {
        let fits = |rule: &&Rule| {
            rule.needs.is_empty() || measured.is_none_or(|measured| rule.needs.contains(&measured))
        };
        self.rules.iter().filter(fits).filter(|rule| rule.matcher.matches(label, key)).collect()
    }
}

/// A normalized label without the reference at its end.
fn without_reference(key: &str) -> &str {
    let references = ["ref", "avg", "cle", "ler", "car", "org", "le", "av"];
    references.iter().find_map(|reference| key.strip_suffix(reference)).unwrap_or(key)
}

impl Matcher {
    fn matches(&self, label: &str, key: &str) -> bool {
        match self {
            Matcher::Pattern(regex) => regex.is_match(key),
            Matcher::Exact(labels) => labels.contains(label),
        }
    }
}

/// What stands before the labels of all inputs: of Nihon Kohden's recorders, and of data sets.
const BEFORE_ALL: [&str; 3] = ["pol ", "psg_", "cs_"];

/// A label as patterns see it: lower case, letters and digits only and without accents, so that neither
/// case nor any separator matters; without what stands before the labels of all inputs.
pub fn normalized(label: &str) -> String {
    let label = label.trim();
    let before = BEFORE_ALL.iter().find_map(|before| {
        label.get(..before.len()).filter(|start| start.eq_ignore_ascii_case(before))
    });
    let label = before.map_or(label, |start| &label[start.len()..]);
    let mut key = String::with_capacity(label.len());
    for c in label.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase) {
        match c {
            'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' => key.push('a'),
            'ç' => key.push('c'),
            'è' | 'é' | 'ê' | 'ë' => key.push('e'),
            'ì' | 'í' | 'î' | 'ï' => key.push('i'),
            'ñ' => key.push('n'),
            'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' => key.push('o'),
            'ù' | 'ú' | 'û' | 'ü' => key.push('u'),
            'ß' => key.push_str("ss"),
            'œ' => key.push_str("oe"),
            'æ' => key.push_str("ae"),
            c => key.push(c),
        }
    }
    key
}

/// `pattern` with its parts put in, to match a whole normalized label.
fn compile(pattern: &str, parts: &BTreeMap<String, String>) -> Result<Regex, String> {
    let mut whole = pattern.to_owned();
    for _ in 0..PART_DEPTH {
        for (name, part) in parts {
            // The line break ends a comment on the part's last line.
            whole = whole.replace(&format!("{{{name}}}"), &format!("(?:{part}\n)"));
        }
    }
    RegexBuilder::new(&format!("\\A(?:{whole}\n)\\z"))
        .ignore_whitespace(true)
        .build()
        .map_err(|e| one_line(&regex_reason(&e)))
}

/// The last line of a regex error holds the reason, those before it draw the pattern.
fn regex_reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

fn toml_reason(error: &toml::de::Error, text: &str) -> String {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map(|before| before.matches('\n').count() + 1);
    match line {
        Some(line) => format!("line {line}: {}", one_line(error.message())),
        None => one_line(error.message()),
    }
}

fn one_line(text: &str) -> String {
    escaped(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn read_capped(path: &Path, origin: &str) -> Result<String, MontageError> {
    let refuse = |reason: String| MontageError::Rules { origin: origin.to_owned(), reason };
    crate::files::read_text(path, MAX_FILE_BYTES).map_err(|e| refuse(e.to_string()))
}

fn parse_override(entry: &str) -> Result<Override, MontageError> {
    let bad = |reason: String| MontageError::BadMap { entry: escaped(entry), reason };
    let (label, modality) =
        entry.rsplit_once('=').ok_or_else(|| bad("there is no '='".to_owned()))?;
    let label = label.trim().to_owned();
    if label.is_empty() {
        return Err(bad("the label is empty".to_owned()));
    }
    if modality.trim().eq_ignore_ascii_case("none") {
        return Ok(Override { label, modality: None });
    }
    let modality = modality.parse().map_err(|reason: String| bad(escaped(&reason)))?;
    Ok(Override { label, modality: Some(modality) })
}
