//! The tensors of a PyTorch checkpoint by name, each asked for once and with its shape.
//!
//! Accepts what `torch.save` of PyTorch 1.6 or newer writes: a bare state dict, or a dict that
//! holds one as `state_dict` beside optimizer state; `module.` prefixes of DataParallel go.
//! Refuses damaged files, pickles that ask for more memory or stack than any checkpoint, other shapes than asked for, values that are not finite, and, at
//! [`Checkpoint::finish`], tensors nobody asked for.

mod pickle;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use burn::prelude::*;
use burn::tensor::DType;
use burn_store::TensorSnapshot;
use burn_store::pytorch::PytorchReader;
use sfm_runtime::caught::caught;

use self::pickle::Refusal;

/// Most files of the checkpoint's zip: one a tensor, optimizer state included.
const MAX_FILES: usize = 20_000;

/// Why a checkpoint was refused. One line each, naming the file and the tensor.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a checkpoint, or a damaged one.
    #[error("{}: is no intact PyTorch checkpoint ({reason}); copy it again, or save it with \
             torch.save of PyTorch 1.6 or newer", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It asks for more memory than any checkpoint.
    #[error("{}: is no checkpoint that is read: {reason}; save the state dict alone", path.display())]
    Excess {
        /// The file.
        path: PathBuf,
        /// What there is too much of, and the limit.
        reason: String,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error("{}: {name} has shape {found:?}, but config.json asks for {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the configuration asks for; `None` where any size fits.
        expected: Vec<Wanted>,
    },
    /// A tensor is not there.
    #[error("{}: has no tensor {name}, which config.json asks for", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// Tensors that the configured network does not have.
    #[error("{}: holds {count} tensor(s) that config.json does not ask for, first {name} {shape:?}",
            path.display())]
    Surplus {
        /// The file.
        path: PathBuf,
        /// The first of them.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How many there are.
        count: usize,
    },
    /// A tensor holds no usable numbers.
    #[error("{}: {name} {reason}", path.display())]
    Values {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with its values.
        reason: String,
    },
}

/// One axis of a shape that is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Exactly this many.
    Size(usize),
    /// Any number but 0.
    Any,
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Size(size) => write!(f, "{size}"),
            Wanted::Any => f.write_str("any"),
        }
    }
}

/// An open checkpoint.
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, TensorSnapshot>,
}

impl Checkpoint {
    /// Opens the checkpoint at `path`; tensors are read when they are asked for.
    ///
    /// # Errors
    /// [`CheckpointError::Read`], [`CheckpointError::Damaged`].
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file_bytes = check_zip(path)?;
        let damaged = |reason: String| CheckpointError::Damaged {
            path: path.to_owned(),
            reason: reason.replace('\n', " "),
        };
        let reader = caught(|| PytorchReader::new(path).map_err(|e| e.to_string()));
        let reader = reader.and_then(|reader| reader).map_err(damaged)?;
        let mut tensors: BTreeMap<String, TensorSnapshot> =
            reader.into_tensors().into_iter().collect();
        if let Some((name, _)) = tensors.iter().find(|(_, tensor)| !fits(tensor, file_bytes)) {
            return Err(damaged(format!("{name} claims more values than the file holds")));
        }
        if tensors.keys().any(|name| name.starts_with("state_dict.")) {
            tensors = strip(tensors, "state_dict.");
        }
        if !tensors.is_empty() && tensors.keys().all(|name| name.starts_with("module.")) {
            tensors = strip(tensors, "module.");
        }
        // Counts batches seen in training; no part of the network's function.
        tensors.retain(|name, _| !name.ends_with(".num_batches_tracked"));
        if tensors.is_empty() {
            return Err(damaged("it holds no tensors".into()));
        }
        Ok(Checkpoint { path: path.to_owned(), tensors })
    }

    /// Size of axis `axis` of tensor `name`, which must have `rank` axes.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`], [`CheckpointError::Shape`].
    pub fn size(&self, name: &str, rank: usize, axis: usize) -> Result<usize, CheckpointError> {
        let found = self.shape(name)?;
        match found.get(axis) {
            Some(&size) if found.len() == rank && size > 0 => Ok(size),
            _ => Err(self.shape_error(name, found, vec![Wanted::Any; rank])),
        }
    }

    /// Takes tensor `name`, which must have `shape` and finite values, as float32.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`], [`CheckpointError::Shape`], [`CheckpointError::Values`].
    pub fn tensor<B: Backend, const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
        device: &B::Device,
    ) -> Result<Tensor<B, D>, CheckpointError> {
        let found = self.shape(name)?;
        if found != shape {
            return Err(self.shape_error(name, found, shape.map(Wanted::Size).to_vec()));
        }
        let snapshot = self.tensors.remove(name).ok_or_else(|| self.missing(name))?;
        let refused = |reason: &str| CheckpointError::Values {
            path: self.path.clone(),
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        if !matches!(snapshot.dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16) {
            return Err(refused(&format!("holds {:?}, not floating point", snapshot.dtype)));
        }
        let data = caught(|| snapshot.to_data().map_err(|e| e.to_string()));
        let data = data.and_then(|data| data).map_err(|e| refused(&e))?.convert::<f32>();
        let numbers = data.as_slice::<f32>().map_err(|e| refused(&format!("{e:?}")))?;
        if !numbers.iter().all(|value| value.is_finite()) {
            return Err(refused("holds values that are not finite"));
        }
        // What the reader behind this makes of data it does not find; no network has such a matrix.
        if D > 1 && numbers.iter().all(|&value| value == 0.0) {
            return Err(refused("holds nothing but zeros"));
        }
        Ok(Tensor::from_data(data, device))
    }

    /// Checks the shape of tensor `name`, which the network never uses, and drops it.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`], [`CheckpointError::Shape`].
    pub fn unused(&mut self, name: &str, shape: &[usize]) -> Result<(), CheckpointError> {
        let found = self.shape(name)?;
        if found != shape {
            let expected = shape.iter().copied().map(Wanted::Size).collect();
            return Err(self.shape_error(name, found, expected));
        }
        self.tensors.remove(name);
        Ok(())
    }

    /// Checks that every tensor was asked for.
    ///
    /// # Errors
    /// [`CheckpointError::Surplus`].
    pub fn finish(self) -> Result<(), CheckpointError> {
        match self.tensors.iter().next() {
            Some((name, snapshot)) => Err(CheckpointError::Surplus {
                path: self.path.clone(),
                name: name.clone(),
                shape: snapshot.shape.to_vec(),
                count: self.tensors.len(),
            }),
            None => Ok(()),
        }
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, CheckpointError> {
        self.tensors.get(name).map(|t| t.shape.to_vec()).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> CheckpointError {
        CheckpointError::Missing { path: self.path.clone(), name: name.to_owned() }
    }

    fn shape_error(&self, name: &str, found: Vec<usize>, expected: Vec<Wanted>) -> CheckpointError {
        CheckpointError::Shape { path: self.path.clone(), name: name.to_owned(), found, expected }
    }
}

fn strip(
    tensors: BTreeMap<String, TensorSnapshot>,
    prefix: &str,
) -> BTreeMap<String, TensorSnapshot> {
    tensors
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor)))
        .collect()
}

/// Whether the tensor's values can be in a file of `file_bytes`.
fn fits(tensor: &TensorSnapshot, file_bytes: u64) -> bool {
    let sizes = tensor.shape.to_vec().into_iter().map(|size| size as u64);
    let bytes = sizes.fold(tensor.dtype.size() as u64, u64::saturating_mul);
    bytes <= file_bytes
}

/// Reads every file of the checkpoint once, so that its checksums are known to hold (the reader
/// behind [`Checkpoint`] takes zeros for a tensor whose file it cannot read), and that its pickle is
/// one that can be read. Returns the length of the whole.
fn check_zip(path: &Path) -> Result<u64, CheckpointError> {
    let unreadable = |source| CheckpointError::Read { path: path.to_owned(), source };
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let excess = |reason: String| CheckpointError::Excess { path: path.to_owned(), reason };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
    }
    let mut archive =
        zip::ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(e.to_string()))?;
    if archive.len() > MAX_FILES {
        return Err(excess(format!("{} files, over the limit of {MAX_FILES}", archive.len())));
    }
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|e| damaged(e.to_string()))?;
        // A compressed file may be any length; torch.save compresses none.
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err(damaged("a file in it is compressed".to_owned()));
        }
        let is_pickle = entry.name().is_ok_and(|name| name.ends_with(".pkl"));
        if !is_pickle {
            std::io::copy(&mut entry, &mut std::io::sink()).map_err(|e| damaged(e.to_string()))?;
            continue;
        }
        if entry.size() > pickle::MAX_BYTES {
            let (bytes, limit) = (entry.size(), pickle::MAX_BYTES);
            return Err(excess(format!("a pickle of {bytes} bytes, over the limit of {limit}")));
        }
        let mut content = Vec::new();
        entry
            .take(pickle::MAX_BYTES + 1)
            .read_to_end(&mut content)
            .map_err(|e| damaged(e.to_string()))?;
        pickle::check(&content).map_err(|refusal| match refusal {
            Refusal::Damaged(reason) => damaged(reason),
            Refusal::Excess(reason) => excess(format!("a pickle with {reason}")),
        })?;
    }
    Ok(metadata.len())
}
