//! Windows of a store as batches for pretraining: the index of windows, and what of one window is
//! read. A window has every modality that has signal in it; a patch with a missing sample, or of a
//! channel that is zero throughout, is absent. What is drawn at random depends on the seed, the
//! number of the batch and the place in it alone, so that a run can go on anywhere.
//!
//! Refuses recordings that cannot be read; passes over those with nothing to contrast: fewer than
//! two modalities, or no whole window.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rand::seq::{SliceRandom, index};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sfm_models::Modality;

use super::{DataError, StoreFile};
use crate::network::NetworkConfig;

mod loader;

pub use loader::{Draw, Loader, Order};

/// Files a reader keeps open.
const OPEN_FILES: usize = 32;
/// A contrast needs two sides.
const MIN_MODALITIES: usize = 2;

/// What random numbers are for: streams that do not touch each other.
const SHUFFLE: u64 = 1;
const AUGMENT: u64 = 2;

/// Sizes of a window, of the network that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The modality axis.
    pub modalities: Vec<Modality>,
    /// Largest number of channels of each of them.
    pub max_channels: Vec<usize>,
    /// Patches of one window.
    pub window_patches: usize,
    /// Samples of one patch.
    pub patch_samples: usize,
}

impl Shape {
    /// The shape of a network's input.
    pub fn of(network: &NetworkConfig) -> Self {
        let modalities = network.modalities.clone();
        let most = |m| network.max_channels.get(m).copied().unwrap_or_default();
        let max_channels = modalities.iter().map(most).collect();
        let NetworkConfig { window_patches, patch_samples, .. } = *network;
        Self { modalities, max_channels, window_patches, patch_samples }
    }

    /// Samples of one window.
    pub fn window_samples(&self) -> usize {
        self.window_patches * self.patch_samples
    }
}

/// Shares of what is left out at random in training.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Augment {
    /// Of the channels; each modality keeps one.
    pub channel_dropout: f64,
    /// Of the modalities; two are kept.
    pub modality_dropout: f64,
}

#[derive(Debug)]
struct Recording {
    path: PathBuf,
    /// As the split names it.
    name: String,
    /// Channels of each modality, with a whole window at least.
    channels: Vec<Vec<usize>>,
    windows: u32,
}

/// Every window of some recordings of a store.
#[derive(Debug)]
pub struct WindowIndex {
    shape: Shape,
    recordings: Vec<Recording>,
    /// Recording and number of the window in it.
    windows: Vec<(u32, u32)>,
    /// Recordings with nothing to contrast.
    passed_over: Vec<String>,
}

impl WindowIndex {
    /// Indexes `recordings`, paths relative to `store`.
    ///
    /// # Errors
    /// [`DataError`] for the first of them that cannot be read.
    pub fn open(store: &Path, recordings: &[String], shape: Shape) -> Result<Self, DataError> {
        let opened: Vec<Option<Recording>> = recordings
            .par_iter()
            .map(|name| Recording::open(store.join(name), name, &shape))
            .collect::<Result<_, _>>()?;
        let mut index =
            Self { shape, recordings: Vec::new(), windows: Vec::new(), passed_over: Vec::new() };
        for (recording, name) in opened.into_iter().zip(recordings) {
            match recording {
                Some(recording) => {
                    let number = index.recordings.len() as u32;
                    index.windows.extend((0..recording.windows).map(|window| (number, window)));
                    index.recordings.push(recording);
                }
                None => index.passed_over.push(name.clone()),
            }
        }
        Ok(index)
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Number of recordings with windows.
    pub fn recordings(&self) -> usize {
        self.recordings.len()
    }

    /// Recordings with nothing to contrast, as the split names them.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// The sizes of a window.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The recording of a window, as the split names it.
    pub fn name(&self, window: usize) -> Option<&str> {
        let &(recording, _) = self.windows.get(window)?;
        self.recordings.get(recording as usize).map(|recording| recording.name.as_str())
    }

    /// Keeps `count` windows, evenly spread.
    pub fn thin(&mut self, count: usize) {
        let total = self.windows.len();
        if (1..total).contains(&count) {
            self.windows = (0..count).map(|i| self.windows[i * total / count]).collect();
        }
    }

    /// The order of the windows in a pass.
    fn shuffled(&self, seed: u64, pass: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.windows.len() as u32).collect();
        order.shuffle(&mut random(seed, SHUFFLE, pass));
        order
    }
}

impl Recording {
    fn open(path: PathBuf, name: &str, shape: &Shape) -> Result<Option<Self>, DataError> {
        let file = StoreFile::open(&path)?;
        let whole = |&c: &usize| {
            file.channels().get(c).is_some_and(|c| c.samples >= shape.window_samples())
        };
        let channels: Vec<Vec<usize>> = shape
            .modalities
            .iter()
            .map(|&m| file.of_modality(m, usize::MAX).into_iter().filter(whole).collect())
            .collect();
        if channels.iter().filter(|channels| !channels.is_empty()).count() < MIN_MODALITIES {
            return Ok(None);
        }
        let windows = (file.samples() / shape.window_samples()) as u32;
        Ok(Some(Self { path, name: name.to_owned(), channels, windows }))
    }
}

/// Windows as a network takes them: only patches that are there, and where each belongs.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Which windows of the index.
    pub windows: Vec<usize>,
    /// [P, patch_samples]: the patches that are there.
    pub patches: Vec<f32>,
    /// In the order of the network's modality axis.
    pub modalities: Vec<Members>,
}

/// One modality of a [`Batch`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Members {
    /// K places in the batch: the windows with this modality.
    pub rows: Vec<usize>,
    /// C, the most channels among them.
    pub channels: usize,
    /// [K, T, C]: number of the patch; 0 where absent.
    pub patches: Vec<i64>,
    /// [K, T, C]: 1 where the patch is there, else 0.
    pub present: Vec<f32>,
}

/// Reads windows; keeps some files open. One for a thread.
struct Reader {
    files: HashMap<u32, StoreFile>,
    samples: Vec<f32>,
}

/// Channels of one window of the batch: for each, T numbers of patches, or -1.
type Places = Vec<Vec<i64>>;

impl Reader {
    fn new() -> Self {
        Self { files: HashMap::new(), samples: Vec::new() }
    }

    /// Reads `windows`; `random` draws for each place in the batch.
    fn batch(
        &mut self,
        index: &WindowIndex,
        windows: Vec<usize>,
        augment: Option<(Augment, u64, u64)>,
    ) -> Result<Batch, DataError> {
        let modalities = index.shape.modalities.len();
        let mut patches = Vec::new();
        let mut places: Vec<Vec<Places>> = vec![Vec::new(); modalities];
        for (place, &window) in windows.iter().enumerate() {
            let Some(&(number, window)) = index.windows.get(window) else { continue };
            let Some(recording) = index.recordings.get(number as usize) else { continue };
            let draw = augment.map(|(augment, seed, batch)| {
                // Batches have fewer windows than this.
                (augment, random(seed, AUGMENT, (batch << 20) + place as u64))
            });
            let chosen = choose(&recording.channels, &index.shape, draw);
            for (channels, places) in chosen.iter().zip(&mut places) {
                let read = channels.iter().map(|&channel| {
                    self.patches(index, number, recording, channel, window, &mut patches)
                });
                places.push(read.collect::<Result<_, _>>()?);
            }
        }
        let members = places.iter().map(|places| Members::of(places, &index.shape)).collect();
        Ok(Batch { windows, patches, modalities: members })
    }

    /// Appends a channel's patches that are there to `patches`; numbers them, -1 where absent.
    fn patches(
        &mut self,
        index: &WindowIndex,
        number: u32,
        recording: &Recording,
        channel: usize,
        window: u32,
        patches: &mut Vec<f32>,
    ) -> Result<Vec<i64>, DataError> {
        let Shape { patch_samples, .. } = index.shape;
        let count = index.shape.window_samples();
        if !self.files.contains_key(&number) {
            if self.files.len() >= OPEN_FILES {
                self.files.clear();
            }
            self.files.insert(number, StoreFile::open(&recording.path)?);
        }
        self.samples.resize(count, 0.0);
        if let Some(file) = self.files.get(&number) {
            file.read(channel, window as usize * count, &mut self.samples)?;
        }
        let is_dead = self.samples.iter().all(|&x| x == 0.0);
        let place = |patch: &[f32]| {
            if is_dead || !patch.iter().all(|x| x.is_finite()) {
                return -1;
            }
            let number = patches.len() / patch_samples;
            patches.extend_from_slice(patch);
            number as i64
        };
        Ok(self.samples.chunks_exact(patch_samples).map(place).collect())
    }
}

impl Members {
    /// `places` by window and channel, to [K, T, C].
    fn of(places: &[Places], shape: &Shape) -> Self {
        let there = |channel: &&Vec<i64>| channel.iter().any(|&patch| patch >= 0);
        let live: Vec<(usize, Vec<&Vec<i64>>)> = places
            .iter()
            .map(|channels| channels.iter().filter(there).collect::<Vec<_>>())
            .enumerate()
            .filter(|(_, channels)| !channels.is_empty())
            .collect();
        let channels = live.iter().map(|(_, channels)| channels.len()).max().unwrap_or_default();
        let mut members = Self { channels, ..Self::default() };
        for (row, window) in &live {
            members.rows.push(*row);
            for token in 0..shape.window_patches {
                for channel in 0..channels {
                    let patch = window.get(channel).and_then(|c| c.get(token)).copied();
                    let patch = patch.filter(|&patch| patch >= 0);
                    members.patches.push(patch.unwrap_or_default());
                    members.present.push(if patch.is_some() { 1.0 } else { 0.0 });
                }
            }
        }
        members
    }
}

/// The channels of a window that are read: up to the most of each modality, in training drawn,
/// else the first ones.
fn choose(
    channels: &[Vec<usize>],
    shape: &Shape,
    draw: Option<(Augment, ChaCha8Rng)>,
) -> Vec<Vec<usize>> {
    let most = shape.max_channels.iter().copied();
    let Some((augment, mut rng)) = draw else {
        return channels.iter().zip(most).map(|(c, n)| c[..n.min(c.len())].to_vec()).collect();
    };
    let mut chosen: Vec<Vec<usize>> = channels
        .iter()
        .zip(most)
        .map(|(channels, most)| {
            let count = most.min(channels.len());
            let mut kept = index::sample(&mut rng, channels.len(), count).into_vec();
            kept.sort_unstable();
            let spared = rng.random_range(0..kept.len().max(1));
            let mut place = 0;
            kept.retain(|_| {
                place += 1;
                place - 1 == spared || !rng.random_bool(augment.channel_dropout)
            });
            kept.into_iter().map(|place| channels[place]).collect()
        })
        .collect();
    drop_modalities(&mut chosen, augment.modality_dropout, &mut rng);
    chosen
}

/// Empties modalities, each with probability `dropout`, but for two.
fn drop_modalities(chosen: &mut [Vec<usize>], dropout: f64, rng: &mut ChaCha8Rng) {
    let mut there: Vec<usize> = (0..chosen.len()).filter(|&m| !chosen[m].is_empty()).collect();
    there.shuffle(rng);
    for &modality in there.iter().skip(MIN_MODALITIES) {
        if rng.random_bool(dropout) {
            chosen[modality].clear();
        }
    }
}

/// Random numbers for one purpose, the `number`-th of its kind.
fn random(seed: u64, purpose: u64, number: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&purpose.to_le_bytes());
    key[16..24].copy_from_slice(&number.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
