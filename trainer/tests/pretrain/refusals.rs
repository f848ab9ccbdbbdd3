//! Input that cannot be pretrained on: one line, the exit code, and nothing overwritten.

use crate::cohort::{Cohort, recording, refusal};

fn split(cohort: &Cohort, pretrain: &[&str], validation: &[&str]) {
    let split = serde_json::json!({"pretrain": pretrain, "validation": validation});
    std::fs::write(cohort.path("split.json"), split.to_string()).unwrap();
}

#[test]
fn an_empty_or_one_recording_set() {
    let cohort = Cohort::new();
    split(&cohort, &[], &["sim/night-4.hdf5"]);
    let said = cohort.refused("run", &[], 2);
    assert!(said.contains("'pretrain' of the split names 0 recording(s)"), "{said}");
    split(&cohort, &["sim/night-0.hdf5"], &["sim/night-4.hdf5"]);
    let said = cohort.refused("run", &[], 2);
    assert!(said.contains("names 1 recording(s), 1 of them usable, 20 window(s)"), "{said}");
    split(&cohort, &["sim/night-0.hdf5", "sim/night-1.hdf5"], &[]);
    assert!(cohort.refused("run", &[], 2).contains("'validation' of the split names 0"));
    assert!(!cohort.path("run").exists());
}

#[test]
fn recordings_that_are_missing_cut_or_too_short() {
    let cohort = Cohort::new();
    let one = cohort.path("store/sim/night-1.hdf5");
    std::fs::remove_file(&one).unwrap();
    assert!(cohort.refused("run", &[], 3).contains("store/sim/night-1.hdf5: cannot be read"));
    let whole = std::fs::read(cohort.path("store/sim/night-0.hdf5")).unwrap();
    std::fs::write(&one, &whole[..whole.len() / 2]).unwrap();
    assert!(cohort.refused("run", &[], 3).contains("store/sim/night-1.hdf5: "));
    // Shorter than a window: passed over, with a line.
    std::fs::remove_file(&one).unwrap();
    recording(&one, 1, 1);
    cohort.configure("window_patches = 4", "window_patches = 8");
    let said = cohort.pretrain("run", &["--stop-after", "1"]);
    assert!(said.contains("without sim/night-1.hdf5"), "{said}");
}

#[test]
fn a_configuration_that_cannot_be() {
    let cohort = Cohort::new();
    for (from, to, wanted) in [
        ("batch_size = 8", "batch_sise = 8", "did you mean 'batch_size'"),
        ("batch_size = 8", "batch_size = 1", "[pretrain] batch_size is 1, not in 2 to 65536"),
        ("heads = 2\np", "heads = 3\np", "[network] heads is 3"),
        ("patch_samples = 64", "patch_samples = 65", "[network] patch_samples is 65"),
        ("learning_rate = 0.01", "learning_rate = -1", "[pretrain.optimizer] learning_rate is -1"),
        ("kind = \"cosine\"", "kind = \"sine\"", "unknown variant `sine`"),
        ("passes = 1000", "passes = 0", "[pretrain] passes is 0"),
        ("layers = 1", "layers = 1\nrate_hz = 64", "rate_hz is 64"),
        ("[pretrain]", "[pretraining]", "did you mean 'pretrain'"),
    ] {
        cohort.configure(from, to);
        let said = cohort.refused("run", &[], 2);
        assert!(said.contains("run.toml") && said.contains(wanted), "{said}");
    }
    assert!(!cohort.path("run").exists());
}

#[test]
fn a_folder_with_another_run() {
    let cohort = Cohort::new();
    assert!(cohort.refused("run", &["--resume"], 2).contains("holds no last.ckpt"));
    cohort.pretrain("run", &["--stop-after", "1"]);
    let before = std::fs::read(cohort.path("run/last.ckpt")).unwrap();
    assert!(cohort.refused("run", &[], 2).contains("give --resume"));
    let said = cohort.refused("run", &["--resume", "--seed", "4"], 2);
    assert!(said.contains("was begun with another [pretrain]"), "{said}");
    cohort.configure("layers = 1", "layers = 2");
    let said = cohort.refused("run", &["--resume"], 2);
    assert!(said.contains("was begun with another [network]"), "{said}");
    cohort.configure("layers = 1", "layers = 1");
    split(&cohort, &["sim/night-0.hdf5", "sim/night-1.hdf5"], &["sim/night-4.hdf5"]);
    let said = cohort.refused("run", &["--resume"], 2);
    assert!(said.contains("was begun with 80 windows"), "{said}");
    assert_eq!(std::fs::read(cohort.path("run/last.ckpt")).unwrap(), before);
    let kept = std::fs::read_to_string(cohort.path("run/config.toml")).unwrap();
    assert!(kept.contains("layers = 1") && kept.contains("seed = 3"));

    std::fs::write(cohort.path("run/last.ckpt"), &before[..before.len() / 2]).unwrap();
    let said = cohort.refused("run", &["--resume"], 4);
    assert!(said.contains("last.ckpt: is no checkpoint"), "{said}");
}

#[test]
fn a_device_that_is_not_there() {
    let cohort = Cohort::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sfm-train"));
    command.current_dir(cohort.folder.path()).args([
        "pretrain",
        "--config",
        "run.toml",
        "--store",
        "store",
        "--split",
        "split.json",
        "--out",
        "run",
        "--device",
        "cuda:99",
    ]);
    let said = refusal(&command.output().unwrap(), 2);
    assert!(said.contains("--device cuda:99 is not usable"), "{said}");
}
