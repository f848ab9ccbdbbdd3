//! Opening inputs, and creating and replacing files of an output folder. An input is a regular file: a
//! pipe or a device may never end. Output is not written through links that lie in the folder, does
//! not replace an input of the same run, and files are replaced as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

/// Whether a file that was replaced has to survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A kill leaves the old content or the new one. Against a power cut it is as safe as the file
    /// system makes a rename: a bedside disk may take seconds to flush.
    Rename,
    /// The content is on the disk before its name, and the name before the call returns.
    Synced,
}

/// Opens a file that the user names. Links are followed.
///
/// # Errors
/// It cannot be opened, or is not a regular file: a pipe would wait for its writer, a device never
/// end.
pub fn open_input(path: &Path) -> io::Result<File> {
    // Before it is opened, which a device may notice; and after, since it may have changed.
    is_regular(&fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags::INPUT);
    let file = options.open(path)?;
    is_regular(&file.metadata()?)?;
    Ok(file)
}

/// The content of a file that the user names.
///
/// # Errors
/// As [`open_input`], or it is longer than `max_bytes`.
pub fn read_input(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_input(path)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::other(format!("it is longer than {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// The same as text.
///
/// # Errors
/// As [`read_input`], or it is not UTF-8.
pub fn read_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    let bytes = read_input(path, max_bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// The line, from 1, of what stands at byte `at` of a text, or behind the ends of lines there: those of
/// any system.
///
/// # Errors
/// The text cannot be read.
pub fn line_of(text: impl Read, at: u64) -> io::Result<u64> {
    let (mut line, mut last) = (1, 0);
    for (place, byte) in (0..).zip(io::BufReader::new(text).bytes()) {
        let byte = byte?;
        let is_end = b"\r\n".contains(&byte);
        if place >= at && !is_end {
            break;
        }
        line += u64::from(is_end && (last, byte) != (b'\r', b'\n'));
        last = byte;
    }
    Ok(line)
}

fn is_regular(about: &Metadata) -> io::Result<()> {
    if about.is_file() {
        return Ok(());
    }
    Err(io::Error::other(format!("it is {}, not a regular file", kind(about))))
}

const DEVICE: &str = "a device";

#[cfg(unix)]
fn kind(about: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = about.file_type();
    match () {
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_symlink() => "a link",
        () if kind.is_file() => "a file",
        () => DEVICE,
    }
}

#[cfg(not(unix))]
fn kind(about: &Metadata) -> &'static str {
    match about {
        about if about.is_dir() => "a folder",
        about if about.is_file() => "a file",
        _ => DEVICE,
    }
}

/// The files that this process reads and must not write, by identity, with one of their names.
static INPUTS: Mutex<BTreeMap<Id, PathBuf>> = Mutex::new(BTreeMap::new());

/// Device and inode.
#[cfg(unix)]
type Id = (u64, u64);
/// The path without links.
#[cfg(not(unix))]
type Id = PathBuf;

#[cfg(unix)]
fn id(path: &Path) -> Option<Id> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|about| (about.dev(), about.ino()))
}

#[cfg(not(unix))]
fn id(path: &Path) -> Option<Id> {
    path.canonicalize().ok()
}

fn inputs() -> MutexGuard<'static, BTreeMap<Id, PathBuf>> {
    INPUTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on nothing here replaces, changes or removes the file at `path`, under any name.
pub fn protect(path: &Path) {
    if let (Some(id), Ok(path)) = (id(path), std::path::absolute(path)) {
        inputs().insert(id, path);
    }
}

/// Whether `path` leads to a file that was [protected](protect).
pub fn is_input(path: &Path) -> bool {
    let Some(found) = id(path) else { return false };
    let named = inputs().get(&found).cloned();
    // Once an input is deleted another file may get its inode.
    named.is_some_and(|named| id(&named) == Some(found))
}

/// Inputs of this run and devices are neither replaced nor removed.
fn refuse_to_replace(path: &Path) -> io::Result<()> {
    if is_input(path) {
        return Err(io::Error::other("it is an input of this run"));
    }
    match fs::symlink_metadata(path) {
        Ok(about) if kind(&about) == DEVICE => is_regular(&about),
        _ => Ok(()),
    }
}

/// Opens a file of an output folder with `options`. Anything under its name that is neither a file nor
/// a folder, such as a link or a pipe, is removed first, so that it can neither redirect nor block
/// what is written.
///
/// # Errors
/// It cannot be opened, or is an input of this run.
pub fn open(options: &OpenOptions, path: &Path) -> io::Result<File> {
    refuse_to_replace(path)?;
    let about = fs::symlink_metadata(path);
    if about.is_ok_and(|about| !about.is_file() && !about.is_dir()) {
        remove(path)?;
    }
    let mut options = options.clone();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags::OUTPUT);
    let file = options.open(path)?;
    is_regular(&file.metadata()?)?;
    Ok(file)
}

/// Creates an empty file in place of whatever lies under its name, open for reading and writing.
///
/// # Errors
/// It cannot be made, or an input of this run or a folder lies there.
pub fn create(path: &Path) -> io::Result<File> {
    remove(path)?;
    open(OpenOptions::new().read(true).write(true).create_new(true), path)
}

/// Removes the file under this name, if there is one; of a link the link itself.
///
/// # Errors
/// It cannot be removed, or is an input of this run.
pub fn remove(path: &Path) -> io::Result<()> {
    refuse_to_replace(path)?;
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The name that the next content of `path` is written under: `.NAME.part` beside it.
pub fn part_of(path: &Path) -> PathBuf {
    let mut part = std::ffi::OsString::from(".");
    part.push(path.file_name().unwrap_or_default());
    part.push(".part");
    path.with_file_name(part)
}

/// Replaces the file at `path` by `content`, as a whole.
///
/// # Errors
/// It cannot be written; the old one stays.
pub fn replace(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    refuse_to_replace(path)?;
    let part = part_of(path);
    let written = create(&part).and_then(|mut file| {
        file.write_all(content)?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        put_in_place(&part, path, durability)
    });
    if written.is_err() {
        // A full disk gets its space back. A file that cannot be removed does no harm.
        let _ = fs::remove_file(&part);
    }
    written
}

/// Renames the file at `part` to `path`. Its writer has synced it where that matters.
///
/// # Errors
/// It cannot be renamed; an input of this run lies there.
pub fn put_in_place(part: &Path, path: &Path, durability: Durability) -> io::Result<()> {
    refuse_to_replace(path)?;
    fs::rename(part, path)?;
    match durability {
        Durability::Rename => Ok(()),
        Durability::Synced => sync_folder(folder_of(path)),
    }
}

/// Waits until the names in a folder are on the disk.
///
/// # Errors
/// The disk fails.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened, and a rename is journaled.
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder)?.sync_all() {
        // Some network file systems cannot.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a folder inside an output folder. A link to a folder is refused.
///
/// # Errors
/// It cannot be made, or something else has its name.
pub fn make_folder_within(path: &Path) -> io::Result<()> {
    match fs::create_dir_all(path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    let about = fs::symlink_metadata(path)?;
    if about.is_dir() {
        return Ok(());
    }
    Err(io::Error::other(format!("it is {}, not a folder", kind(&about))))
}

/// Whether a link lies at `path`.
pub fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink())
}

/// Checks that files can be created in `folder` by creating and removing an empty one. A folder that
/// is not there is created for that, with its ancestors, and removed again.
///
/// # Errors
/// The operating system's reason.
pub fn probe(folder: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(folder)?;
    let made: Vec<&Path> = absolute.ancestors().take_while(|folder| !folder.exists()).collect();
    let probe = absolute.join(format!(".sfm-probe-{}", std::process::id()));
    let probed = fs::create_dir_all(&absolute)
        .and_then(|()| create(&probe))
        .and_then(|_| fs::remove_file(&probe));
    for folder in made {
        // One that another process uses by now is not empty and stays.
        let _ = fs::remove_dir(folder);
    }
    probed
}

/// `--file-mode`: the permissions of the files that a session creates. Folders are open to those who
/// may read the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FileMode(u32);

impl FileMode {
    /// For the user alone.
    pub const PRIVATE: Self = Self(0o600);

    /// Sets the process' umask, so that files it creates from now on have this mode.
    pub fn apply(self) {
        #[cfg(unix)]
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(self.masked() as _));
    }

    /// The mode of an existing file.
    #[cfg(unix)]
    pub fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::PermissionsExt;
        let about = fs::symlink_metadata(path).ok()?;
        Some(Self((about.permissions().mode() & 0o666) | Self::PRIVATE.0))
    }

    /// The mode of an existing file.
    #[cfg(not(unix))]
    pub fn of(_: &Path) -> Option<Self> {
        None
    }

    /// The process' umask: files are made with 0666 less it, folders with 0777 less it.
    #[cfg(unix)]
    fn masked(self) -> u32 {
        let enter = (self.0 & 0o444) >> 2;
        0o777 & !(self.0 | enter)
    }
}

impl FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mode = u32::from_str_radix(text.trim_start_matches("0o"), 8).ok();
        let is_sound = |mode: &u32| mode & !0o666 == 0 && mode & 0o600 == 0o600;
        mode.filter(is_sound).map(Self).ok_or_else(|| {
            "a file mode is octal, with read and write for the user and execute for no one, as in 0640"
                .to_owned()
        })
    }
}

impl TryFrom<String> for FileMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(unix)]
mod flags {
    use rustix::fs::OFlags;

    /// Opening must not block if a pipe takes the file's place at the last moment.
    pub const INPUT: i32 = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits() as i32;
    /// The same, without following links.
    pub const OUTPUT: i32 = INPUT | OFlags::NOFOLLOW.bits() as i32;
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).expect("read")
    }

    #[test]
    fn what_lies_in_the_folder_is_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let (other, ours) = (dir.path().join("other"), dir.path().join("ours"));
        let write: [fn(&Path) -> io::Result<()>; 3] = [
            |path| create(path)?.write_all(b"new"),
            |path| replace(path, b"new", Durability::Synced),
            |path| open(OpenOptions::new().append(true).create(true), path)?.write_all(b"new"),
        ];
        for write in write {
            for planted in [&ours, &part_of(&ours)] {
                fs::write(&other, "theirs").expect("written");
                remove(&ours).expect("removed");
                symlink(&other, planted).expect("planted");
                write(&ours).expect("written");
                assert_eq!((text(&other).as_str(), text(&ours).as_str()), ("theirs", "new"));
                remove(planted).expect("removed");
            }
        }
        let folder = dir.path().join("folder");
        symlink(dir.path(), &folder).expect("planted");
        assert!(make_folder_within(&folder).expect_err("refused").to_string().contains("a link"));
        assert!(make_folder_within(&dir.path().join("a/b")).is_ok());
    }

    #[test]
    fn an_input_is_not_written_under_any_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        fs::write(path("input"), "kept").expect("written");
        fs::hard_link(path("input"), path("hard")).expect("linked");
        symlink(path("input"), path("soft")).expect("linked");
        protect(&path("soft"));
        for name in ["input", "hard", "soft"] {
            let path = path(name);
            assert!(is_input(&path));
            assert!(create(&path).is_err() && remove(&path).is_err());
            assert!(replace(&path, b"new", Durability::Rename).is_err());
            assert!(open(OpenOptions::new().append(true), &path).is_err());
            assert_eq!(text(&path), "kept");
        }
        assert!(replace(&path("else"), b"new", Durability::Rename).is_ok());
    }

    #[test]
    fn only_regular_files_are_inputs() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "text").expect("written");
        symlink(&file, &link).expect("linked");
        assert_eq!(read_text(&link, 4).expect("read"), "text");
        assert!(read_text(&link, 3).expect_err("refused").to_string().contains("3 bytes"));
        let refused = |path: &Path| open_input(path).expect_err("refused").to_string();
        assert!(refused(dir.path()).contains("a folder"));
        assert!(refused(Path::new("/dev/zero")).contains("a device"));
        let socket = dir.path().join("socket");
        let _listens = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        assert!(refused(&socket).contains("a socket"));
    }

    #[test]
    fn a_device_is_not_replaced() {
        let refused = refuse_to_replace(Path::new("/dev/null")).expect_err("refused");
        assert!(refused.to_string().contains("a device"));
    }

    #[test]
    fn a_mode_is_what_files_and_folders_get() {
        for (text, mask) in [("0600", 0o077), ("640", 0o027), ("0o664", 0o002), ("0644", 0o022)] {
            assert_eq!(text.parse::<FileMode>().expect("a mode").masked(), mask, "{text}");
        }
        for text in ["", "0400", "0700", "0755", "9", "-600", "0606606"] {
            assert!(text.parse::<FileMode>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_folder_is_tried_before_it_is_needed() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(probe(&dir.path().join("not/yet/there")).is_ok());
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0, "nothing is left");
        assert!(probe(&dir.path().join("x".repeat(300))).is_err());
        let link = dir.path().join("link");
        symlink("nowhere", &link).expect("planted");
        assert!(probe(&link).is_err());
        let file = dir.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(probe(&file).is_err() && probe(&file.join("within")).is_err());
    }
}
