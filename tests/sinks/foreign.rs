//! A made-up night through the readers of `tests/foreign`: MNE, pyedflib, edfio, YASA, h5py.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use sfm_tests::skip::skipped;

use crate::files::write;
use crate::synthetic::Recording;

/// Runs a script of `tests/foreign`; what it prints, or `None` where no Python is named.
pub fn run(script: &str, arguments: &[impl AsRef<OsStr>]) -> Option<String> {
    let Some(python) = std::env::var_os("SFM_PYTHON") else {
        skipped(
            "python",
            format_args!("{script}: SFM_PYTHON names no Python with h5py and EDF readers"),
        );
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign").join(script);
    let output = Command::new(python).arg(&script).args(arguments).output().expect("python runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}{complained}", script.display());
    Some(said)
}

#[test]
fn foreign_readers_read_what_was_written() {
    let temp = tempfile::tempdir().expect("temp");
    let kept = std::env::var_os("SFM_SINKS_OUT").map(PathBuf::from);
    let out = kept.unwrap_or_else(|| temp.path().join("night.sfm-out"));
    write(&out, Recording { epochs: 124, dim: 8 }.events());
    for script in ["hypnogram.py", "embeddings.py"] {
        if let Some(said) = run(script, &[&out]) {
            print!("{said}");
        }
    }
}
