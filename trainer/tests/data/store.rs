//! Preprocessing: against the reference's file of the same recording and against `sfm-stream`.

use sfm_models::{Modality, SleepStage};
use sfm_runtime::pipeline::Network;
use sfm_tests::reference;
use sfm_trainer::data::StoreFile;

use crate::made::{
    RATE, bundle, by_the_rules, continuous, edf, final_pass, noise, store_of, tract,
};

/// Half a unit in the last place of float16 at 16 standard deviations, and twice that for the
/// reference's own rounding.
const FLOAT16: f32 = 0.012;

fn samples(file: &StoreFile, channel: usize) -> Vec<f32> {
    let mut out = vec![0.0; file.channels()[channel].samples];
    file.read(channel, 0, &mut out).unwrap();
    out
}

fn named(file: &StoreFile, name: &str) -> usize {
    file.channels().iter().position(|c| c.name == name).unwrap()
}

#[test]
fn fast_channels_equal_the_references_file() {
    let dir = tempfile::tempdir().unwrap();
    let mini = reference::mini();
    let ours = StoreFile::open(store_of(&mini, dir.path())).unwrap();
    let theirs = StoreFile::open(mini.dir.join("psg.hdf5")).unwrap();
    // The others were brought to 256 Hz by MNE's resampler first, which this does not do.
    let fast = ["EEG1", "EEG2", "EEG3", "EOG-L", "EOG-R", "EMG", "EKG", "Leg", "Pleth"];
    for name in fast {
        let found = samples(&ours, named(&ours, name));
        let expected = samples(&theirs, named(&theirs, name));
        reference::assert_close(name, &found, &expected, FLOAT16);
    }
}

#[test]
fn channels_of_both_files_have_the_same_modalities() {
    #[derive(serde::Deserialize)]
    struct About {
        modalities: std::collections::BTreeMap<Modality, Vec<String>>,
    }
    let dir = tempfile::tempdir().unwrap();
    let mini = reference::mini();
    let about = std::fs::read(mini.dir.join("about.json")).unwrap();
    let about: About = serde_json::from_slice(&about).unwrap();
    for path in [store_of(&mini, dir.path()), mini.dir.join("psg.hdf5")] {
        let file = StoreFile::open(path).unwrap();
        for (modality, labels) in &about.modalities {
            let mut found: Vec<&str> = file
                .of_modality(*modality, usize::MAX)
                .into_iter()
                .map(|c| file.channels()[c].label.as_str())
                .collect();
            found.sort_unstable();
            assert_eq!(&found, labels, "{modality}");
        }
    }
}

#[test]
fn the_pipeline_computes_the_same_of_the_store_as_of_the_edf() {
    let dir = tempfile::tempdir().unwrap();
    let mini = reference::mini();
    let network = Network::load(&bundle(&mini), &tract()).unwrap();
    let of_edf = final_pass(&mini.dir.join("psg.edf"), &network);
    let of_store = final_pass(&store_of(&mini, dir.path()), &network);
    let (a, b) = (&of_edf.outcome.log, &of_store.outcome.log);
    assert_eq!(a.present(), b.present());
    reference::assert_close("tokens", b.tokens(), a.tokens(), 5e-3);
    let stages = |passed: &crate::made::Passed| -> Vec<Option<SleepStage>> {
        passed.outcome.hypnogram.iter().map(|e| e.stage).collect()
    };
    assert_eq!(stages(&of_edf), stages(&of_store));
}

/// Duplicate labels, and a dead channel between live ones.
#[test]
fn a_channel_that_is_left_out_shifts_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a.edf"), dir.path().join("a.hdf5"));
    let labels = ["EEG C3-M2", "EEG C4-M1", "EEG C3-M2", "Temp", "EEG C3-M2"];
    // Channel 1 is flat; channel 3 no rule maps; the others differ in their values.
    let sample = |channel, i| if channel == 1 { 7 } else { noise(channel, i) };
    std::fs::write(&from, edf(&labels, &continuous(10), sample)).unwrap();
    let notes = by_the_rules().recording(&from, &to).unwrap();
    assert!(notes.iter().any(|n| n.contains("'EEG C4-M1' is left out")), "{notes:?}");

    let file = StoreFile::open(&to).unwrap();
    let mut names: Vec<&str> = file.channels().iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["EEG C3-M2", "EEG C3-M2_1", "EEG C3-M2_2"]);
    assert_eq!(file.of_modality(Modality::Bas, usize::MAX).len(), 3);
    assert!(file.channels().iter().all(|c| c.label == "EEG C3-M2"));
    // Each is made of its own channel: the first of them alone as the only channel of a file.
    for (name, channel) in [("EEG C3-M2", 0), ("EEG C3-M2_1", 2), ("EEG C3-M2_2", 4)] {
        let (from, to) = (dir.path().join("one.edf"), dir.path().join("one.hdf5"));
        let only = edf(&["EEG C3-M2"], &continuous(10), |_, i| noise(channel, i));
        std::fs::write(&from, only).unwrap();
        by_the_rules().recording(&from, &to).unwrap();
        let one = StoreFile::open(&to).unwrap();
        assert_eq!(samples(&one, 0), samples(&file, named(&file, name)), "{name}");
    }
}

#[test]
fn a_gap_is_stored_as_nan_and_absent_in_the_pipeline() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("gap.edf"), dir.path().join("gap.hdf5"));
    // 20 s, a hole of 12.5 s, 300 s.
    let onsets: Vec<f64> = (0..320).map(|s| s as f64 + if s < 20 { 0.0 } else { 12.5 }).collect();
    std::fs::write(&from, edf(&["EEG C3-M2", "ECG"], &onsets, noise)).unwrap();
    let notes = by_the_rules().recording(&from, &to).unwrap();
    assert_eq!(notes.iter().filter(|n| n.contains("lacks 12.5 s")).count(), 2, "{notes:?}");

    let file = StoreFile::open(&to).unwrap();
    let found = samples(&file, 0);
    let nan: Vec<usize> = (0..found.len()).filter(|&i| found[i].is_nan()).collect();
    assert_eq!(found.len(), (332.5 * 128.0) as usize);
    assert_eq!(nan, (20 * 128..(32.5 * 128.0) as usize).collect::<Vec<_>>());

    let network = Network::load(&bundle(&reference::mini()), &tract()).unwrap();
    let (a, b) = (final_pass(&from, &network), final_pass(&to, &network));
    assert_eq!(a.outcome.log.present(), b.outcome.log.present());
    assert!(a.outcome.log.present().contains(&0.0));
    reference::assert_close("tokens", b.outcome.log.tokens(), a.outcome.log.tokens(), 5e-3);
}

#[test]
fn map_and_all_channels_decide_what_is_kept() {
    use sfm_runtime::montage::ChannelRules;
    use sfm_trainer::preprocess::Preprocess;
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a.edf"), dir.path().join("a.hdf5"));
    std::fs::write(&from, edf(&["X1", "ECG", "Y9"], &continuous(6), noise)).unwrap();
    let rules = || ChannelRules::built_in().unwrap();
    let channels = |map: &[&str], all| {
        let map: Vec<String> = map.iter().map(|&entry| entry.to_owned()).collect();
        let preprocess = Preprocess::new(rules(), &map, all).unwrap();
        preprocess.recording(&from, &to).unwrap();
        let unused: Vec<String> = preprocess.unused_map().map(str::to_owned).collect();
        let file = StoreFile::open(&to).unwrap();
        let mut kept: Vec<_> =
            file.channels().iter().map(|c| (c.label.clone(), c.modality)).collect();
        kept.sort();
        (kept, unused)
    };
    let pair = |label: &str, modality| (label.to_owned(), modality);
    assert_eq!(channels(&[], false).0, [pair("ECG", Some(Modality::Ekg))]);
    let (kept, unused) = channels(&["X1=BAS", "Z=EMG"], false);
    assert_eq!(kept, [pair("ECG", Some(Modality::Ekg)), pair("X1", Some(Modality::Bas))]);
    assert_eq!(unused, ["Z=EMG"]);
    let all = channels(&["ECG=none"], true).0;
    assert_eq!(all, [pair("ECG", None), pair("X1", None), pair("Y9", None)]);
}

/// Loaders read on several threads.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<StoreFile>();
};

#[test]
fn equal_runs_write_equal_bytes_and_reads_begin_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("a.edf");
    std::fs::write(&from, edf(&["ECG"], &continuous(330), noise)).unwrap();
    let store = |name: &str| {
        let to = dir.path().join(name);
        by_the_rules().recording(&from, &to).unwrap();
        to
    };
    let (a, b) = (store("a.hdf5"), store("b.hdf5"));
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());

    let file = StoreFile::open(&a).unwrap();
    let whole = samples(&file, 0);
    assert_eq!(whole.len(), 330 * 128);
    assert_eq!(RATE, 256);
    // Over the border of two chunks, and over the end.
    let mut part = vec![0.0; 1000];
    file.read(0, 38_000, &mut part).unwrap();
    assert_eq!(part, whole[38_000..39_000]);
    file.read(0, whole.len() - 400, &mut part).unwrap();
    assert_eq!(part[..400], whole[whole.len() - 400..]);
    assert!(part[400..].iter().all(|x| x.is_nan()));
    file.read(0, usize::MAX, &mut part).unwrap();
    assert!(part.iter().all(|x| x.is_nan()));
}
