//! The queue between the sinks' thread and a broker, in one file of the output folder, so that it
//! outlives a broker's outage and a kill of this program. Append, read in order, acknowledge; a
//! message whose id was appended before is not appended again. Bounded: what finds no room is
//! counted. Belongs to one process at a time; callers lock it for single steps, each a few
//! microseconds of page cache.
//!
//! ```text
//! 0   magic "SFMOUT01"
//! 8   two slots of the acknowledged position, written in turn, the larger valid one counts:
//!     position u64, CRC-32 of these 8 bytes u32, zero u32
//! 40  records: length u32, CRC-32 u32, then as many bytes of postcard: the head, then messages
//! ```
//! Little-endian. Positions count the bytes of messages ever appended, so that taking delivered
//! ones away moves none. Nothing is ever synced: a kill loses nothing, a power cut what the file
//! system had not written yet. A session that goes on after one emits that again, and what is
//! delivered twice then has the same id.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::{self, Durability};
use crate::sink::SinkError;

const MAGIC: [u8; 8] = *b"SFMOUT01";
const SLOT_BYTES: u64 = 16;
const RECORDS_AT: u64 = 8 + 2 * SLOT_BYTES;
/// A night with everything wrong with it is smaller; a head of half a million ids is not larger.
const MAX_RECORD_BYTES: u32 = 8 << 20;
/// Delivered messages are taken away once there are so many bytes of them.
const COMPACT_BYTES: u64 = 1 << 20;

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same for the same content of the same session, and no other.
    pub id: String,
    /// Topic or subject, whole.
    pub topic: String,
    /// It says how things are, until the next one does.
    pub retain: bool,
    /// JSON.
    pub body: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    session: u64,
    /// Position of the first message of the file.
    base: u64,
    /// Of the session's messages before it, [`hashed`].
    seen: Vec<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Record {
    Head(Head),
    Message(Message),
}

/// What a run is to what the outbox's file has of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Another session: what waits is delivered first.
    Anew,
    /// The same session, which goes on.
    GoOn,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It waits.
    New,
    /// It was appended before.
    Known,
    /// There is no room; it is left out.
    LeftOut,
}

/// An open outbox.
#[derive(Debug)]
pub struct Outbox {
    path: PathBuf,
    file: File,
    capacity: u64,
    head: Head,
    /// Where the first message is in the file.
    start: u64,
    acknowledged: u64,
    end: u64,
    waiting: u64,
    left_out: u64,
    seen: HashSet<u64>,
    next_slot: u64,
    compact_at: u64,
}

impl Outbox {
    /// Opens the outbox at `path`, or makes one; messages of more than `capacity` bytes together
    /// do not wait in it.
    ///
    /// # Errors
    /// The file cannot be read or written, is another one, or belongs to another process.
    pub fn open(path: &Path, beginning: Beginning, capacity: u64) -> Result<Self, SinkError> {
        let refuse = |reason: io::Error| {
            SinkError(format!(
                "{}: no messages can be kept here ({reason}); move the file away or choose another \
                 folder with --out",
                path.display()
            ))
        };
        let mut outbox = match files::open(OpenOptions::new().read(true).write(true), path) {
            Ok(file) => Self::scan(path, file, capacity).map_err(refuse)?,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let head = Head { session: rand::random(), base: 0, seen: Vec::new() };
                Self::create(path, &head, capacity, &[]).map_err(refuse)?
            }
            Err(e) => return Err(refuse(e)),
        };
        if beginning == Beginning::Anew {
            outbox.seen.clear();
            outbox.head.session = rand::random();
            outbox.compact().map_err(refuse)?;
        }
        Ok(outbox)
    }

    /// Puts a file of `head` and then `messages`, which are framed, in the place of `path`.
    fn create(path: &Path, head: &Head, capacity: u64, messages: &[u8]) -> io::Result<Self> {
        let part = part_of(path);
        let mut file = files::create(&part)?;
        lock(&file)?;
        let record = framed(&Record::Head(head.clone()))?;
        file.write_all(&MAGIC)?;
        file.write_all(&slot(head.base))?;
        file.write_all(&[0; SLOT_BYTES as usize])?;
        file.write_all(&record)?;
        file.write_all(messages)?;
        files::put_in_place(&part, path, Durability::Rename)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            capacity,
            start: RECORDS_AT + record.len() as u64,
            acknowledged: head.base,
            end: head.base + messages.len() as u64,
            waiting: 0,
            left_out: 0,
            seen: head.seen.iter().copied().collect(),
            head: head.clone(),
            next_slot: 1,
            compact_at: head.base + COMPACT_BYTES,
        })
    }

    /// Reads all of a file that is there, and cuts off a record that a kill left unfinished.
    fn scan(path: &Path, file: File, capacity: u64) -> io::Result<Self> {
        lock(&file)?;
        let bad = |what| io::Error::new(ErrorKind::InvalidData, what);
        let mut begin = [0; RECORDS_AT as usize];
        (&file).read_exact(&mut begin).map_err(|_| bad("it is no outbox"))?;
        if begin[..8] != MAGIC {
            return Err(bad("it is no outbox"));
        }
        let slots = [&begin[8..24], &begin[24..40]].map(position_of);
        let Some((Record::Head(head), start)) = record_at(&file, RECORDS_AT)? else {
            return Err(bad("its beginning is damaged"));
        };
        let mut seen: HashSet<u64> = head.seen.iter().copied().collect();
        let acknowledged = slots.into_iter().flatten().max().unwrap_or(head.base).max(head.base);
        let (mut at, mut waiting) = (start, 0);
        while let Some((Record::Message(message), next)) = record_at(&file, at)? {
            waiting += u64::from(head.base + (at - start) >= acknowledged);
            seen.insert(hashed(&message.id));
            at = next;
        }
        file.set_len(at)?;
        let end = head.base + (at - start);
        Ok(Self {
            path: path.to_owned(),
            file,
            capacity,
            start,
            acknowledged: acknowledged.min(end),
            end,
            waiting,
            left_out: 0,
            seen,
            next_slot: u64::from(slots[0] > slots[1]),
            compact_at: head.base + COMPACT_BYTES,
            head,
        })
    }

    /// The session's name in ids.
    pub fn session(&self) -> String {
        format!("{:016x}", self.head.session)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Messages that nobody has acknowledged.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Messages that found no room since it was opened.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Up to where everything is acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Appends a message by a single write.
    ///
    /// # Errors
    /// The disk takes it not; it is left out, and the next one may find room again.
    pub fn append(&mut self, message: Message) -> io::Result<Appended> {
        let id = hashed(&message.id);
        if self.seen.contains(&id) {
            return Ok(Appended::Known);
        }
        let record = framed(&Record::Message(message))?;
        if self.end - self.acknowledged + record.len() as u64 > self.capacity {
            self.left_out += 1;
            return Ok(Appended::LeftOut);
        }
        if let Err(reason) = self.write_at(self.place(self.end), &record) {
            self.left_out += 1;
            return Err(reason);
        }
        self.seen.insert(id);
        self.end += record.len() as u64;
        self.waiting += 1;
        Ok(Appended::New)
    }

    /// The first message at or behind `position`, and the position behind it.
    ///
    /// # Errors
    /// The disk does not give back what it took.
    pub fn next(&self, position: u64) -> io::Result<Option<(Message, u64)>> {
        let position = position.max(self.head.base);
        if position >= self.end {
            return Ok(None);
        }
        let at = self.place(position);
        match record_at(&self.file, at)? {
            Some((Record::Message(message), next)) => Ok(Some((message, position + (next - at)))),
            _ => Err(io::Error::new(ErrorKind::InvalidData, "a message is damaged on the disk")),
        }
    }

    /// One message more is delivered: the one that ends at `position`.
    ///
    /// # Errors
    /// The disk takes it not: a restart would deliver this message again.
    pub fn acknowledge(&mut self, position: u64) -> io::Result<()> {
        if position <= self.acknowledged {
            return Ok(());
        }
        self.acknowledged = position;
        self.waiting = self.waiting.saturating_sub(1);
        let written = self.write_at(8 + self.next_slot * SLOT_BYTES, &slot(position));
        self.next_slot = 1 - self.next_slot;
        if position >= self.compact_at && position - self.head.base >= self.end - position {
            // Where it fails, the file only stays larger for a while.
            self.compact_at = position + COMPACT_BYTES;
            let _ = self.compact();
        }
        written
    }

    /// Takes delivered messages away; their ids stay known.
    ///
    /// # Errors
    /// There is no room for the new file; the old one stays.
    pub fn compact(&mut self) -> io::Result<()> {
        let head = Head {
            session: self.head.session,
            base: self.acknowledged,
            seen: self.seen.iter().copied().collect(),
        };
        let mut rest = vec![0; (self.end - self.acknowledged) as usize];
        (&self.file).seek(SeekFrom::Start(self.place(self.acknowledged)))?;
        (&self.file).read_exact(&mut rest)?;
        let part = part_of(&self.path);
        let made = Self::create(&self.path, &head, self.capacity, &rest);
        let made = made.inspect_err(|_| drop(files::remove(&part)))?;
        *self = Self { waiting: self.waiting, left_out: self.left_out, ..made };
        Ok(())
    }

    /// Deletes the file: everything is delivered, and the session is over.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn delete(&self) -> io::Result<()> {
        files::remove(&self.path)
    }

    fn place(&self, position: u64) -> u64 {
        self.start + (position - self.head.base)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        (&self.file).seek(SeekFrom::Start(at))?;
        (&self.file).write_all(bytes)
    }
}

fn part_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another process delivers from it")),
        // A file system without locks: the folder's session has one of its own.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn hashed(id: &str) -> u64 {
    let digest = Sha256::digest(id.as_bytes());
    digest.iter().take(8).fold(0, |hash, &byte| hash << 8 | u64::from(byte))
}

fn slot(position: u64) -> [u8; SLOT_BYTES as usize] {
    let mut slot = [0; SLOT_BYTES as usize];
    slot[..8].copy_from_slice(&position.to_le_bytes());
    slot[8..12].copy_from_slice(&crc32fast::hash(&position.to_le_bytes()).to_le_bytes());
    slot
}

fn position_of(slot: &[u8]) -> Option<u64> {
    let (position, rest) = slot.split_first_chunk::<8>()?;
    let sum = u32::from_le_bytes(*rest.first_chunk()?);
    (crc32fast::hash(position) == sum).then(|| u64::from_le_bytes(*position))
}

fn framed(record: &Record) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(record).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).ok().filter(|&length| length <= MAX_RECORD_BYTES);
    let length = length.ok_or_else(|| io::Error::other("a message is larger than 8 MiB"))?;
    let mut bytes = Vec::with_capacity(8 + body.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The record at `at` of the file and where the next one begins; `None` if there is no whole one.
fn record_at(mut file: &File, at: u64) -> io::Result<Option<(Record, u64)>> {
    file.seek(SeekFrom::Start(at))?;
    let mut frame = [0; 8];
    if !filled(file.read_exact(&mut frame))? {
        return Ok(None);
    }
    let [a, b, c, d, sum @ ..] = frame;
    let length = u32::from_le_bytes([a, b, c, d]);
    if length > MAX_RECORD_BYTES {
        return Ok(None);
    }
    let mut body = vec![0; length as usize];
    if !filled(file.read_exact(&mut body))? || crc32fast::hash(&body) != u32::from_le_bytes(sum) {
        return Ok(None);
    }
    let record = postcard::from_bytes(&body).ok();
    Ok(record.map(|record| (record, at + 8 + u64::from(length))))
}

/// Whether there was as much as was to be read.
fn filled(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
