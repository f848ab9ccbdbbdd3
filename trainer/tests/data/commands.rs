//! `sfm-train preprocess` and `embed` as they are run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sfm_models::SleepStage;
use sfm_models::manifest::Training;
use sfm_runtime::hypnogram::HypnogramWriter;
use sfm_tests::reference;
use sfm_trainer::data::labels::StageFolder;
use sfm_trainer::data::{Demographics, Events, Night, Split, StoreFile, find, study_id};
use sfm_trainer::export::bundle::{About, BundleBuilder};
use sfm_trainer::run::CheckpointWriter;

use crate::made::{base, continuous, edf, noise};

struct Cohort {
    dir: tempfile::TempDir,
}

impl Cohort {
    /// Two good recordings in two cohorts.
    fn new() -> Self {
        let cohort = Cohort { dir: tempfile::tempdir().unwrap() };
        for (name, label) in [("edf/a/one.edf", "ECG"), ("edf/b/two.EDF", "EEG C3-M2")] {
            cohort.write(name, &edf(&[label, "EMG Chin"], &continuous(12), noise));
        }
        cohort
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn bundle(&self) -> PathBuf {
        let path = self.path("mini.sfm");
        let about = About {
            name: "mini".to_owned(),
            license: "MIT".to_owned(),
            training: Training::random(),
        };
        BundleBuilder::new(&base(&reference::mini()), about).write(&path).unwrap();
        path
    }

    fn preprocess(&self, more: &[&str]) -> Ran {
        let (edf, out) = (self.path("edf"), self.path("store"));
        let paths = ["--edf".as_ref(), edf.as_os_str(), "--out".as_ref(), out.as_os_str()];
        Ran::of(
            Command::new(env!("CARGO_BIN_EXE_sfm-train")).arg("preprocess").args(paths).args(more),
        )
    }

    fn embed(&self, bundle: &Path, more: &[&str]) -> Ran {
        let bundle = bundle.to_str().unwrap();
        self.embed_to("emb", &[&["--bundle", bundle, "--engine", "tract"], more].concat())
    }

    fn embed_to(&self, out: &str, more: &[&str]) -> Ran {
        let (store, out) = (self.path("store"), self.path(out));
        let paths = ["--store".as_ref(), store.as_os_str(), "--out".as_ref(), out.as_os_str()];
        let mut command = Command::new(env!("CARGO_BIN_EXE_sfm-train"));
        Ran::of(command.arg("embed").args(paths).args(more))
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let found = find(&self.path(folder), &["hdf5"]).unwrap();
        found.iter().map(|path| path.display().to_string()).collect()
    }
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// The code, and the last line of stderr with `words` in it.
    fn refused(&self, code: i32, words: &str) {
        let last = self.stderr.lines().last().unwrap_or_default();
        assert_eq!(self.code, code, "{}", self.stderr);
        assert!(last.contains(words), "{last}");
    }
}

#[test]
fn good_recordings_among_bad_ones_are_stored_and_the_bad_ones_listed() {
    let cohort = Cohort::new();
    let good = fs::read(cohort.path("edf/a/one.edf")).unwrap();
    cohort.write("edf/a/cut.edf", &good[..700]);
    cohort.write("edf/a/text.edf", b"no recording");
    cohort.write("edf/a/empty.edf", b"");
    cohort.write("edf/a/other.edf", &edf(&["Foo"], &continuous(6), noise));
    cohort.write("edf/a/one.bdf", &good);
    let ran = cohort.preprocess(&["--workers", "2"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("preprocessed 2, there already 0, failed 5"), "{}", ran.stdout);
    let failed: Vec<&str> = ran.stderr.lines().filter(|l| l.starts_with("failed: ")).collect();
    assert_eq!(failed.len(), 5);
    for name in ["cut.edf", "text.edf", "empty.edf", "other.edf", "one.edf: has the same name"] {
        assert!(failed.iter().any(|line| line.contains(name)), "{name}: {failed:?}");
    }
    assert_eq!(cohort.files("store"), ["a/one.hdf5", "b/two.hdf5"]);
}

#[test]
fn what_is_no_recording_is_passed_over_and_named() {
    let cohort = Cohort::new();
    let good = fs::read(cohort.path("edf/a/one.edf")).unwrap();
    cohort.write("edf/c/3.rec", &good);
    cohort.write("edf/c/4 .REC", &good);
    let path = cohort.path("edf/a/one-Hypnogram.edf");
    let mut scoring = HypnogramWriter::create(&path, None).unwrap();
    scoring.append(Some(SleepStage::N2)).unwrap();
    scoring.finish().unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("gone.edf", cohort.path("edf/link.edf")).unwrap();
    let ran = cohort.preprocess(&[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("preprocessed 4, there already 0, failed 0"), "{}", ran.stdout);
    let line = ran.stderr.lines().find(|line| line.starts_with("passed over")).unwrap();
    assert!(line.contains("1 scoring (annotations without signals): "), "{line}");
    assert_eq!(line.contains("1 dead link: "), cfg!(unix), "{line}");
}

#[test]
fn a_second_run_continues_where_the_first_one_was_killed() {
    let cohort = Cohort::new();
    assert_eq!(cohort.preprocess(&[]).code, 0);
    // As if killed while the second file was being written: it has only its part.
    let whole = fs::read(cohort.path("store/b/two.hdf5")).unwrap();
    fs::remove_file(cohort.path("store/b/two.hdf5")).unwrap();
    cohort.write("store/b/.two.hdf5.part", &whole[..300]);
    let first = fs::metadata(cohort.path("store/a/one.hdf5")).unwrap().modified().unwrap();
    assert_eq!(cohort.files("store"), ["a/one.hdf5"]);
    let ran = cohort.preprocess(&[]);
    assert!(ran.stdout.contains("preprocessed 1, there already 1, failed 0"), "{}", ran.stdout);
    assert_eq!(fs::read(cohort.path("store/b/two.hdf5")).unwrap(), whole);
    assert_eq!(fs::metadata(cohort.path("store/a/one.hdf5")).unwrap().modified().unwrap(), first);
    assert!(!cohort.path("store/b/.two.hdf5.part").exists());
    // With other settings the store would be a mixture.
    cohort.preprocess(&["--all-channels"]).refused(2, "store.json");
    cohort.preprocess(&["--map", "ECG"]).refused(2, "LABEL=MODALITY");
}

#[test]
fn nothing_to_do_and_nothing_done_are_failures() {
    let cohort = Cohort { dir: tempfile::tempdir().unwrap() };
    cohort.preprocess(&[]).refused(3, "edf");
    fs::create_dir(cohort.path("edf")).unwrap();
    cohort.preprocess(&[]).refused(3, "holds no .edf, .bdf or .rec recording");
    cohort.write("edf/bad.edf", b"0       ");
    cohort.preprocess(&[]).refused(5, "none of 1 recording(s)");
    let bundle = cohort.bundle();
    cohort.embed(&bundle, &[]).refused(3, "holds no .hdf5 file");
}

#[test]
fn a_store_that_cannot_be_written_is_a_failure_and_leaves_nothing() {
    let cohort = Cohort::new();
    cohort.write("store", b"a file where the folder should be");
    cohort.preprocess(&[]).refused(5, "cannot be written");
}

/// `/dev/full` takes no byte, as a full disk.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_fails_the_recording_and_leaves_no_file() {
    let cohort = Cohort::new();
    fs::create_dir_all(cohort.path("store/a")).unwrap();
    std::os::unix::fs::symlink("/dev/full", cohort.path("store/a/.one.hdf5.part")).unwrap();
    let ran = cohort.preprocess(&[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.lines().any(|l| l.starts_with("failed: ") && l.contains("cannot be written"))
    );
    assert_eq!(cohort.files("store"), ["b/two.hdf5"]);
    // With room again the next run makes it.
    assert!(cohort.preprocess(&[]).stdout.contains("preprocessed 1, there already 1, failed 0"));
}

#[test]
fn embeddings_of_a_store_with_a_damaged_file_and_again() {
    let cohort = Cohort::new();
    assert_eq!(cohort.preprocess(&[]).code, 0);
    let whole = fs::read(cohort.path("store/a/one.hdf5")).unwrap();
    cohort.write("store/a/cut.hdf5", &whole[..whole.len() / 2]);
    let bundle = cohort.bundle();
    let ran = cohort.embed(&bundle, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("embedded 2, there already 0, failed 1"), "{}", ran.stdout);
    assert!(ran.stderr.lines().any(|l| l.starts_with("failed: ") && l.contains("cut.hdf5")));
    for folder in ["emb", "emb_5min_agg"] {
        assert_eq!(cohort.files(folder), ["a/one.hdf5", "b/two.hdf5"]);
    }
    let file = StoreFile::open(cohort.path("store/b/two.hdf5")).unwrap();
    assert_eq!(file.samples(), 12 * 128);
    let modalities = [sfm_models::Modality::Bas, sfm_models::Modality::Ekg];
    let night = Night::read(cohort.path("emb/b/two.hdf5"), &modalities).unwrap();
    assert_eq!((night.tokens, night.embed_dim), (2, 32));
    assert_eq!(night.present, [1.0, 1.0, 0.0, 0.0]);
    let night = Night::read(cohort.path("emb_5min_agg/b/two.hdf5"), &modalities).unwrap();
    assert_eq!(night.present, [1.0, 0.0]);

    // Half of a recording's embeddings is made again as a whole.
    fs::remove_file(cohort.path("emb/b/two.hdf5")).unwrap();
    let ran = cohort.embed(&bundle, &[]);
    assert!(ran.stdout.contains("embedded 1, there already 1, failed 1"), "{}", ran.stdout);
    cohort.embed(&bundle, &["--whole-windows"]).refused(2, "embeddings.json");
    cohort.write("bad.sfm", b"no bundle");
    cohort.embed(&cohort.path("bad.sfm"), &[]).refused(4, "bad.sfm");
    cohort.embed(&cohort.path("none.sfm"), &[]).refused(3, "none.sfm");
}

#[test]
fn a_runs_checkpoint_gives_what_its_bundle_gives() {
    let cohort = Cohort::new();
    assert_eq!(cohort.preprocess(&[]).code, 0);
    assert_eq!(cohort.embed(&cohort.bundle(), &[]).code, 0);
    let run = cohort.path("run");
    fs::create_dir(&run).unwrap();
    let mut checkpoint = CheckpointWriter::new();
    base(&reference::mini()).write(&mut checkpoint).unwrap();
    checkpoint.write(&run.join("last.ckpt")).unwrap();
    let run = run.to_str().unwrap();
    let ran = cohort.embed_to("by-run", &["--run", run, "--device", "cpu"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for (a, b) in [("emb", "by-run"), ("emb_5min_agg", "by-run_5min_agg")] {
        for name in ["a/one.hdf5", "b/two.hdf5"] {
            let night = |folder: &str| {
                Night::read(cohort.path(folder).join(name), &sfm_models::Modality::ALL).unwrap()
            };
            let (a, b) = (night(a), night(b));
            assert_eq!(a.present, b.present);
            reference::assert_close(name, &b.values, &a.values, 1e-4);
        }
    }
    let refused = |more: &[&str], code, words| cohort.embed_to("x", more).refused(code, words);
    refused(&["--run", run, "--engine", "tract"], 2, "export it");
    refused(&["--bundle", "x.sfm", "--engine", "burn"], 2, "--run");
    refused(&["--run", cohort.path("store").to_str().unwrap()], 3, "last.ckpt");
    fs::write(cohort.path("run/best.ckpt"), b"cut").unwrap();
    refused(&["--run", run], 4, "best.ckpt");
}

/// Every reader reads what `synth` writes, and lengths agree.
#[test]
fn a_simulated_cohort_is_read_as_it_lies() {
    let cohort = Cohort { dir: tempfile::tempdir().unwrap() };
    let out = cohort.path("");
    let mut synth = Command::new(env!("CARGO_BIN_EXE_sfm-train"));
    let args = ["synth", "--nights", "4", "--seed", "5", "--hours", "0.5", "--out"];
    assert_eq!(Ran::of(synth.args(args).arg(&out)).code, 0);
    assert_eq!(cohort.preprocess(&[]).code, 0);

    let people = Demographics::read(&cohort.path("demographics.csv")).unwrap();
    let split = Split::read(&cohort.path("split.json"), Some(&people)).unwrap();
    let events =
        Events::read(&cohort.path("is_event.csv"), &cohort.path("time_to_event.csv")).unwrap();
    assert!(!events.labels.is_empty());
    let mut recordings: Vec<&String> = split.parts().flat_map(|(_, part)| part).collect();
    recordings.sort();
    recordings.dedup();
    assert_eq!(recordings.len(), 4);
    for recording in recordings {
        let path = Path::new(recording);
        let id = study_id(path);
        assert!(people.person(&id).unwrap().inputs((0.0, 100.0)).is_some());
        assert_eq!(events.outcomes(&id).unwrap().len(), events.labels.len());
        let file = StoreFile::open(cohort.path("store").join(path)).unwrap();
        let stages = StageFolder { path: cohort.path("stages"), options: Default::default() };
        let scoring = stages.find(recording).unwrap().unwrap();
        let found = stages.read(&scoring, file.samples() / 640).unwrap();
        assert_eq!((found.stages.len(), found.warnings), (360, vec![]), "{id}");
        assert!(found.stages.iter().filter(|stage| stage.is_some()).count() > 300);
    }
}
