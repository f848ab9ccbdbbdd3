//! Cohorts as folders: same bytes, chunks, subjects.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sfm_trainer::synth::cohort::Cohort;
use sfm_trainer::synth::{SynthSpec, generate, night};

/// Short nights of both laboratories.
pub fn spec(first: u64, nights: u64, workers: usize) -> SynthSpec {
    let split = [0.4, 0.3, 0.1, 0.2];
    SynthSpec { seed: 5, first, nights, hours: 0.1, laboratory: None, split, workers }
}

pub fn make(folder: &Path, spec: &SynthSpec) -> Cohort {
    generate(spec, folder, |_| ()).unwrap()
}

/// Contents by path of all files below a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn neither_workers_nor_chunks_nor_a_second_run_change_a_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (one, three, chunks) =
        (folder.path().join("1"), folder.path().join("3"), folder.path().join("chunks"));
    make(&one, &spec(0, 5, 1));
    make(&three, &spec(0, 5, 3));
    make(&chunks, &spec(3, 2, 2));
    make(&chunks, &spec(0, 3, 1));
    let whole = contents(&one);
    // Three files a night, six for the cohort.
    assert_eq!(whole.len(), 5 * 3 + 6);
    assert_eq!(whole.keys().collect::<Vec<_>>(), contents(&three).keys().collect::<Vec<_>>());
    assert!(whole == contents(&three), "workers changed bytes");
    assert!(whole == contents(&chunks), "chunks changed bytes");
    make(&one, &spec(1, 1, 1));
    assert!(whole == contents(&one), "a night made twice changed bytes");
}

#[test]
fn another_seed_is_another_cohort() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    make(&a, &spec(0, 1, 1));
    make(&b, &SynthSpec { seed: 6, ..spec(0, 1, 1) });
    let path = Path::new("edf/mesa/mesa-sim-0000.edf");
    assert!(contents(&a)[path] != contents(&b)[path]);
}

#[test]
fn one_subject_in_ten_has_two_nights_and_both_are_in_one_part() {
    let subjects: Vec<u64> = (0..110).map(night::subject).collect();
    let different: BTreeSet<_> = subjects.iter().collect();
    assert_eq!(different.len(), 100);
    assert!(subjects.is_sorted());

    let folder = tempfile::tempdir().unwrap();
    let cohort = make(folder.path(), &spec(9, 2, 2));
    let subjects: BTreeSet<_> = cohort.nights.values().map(|t| t.subject.clone()).collect();
    assert_eq!((cohort.nights.len(), subjects.len()), (2, 1));
    let split = std::fs::read_to_string(folder.path().join("split.json")).unwrap();
    let split: BTreeMap<String, Vec<String>> = serde_json::from_str(&split).unwrap();
    let sizes: Vec<usize> = split.values().map(Vec::len).collect();
    assert_eq!((sizes.len(), sizes.iter().max()), (4, Some(&2)), "{split:?}");
}
