//! Sets the space of a night aside for a recording, behind its end: the file keeps its length, so
//! that no reader and no copy sees it. What is not used is given back when the file is cut to its
//! length. Other files of the session need room, too: some is left for them.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::health::disk;

/// The night that space is set aside for, seconds.
pub(super) const NIGHT_S: f64 = disk::NIGHT_H * 3600.0;
/// Left for the other files of the session and for everything else.
const LEFT_FREE: u64 = 256 << 20;

/// No space is set aside for a recording, for this reason. It can be written all the same.
#[derive(Debug, thiserror::Error)]
#[error("no space is set aside for the recording: {0}")]
pub struct Unreserved(String);

/// Sets the space of `file` from `from`, its length, to `to` aside, or as much as there is room
/// for. Returns where what is set aside ends.
pub(super) fn reserve(file: &File, path: &Path, from: u64, to: u64) -> Result<u64, Unreserved> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let free = disk::free_bytes(folder)
        .ok_or_else(|| Unreserved("nobody knows how much room there is".to_owned()))?;
    let length = to.saturating_sub(from).min(free.saturating_sub(LEFT_FREE));
    if length == 0 {
        return Ok(from);
    }
    match allocate(file, from, length) {
        Ok(()) => Ok(from + length),
        Err(reason) => {
            // Some file systems keep what they had set aside when they came to their end.
            let _ = file.set_len(from);
            Err(Unreserved(format!("the file system cannot do it ({reason})")))
        }
    }
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, from: u64, length: u64) -> io::Result<()> {
    /// A file system in memory: to set space aside would take the memory at once.
    const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
    #[allow(clippy::unnecessary_cast)] // Its type depends on the processor.
    let kind = rustix::fs::fstatfs(file)?.f_type as i64;
    if IN_MEMORY.contains(&kind) {
        return Err(io::Error::other("it is in memory"));
    }
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, from, length)?)
}

#[cfg(not(target_os = "linux"))]
fn allocate(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::skip::skipped;

    #[test]
    fn what_is_set_aside_is_no_part_of_the_file_and_goes_with_a_cut() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("recording.edf");
        let file = File::create_new(&path).expect("created");
        let to = 8 << 20;
        match reserve(&file, &path, 0, to) {
            Ok(end) if end > 0 => {}
            other => {
                skipped("fallocate", format_args!("{other:?}"));
                return;
            }
        }
        let about = |file: &File| file.metadata().expect("there");
        assert_eq!(about(&file).len(), 0);
        assert!(about(&file).blocks() * 512 >= to, "{}", about(&file).blocks());
        std::io::Write::write_all(&mut &file, &[7; 1000]).expect("written");
        file.set_len(1000).expect("cut");
        file.sync_all().expect("on the disk");
        assert!(about(&file).blocks() * 512 <= 64 << 10, "{}", about(&file).blocks());
        assert_eq!(std::fs::read(&path).expect("read"), [7; 1000]);
    }
}
