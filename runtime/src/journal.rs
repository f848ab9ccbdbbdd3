//! `journal.sfm`: what the network has computed of a live session, one entry a closed window, so
//! that a session that was cut goes on without computing it again. An entry is written at once and
//! whole, with its length and CRC-32; reading stops before the first that is cut or damaged, and
//! what lies behind it is cut off. Refuses the journal of another network.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sfm_models::{Modality, SleepStage};

use crate::event::SleepEpoch;
use crate::files;
use crate::session_folder::JOURNAL;
use crate::session_folder::put_in;

const MAGIC: [u8; 8] = *b"SFMJRNL\0";
const VERSION: u16 = 1;
/// Longest entry. The largest network of the bundles' format needs a tenth of it.
const MAX_BODY_BYTES: u32 = 16 << 20;
/// Length and checksum before each body.
const PREFIX_BYTES: usize = 8;

/// Why a journal cannot be used. Every message is one line that names the file.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system failed.
    #[error("{file}: cannot be read or written ({reason})", file = .path.display())]
    Io {
        /// The journal.
        path: PathBuf,
        /// What the file system said.
        reason: std::io::Error,
    },
    /// It belongs to another network or is no journal: nothing of it can be used.
    #[error("{file}: {reason}", file = .path.display())]
    Foreign {
        /// The journal.
        path: PathBuf,
        /// One sentence with what to do.
        reason: String,
    },
    /// The window does not fit the journal: not the next one, or of other sizes.
    #[error("{file}: window {window} cannot be written: {reason}", file = .path.display())]
    Unfit {
        /// The journal.
        path: PathBuf,
        /// Index of the window.
        window: u32,
        /// What does not fit.
        reason: &'static str,
    },
}

/// The network that a journal's entries come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalNetwork {
    /// SHA-256 of the bundle file, hexadecimal.
    pub bundle_sha256: String,
    /// E, the length of an embedding.
    pub embed_dim: u32,
    /// Patches of a whole window.
    pub window_patches: u32,
}

/// One closed 5-min window of the live pass: what the TokenLog, the events and the heads need of
/// it, to the bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalWindow {
    /// Index of the window from the start of the recording.
    pub window: u32,
    /// Index of its first patch.
    pub first_patch: u32,
    /// Number of its patches, `rows` below: fewer than a whole window's only in the entry that the
    /// end of a session closed.
    pub patches: u32,
    /// By [`Modality::index`]; `None` where the modality is absent throughout the window.
    pub modalities: [Option<JournalModality>; Modality::COUNT],
    /// The window's settled epochs in order; empty where the network stages nothing.
    pub epochs: Vec<JournalEpoch>,
}

/// One modality of a window, as the encoder gave it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalModality {
    /// [rows, E]: contextual 5-s embeddings; rows of absent patches mean nothing.
    pub tokens: Vec<f32>,
    /// `[rows]`: 1.0 where the patch is present, else 0.0.
    pub present: Vec<f32>,
    /// `[E]`: the window's embedding.
    pub pooled: Vec<f32>,
}

/// One settled epoch. Its own type, so that a change of the events does not change the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEpoch {
    /// Index from the start of the recording.
    pub epoch: u32,
    /// The most probable stage; `None` where too little signal is present.
    pub stage: Option<SleepStage>,
    /// W, N1, N2, N3, R; NaN where no token is present.
    pub probabilities: [f32; SleepStage::COUNT],
    /// Part of the epoch's signal that is present, 0 to 1.
    pub quality: f32,
}

impl From<&SleepEpoch> for JournalEpoch {
    fn from(epoch: &SleepEpoch) -> Self {
        Self {
            epoch: epoch.epoch,
            stage: epoch.stage,
            probabilities: epoch.probabilities,
            quality: epoch.quality,
        }
    }
}

/// Begins the file's first record; the network follows it there.
type Signature = ([u8; 8], u16);

/// An open journal: appends windows.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    network: JournalNetwork,
    next_window: u32,
}

impl Journal {
    /// Begins the journal of a session in `dir`, replacing one that exists.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn create(dir: &Path, network: JournalNetwork) -> Result<Self, JournalError> {
        let path = dir.join(JOURNAL);
        let write = || {
            let mut file = files::create(&path)?;
            let signature: Signature = (MAGIC, VERSION);
            write_record(&mut file, &(signature, &network))?;
            // The name, too, has to be there after a power cut.
            files::sync_folder(dir)?;
            Ok(file)
        };
        match write() {
            Ok(file) => Ok(Self { file, path, network, next_window: 0 }),
            Err(reason) => Err(JournalError::Io { path, reason }),
        }
    }

    /// Opens the journal of a session that was cut, and returns its windows: the first is window
    /// 0, the others follow it without a hole, all are whole. A part-window at the end, which the
    /// end of a session closed, is dropped: the session that goes on fills it. So is everything
    /// from the first damaged entry on. A journal that is not there or was cut within its
    /// first record is begun anew.
    ///
    /// # Errors
    /// [`JournalError::Foreign`] for another network's journal or another kind of file, which is
    /// left as it is; [`JournalError::Io`].
    pub fn reopen(
        dir: &Path,
        network: JournalNetwork,
    ) -> Result<(Self, Vec<JournalWindow>), JournalError> {
        let path = dir.join(JOURNAL);
        let io = |reason| JournalError::Io { path: path.clone(), reason };
        let mut file = match files::open(OpenOptions::new().read(true).write(true), &path) {
            Ok(file) => file,
            Err(reason) if reason.kind() == ErrorKind::NotFound => {
                return Ok((Self::create(dir, network)?, Vec::new()));
            }
            Err(reason) => return Err(io(reason)),
        };
        let contents =
            Contents::read(BufReader::new(&file), &network).map_err(|error| match error {
                ReadError::Io(reason) => io(reason),
                ReadError::Foreign(reason) => JournalError::Foreign { path: path.clone(), reason },
            })?;
        let Some(Contents { windows, whole_bytes }) = contents else {
            return Ok((Self::create(dir, network)?, Vec::new()));
        };
        file.set_len(whole_bytes).map_err(io)?;
        file.seek(SeekFrom::Start(whole_bytes)).map_err(io)?;
        let next_window = windows.len() as u32;
        Ok((Self { file, path, network, next_window }, windows))
    }

    /// Goes on in `dir`, with a copy of what was written so far.
    ///
    /// # Errors
    /// [`JournalError::Io`]; it goes on where it was.
    pub fn move_to(&mut self, dir: &Path) -> Result<(), JournalError> {
        let path = dir.join(JOURNAL);
        match put_in(&self.file, &path) {
            Ok(file) => {
                if let Some(file) = file {
                    self.file = file;
                }
                self.path = path;
                Ok(())
            }
            Err(reason) => Err(JournalError::Io { path, reason }),
        }
    }

    /// Appends the next window and waits until it is on the disk.
    ///
    /// # Errors
    /// [`JournalError::Unfit`] if it is not the next window or has other sizes than the journal's
    /// network; [`JournalError::Io`], after which it can be appended again.
    pub fn append(&mut self, window: &JournalWindow) -> Result<(), JournalError> {
        if let Err(reason) = window.check(&self.network, self.next_window) {
            let (path, window) = (self.path.clone(), window.window);
            return Err(JournalError::Unfit { path, window, reason });
        }
        let io = |reason| JournalError::Io { path: self.path.clone(), reason };
        let before = self.file.stream_position().map_err(io)?;
        if let Err(reason) = write_record(&mut self.file, window) {
            // What a full disk took of it: the window can be appended again.
            let _ =
                self.file.set_len(before).and_then(|()| self.file.seek(SeekFrom::Start(before)));
            return Err(io(reason));
        }
        self.next_window += 1;
        Ok(())
    }
}

impl JournalWindow {
    /// Index and sizes are those of entry `expected` of the network's journal.
    fn check(&self, network: &JournalNetwork, expected: u32) -> Result<(), &'static str> {
        let (rows, embed_dim) = (self.patches as usize, network.embed_dim as usize);
        if self.window != expected {
            return Err("it is not the next one");
        }
        if u64::from(self.first_patch) != u64::from(expected) * u64::from(network.window_patches) {
            return Err("it does not begin where the last one ends");
        }
        if rows == 0 || self.patches > network.window_patches {
            return Err("it has no patches or more than a window has");
        }
        let fits = |modality: &JournalModality| {
            modality.present.len() == rows
                && modality.pooled.len() == embed_dim
                && rows.checked_mul(embed_dim) == Some(modality.tokens.len())
        };
        if !self.modalities.iter().flatten().all(fits) {
            return Err("its embeddings have other sizes than the network's");
        }
        Ok(())
    }
}

/// What a journal holds.
#[derive(Debug)]
pub struct Contents {
    /// Its whole windows from the first on.
    pub windows: Vec<JournalWindow>,
    /// Bytes of the records they and the first record take: the place of the next.
    pub whole_bytes: u64,
}

/// Why [`Contents::read`] gives up.
#[derive(Debug)]
pub enum ReadError {
    /// The file system failed.
    Io(std::io::Error),
    /// Another network's journal or another version; one sentence with what to do.
    Foreign(String),
}

impl From<std::io::Error> for ReadError {
    fn from(reason: std::io::Error) -> Self {
        ReadError::Io(reason)
    }
}

impl Contents {
    /// Reads a journal from its first byte; `None` if not even the first record is whole.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(mut input: impl Read, network: &JournalNetwork) -> Result<Option<Self>, ReadError> {
        let Some(first) = read_record(&mut input)? else { return Ok(None) };
        let Ok((signature, rest)) = postcard::take_from_bytes::<Signature>(&first) else {
            return Ok(None);
        };
        check_first(signature, rest, network).map_err(ReadError::Foreign)?;
        let mut contents = Contents { windows: Vec::new(), whole_bytes: record_bytes(&first) };
        while let Some(body) = read_record(&mut input)? {
            let Ok(window) = postcard::from_bytes::<JournalWindow>(&body) else { break };
            let expected = contents.windows.len() as u32;
            let whole = window.patches == network.window_patches;
            if !whole || window.check(network, expected).is_err() {
                break;
            }
            contents.windows.push(window);
            contents.whole_bytes += record_bytes(&body);
        }
        Ok(Some(contents))
    }
}

fn check_first(
    (magic, version): Signature,
    rest: &[u8],
    network: &JournalNetwork,
) -> Result<(), String> {
    if magic != MAGIC {
        return Err("is no journal of sfm-stream; move it away".to_owned());
    }
    let anew = "move it away, and what it holds is computed again";
    if version != VERSION {
        return Err(format!("is a journal of version {version}, not {VERSION}; {anew}"));
    }
    match postcard::from_bytes::<JournalNetwork>(rest) {
        Ok(found) if found == *network => Ok(()),
        Ok(found) if found.bundle_sha256 == network.bundle_sha256 => {
            Err(format!("was written with other sizes than the bundle's; {anew}"))
        }
        Ok(_) => Err(format!("was written with another bundle; give that bundle, or {anew}")),
        Err(_) => Err(format!("does not say which bundle it belongs to; {anew}")),
    }
}

/// Writes a record with one call, so that a kill leaves it whole or absent, and waits for the disk.
fn write_record(file: &mut File, body: &impl Serialize) -> std::io::Result<()> {
    let prefix = vec![0; PREFIX_BYTES];
    let mut record = postcard::to_extend(body, prefix).map_err(std::io::Error::other)?;
    let (prefix, body) = record.split_at_mut(PREFIX_BYTES);
    let length = u32::try_from(body.len()).ok().filter(|&length| length <= MAX_BODY_BYTES);
    let length = length.ok_or_else(|| std::io::Error::other("the entry is too long"))?;
    let (for_length, for_checksum) = prefix.split_at_mut(4);
    for_length.copy_from_slice(&length.to_le_bytes());
    for_checksum.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    file.write_all(&record)?;
    file.sync_data()
}

/// The body of the next record; `None` at the end and where a record is cut or damaged.
fn read_record(input: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut prefix = Vec::with_capacity(PREFIX_BYTES);
    input.by_ref().take(PREFIX_BYTES as u64).read_to_end(&mut prefix)?;
    let (words, _) = prefix.as_chunks::<4>();
    let &[length, checksum] = words else { return Ok(None) };
    let (length, checksum) = (u32::from_le_bytes(length), u32::from_le_bytes(checksum));
    if length > MAX_BODY_BYTES {
        return Ok(None);
    }
    // Grows with what is there, not with what is claimed.
    let mut body = Vec::new();
    input.by_ref().take(u64::from(length)).read_to_end(&mut body)?;
    let whole = body.len() == length as usize && crc32fast::hash(&body) == checksum;
    Ok(whole.then_some(body))
}

fn record_bytes(body: &[u8]) -> u64 {
    (PREFIX_BYTES + body.len()) as u64
}

#[cfg(test)]
mod tests;
