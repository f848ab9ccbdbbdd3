//! Splits by subject.

use std::collections::{BTreeMap, BTreeSet};

use sfm_trainer::data::split::Fractions;
use sfm_trainer::data::{Demographics, Split, study_id};

const FRACTIONS: Fractions = Fractions { pretrain: 0.0, train: 0.6, validation: 0.1, test: 0.3 };

fn recordings(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("mesa/night-{i:03}.hdf5")).collect()
}

/// Every subject has two recordings.
fn pairs(count: usize) -> Demographics {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("demographics.csv");
    let mut text = "Study ID,subject,age_years,sex\n".to_owned();
    for i in 0..count {
        text += &format!("night-{i:03},subject-{},60,f\n", i / 2);
    }
    std::fs::write(&path, text).unwrap();
    Demographics::read(&path).unwrap()
}

#[test]
fn a_subjects_recordings_stay_together() {
    let (recordings, people) = (recordings(60), pairs(60));
    let split = Split::by_subject(&recordings, Some(&people), &FRACTIONS, 7).unwrap();
    let mut part_of = BTreeMap::new();
    let mut all = BTreeSet::new();
    for (part, paths) in split.parts() {
        for path in paths {
            assert!(all.insert(path.clone()), "{path} twice");
            let person = people.person(&study_id(path.as_ref())).unwrap();
            assert_eq!(*part_of.entry(person.subject.clone()).or_insert(part), part);
        }
    }
    assert_eq!(all.len(), 60);
    let sizes = [&split.pretrain, &split.train, &split.validation, &split.test].map(Vec::len);
    assert_eq!(sizes, [0, 36, 6, 18]);
    split.check(Some(&people)).unwrap();
}

#[test]
fn the_seed_decides_and_the_order_of_files_does_not() {
    let mut files = recordings(40);
    let draw = |files: &[String], seed| Split::by_subject(files, None, &FRACTIONS, seed).unwrap();
    let split = draw(&files, 1);
    files.reverse();
    assert_eq!(draw(&files, 1), split);
    assert_ne!(draw(&files, 2), split);
}

#[test]
fn small_cohorts_get_a_subject_a_part_or_are_refused() {
    let split = Split::by_subject(&recordings(3), None, &FRACTIONS, 1).unwrap();
    let sizes = [&split.pretrain, &split.train, &split.validation, &split.test].map(Vec::len);
    assert_eq!(sizes, [0, 1, 1, 1]);
    for count in [0, 1, 2] {
        let refusal = Split::by_subject(&recordings(count), None, &FRACTIONS, 1).unwrap_err();
        assert!(refusal.contains("cannot be split into 3 parts"), "{refusal}");
    }
    for train in [f64::NAN, -1.0, f64::INFINITY] {
        let fractions = Fractions { train, ..FRACTIONS };
        assert!(Split::by_subject(&recordings(9), None, &fractions, 1).is_err());
    }
}

#[test]
fn every_subject_is_the_test_of_one_fold() {
    let (recordings, people) = (recordings(40), pairs(40));
    let splits = Split::folds(&recordings, Some(&people), 10, 3).unwrap();
    assert_eq!(splits.len(), 10);
    let mut tested = BTreeSet::new();
    for split in &splits {
        split.check(Some(&people)).unwrap();
        let sizes = [&split.train, &split.validation, &split.test].map(Vec::len);
        assert_eq!((sizes, &split.pretrain), ([32, 4, 4], &split.train));
        assert!(split.test.iter().all(|recording| tested.insert(recording.clone())));
    }
    assert_eq!(tested.len(), 40);
    assert_eq!(Split::folds(&recordings, Some(&people), 10, 3).unwrap(), splits);
    assert_ne!(Split::folds(&recordings, Some(&people), 10, 4).unwrap(), splits);
    assert!(Split::folds(&recordings, Some(&people), 21, 1).unwrap_err().contains("21 folds"));
    assert!(Split::folds(&recordings, None, 2, 1).is_err());
}

#[test]
fn absolute_paths_are_found_below_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir(root.join("mesa")).unwrap();
    for name in ["mesa/a.hdf5", "b.hdf5"] {
        std::fs::write(root.join(name), "").unwrap();
    }
    let text = format!(
        r#"{{"train": ["{0}/mesa/a.hdf5"], "validation": ["{0}/b.hdf5"], "test": ["/elsewhere/mesa/c.hdf5"],
            "pretrain": ["mesa/d.hdf5"]}}"#,
        root.display()
    );
    let path = root.join("split.json");
    std::fs::write(&path, text).unwrap();
    let split = Split::read(&path, None).unwrap().below(root);
    assert_eq!(split.train, ["mesa/a.hdf5"]);
    assert_eq!(split.validation, ["b.hdf5"]);
    assert_eq!(split.test, ["mesa/c.hdf5"]);
    assert_eq!(split.pretrain, ["mesa/d.hdf5"]);
}

#[test]
fn the_file_is_the_references() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("split.json");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Split::read(&path, None).map_err(|e| e.to_string())
    };
    let text = r#"{"pretrain": ["mesa/a.hdf5"], "train": ["mesa/b.hdf5"], "validation": [],
        "test": ["mesa/c.hdf5"], "temporal_test": [], "external_validation": ["shhs/d.hdf5"]}"#;
    let split = read(text).unwrap();
    assert_eq!(split.test, ["mesa/c.hdf5"]);
    assert_eq!(split.other["external_validation"], ["shhs/d.hdf5"]);
    split.write(&path).unwrap();
    assert_eq!(Split::read(&path, None).unwrap(), split);

    for (text, words) in [
        ("[]", "is no split"),
        ("{", "is no split"),
        (r#"{"train": "a"}"#, "is no split"),
        (r#"{"train": ["a/../../b.hdf5"]}"#, "leaves the store"),
        (r#"{"train": ["/data/../b.hdf5"]}"#, "leaves the store"),
        (r#"{"train": ["/"]}"#, "leaves the store"),
        (r#"{"train": [""]}"#, "leaves the store"),
        (r#"{"train": ["m/a.hdf5"], "test": ["m/a.hdf5"]}"#, "'a' is in both train and test"),
        (r#"{"pretrain": ["m/a.hdf5"], "test": ["n/a.hdf5"]}"#, "both pretrain and test"),
        (r#"{"pretrain": ["m/a"], "train": ["m/a"], "test": ["m/a"]}"#, "in both"),
    ] {
        let refusal = read(text).unwrap_err();
        assert!(refusal.contains(words) && !refusal.contains('\n'), "{text}: {refusal}");
    }
    // Pretraining and training may share.
    read(r#"{"pretrain": ["m/a.hdf5"], "train": ["m/a.hdf5"]}"#).unwrap();
    // Two nights of one subject in two parts.
    let people = pairs(4);
    std::fs::write(&path, r#"{"train": ["m/night-000.hdf5"], "test": ["m/night-001.hdf5"]}"#)
        .unwrap();
    let refusal = Split::read(&path, Some(&people)).unwrap_err().to_string();
    assert!(refusal.contains("subject 'subject-0' is in both train and test"), "{refusal}");
}
