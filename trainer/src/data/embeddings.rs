//! Embeddings of one recording: data sets BAS RESP EKG EMG [n, E] float32 in chunks of E rows, one
//! file of the 5-s tokens and one of the 5-min windows, as the reference lays them out.
//!
//! A row without signal is NaN, a modality without signal has no data set. Refuses modalities of
//! different sizes, rows that are damaged in part, and more rows than a week has.

use std::path::{Path, PathBuf};

use rust_hdf5::{H5File, Hdf5Error};
use sfm_models::Modality;

use super::{DataError, damaged, open_hdf5};

/// 5-s tokens of 7 days.
const MAX_TOKENS: usize = 7 * 86_400 / 5;
/// Wider than any network of this family.
const MAX_EMBED_DIM: usize = 4096;

/// What is appended to the name of the folder of the 5-s embeddings for that of the windows'.
pub const WINDOW_SUFFIX: &str = "_5min_agg";

/// Embeddings of one recording, with zeros where there are none.
#[derive(Debug, Clone, PartialEq)]
pub struct Night {
    /// M: the modalities, in the order asked for.
    pub modalities: Vec<Modality>,
    /// T: rows, 5-s tokens or 5-min windows.
    pub tokens: usize,
    /// E: values of a row.
    pub embed_dim: usize,
    /// [M, T, E]; zeros where absent.
    pub values: Vec<f32>,
    /// [M, T]: 1.0, or 0.0 where absent.
    pub present: Vec<f32>,
}

impl Night {
    /// Reads `modalities` of a file of embeddings; those it does not have are absent.
    ///
    /// # Errors
    /// [`DataError`] if it cannot be read, is damaged, or holds no modality at all.
    pub fn read(path: impl AsRef<Path>, modalities: &[Modality]) -> Result<Night, DataError> {
        let path = path.as_ref();
        let file = open_hdf5(path)?;
        let (tokens, embed_dim) = shape(&file, path)?;
        let mut night = Night {
            modalities: modalities.to_vec(),
            tokens,
            embed_dim,
            values: vec![0.0; modalities.len() * tokens * embed_dim],
            present: vec![0.0; modalities.len() * tokens],
        };
        let stored = file.dataset_names();
        for (index, modality) in modalities.iter().enumerate() {
            if !stored.iter().any(|name| name == modality.as_str()) {
                continue;
            }
            let values = file
                .dataset(modality.as_str())
                .and_then(|dataset| dataset.read_numeric_as::<f32>())
                .map_err(|e| damaged(path, &e))?;
            night.put(index, &values).map_err(|reason| {
                DataError::refused(path, format!("{modality} {reason}; embed it again"))
            })?;
        }
        Ok(night)
    }

    /// Values [T, E] and presence `[T]` of a modality by its place in `modalities`.
    pub fn modality(&self, index: usize) -> (&[f32], &[f32]) {
        let (width, rows) = (self.tokens * self.embed_dim, self.tokens);
        (&self.values[index * width..][..width], &self.present[index * rows..][..rows])
    }

    fn put(&mut self, index: usize, values: &[f32]) -> Result<(), String> {
        let (rows, width) = (self.tokens, self.tokens * self.embed_dim);
        if values.len() != width {
            return Err("ends before its length".to_owned());
        }
        let present = &mut self.present[index * rows..][..rows];
        let out = self.values[index * width..][..width].chunks_exact_mut(self.embed_dim);
        for (row, ((out, row_in), present)) in
            out.zip(values.chunks_exact(self.embed_dim)).zip(present).enumerate()
        {
            if row_in.iter().all(|x| x.is_finite()) {
                out.copy_from_slice(row_in);
                *present = 1.0;
            } else if !row_in.iter().all(|x| x.is_nan()) {
                return Err(format!("row {row} is in part no number"));
            }
        }
        Ok(())
    }
}

/// [T, E], the same for all modalities of the file.
fn shape(file: &H5File, path: &Path) -> Result<(usize, usize), DataError> {
    let mut common = None;
    for name in file.dataset_names() {
        if !Modality::ALL.iter().any(|modality| modality.as_str() == name) {
            continue;
        }
        let shape = file.dataset(&name).map_err(|e| damaged(path, &e))?.shape();
        let &[tokens, embed_dim] = shape.as_slice() else {
            let reason = format!("{name} has {} dimensions instead of 2", shape.len());
            return Err(DataError::refused(path, reason));
        };
        if tokens > MAX_TOKENS || !(1..=MAX_EMBED_DIM).contains(&embed_dim) {
            let reason = format!("{name} is [{tokens}, {embed_dim}], which no recording has");
            return Err(DataError::refused(path, reason));
        }
        if common.is_some_and(|other| other != (tokens, embed_dim)) {
            let reason = format!("{name} has another size than the other modalities; embed again");
            return Err(DataError::refused(path, reason));
        }
        common = Some((tokens, embed_dim));
    }
    common.ok_or_else(|| DataError::refused(path, "holds no embeddings of any modality"))
}

/// One modality's rows to be written: [rows, E], NaN where absent.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// The modality.
    pub modality: Modality,
    /// [rows, E].
    pub values: Vec<f32>,
}

/// Writes embeddings to `path`, which is best a part of [`super::replace`], and syncs them.
///
/// # Errors
/// [`DataError::Unwritable`].
pub fn write(path: &Path, embed_dim: usize, modalities: &[Rows]) -> Result<(), DataError> {
    try_write(path, embed_dim, modalities).map_err(|e| DataError::unwritable(path, e))
}

fn try_write(path: &Path, embed_dim: usize, modalities: &[Rows]) -> Result<(), Hdf5Error> {
    let file = H5File::options().no_locking().track_times(false).create(path)?;
    for rows in modalities {
        let dataset = file
            .new_dataset::<f32>()
            .shape([rows.values.len() / embed_dim, embed_dim])
            .max_shape(&[None, Some(embed_dim)])
            .chunk(&[embed_dim, embed_dim])
            .create(rows.modality.as_str())?;
        dataset.write_raw(&rows.values)?;
    }
    file.close()
}

/// The folder of the windows' embeddings beside `dir`, that of the tokens'.
pub fn window_folder(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(WINDOW_SUFFIX);
    dir.with_file_name(name)
}
