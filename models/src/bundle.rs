//! One-file model bundles, `name.sfm`: a stored zip of `manifest.json`, ONNX graphs
//! (`<graph>.onnx`), and optionally `labels.csv` and `quantiles.json`.
//!
//! Refuses, before anything but the manifest is parsed: compressed, encrypted, overlapping or
//! doubly named entries, names with a path, files over the caps, files the manifest does not
//! list, lengths and SHA-256 that differ, sizes out of range, a newer format, missing graphs.
//! Messages do not name the bundle's own path: the caller knows it.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::Manifest;
use crate::ReferenceQuantiles;
use crate::graph;
use crate::manifest::{FORMAT_VERSION, FileEntry};

/// Name of the manifest inside the bundle.
pub const MANIFEST: &str = "manifest.json";
/// Name of the hazards' labels inside the bundle.
pub const LABELS: &str = "labels.csv";
/// Name of the hazards' reference quantiles inside the bundle.
pub const QUANTILES: &str = "quantiles.json";

/// Most files a bundle may hold.
pub const MAX_FILES: usize = 512;
/// Longest bundle, bytes.
pub const MAX_BYTES: u64 = 2 << 30;
/// Longest manifest, label or quantile file, bytes.
pub const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Name inside the bundle of the configuration of the training run that made `part`.
pub fn recipe_name(part: &str) -> String {
    format!("{part}.recipe.toml")
}

/// Why a bundle was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file could not be read.
    #[error("cannot be read: {0}")]
    Read(#[source] std::io::Error),
    /// The file could not be written.
    #[error("cannot be written: {0}")]
    Write(#[source] std::io::Error),
    /// Not a zip, a damaged one, or one with a layout that bundles never have.
    #[error("is not a model bundle: {0}")]
    Layout(String),
    /// The bundle or something in it is longer than the cap.
    #[error("{what} has {found} {unit}, over the limit of {limit}")]
    TooLarge {
        /// The bundle, or the name of an entry.
        what: String,
        /// What was found.
        found: u64,
        /// `bytes` or `files`.
        unit: &'static str,
        /// The cap.
        limit: u64,
    },
    /// The bundle was made by a newer version of this software.
    #[error(
        "was made by a newer version (bundle format {found}, this build reads {known}); update"
    )]
    Newer {
        /// Format version of the bundle.
        found: u32,
        /// [`FORMAT_VERSION`].
        known: u32,
    },
    /// The manifest is no manifest or holds sizes that make no sense.
    #[error("{MANIFEST}: {0}")]
    Manifest(String),
    /// Something that the manifest promises is not there.
    #[error("has no {0}, which its manifest asks for; the bundle is incomplete")]
    Missing(String),
    /// A file is not the one the manifest describes.
    #[error("{name}: {reason}; the bundle is damaged or was tampered with")]
    Damaged {
        /// Name of the file inside the bundle.
        name: String,
        /// What differs.
        reason: String,
    },
    /// The labels do not fit.
    #[error("{LABELS}: {0}")]
    Labels(String),
    /// The reference quantiles do not fit.
    #[error("{QUANTILES}: {0}")]
    Quantiles(String),
}

/// The name of one hazard.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Label {
    /// Index of the hazard, from 0.
    pub label_idx: usize,
    /// Phecode, e.g. `427.2`.
    pub phecode: String,
    /// Name of the disease, e.g. `Atrial fibrillation and flutter`.
    pub phenotype: String,
}

impl Label {
    /// Reads `label_idx,phecode,phenotype` with a header line.
    ///
    /// # Errors
    /// [`BundleError::Labels`] unless every index from 0 to `classes` - 1 occurs exactly once.
    pub fn parse_csv(text: &[u8], classes: usize) -> Result<Vec<Label>, BundleError> {
        let mut labels = csv::Reader::from_reader(text)
            .deserialize()
            .take(classes.saturating_add(1))
            .collect::<Result<Vec<Label>, _>>()
            .map_err(|e| BundleError::Labels(one_line(&e)))?;
        labels.sort_by_key(|label| label.label_idx);
        if labels.len() != classes {
            let found =
                if labels.len() > classes { "more".into() } else { labels.len().to_string() };
            return Err(BundleError::Labels(format!("{found} labels for {classes} hazards")));
        }
        match labels.iter().enumerate().find(|(index, label)| *index != label.label_idx) {
            Some((index, _)) => Err(BundleError::Labels(format!(
                "label_idx {index} is missing or given twice; 0 to {} must occur once each",
                classes.saturating_sub(1)
            ))),
            None => Ok(labels),
        }
    }
}

/// An open bundle: its bytes, checked, and where each file lies in them.
#[derive(Debug)]
pub struct Bundle {
    bytes: Vec<u8>,
    manifest: Manifest,
    files: BTreeMap<String, Range<usize>>,
}

impl Bundle {
    /// Reads and checks the bundle at `path`; see the module for what is refused.
    ///
    /// # Errors
    /// [`BundleError::Read`] if the file cannot be read, any other variant if it is refused.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, BundleError> {
        // Asked before opening: a pipe would wait for a writer, a device never end.
        let metadata = std::fs::metadata(&path).map_err(BundleError::Read)?;
        if !metadata.is_file() {
            return Err(BundleError::Layout("it is no regular file".into()));
        }
        within("the file", metadata.len(), "bytes", MAX_BYTES)?;
        let file = std::fs::File::open(path).map_err(BundleError::Read)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(BundleError::Read)?;
        Self::from_bytes(bytes)
    }

    /// Checks a bundle held in memory; see the module for what is refused.
    ///
    /// # Errors
    /// Any [`BundleError`] but `Read` and `Write`.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, BundleError> {
        within("the file", bytes.len() as u64, "bytes", MAX_BYTES)?;
        let files = entries(&bytes)?;
        let manifest = parse_manifest(slice(&bytes, &files, MANIFEST)?)?;
        let bundle = Bundle { bytes, manifest, files };
        bundle.check_files()?;
        Ok(bundle)
    }

    /// Every number the runtime needs.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The ONNX model of graph `name` (see [`crate::graph`]), `None` if the bundle lacks it.
    pub fn graph(&self, name: &str) -> Option<&[u8]> {
        self.file(&graph::file_name(name))
    }

    /// The bytes of a file of the bundle by its name inside it.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.bytes.get(self.files.get(name)?.clone())
    }

    /// The hazards' names in their order; empty if the bundle has no `labels.csv`.
    ///
    /// # Errors
    /// [`BundleError::Labels`] if the file is no label table of the risk head's size.
    pub fn labels(&self) -> Result<Vec<Label>, BundleError> {
        match (self.file(LABELS), &self.manifest.risk) {
            (Some(text), Some(risk)) => Label::parse_csv(text, risk.classes),
            _ => Ok(Vec::new()),
        }
    }

    /// The hazards' reference quantiles; `None` if the bundle has none.
    ///
    /// # Errors
    /// [`BundleError::Quantiles`] if the file holds no quantiles of the risk head's size.
    pub fn quantiles(&self) -> Result<Option<ReferenceQuantiles>, BundleError> {
        let (Some(json), Some(risk)) = (self.file(QUANTILES), &self.manifest.risk) else {
            return Ok(None);
        };
        let quantiles: ReferenceQuantiles =
            serde_json::from_slice(json).map_err(|e| BundleError::Quantiles(one_line(&e)))?;
        quantiles.check(risk.classes).map_err(BundleError::Quantiles)?;
        Ok(Some(quantiles))
    }

    /// SHA-256 of the whole bundle, lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        sha256_hex(&self.bytes)
    }

    /// SHA-256 of what the bundle computes, lower-case hexadecimal: of its networks, their sizes and
    /// the preprocessing. Names, labels, cohort and where it came from change nothing in it.
    pub fn network_sha256(&self) -> String {
        let manifest = &self.manifest;
        let sizes = (&manifest.preprocessing, &manifest.base, &manifest.staging);
        let mut parts = serde_json::to_vec(&sizes).unwrap_or_default();
        for (name, entry) in manifest.files.iter().filter(|(name, _)| name.ends_with(".onnx")) {
            parts.extend_from_slice(format!("\n{name} {}", entry.sha256).as_bytes());
        }
        sha256_hex(&parts)
    }

    /// The bundle as it lies in its file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn check_files(&self) -> Result<(), BundleError> {
        let listed = &self.manifest.files;
        if let Some(name) = self.files.keys().find(|n| *n != MANIFEST && !listed.contains_key(*n)) {
            return Err(BundleError::Layout(format!("{name} is not listed in {MANIFEST}")));
        }
        for (name, entry) in listed {
            let bytes = slice(&self.bytes, &self.files, name)?;
            let damaged = |reason| BundleError::Damaged { name: name.clone(), reason };
            if bytes.len() as u64 != entry.bytes {
                return Err(damaged(format!("{} bytes, not {}", bytes.len(), entry.bytes)));
            }
            if sha256_hex(bytes) != entry.sha256 {
                return Err(damaged("its SHA-256 differs".into()));
            }
            if !name.ends_with(".onnx") {
                within(name, entry.bytes, "bytes", MAX_TEXT_BYTES)?;
            }
        }
        match self.manifest.required_files().into_iter().find(|n| !listed.contains_key(n)) {
            Some(name) => Err(BundleError::Missing(name)),
            None => Ok(()),
        }
    }
}

/// Collects a bundle's files and writes it.
///
/// The same files and manifest give the same bytes, wherever and whenever it is written.
#[derive(Debug, Default)]
pub struct BundleWriter {
    files: BTreeMap<String, Vec<u8>>,
}

impl BundleWriter {
    /// A bundle with no files yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the ONNX model of graph `name`, replacing one of that name.
    pub fn graph(&mut self, name: &str, onnx: Vec<u8>) {
        self.file(&graph::file_name(name), onnx);
    }

    /// Adds a file, replacing one of that name.
    pub fn file(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.insert(name.to_owned(), bytes);
    }

    /// The bundle as bytes: `manifest` with its file table filled in, then the files.
    ///
    /// # Errors
    /// What [`Bundle::from_bytes`] would refuse: nothing is written that cannot be read again.
    pub fn to_bytes(&self, mut manifest: Manifest) -> Result<Vec<u8>, BundleError> {
        manifest.format_version = FORMAT_VERSION;
        manifest.files = self.files.iter().map(|(name, b)| (name.clone(), entry_of(b))).collect();
        let mut json = serde_json::to_vec_pretty(&manifest)
            .map_err(|e| BundleError::Manifest(e.to_string()))?;
        json.push(b'\n');
        let bytes = self.zip(&json).map_err(|e| BundleError::Write(e.into()))?;
        Bundle::from_bytes(bytes).map(|bundle| bundle.bytes)
    }

    /// Writes the bundle to `path` through a temporary file beside it, so that `path` holds
    /// either what it held before or the whole bundle. Returns the bundle's SHA-256.
    ///
    /// # Errors
    /// As [`BundleWriter::to_bytes`], and [`BundleError::Write`].
    pub fn write(&self, path: impl AsRef<Path>, manifest: Manifest) -> Result<String, BundleError> {
        let bytes = self.to_bytes(manifest)?;
        write_beside_and_rename(path.as_ref(), &bytes).map_err(BundleError::Write)?;
        Ok(sha256_hex(&bytes))
    }

    fn zip(&self, manifest: &[u8]) -> zip::result::ZipResult<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        // Fixed metadata: the bytes must not depend on when or by whom they were written.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default())
            .unix_permissions(0o644);
        zip.start_file(MANIFEST, options)?;
        zip.write_all(manifest)?;
        for (name, bytes) in &self.files {
            zip.start_file(name, options)?;
            zip.write_all(bytes)?;
        }
        Ok(zip.finish()?.into_inner())
    }
}

fn write_beside_and_rename(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = std::fs::File::create(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        // The first error is the one to report; the part file may not even exist.
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// Where each file lies, from the zip's directory; nothing is decompressed or copied.
fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>, BundleError> {
    let layout = |e: zip::result::ZipError| BundleError::Layout(one_line(&e));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(layout)?;
    within("the bundle", archive.len() as u64, "files", MAX_FILES as u64)?;
    if archive.has_duplicate_names() {
        return Err(BundleError::Layout("two files have the same name".into()));
    }
    if archive.has_overlapping_entries().map_err(layout)? {
        return Err(BundleError::Layout("its files overlap".into()));
    }
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(layout)?;
        let name = entry.name().map_err(layout)?.into_owned();
        if !is_plain_name(&name) {
            let shown = name.escape_default();
            return Err(BundleError::Layout(format!("'{shown}' is no plain file name")));
        }
        let stored = entry.compression() == CompressionMethod::Stored
            && entry.size() == entry.compressed_size()
            && !entry.encrypted();
        if !stored {
            return Err(BundleError::Layout(format!("{name} is compressed or encrypted")));
        }
        let range = entry
            .data_start()
            .and_then(|start| Some(start..start.checked_add(entry.size())?))
            .and_then(|r| Some(usize::try_from(r.start).ok()?..usize::try_from(r.end).ok()?))
            .filter(|range| bytes.get(range.clone()).is_some())
            .ok_or_else(|| BundleError::Layout(format!("{name} ends beyond the file")))?;
        files.insert(name, range);
    }
    Ok(files)
}

fn is_plain_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(allowed)
}

fn slice<'a>(
    bytes: &'a [u8],
    files: &BTreeMap<String, Range<usize>>,
    name: &str,
) -> Result<&'a [u8], BundleError> {
    files
        .get(name)
        .and_then(|range| bytes.get(range.clone()))
        .ok_or_else(|| BundleError::Missing(name.to_owned()))
}

fn parse_manifest(json: &[u8]) -> Result<Manifest, BundleError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    within(MANIFEST, json.len() as u64, "bytes", MAX_TEXT_BYTES)?;
    let refused = |e: serde_json::Error| BundleError::Manifest(one_line(&e));
    // The version first: a newer layout may have fields that this build does not know.
    let Version { format_version } = serde_json::from_slice(json).map_err(refused)?;
    if format_version > FORMAT_VERSION {
        return Err(BundleError::Newer { found: format_version, known: FORMAT_VERSION });
    }
    let manifest: Manifest = serde_json::from_slice(json).map_err(refused)?;
    manifest.check().map_err(BundleError::Manifest)?;
    Ok(manifest)
}

fn within(what: &str, found: u64, unit: &'static str, limit: u64) -> Result<(), BundleError> {
    if found > limit {
        return Err(BundleError::TooLarge { what: what.to_owned(), found, unit, limit });
    }
    Ok(())
}

fn entry_of(bytes: &[u8]) -> FileEntry {
    FileEntry { bytes: bytes.len() as u64, sha256: sha256_hex(bytes) }
}

/// SHA-256 of `bytes`, lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().replace(['\n', '\r'], " ")
}
