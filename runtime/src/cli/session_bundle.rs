//! The bundle of a live session. A session keeps the one it began with, whatever is installed
//! meanwhile: a copy beside it, or for the built-in one the checksum of its networks. Only where
//! that bundle is gone does a session go on with the one that is given now, and is staged again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sfm_models::Bundle;

use super::args::RunArgs;
use super::session_place::there;
use super::setup::Setup;
use super::{Failure, bundle, say};
use crate::link::saved::SavedSession;
use crate::session_folder::BUNDLE;
use crate::sink;

/// Whether the session began with this bundle, or with one that computes the same.
pub(super) fn is_of(saved: &SavedSession, bundle: &Bundle) -> bool {
    let is_network =
        !saved.network_sha256.is_empty() && saved.network_sha256 == bundle.network_sha256();
    is_network || saved.bundle_sha256 == bundle.sha256()
}

/// Copies the bundle beside the session, on a thread of its own: samples do not wait for it.
pub(super) fn keep(setup: &Arc<Setup>, out: &Path) {
    let (setup, path) = (setup.clone(), out.join(BUNDLE));
    let copy = move || {
        if let Err(e) = sink::write_whole(&path, setup.bundle.bytes()) {
            tracing::warn!("{e}; after a cut the session needs the bundle's own file");
        }
    };
    let thread = std::thread::Builder::new().name("bundle".to_owned()).spawn(copy);
    if let Err(e) = thread {
        tracing::warn!("the bundle is not copied beside the session ({e})");
    }
}

/// The network for a session that goes on: that of its bundle, wherever it is found. Where it is
/// gone `shared`, and the reason for staging again.
pub(super) fn setup_of(
    saved: &SavedSession,
    folder: &Path,
    args: &RunArgs,
    shared: &Arc<Setup>,
    threads: usize,
) -> (Arc<Setup>, Option<String>) {
    if is_of(saved, &shared.bundle) && saved.keep_bad == shared.keep_bad {
        return (shared.clone(), None);
    }
    for file in candidates(saved, folder) {
        if !bundle::open(file.as_deref()).is_ok_and(|bundle| is_of(saved, &bundle)) {
            continue;
        }
        let args = RunArgs { bundle: file, ..args.clone() };
        match Setup::open(&args, threads) {
            Ok(setup) => return (Arc::new(setup), None),
            Err(failure) => tracing::warn!("{}", failure.message),
        }
    }
    (shared.clone(), Some("the bundle it began with is gone".to_owned()))
}

/// The bundle for `recover` where none is given: the session's own, as far as it is there.
pub(super) fn of_session(saved: &SavedSession, folder: &Path) -> Option<PathBuf> {
    let is_own = |file: &Option<PathBuf>| {
        let opened = bundle::open(file.as_deref());
        opened.is_ok_and(|bundle| saved.bundle_sha256.is_empty() || is_of(saved, &bundle))
    };
    candidates(saved, folder).into_iter().find(is_own).flatten()
}

/// Where a session's bundle may be; `None` is the built-in one.
fn candidates(saved: &SavedSession, folder: &Path) -> Vec<Option<PathBuf>> {
    let copy = Some(folder.join(BUNDLE)).filter(|path| path.exists());
    [copy, saved.bundle.clone()].into_iter().flatten().map(Some).chain([None]).collect()
}

/// Opens the bundle for new sessions. Where its file is gone or damaged, the copy that an earlier
/// session in `out` kept of it does as well: last night's loss does not stop this one.
pub(super) fn open(
    args: &RunArgs,
    out: &Path,
    load: impl Fn(&RunArgs) -> Result<Setup, Failure>,
) -> Result<Setup, Failure> {
    let refused = match load(args) {
        Err(failure) if failure.code == 4 => failure,
        result => return result,
    };
    let wanted = args.bundle.as_ref().and_then(|path| std::path::absolute(path).ok());
    let mut folders = there(out);
    folders.extend(out.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()));
    let kept_it = |folder: &PathBuf| {
        wanted.is_some() && SavedSession::read(folder).is_ok_and(|saved| saved.bundle == wanted)
    };
    for folder in folders.into_iter().rev().filter(kept_it) {
        let copy = folder.join(BUNDLE);
        let args = RunArgs { bundle: Some(copy.clone()), ..args.clone() };
        if let Ok(setup) = load(&args) {
            let copy = copy.display();
            say(&format!("warning: {}; the copy {copy} is used", refused.message));
            return Ok(setup);
        }
    }
    Err(refused)
}
