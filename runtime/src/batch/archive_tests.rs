use super::*;

fn touched(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
        fs::write(path, "x").expect("written");
    }
    dir
}

fn names(input: &Path, out: &Path) -> Vec<String> {
    recordings(input, out).expect("recordings").0.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn a_folder_gives_what_is_below_it_but_no_results() {
    let dir = touched(&[
        "b/night.EDF",
        "a/night.edf",
        "a/night.bdf",
        "a/deep/er/x.hdf5",
        "a/notes.txt",
        ".hidden/y.edf",
        "a/old.sfm-out/hypnogram.edf",
        "bed/events.jsonl",
        "bed/hypnogram.edf",
        "bed/recording.edf",
        "out/z.edf",
    ]);
    let (all, passed_over) = recordings(dir.path(), &dir.path().join("out")).expect("recordings");
    assert_eq!(passed_over, None);
    let found: Vec<(&str, &str)> =
        all.iter().map(|e| (e.name.as_str(), e.folder.to_str().expect("UTF-8"))).collect();
    let wanted = [
        ("a/deep/er/x", "a/deep/er/x.sfm-out"),
        ("a/night.bdf", "a/night.bdf.sfm-out"),
        ("a/night.edf", "a/night.edf.sfm-out"),
        ("b/night", "b/night.sfm-out"),
        ("bed/recording", "bed/recording.sfm-out"),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn a_pattern_gives_the_files_it_matches() {
    let dir = touched(&["a/1.edf", "a/2.edf", "b/1.edf", "b/1.txt"]);
    let out = dir.path().join("out");
    assert_eq!(names(&dir.path().join("*/1.edf"), &out), ["a/1", "b/1"]);
    assert_eq!(names(&dir.path().join("a/*.edf"), &out), ["1", "2"]);
    assert_eq!(names(&dir.path().join("**/*.edf"), &out), ["a/1", "a/2", "b/1"]);
    for (pattern, reason) in [("*.edf", "no recording"), ("[", "pattern"), ("none", "opened")] {
        let error = recordings(&dir.path().join(pattern), &out).expect_err("refused");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_list_has_comments_and_relative_paths() {
    let dir = touched(&["lists/near.edf", "far/away.edf"]);
    let list = dir.path().join("lists/all.txt");
    let text = "\u{feff}# nights\r\n\nnear.edf\r\n  ./near.edf\n../far/away.edf\n gone.edf \n";
    fs::write(&list, text).expect("written");
    let (all, _) = recordings(&list, &dir.path().join("out")).expect("recordings");
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(all.iter().filter(|e| ["near", "gone"].contains(&e.name.as_str())).count(), 2);
    // One from elsewhere is called by its whole path, and stays below the batch's folder.
    let far = all.iter().find(|e| e.name.ends_with("far/away")).expect("the third");
    assert!(far.folder.is_relative() && !far.folder.starts_with(".."), "{far:?}");
    fs::write(&list, [0xff, 0xfe]).expect("written");
    assert!(recordings(&list, dir.path()).expect_err("refused").contains("no list"));
    fs::write(&list, "# nothing\n").expect("written");
    assert!(recordings(&list, dir.path()).expect_err("refused").contains("no recording"));
}

#[cfg(unix)]
#[test]
fn links_may_lead_in_circles() {
    let dir = touched(&["a/1.edf"]);
    std::os::unix::fs::symlink(dir.path(), dir.path().join("a/again")).expect("linked");
    assert_eq!(names(dir.path(), &dir.path().join("out")), ["a/1"]);
}

#[test]
fn shards_are_a_partition_that_does_not_depend_on_the_others() {
    let names: Vec<String> = (0..3000).map(|k| format!("mesa/mesa-sleep-{k:04}")).collect();
    for shards in [1, 2, 3, 8] {
        let mut sizes = vec![0_u32; shards as usize];
        names.iter().for_each(|name| sizes[shard_of(name, shards) as usize] += 1);
        let even = 3000 / shards;
        assert!(sizes.iter().all(|&n| n > even * 4 / 5 && n < even * 6 / 5), "{sizes:?}");
    }
    // Written down: another program version must not move recordings.
    assert_eq!([shard_of("a", 7), shard_of("a/b", 7), shard_of("", 7)], [1, 6, 6]);
}
