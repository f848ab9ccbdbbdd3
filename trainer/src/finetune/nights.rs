//! The embeddings of one part of a split. Every file is read once at the start, so that a damaged
//! one is found before the first step; as many as fit stay in memory, the others are read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sfm_models::Modality;

use super::FinetuneError;
use crate::data::{DataError, Night, study_id};

/// Nights of one part that stay in memory, bytes.
const IN_MEMORY: usize = 4 << 30;

/// A recording of a split.
#[derive(Debug, Clone)]
pub struct Recording {
    /// `<cohort>/<id>.hdf5`.
    pub path: String,
    /// The id.
    pub id: String,
    /// Tokens of the night.
    pub tokens: usize,
    night: Option<Arc<Night>>,
}

/// Which tokens of a night a head is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// All, absent ones included.
    All,
    /// The first so many that have any modality, as the runtime's risk head takes them.
    Recorded(usize),
}

/// Nights of one part of a split.
#[derive(Debug)]
pub struct Nights {
    root: PathBuf,
    tokens: Tokens,
    recordings: Vec<Recording>,
    embed_dim: usize,
    /// Recordings left out, and why; one sentence each.
    pub notes: Vec<String>,
}

impl Nights {
    /// Reads the embeddings of `paths` below `root`. Those that cannot be read, or hold no signal,
    /// are left out with a note.
    ///
    /// # Errors
    /// [`FinetuneError::TooFew`] if none is left; [`DataError`] if they are not all of one length
    /// of token.
    pub fn read(root: &Path, paths: &[String], tokens: Tokens) -> Result<Self, FinetuneError> {
        let mut nights = Nights {
            root: root.to_owned(),
            tokens,
            recordings: Vec::new(),
            embed_dim: 0,
            notes: Vec::new(),
        };
        let mut bytes = 0;
        for path in paths {
            let night = match read(&root.join(path), tokens) {
                Ok(night) => night,
                Err(error) => {
                    nights.notes.push(format!("left out: {error}"));
                    continue;
                }
            };
            if nights.embed_dim != 0 && nights.embed_dim != night.embed_dim {
                let reason = format!(
                    "tokens have {} values, those of other recordings {}; embed all with one network",
                    night.embed_dim, nights.embed_dim
                );
                return Err(DataError::refused(&root.join(path), reason).into());
            }
            nights.embed_dim = night.embed_dim;
            bytes += 4 * (night.values.len() + night.present.len());
            nights.recordings.push(Recording {
                path: path.clone(),
                id: study_id(Path::new(path)),
                tokens: night.tokens,
                night: (bytes <= IN_MEMORY).then(|| Arc::new(night)),
            });
        }
        if nights.is_empty() {
            let reason = match nights.notes.first() {
                Some(note) => format!("no usable embeddings ({note})"),
                None => "this part of the split has no recordings; add some, or split anew".into(),
            };
            return Err(FinetuneError::too_few(root, reason));
        }
        Ok(nights)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.recordings.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.recordings.is_empty()
    }

    /// E, the length of a token.
    pub fn embed_dim(&self) -> usize {
        self.embed_dim
    }

    /// The recordings, in the split's order.
    pub fn recordings(&self) -> &[Recording] {
        &self.recordings
    }

    /// The embeddings of one.
    ///
    /// # Errors
    /// [`DataError`] if it is not in memory and can no longer be read.
    pub fn night(&self, index: usize) -> Result<Arc<Night>, DataError> {
        let recording = &self.recordings[index];
        match &recording.night {
            Some(night) => Ok(night.clone()),
            None => read(&self.root.join(&recording.path), self.tokens).map(Arc::new),
        }
    }

    /// Keeps those for which `keep` says so.
    ///
    /// # Errors
    /// [`FinetuneError::TooFew`] with `otherwise`, if none is left.
    pub fn retain(
        &mut self,
        keep: impl FnMut(&Recording) -> bool,
        otherwise: &str,
    ) -> Result<(), FinetuneError> {
        self.recordings.retain(keep);
        if self.is_empty() {
            return Err(FinetuneError::too_few(&self.root, otherwise));
        }
        Ok(())
    }
}

fn read(path: &Path, tokens: Tokens) -> Result<Night, DataError> {
    let night = Night::read(path, &Modality::ALL)?;
    let night = match tokens {
        Tokens::All => night,
        Tokens::Recorded(longest) => recorded(&night, longest),
    };
    if night.present.iter().any(|&p| p > 0.0) {
        Ok(night)
    } else {
        Err(DataError::refused(path, "holds no token with signal"))
    }
}

/// The first `longest` tokens that have any modality.
fn recorded(night: &Night, longest: usize) -> Night {
    let modalities = night.modalities.len();
    let kept: Vec<usize> = (0..night.tokens)
        .filter(|&token| (0..modalities).any(|m| night.modality(m).1[token] > 0.0))
        .take(longest)
        .collect();
    let mut short = Night {
        modalities: night.modalities.clone(),
        tokens: kept.len(),
        embed_dim: night.embed_dim,
        values: Vec::with_capacity(modalities * kept.len() * night.embed_dim),
        present: Vec::with_capacity(modalities * kept.len()),
    };
    for modality in 0..modalities {
        let (values, present) = night.modality(modality);
        for &token in &kept {
            short.values.extend_from_slice(&values[token * night.embed_dim..][..night.embed_dim]);
            short.present.push(present[token]);
        }
    }
    short
}
