//! One recording of the store: a float16 data set a channel, named by its label, 128 Hz, z-scored,
//! in chunks of 5 min, gzip: the reference's layout. Missing samples are NaN.
//!
//! Each data set of our own has the attributes `label` (as in the recording) and `modality`, so that
//! a decision taken once holds for all that follows; other stores go by the rules for labels.
//! Data sets that are no such channel are passed over; refuses files without any.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use rust_hdf5::types::VarLenUnicode;
use rust_hdf5::{DatatypeMessage, H5Dataset, H5File, Hdf5Error};
use sfm_models::Modality;
use sfm_runtime::montage::ChannelRules;
use sfm_runtime::signal::SignalInfo;

use super::{DataError, damaged, open_hdf5};

/// Rate of the store, Hz.
pub const RATE_HZ: u32 = 128;
/// Samples of one chunk: 5 min.
pub const CHUNK_SAMPLES: usize = 5 * 60 * RATE_HZ as usize;
/// 7 days; a longer data set is damage, not sleep.
pub const MAX_SAMPLES: usize = 7 * 86_400 * RATE_HZ as usize;
/// The library allocates chunks by the size the file claims; 36 h of a channel are enough.
const MAX_CHUNK_SAMPLES: usize = 1 << 24;
/// More data sets than any montage has channels.
const MAX_CHANNELS: usize = 4096;
/// A higher gzip level costs time and saves no room: the samples are noise to it (level 6: 3 % less,
/// 2 times the time, measured). Bytes are shuffled first, which is smaller and faster.
const GZIP_LEVEL: u32 = 1;

const LABEL: &str = "label";
const MODALITY: &str = "modality";
const NO_MODALITY: &str = "none";

/// A channel of a [`StoreFile`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChannel {
    /// Name of the data set: the label, made unique.
    pub name: String,
    /// Label as written in the recording.
    pub label: String,
    /// The modality it is part of; `None` if no rule maps it.
    pub modality: Option<Modality>,
    /// Number of samples at 128 Hz.
    pub samples: usize,
}

/// A recording of the store, open for reading.
pub struct StoreFile {
    path: PathBuf,
    channels: Vec<StoredChannel>,
    datasets: Vec<(H5Dataset, bool)>,
}

impl StoreFile {
    /// Opens a file; channels without a modality of their own get it by the built-in rules.
    ///
    /// # Errors
    /// [`DataError`] if it cannot be read, is damaged or holds no channel.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        static BUILT_IN: OnceLock<Option<ChannelRules>> = OnceLock::new();
        Self::open_by(path.as_ref(), || {
            BUILT_IN.get_or_init(|| ChannelRules::built_in().ok()).as_ref()
        })
    }

    /// Opens a file; `rules` decide where a channel does not say its modality.
    ///
    /// # Errors
    /// As [`StoreFile::open`].
    pub fn open_with(path: impl AsRef<Path>, rules: &ChannelRules) -> Result<Self, DataError> {
        Self::open_by(path.as_ref(), || Some(rules))
    }

    fn open_by<'a>(
        path: &Path,
        rules: impl Fn() -> Option<&'a ChannelRules>,
    ) -> Result<Self, DataError> {
        let file = open_hdf5(path)?;
        let mut opened =
            StoreFile { path: path.to_owned(), channels: Vec::new(), datasets: Vec::new() };
        for name in file.dataset_names().into_iter().take(MAX_CHANNELS) {
            let dataset = file.dataset(&name).map_err(|e| damaged(path, &e))?;
            // Annotations and the like may lie beside the channels.
            let Some((samples, is_half)) = channel_shape(&dataset) else { continue };
            let label = text_attribute(&dataset, LABEL).unwrap_or_else(|| name.clone());
            let modality = match text_attribute(&dataset, MODALITY) {
                Some(modality) => modality.parse().ok(),
                None => rules().and_then(|rules| modality_of(&label, rules)),
            };
            opened.channels.push(StoredChannel { name, label, modality, samples });
            opened.datasets.push((dataset, is_half));
        }
        if opened.channels.is_empty() {
            let reason = "holds no data set of one float channel each; preprocess it again";
            return Err(DataError::refused(path, reason));
        }
        Ok(opened)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The channels, in the order of the file.
    pub fn channels(&self) -> &[StoredChannel] {
        &self.channels
    }

    /// Indices of the channels of `modality`, at most `max` of them, in the order of the file.
    pub fn of_modality(&self, modality: Modality, max: usize) -> Vec<usize> {
        let of =
            |(index, c): (usize, &StoredChannel)| (c.modality == Some(modality)).then_some(index);
        self.channels.iter().enumerate().filter_map(of).take(max).collect()
    }

    /// Length of the longest channel, samples.
    pub fn samples(&self) -> usize {
        self.channels.iter().map(|c| c.samples).max().unwrap_or_default()
    }

    /// Fills `out` with the samples of a channel from `first_sample` on: z-scores, NaN where a
    /// sample is missing and behind the channel's end. Whole chunks of 38,400 samples on their grid
    /// are read fastest.
    ///
    /// # Errors
    /// [`DataError::Refused`] if the file is damaged there; nothing for a channel it does not have.
    pub fn read(
        &self,
        channel: usize,
        first_sample: usize,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        out.fill(f32::NAN);
        let (Some(about), Some((dataset, is_half))) =
            (self.channels.get(channel), self.datasets.get(channel))
        else {
            return Ok(());
        };
        let count = about.samples.saturating_sub(first_sample).min(out.len());
        if count == 0 {
            return Ok(());
        }
        let refuse = |e: Hdf5Error| damaged(&self.path, &e);
        if *is_half {
            let bits = dataset.read_slice::<u16>(&[first_sample], &[count]).map_err(refuse)?;
            let halves: &[f16] = bits.reinterpret_cast();
            self.check_length(halves.len(), count)?;
            halves.convert_to_f32_slice(&mut out[..count]);
        } else {
            let wide =
                dataset.read_numeric_slice_as::<f64>(&[first_sample], &[count]).map_err(refuse)?;
            self.check_length(wide.len(), count)?;
            out.iter_mut().zip(wide).for_each(|(y, x)| *y = x as f32);
        }
        out.iter_mut().filter(|x| x.is_infinite()).for_each(|x| *x = f32::NAN);
        Ok(())
    }

    fn check_length(&self, found: usize, wanted: usize) -> Result<(), DataError> {
        if found == wanted {
            return Ok(());
        }
        Err(DataError::refused(&self.path, "a data set ends before its length; preprocess again"))
    }
}

/// The modality that `rules` give a label alone; nothing where two of them disagree.
fn modality_of(label: &str, rules: &ChannelRules) -> Option<Modality> {
    let signal = SignalInfo {
        label: label.to_owned(),
        rate_hz: f64::from(RATE_HZ),
        unit: String::new(),
        physical_min: 0.0,
        physical_max: 0.0,
        digital_min: 0,
        digital_max: 0,
    };
    let montage = rules.assign(std::slice::from_ref(&signal), &Default::default()).ok()?;
    montage.decisions.first()?.modality
}

/// Samples of a channel, and whether they are float16; `None` for any other data set.
fn channel_shape(dataset: &H5Dataset) -> Option<(usize, bool)> {
    let [samples] = dataset.shape()[..] else { return None };
    if !(1..=MAX_SAMPLES).contains(&samples) {
        return None;
    }
    match dataset.chunk_dims().as_deref() {
        None => {}
        Some(&[chunk]) if (1..=MAX_CHUNK_SAMPLES).contains(&chunk) => {}
        Some(_) => return None,
    }
    let datatype = dataset.datatype().ok()?;
    match datatype {
        DatatypeMessage::FloatingPoint { size: 2 | 4 | 8, .. } => {
            Some((samples, datatype == DatatypeMessage::f16_type()))
        }
        _ => None,
    }
}

fn text_attribute(dataset: &H5Dataset, name: &str) -> Option<String> {
    dataset.attr(name).ok()?.read_string().ok()
}

/// A recording of the store, being written.
pub struct StoreWriter {
    path: PathBuf,
    file: H5File,
}

impl StoreWriter {
    /// Begins `path`, which is best a part of [`super::replace`].
    ///
    /// # Errors
    /// [`DataError::Unwritable`].
    pub fn create(path: &Path) -> Result<Self, DataError> {
        // The file is not visible to others yet, and a time in it would make equal runs differ.
        let file = H5File::options()
            .no_locking()
            .track_times(false)
            .create(path)
            .map_err(|e| DataError::unwritable(path, e))?;
        Ok(StoreWriter { path: path.to_owned(), file })
    }

    /// Adds a channel: `samples` are z-scores at 128 Hz. What float16 cannot hold becomes NaN.
    ///
    /// # Errors
    /// [`DataError::Unwritable`], also for a name that is there already.
    pub fn channel(
        &mut self,
        name: &str,
        label: &str,
        modality: Option<Modality>,
        samples: &[f32],
    ) -> Result<(), DataError> {
        self.try_channel(name, label, modality, samples)
            .map_err(|e| DataError::unwritable(&self.path, e))
    }

    fn try_channel(
        &mut self,
        name: &str,
        label: &str,
        modality: Option<Modality>,
        samples: &[f32],
    ) -> Result<(), Hdf5Error> {
        let dataset = self
            .file
            .new_dataset::<u16>()
            .datatype(DatatypeMessage::f16_type())
            .shape([samples.len()])
            .chunk(&[CHUNK_SAMPLES.min(samples.len()).max(1)])
            .shuffle_deflate(GZIP_LEVEL)
            .create(name)?;
        let mut halves = vec![f16::ZERO; CHUNK_SAMPLES];
        for (index, samples) in samples.chunks(CHUNK_SAMPLES).enumerate() {
            let halves = &mut halves[..samples.len()];
            halves.convert_from_f32_slice(samples);
            halves.iter_mut().filter(|h| !h.is_finite()).for_each(|h| *h = f16::NAN);
            let bits: &[u16] = halves.reinterpret_cast();
            dataset.write_slice(&[index * CHUNK_SAMPLES], &[bits.len()], bits)?;
        }
        let write = |name: &str, text: &str| {
            let attribute = dataset.new_attr::<VarLenUnicode>().shape(()).create(name)?;
            attribute.write_string(text)
        };
        write(LABEL, label)?;
        write(MODALITY, modality.map_or(NO_MODALITY, Modality::as_str))
    }

    /// Completes the file and syncs it to the disk.
    ///
    /// # Errors
    /// [`DataError::Unwritable`].
    pub fn finish(self) -> Result<(), DataError> {
        self.file.close().map_err(|e| DataError::unwritable(&self.path, e))
    }
}
