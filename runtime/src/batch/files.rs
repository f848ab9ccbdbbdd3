//! `cohort.csv`, `cohort.parquet`, `failures.csv` and `cohort.html` of a batch. Several shards may
//! write them at a time, on a file system they share: each file is made under a name of its own and
//! renamed into place, and who finds that another night has ended meanwhile writes once more. So
//! the last one to write has seen all nights, whoever it is.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::archive::Entry;
use super::cohort::{self, Frame, Row};
use super::marker::{FILE_NAME, Identity, Marker, Progress, Status};
use super::outputs::Look;
use super::page::{self, Page};
use crate::files::{self, Durability};

/// How often a batch begins again because another shard's nights end meanwhile. Shards whose turn
/// is still to come write anyway.
const MAX_ROUNDS: usize = 20;

/// A batch's results so far, in the order of the names.
pub struct Collected {
    /// Nights that are done or have failed.
    pub rows: Vec<Row>,
    /// Recordings without a result of this bundle and these settings.
    pub pending: usize,
}

/// Reads the folders of `entries` below `out`, each as `identities` says it has to be. `failed` has
/// by name the failures of this run, for those that no marker could be left of.
pub fn collect(
    out: &Path,
    entries: &[Entry],
    identities: &[Identity],
    failed: &BTreeMap<String, String>,
) -> Collected {
    let unmarked = |identity: &Identity| {
        let (identity, reason) = (identity.clone(), failed.get(&identity.recording)?.clone());
        Some(Marker::failed(identity, reason))
    };
    let rows: Vec<Row> = entries
        .iter()
        .zip(identities)
        .filter_map(|(entry, identity)| {
            let folder = out.join(&entry.folder);
            let marker = Marker::read(&folder, identity).filter(|marker| {
                marker.status == Status::Failed
                    || marker.is_believed(&folder, Look::Sizes) == Progress::Done
            });
            let marker = marker.or_else(|| unmarked(identity))?;
            Some(cohort::row(entry, &folder, &marker))
        })
        .collect();
    let pending = entries.len() - rows.len();
    Collected { rows, pending }
}

/// Collects and writes all files into `out`, until nothing changed while they were written.
///
/// # Errors
/// One sentence with the file and the reason.
pub fn write(
    out: &Path,
    entries: &[Entry],
    identities: &[Identity],
    failed: &BTreeMap<String, String>,
    frame: &Frame<'_>,
    page: &Page<'_>,
) -> Result<Collected, String> {
    let mut round = 1;
    loop {
        let before = state(out, entries);
        let collected = collect(out, entries, identities, failed);
        write_once(out, &collected, frame, page)?;
        if round == MAX_ROUNDS || state(out, entries) == before {
            return Ok(collected);
        }
        round += 1;
    }
}

/// When each marker was written.
fn state(out: &Path, entries: &[Entry]) -> Vec<Option<std::time::SystemTime>> {
    let modified = |entry: &Entry| {
        out.join(&entry.folder).join(FILE_NAME).metadata().and_then(|m| m.modified()).ok()
    };
    entries.iter().map(modified).collect()
}

fn write_once(
    out: &Path,
    collected: &Collected,
    frame: &Frame<'_>,
    page: &Page<'_>,
) -> Result<(), String> {
    let rows = &collected.rows;
    let table = frame.table(rows);
    replace(out, "cohort.csv", |file| table.write_csv(file))?;
    replace(out, "cohort.parquet", |file| {
        table.write_parquet(file).map_err(std::io::Error::other)
    })?;
    replace(out, "failures.csv", |file| cohort::failures(rows).write_csv(file))?;
    let html = page::html(page, rows, collected.pending);
    replace(out, "cohort.html", |file| file.write_all(html.as_bytes()))
}

/// Replaces `name` in `out` by what `write` writes, under a name that no other process has.
fn replace(
    out: &Path,
    name: &str,
    write: impl FnOnce(&mut (dyn Write + Send)) -> std::io::Result<()>,
) -> Result<(), String> {
    let prefix = format!(".{name}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".part");
    // As any other file of the batch, and not for this user alone.
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(permissions);
    let written = builder.tempfile_in(out).and_then(|file| {
        let mut buffered = BufWriter::new(&file);
        write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        let part = file.into_temp_path();
        files::put_in_place(&part, &out.join(name), Durability::Rename)
    });
    written.map_err(|e| {
        let path = out.join(name);
        format!(
            "{}: cannot be written ({e}); free the space or choose another folder with --out",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a folder");
        replace(dir.path(), "a.csv", |file| file.write_all(b"first")).expect("written");
        let failed = replace(dir.path(), "a.csv", |file| {
            file.write_all(b"sec")?;
            Err(std::io::Error::other("the disk is full"))
        });
        assert!(failed.expect_err("told").contains("the disk is full"));
        assert_eq!(std::fs::read(dir.path().join("a.csv")).expect("there"), b"first");
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1, "nothing is left");
    }
}
