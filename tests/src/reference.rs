//! The parity recordings: simulated sleep, random weights, and what the PyTorch reference computes
//! from them. `mini` is part of the repository; `full` has the published sizes and is used where
//! it lies beside the repository.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::skip::skipped;

/// A folder with `psg.edf`, `psg.hdf5`, the checkpoints and `expected.npz`.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The folder.
    pub dir: PathBuf,
}

/// A row-major float32 array.
#[derive(Debug, Clone)]
pub struct Array {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

/// `mini`, and `full` where it is present.
pub fn all() -> Vec<Reference> {
    let mut all = vec![mini()];
    match full() {
        Some(full) => all.push(full),
        None => skipped("shared", "full-size parity data, ../shared/parity/full is absent"),
    }
    all
}

/// The small one.
pub fn mini() -> Reference {
    Reference { dir: root().join("tests/data/mini") }
}

/// The one of the published sizes.
pub fn full() -> Option<Reference> {
    let dir = root().join("../shared/parity/full");
    dir.is_dir().then_some(Reference { dir })
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Reference {
    /// An array of `expected.npz`.
    pub fn expected(&self, name: &str) -> Array {
        let file = std::fs::File::open(self.dir.join("expected.npz")).expect("expected.npz");
        let mut zip = zip::ZipArchive::new(file).expect("a zip");
        let mut bytes = Vec::new();
        let mut entry = zip.by_name(&format!("{name}.npy")).expect("the array is there");
        entry.read_to_end(&mut bytes).expect("readable");
        parse_npy(&bytes)
    }
}

/// NumPy's own format, version 1, of a float32 array in C order.
fn parse_npy(bytes: &[u8]) -> Array {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let header_end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..header_end]).expect("ASCII");
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let shape: Vec<usize> = shape
        .map(|(shape, _)| shape.split(',').filter_map(|size| size.trim().parse().ok()).collect())
        .expect("a shape");
    let (words, _) = bytes[header_end..].as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
    assert_eq!(shape.iter().product::<usize>(), values.len());
    Array { shape, values }
}

/// The largest absolute difference; NaN where either side is NaN alone.
///
/// # Panics
/// If the lengths differ or there is nothing to compare.
#[track_caller]
pub fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "lengths");
    assert!(!found.is_empty(), "nothing to compare");
    let differences = found
        .iter()
        .zip(expected)
        .map(|(a, b)| if a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() });
    // f32::max would pass over a NaN.
    differences.fold(0.0, |a: f32, b| if b > a || b.is_nan() { b } else { a })
}

/// Prints the largest difference and fails if it is over `tolerance`.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    let largest = largest_difference(found, expected);
    println!("{what}: largest difference {largest:.1e}");
    assert!(largest <= tolerance, "{what}: largest difference {largest:e} over {tolerance:e}");
}
