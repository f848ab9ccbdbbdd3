//! Which recording serves for what: `split.json` of the reference, parts by name, each a list of
//! paths `<cohort>/<id>.hdf5` relative to the store, or absolute. Splits are by subject: refuses one in which a
//! subject, or a recording, is in two parts. Pretraining and training may share subjects, since
//! neither is measured on.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{DataError, Demographics, read_capped, replace_bytes, study_id};

/// The reference's has 8,000 recordings in 300 kB.
const MAX_BYTES: u64 = 64 << 20;
/// The stream of random numbers that draws splits.
const STREAM: u64 = u64::from_be_bytes(*b"split   ");

/// Recordings by what they serve for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Contrastive pretraining.
    #[serde(default)]
    pub pretrain: Vec<String>,
    /// Training of heads.
    #[serde(default)]
    pub train: Vec<String>,
    /// Choice of the best pass.
    #[serde(default)]
    pub validation: Vec<String>,
    /// Measured on once.
    #[serde(default)]
    pub test: Vec<String>,
    /// Further parts, such as the reference's `temporal_test` and `external_validation`.
    #[serde(flatten)]
    pub other: BTreeMap<String, Vec<String>>,
}

/// Shares of the subjects; they need not sum to 1, only their proportions count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fractions {
    /// Of pretraining.
    pub pretrain: f64,
    /// Of training.
    pub train: f64,
    /// Of validation.
    pub validation: f64,
    /// Of test.
    pub test: f64,
}

impl Split {
    /// Reads a split; without demographics each recording is a subject of its own.
    ///
    /// # Errors
    /// [`DataError`] if it cannot be read, is no split, or has a subject in two parts.
    pub fn read(path: &Path, demographics: Option<&Demographics>) -> Result<Split, DataError> {
        let bytes = read_capped(path, MAX_BYTES)?;
        let split: Split = serde_json::from_slice(&bytes).map_err(|e| {
            DataError::refused(path, format!("is no split: {e}; give lists of paths by part"))
        })?;
        split.check(demographics).map_err(|reason| DataError::refused(path, reason))?;
        Ok(split)
    }

    /// Writes the split.
    ///
    /// # Errors
    /// [`DataError::Unwritable`].
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|e| DataError::unwritable(path, e))?;
        text.push(b'\n');
        replace_bytes(path, &text)
    }

    /// Draws a split of `recordings` (paths relative to the store) by subject. The same recordings,
    /// subjects, fractions and seed give the same split; a part with a fraction gets a subject at
    /// least as long as there are any.
    ///
    /// # Errors
    /// A sentence, if a fraction is no share or there are fewer subjects than parts.
    pub fn by_subject(
        recordings: &[String],
        demographics: Option<&Demographics>,
        fractions: &Fractions,
        seed: u64,
    ) -> Result<Split, String> {
        fractions.check()?;
        let shares = fractions.shares();
        let subjects = shuffled(recordings, demographics, seed);
        let wanted = shares.iter().filter(|&&share| share > 0.0).count();
        if subjects.len() < wanted {
            return Err(format!(
                "{} subject(s) cannot be split into {wanted} parts; add recordings or set fractions to 0",
                subjects.len()
            ));
        }
        let mut subjects = subjects.into_iter();
        let mut parts = counts(subjects.len(), shares).map(|count| {
            let mut part: Vec<String> = subjects.by_ref().take(count).flatten().collect();
            part.sort();
            part
        });
        let [pretrain, train, validation, test] = parts.each_mut().map(std::mem::take);
        Ok(Split { pretrain, train, validation, test, other: BTreeMap::new() })
    }

    /// Draws `folds` splits of `recordings` by subject for cross-validation: of each, one fold is the
    /// test, the next one validation, and the others train and pretrain.
    ///
    /// # Errors
    /// A sentence, if there are fewer subjects than folds, or fewer than three folds.
    pub fn folds(
        recordings: &[String],
        demographics: Option<&Demographics>,
        folds: usize,
        seed: u64,
    ) -> Result<Vec<Split>, String> {
        let subjects = shuffled(recordings, demographics, seed);
        if folds < 3 || subjects.len() < folds {
            return Err(format!(
                "{} subject(s) cannot be split into {folds} folds; give 3 or more folds and no more than \
                 subjects",
                subjects.len()
            ));
        }
        let fold_of = |index: usize| index % folds;
        let of = |is_in: &dyn Fn(usize) -> bool| {
            let dealt = subjects.iter().enumerate().filter(|(index, _)| is_in(fold_of(*index)));
            let mut part: Vec<String> = dealt.flat_map(|(_, subject)| subject.clone()).collect();
            part.sort();
            part
        };
        let split = |test: usize| {
            let validation = (test + 1) % folds;
            let train = of(&|fold| fold != test && fold != validation);
            Split {
                pretrain: train.clone(),
                train,
                validation: of(&|fold| fold == validation),
                test: of(&|fold| fold == test),
                other: BTreeMap::new(),
            }
        };
        Ok((0..folds).map(split).collect())
    }

    /// The same split with absolute paths made relative to `root`, a store or folder of embeddings:
    /// the longest end of a path that is there; of one that is not, cohort and file.
    #[must_use]
    pub fn below(mut self, root: &Path) -> Split {
        let named = [&mut self.pretrain, &mut self.train, &mut self.validation, &mut self.test];
        for part in named.into_iter().chain(self.other.values_mut()) {
            part.iter_mut().for_each(|recording| *recording = relative(recording, root));
        }
        self
    }

    /// The parts by name.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &[String])> {
        let named = [
            ("pretrain", &self.pretrain),
            ("train", &self.train),
            ("validation", &self.validation),
            ("test", &self.test),
        ];
        let other = self.other.iter().map(|(name, part)| (name.as_str(), part));
        named.into_iter().chain(other).map(|(name, part)| (name, part.as_slice()))
    }

    /// Refuses paths that leave the store and subjects in two parts.
    ///
    /// # Errors
    /// A sentence that names the path or the subject and the parts.
    pub fn check(&self, demographics: Option<&Demographics>) -> Result<(), String> {
        let mut seen: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (part, recordings) in self.parts() {
            for recording in recordings {
                if !is_path(recording) {
                    return Err(format!(
                        "'{recording}' in {part} leaves the store; give paths like cohort/id.hdf5, or \
                         absolute ones"
                    ));
                }
                let parts = seen.entry(subject(recording, demographics)).or_default();
                if !parts.contains(&part) {
                    parts.push(part);
                }
            }
        }
        for (subject, parts) in seen {
            if let [first, second, ..] = parts[..]
                && parts != ["pretrain", "train"]
            {
                return Err(format!(
                    "subject '{subject}' is in both {first} and {second}; split by subject"
                ));
            }
        }
        Ok(())
    }
}

impl Fractions {
    fn shares(&self) -> [f64; 4] {
        [self.pretrain, self.train, self.validation, self.test]
    }

    /// # Errors
    /// A sentence, if one is no share or all are 0.
    pub fn check(&self) -> Result<(), String> {
        let shares = self.shares();
        let are_shares = shares.iter().all(|share| (0.0..=1e6).contains(share));
        if are_shares && shares.iter().sum::<f64>() > 0.0 {
            return Ok(());
        }
        Err("fractions of a split are positive numbers or 0, not all of them 0".into())
    }
}

/// The recordings of each subject, in an order that only they and the seed decide.
fn shuffled(
    recordings: &[String],
    demographics: Option<&Demographics>,
    seed: u64,
) -> Vec<Vec<String>> {
    let mut by_subject: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for recording in recordings {
        by_subject.entry(subject(recording, demographics)).or_default().push(recording.clone());
    }
    let mut subjects: Vec<Vec<String>> = by_subject.into_values().collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(STREAM);
    subjects.shuffle(&mut rng);
    subjects
}

/// Subjects of each part: at least one where the share is not 0, the rest by largest remainder.
fn counts(subjects: usize, shares: [f64; 4]) -> [usize; 4] {
    let total: f64 = shares.iter().sum();
    let least = shares.map(|share| usize::from(share > 0.0));
    let free = subjects - least.iter().sum::<usize>();
    let exact = shares.map(|share| subjects as f64 * share / total);
    let mut counts = least;
    for _ in 0..free {
        // Whichever part is furthest behind its share; the first of equals.
        let behind = |part: usize| exact[part] - counts[part] as f64;
        let next = (0..counts.len()).rev().max_by(|&a, &b| behind(a).total_cmp(&behind(b)));
        counts[next.unwrap_or_default()] += 1;
    }
    counts
}

fn subject(recording: &str, demographics: Option<&Demographics>) -> String {
    let id = study_id(Path::new(recording));
    match demographics.and_then(|d| d.person(&id)) {
        Some(person) => person.subject.clone(),
        None => id,
    }
}

/// A relative path below the store, or an absolute one; neither goes up.
fn is_path(recording: &str) -> bool {
    let is_plain = |c: Component<'_>| {
        matches!(c, Component::Normal(_) | Component::RootDir | Component::Prefix(_))
    };
    let path = Path::new(recording);
    path.file_name().is_some() && path.components().all(is_plain)
}

fn relative(recording: &str, root: &Path) -> String {
    let path = Path::new(recording);
    if !path.is_absolute() {
        return recording.to_owned();
    }
    let parts: Vec<_> = path.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    let end = |count: usize| -> PathBuf { parts.iter().skip(parts.len() - count).collect() };
    let found = (1..=parts.len()).rev().map(end).find(|end| root.join(end).is_file());
    found.unwrap_or_else(|| end(parts.len().min(2))).to_string_lossy().into_owned()
}
