//! Which recordings a batch is about: a folder with all that is below it, a pattern, or a list.
//! Every recording has a name that depends on its own path alone, so that it keeps its folder and
//! its shard when others come and go. Reads names and headers, no samples. Names what it passes over
//! and why: scorings, packed files, dead links. Refuses what yields no recording at all; one that
//! cannot be read is a failure of its own, later.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::edf::{EdfError, Header};
use crate::session_folder::RECORDINGS;

/// Endings of recordings as recorders export them, in any case.
pub const EXPORTED: [&str; 3] = ["edf", "bdf", "rec"];
/// The same with the reference's preprocessed ones.
const ENDINGS: [&str; 5] = ["edf", "bdf", "rec", "hdf5", "h5"];
/// Other programs name other files so, too.
const AMBIGUOUS: &str = "rec";
/// Endings of packed files.
const PACKED: [&str; 7] = ["gz", "bz2", "xz", "zst", "zip", "7z", "rar"];
/// Files of a kind that are named where they are passed over.
const NAMED: usize = 3;
/// What a folder of results is called.
const OUT_ENDING: &str = ".sfm-out";
/// A file that every folder of results holds.
const EVENTS: &str = "events.jsonl";
/// A list longer than this is none.
const MAX_LIST_BYTES: u64 = 64 << 20;
/// Folders within folders.
const MAX_DEPTH: usize = 64;

/// One recording of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the archive without the ending, `/` between the parts. Untrusted text.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// Where its results go, below the batch's folder.
    pub folder: PathBuf,
}

/// What an archive has that is taken and what is not.
#[derive(Debug, Default)]
pub struct Search {
    /// Recordings, in the order in which they were found.
    pub files: Vec<PathBuf>,
    /// What is left out although its name, or the user, calls it a recording.
    pub passed_over: BTreeMap<WhyNot, Vec<PathBuf>>,
}

/// Why something is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhyNot {
    /// EDF+ or BDF+ with annotations and no signals: a scoring.
    OnlyAnnotations,
    /// Its ending is that of recordings and of other things, and it is no EDF.
    NoEdf,
    /// Compressed, or an archive.
    Packed,
    /// A link to what is not there.
    DeadLink,
    /// A folder that cannot be entered.
    Closed,
}

impl WhyNot {
    /// In words, of one and of several.
    fn words(self) -> [&'static str; 2] {
        match self {
            Self::OnlyAnnotations => {
                ["scoring (annotations without signals)", "scorings (annotations without signals)"]
            }
            Self::NoEdf => ["file that is no EDF", "files that are no EDF"],
            Self::Packed => {
                ["packed file (gunzip or unpack it)", "packed files (gunzip or unpack them)"]
            }
            Self::DeadLink => ["dead link", "dead links"],
            Self::Closed => ["folder that cannot be opened", "folders that cannot be opened"],
        }
    }
}

impl Search {
    /// Looks through `folder` and all that is below it for files with one of `endings`, but not
    /// through `out`, folders of results and hidden ones.
    ///
    /// # Errors
    /// The folder itself cannot be read.
    pub fn folder(folder: &Path, out: &Path, endings: &[&str]) -> std::io::Result<Self> {
        let out = fs::canonicalize(out).ok();
        let found = Search::default();
        let mut walk = Walk { out, endings, seen: BTreeSet::new(), found };
        walk.enter(folder, 0)?;
        Ok(walk.found)
    }

    /// Takes a file that may be a recording, or passes it over.
    fn take(&mut self, path: PathBuf) {
        match why_not(&path) {
            None => self.files.push(path),
            Some(why) => self.passed_over.entry(why).or_default().push(path),
        }
    }

    /// What was passed over and why, in one line; `None` if nothing was.
    pub fn passed_over(&self) -> Option<String> {
        let kinds = self.passed_over.iter().map(|(why, paths)| {
            let [one, several] = why.words();
            let words = if paths.len() == 1 { one } else { several };
            let shown = paths.iter().take(NAMED).map(|path| path.display().to_string());
            let mut shown = shown.collect::<Vec<_>>().join(", ");
            if paths.len() > NAMED {
                shown += &format!(", and {} more", paths.len() - NAMED);
            }
            format!("{} {words}: {shown}", paths.len())
        });
        let kinds: Vec<String> = kinds.collect();
        (!kinds.is_empty()).then(|| format!("passed over {}", kinds.join("; ")))
    }
}

/// Why a file that is called a recording is none; `None` if it may be one.
fn why_not(path: &Path) -> Option<WhyNot> {
    if fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink()) && !path.exists() {
        return Some(WhyNot::DeadLink);
    }
    if is_packed(path, &ENDINGS) {
        return Some(WhyNot::Packed);
    }
    let header = crate::files::open_input(path).map_err(EdfError::Io);
    match header.and_then(|mut file| Header::read(&mut file)) {
        Ok(header) if header.signals.iter().all(|signal| signal.is_annotation) => {
            Some(WhyNot::OnlyAnnotations)
        }
        Err(EdfError::Foreign(_)) if has_ending(path, &[AMBIGUOUS]) => Some(WhyNot::NoEdf),
        _ => None,
    }
}

/// What `input` names, in the order of the names, and what was passed over, in one line: a folder, a pattern with `*`, `?`, `[` or `**`,
/// a list (one path a line, relative to the list's folder; `#` begins a comment), or one
/// recording. What lies in `out` is left out, as are folders of results and hidden ones.
///
/// # Errors
/// One sentence, if there is no recording, or folder, pattern or list cannot be read.
pub fn recordings(input: &Path, out: &Path) -> Result<(Vec<Entry>, Option<String>), String> {
    let shown = input.display();
    let (root, found) = match fs::metadata(input) {
        Ok(metadata) if metadata.is_dir() => {
            let found = Search::folder(input, out, &ENDINGS)
                .map_err(|e| format!("{shown} cannot be read ({e})"))?;
            (input.to_owned(), found)
        }
        Ok(_) => {
            let is_one = has_ending(input, &ENDINGS) || is_packed(input, &ENDINGS);
            let files = if is_one { vec![input.to_owned()] } else { listed(input)? };
            let mut found = Search::default();
            files.into_iter().for_each(|file| found.take(file));
            (parent(input), found)
        }
        Err(e) if !is_pattern(input) => {
            return Err(format!(
                "{shown} cannot be opened: {e}; give a folder, a pattern or a list"
            ));
        }
        Err(_) => matching(input, fs::canonicalize(out).ok().as_deref())?,
    };
    let passed_over = found.passed_over();
    if found.files.is_empty() {
        let also = passed_over.map_or_else(String::new, |line| format!(" ({line})"));
        return Err(format!(
            "{shown}: no recording there{also}; give a folder with EDF, BDF or HDF5 files, a pattern in quotes, or a list of files"
        ));
    }
    Ok((entries(&root, &found.files), passed_over))
}

/// Which of `shards` parts, counted from 0, the recording `name` is in: the same on every
/// machine, whatever else the archive holds.
pub fn shard_of(name: &str, shards: u32) -> u32 {
    // FNV-1a: short, and the same for ever.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Its low bits alone mix poorly.
    ((hash ^ (hash >> 32)) % u64::from(shards.max(1))) as u32
}

/// The folders of an archive.
struct Walk<'a> {
    out: Option<PathBuf>,
    endings: &'a [&'a str],
    /// Folders that were entered, by their true path: links may lead in circles.
    seen: BTreeSet<PathBuf>,
    found: Search,
}

impl Walk<'_> {
    fn enter(&mut self, folder: &Path, depth: usize) -> std::io::Result<()> {
        let place = fs::canonicalize(folder)?;
        if depth > MAX_DEPTH || self.out.as_ref() == Some(&place) || !self.seen.insert(place) {
            return Ok(());
        }
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        paths.sort();
        let results = folder.join(EVENTS).exists();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || name.ends_with(OUT_ENDING) {
                continue;
            }
            let kept = !results || RECORDINGS.contains(&&*name);
            let is_one = has_ending(&path, self.endings) || is_packed(&path, self.endings);
            if path.is_dir() {
                // A folder that may not be entered takes nothing from the others.
                if self.enter(&path, depth + 1).is_err() {
                    self.found.passed_over.entry(WhyNot::Closed).or_default().push(path);
                }
            } else if is_one && kept {
                self.found.take(path);
            }
        }
        Ok(())
    }
}

/// The files that a pattern names, and the folder before its first wildcard.
fn matching(pattern: &Path, out: Option<&Path>) -> Result<(PathBuf, Search), String> {
    let refuse = |reason: String| format!("{}: {reason}", pattern.display());
    let text = pattern.to_str().ok_or_else(|| refuse("the pattern is not UTF-8".to_owned()))?;
    let found = glob::glob(text).map_err(|e| refuse(format!("no pattern: {e}")))?;
    let root = pattern.components().take_while(|part| !is_pattern(Path::new(part)));
    let is_result = |path: &Path| {
        path.iter().any(|part| part.to_string_lossy().ends_with(OUT_ENDING))
            || out.is_some_and(|out| fs::canonicalize(path).is_ok_and(|path| path.starts_with(out)))
    };
    // What cannot be looked into is passed over, as the shell does.
    let files = found.filter_map(Result::ok).filter(|path| !path.is_dir() && !is_result(path));
    let mut found = Search::default();
    files.for_each(|file| found.take(file));
    Ok((root.collect(), found))
}

/// The files of a list.
fn listed(list: &Path) -> Result<Vec<PathBuf>, String> {
    let refuse = |reason: String| format!("{}: {reason}", list.display());
    let mut text = String::new();
    crate::files::open_input(list)
        .and_then(|file| file.take(MAX_LIST_BYTES + 1).read_to_string(&mut text))
        .map_err(|e| refuse(format!("no list of recordings ({e}); give one path a line")))?;
    if text.len() as u64 > MAX_LIST_BYTES {
        return Err(refuse(format!("longer than {MAX_LIST_BYTES} bytes: no list of recordings")));
    }
    let folder = parent(list);
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    Ok(lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| folder.join(line))
        .collect())
}

/// Names and folders of `files`, each once.
fn entries(root: &Path, files: &[PathBuf]) -> Vec<Entry> {
    let root = absolute(root);
    let paths: BTreeMap<PathBuf, &PathBuf> =
        files.iter().map(|file| (below(&root, &absolute(file)), file)).collect();
    // Two endings of one name keep theirs; file systems may not tell the case of letters.
    let mut sharing = BTreeMap::<String, usize>::new();
    let key = |path: &Path| path.with_extension("").to_string_lossy().to_lowercase();
    paths.keys().for_each(|path| *sharing.entry(key(path)).or_default() += 1);
    let mut entries: Vec<Entry> = paths
        .into_iter()
        .map(|(path, file)| {
            let is_shared = sharing.get(&key(&path)).is_some_and(|&count| count > 1);
            let path = if is_shared { path } else { path.with_extension("") };
            Entry { name: shown(&path), file: file.clone(), folder: folder(&path) }
        })
        .collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// `path` as seen from `root`; one that lies elsewhere by its absolute path.
fn below(root: &Path, path: &Path) -> PathBuf {
    let relative = path.strip_prefix(root).unwrap_or(path);
    relative.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// The absolute path, without `.` and `..` and without following links.
fn absolute(path: &Path) -> PathBuf {
    // The folder of a file that is named without one.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mut plain = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

fn shown(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

fn folder(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(OUT_ENDING);
    name.into()
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map_or_else(PathBuf::new, Path::to_owned)
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    endings.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// `night.edf.gz` and its like.
fn is_packed(path: &Path, endings: &[&str]) -> bool {
    has_ending(path, &PACKED) && has_ending(&path.with_extension(""), endings)
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
