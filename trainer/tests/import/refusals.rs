//! Input that must be refused, in one line that names what is wrong, and the exit codes.

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use burn::backend::Flex;
use serde_json::Value;
use sfm_models::Bundle;
use sfm_trainer::checkpoint::{Checkpoint, CheckpointError};
use sfm_trainer::import::{self, ImportError};

use crate::data::{Device, mini};

/// A copy of one of mini's model folders that a test may damage.
fn copy_of(model: &str, test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(mini().dir.join(model)).unwrap() {
        let path = entry.unwrap().path();
        // The original may be read-only; its copy must not be.
        std::fs::write(folder.join(path.file_name().unwrap()), std::fs::read(&path).unwrap())
            .unwrap();
    }
    folder
}

fn edit_config(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
}

fn base_error(folder: &Path) -> ImportError {
    import::base::<Flex>(folder, &Device::default()).unwrap_err()
}

#[track_caller]
fn assert_says(error: &ImportError, parts: &[&str]) {
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

#[test]
fn a_shape_that_differs_names_the_tensor_and_both_shapes() {
    let folder = copy_of("model_base", "shape");
    edit_config(&folder, |config| config["embed_dim"] = 64.into());
    let error = base_error(&folder);
    assert!(matches!(error, ImportError::Checkpoint(CheckpointError::Shape { .. })));
    let name = "patch_embedding.tokenizer.26.weight";
    assert_says(&error, &["best.pt", name, "[32, 128]", "[64, 128]"]);
}

#[test]
fn a_patch_size_that_differs_is_refused_by_the_first_norm() {
    let folder = copy_of("model_base", "patch");
    edit_config(&folder, |config| config["patch_size"] = 1280.into());
    assert_says(&base_error(&folder), &["tokenizer.3.weight", "[4, 320]", "[4, 640]"]);
}

#[test]
fn a_missing_tensor_is_named() {
    let folder = copy_of("model_base", "missing");
    edit_config(&folder, |config| config["num_layers"] = 2.into());
    let error = base_error(&folder);
    assert!(matches!(error, ImportError::Checkpoint(CheckpointError::Missing { .. })));
    assert_says(&error, &["best.pt", "transformer_encoder.layers.1."]);
}

#[test]
fn a_surplus_tensor_is_named() {
    let checkpoint = Checkpoint::open(&mini().dir.join("model_diagnosis/best.pth")).unwrap();
    let error = checkpoint.finish().unwrap_err();
    assert!(error.to_string().contains("demo_embedding.0.bias [8]"), "{error}");

    let folder = copy_of("model_diagnosis", "surplus");
    edit_config(&folder, |config| config["model"] = "DiagnosisFinetuneFullLSTMCOXPH".into());
    let error = import::risk(&folder, &mini().base(), &Device::default()).unwrap_err();
    assert_says(&error, &["disease_heads.weight", "[12, 40]", "[12, 32]"]);
}

#[test]
fn every_key_that_is_needed_is_asked_for() {
    let keys = [
        "model",
        "embed_dim",
        "num_heads",
        "num_layers",
        "pooling_head",
        "dropout",
        "patch_size",
        "sampling_duration",
        "sampling_freq",
        "modality_types",
        "EKG_CHANNELS",
    ];
    for key in keys {
        let folder = copy_of("model_base", "keys");
        edit_config(&folder, |config| {
            config.as_object_mut().unwrap().remove(key).unwrap();
        });
        let error = base_error(&folder);
        assert!(matches!(error, ImportError::Config { .. }), "{key}: {error}");
        assert_says(&error, &["config.json", key]);
    }
}

#[test]
fn sizes_that_cannot_be_are_refused_before_the_weights_are_read() {
    let edits: [(&str, Value); 9] = [
        ("embed_dim", 0.into()),
        ("embed_dim", 1_000_000_000.into()),
        ("num_heads", 3.into()),
        ("pooling_head", 0.into()),
        ("num_layers", 1_000_000_000_u64.into()),
        ("patch_size", 650.into()),
        ("sampling_duration", 1e300.into()),
        ("sampling_freq", 0.into()),
        ("modality_types", serde_json::json!(["BAS", "BAS"])),
    ];
    for (key, value) in edits {
        let folder = copy_of("model_base", "ranges");
        edit_config(&folder, |config| config[key] = value.clone());
        std::fs::remove_file(folder.join("best.pt")).unwrap();
        let error = base_error(&folder);
        assert!(matches!(error, ImportError::Config { .. }), "{key} {value}: {error}");
    }
}

#[test]
fn a_head_of_another_network_is_refused() {
    let base = mini().base();
    let folder = copy_of("model_sleep_staging", "head");
    edit_config(&folder, |config| config["model_params"]["embed_dim"] = 64.into());
    let error = import::staging(&folder, &base, &Device::default()).unwrap_err();
    assert_says(&error, &["config.json", "embed_dim is 64", "32"]);

    let folder = copy_of("model_sleep_staging", "classes");
    edit_config(&folder, |config| config["model_params"]["num_classes"] = 4.into());
    let error = import::staging(&folder, &base, &Device::default()).unwrap_err();
    assert_says(&error, &["num_classes is 4", "5 classes"]);

    let error = import::staging(&mini().dir.join("model_base"), &base, &Device::default());
    assert!(matches!(error.unwrap_err(), ImportError::Config { .. }));
}

#[test]
fn damaged_checkpoints_are_refused() {
    let folder = copy_of("model_base", "damaged");
    let path = folder.join("best.pt");
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let cuts = [0, 1, 30, 1000, whole.len() / 2, whole.len() - 1].map(|cut| whole[..cut].to_vec());
    let noise: Vec<u8> =
        (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for bytes in cuts.into_iter().chain([flipped, noise]) {
        std::fs::write(&path, bytes).unwrap();
        let error = base_error(&folder);
        assert!(
            matches!(error, ImportError::Checkpoint(CheckpointError::Damaged { .. })),
            "{error}"
        );
        assert_says(&error, &["best.pt"]);
    }
}

/// The checkpoint `bytes` with its pickle changed by `edit`, checksums fitting again.
fn with_pickle(bytes: &[u8], edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut edit = Some(edit);
    let mut old = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut new = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for index in 0..old.len() {
        let mut entry = old.by_index(index).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if name.ends_with("data.pkl") {
            edit.take().unwrap()(&mut content);
        }
        new.start_file(name, options).unwrap();
        new.write_all(&content).unwrap();
    }
    new.finish().unwrap().into_inner()
}

#[test]
fn a_pickle_of_nonsense_is_refused() {
    let folder = copy_of("model_sleep_staging", "pickle");
    let path = folder.join("best.pth");
    let whole = std::fs::read(&path).unwrap();
    let mut length = 0;
    std::fs::write(&path, with_pickle(&whole, |pickle| length = pickle.len())).unwrap();
    let base = mini().base();
    assert!(import::staging(&folder, &base, &Device::default()).is_ok());
    for at in (0..length).step_by(37) {
        for value in [0, 0x2e, 0x8e, 0xff] {
            let edited = with_pickle(&whole, |pickle| pickle[at] = value);
            std::fs::write(&path, edited).unwrap();
            // Some bytes are of no consequence; what counts is that nothing panics.
            if let Err(error) = import::staging(&folder, &base, &Device::default()) {
                assert_says(&error, &["best.pth"]);
            }
        }
        std::fs::write(&path, with_pickle(&whole, |pickle| pickle.truncate(at))).unwrap();
        assert!(import::staging(&folder, &base, &Device::default()).is_err());
    }
}

fn sfm_train(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sfm-train")).args(arguments).output().unwrap()
}

#[track_caller]
fn assert_exit(arguments: &[&str], code: i32) {
    let output = sfm_train(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    if code > 2 {
        assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    }
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let mini = mini().dir;
    let folder = |name: &str| mini.join(name).to_str().unwrap().to_owned();
    let (base, staging) = (folder("model_base"), folder("model_sleep_staging"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exit.sfm");
    let out = out.to_str().unwrap();
    let _ = std::fs::remove_file(out);
    assert_exit(&["import", "--base", &base], 2);
    assert_exit(&["import", "--base", &base, "--out", out, "--age-range", "90,20"], 2);
    assert_exit(&["import", "--base", "/nonexistent", "--out", out], 3);
    assert_exit(&["import", "--base", &staging, "--out", out], 4);
    assert_exit(&["import", "--base", &base, "--out", "/nonexistent/x.sfm"], 5);
    assert!(!Path::new(out).exists());
    assert_exit(&["import", "--base", &base, "--out", out], 0);
}

#[test]
fn the_same_weights_give_the_same_bytes() {
    let mini = mini().dir;
    let folder = |name: &str| mini.join(name).to_str().unwrap().to_owned();
    let (base, staging, risk) =
        (folder("model_base"), folder("model_sleep_staging"), folder("model_diagnosis"));
    let labels = Path::new(env!("CARGO_TARGET_TMPDIR")).join("labels.csv");
    let rows: String = (0..12).map(|i| format!("{i},{i}.1,\"Disease, {i}\"\n")).collect();
    std::fs::write(&labels, format!("label_idx,phecode,phenotype\n{rows}")).unwrap();
    let bundles = ["a", "b"].map(|name| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.sfm"));
        let output = sfm_train(&[
            "import",
            "--base",
            &base,
            "--staging",
            &staging,
            "--risk",
            &risk,
            "--random-weights",
            "--labels",
            labels.to_str().unwrap(),
            "--name",
            "mini",
            "--age-range",
            "18,90",
            "--out",
            out.to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8(output.stdout).unwrap().contains("caution  random weights"));
        std::fs::read(out).unwrap()
    });
    assert!(bundles[0] == bundles[1]);
    let [bytes, _] = bundles;
    let bundle = Bundle::from_bytes(bytes).unwrap();
    let risk = bundle.manifest().risk.as_ref().unwrap();
    assert!(risk.demographics && risk.has_labels && bundle.manifest().training.random_weights);
    assert_eq!((risk.classes, risk.age_range), (12, (18.0, 90.0)));
    assert_eq!(bundle.labels().unwrap()[3].phenotype, "Disease, 3");
    assert!(bundle.manifest().graphs().iter().all(|name| bundle.graph(name).is_some()));
}

/// The checkpoint with another pickle, refused by `sfm-train import` with exit code 3 in one line.
#[track_caller]
fn assert_excess(test: &str, pickle: Vec<u8>, reason: &str) {
    let folder = copy_of("model_base", test);
    let path = folder.join("best.pt");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, with_pickle(&whole, |old| *old = pickle)).unwrap();
    let out = folder.join("x.sfm");
    let arguments = ["import", "--base", folder.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let output = sfm_train(&arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    assert!(stderr.contains("best.pt") && stderr.contains(reason), "{stderr}");
}

#[test]
fn pickles_that_ask_for_stack_or_memory_are_unreadable() {
    // 8 MB of tuples within tuples; a list doubled 40 times; a pickle longer than any.
    let deep = [&b"\x80\x02)"[..], &b"\x85".repeat(8 << 20), b"."].concat();
    assert_excess("deep", deep, "over 64 deep");
    let doubled = [&b"\x80\x02]q\x00"[..], &b"(h\x00h\x00eq\x00".repeat(40), b"."].concat();
    assert_excess("doubled", doubled, "MiB");
    assert_excess("long", b"N".repeat((64 << 20) + 1), "over the limit of 67108864");
}

#[test]
fn a_tensor_that_claims_more_than_the_file_is_refused() {
    let folder = copy_of("model_base", "claims");
    let path = folder.join("best.pt");
    let whole = std::fs::read(&path).unwrap();
    // The rows of the positional table come from the tensor alone: 2^30 of them, as a 4-byte number.
    let mut edited = false;
    let bytes = with_pickle(&whole, |pickle| {
        let name = b"positional_encoding.pe";
        let at = pickle.windows(name.len()).position(|w| w == name).unwrap();
        // (1, rows, 32): two bytes or one for the rows.
        let size =
            (at..pickle.len() - 8).find(|&i| pickle[i] == b'K' && pickle[i + 1] == 1).unwrap();
        let rows = size + 2;
        let length = if pickle[rows] == b'M' { 3 } else { 2 };
        pickle.splice(rows..rows + length, *b"J\x00\x00\x00\x40");
        edited = true;
    });
    assert!(edited);
    std::fs::write(&path, bytes).unwrap();
    assert_says(&base_error(&folder), &["best.pt", "claims more values than the file holds"]);
}
