//! Reading and writing bundles: what comes back, and what is refused.

// A test may panic.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use sfm_models::bundle::{LABELS, MAX_FILES};
use sfm_models::{Bundle, BundleError, BundleWriter, Manifest};

const MANIFEST: &str = r#"{
  "format_version": 1, "name": "test", "exporter": "test", "license": "MIT",
  "preprocessing": {"rate_hz": 128, "patch_samples": 640, "lowpass_hz": 64.0, "lowpass_order": 4},
  "base": {
    "embed_dim": 32, "heads": 4, "pooling_heads": 4, "layers": 1, "feed_forward": 2048,
    "window_patches": 60, "single_channel": "skip", "modalities": ["BAS", "RESP", "EKG", "EMG"],
    "max_channels": {"BAS": 10}
  },
  "risk": {
    "classes": 2, "pooling_heads": 4, "max_seq_length": 6480, "age_range": [0.0, 100.0],
    "has_labels": true, "has_quantiles": false
  },
  "training": {"data": "none", "random_weights": true},
  "files": {}
}"#;
const GRAPHS: [&str; 5] = ["tokenizer", "pool", "encoder", "risk.pool", "risk.rnn"];

fn manifest() -> Manifest {
    serde_json::from_str(MANIFEST).unwrap()
}

fn writer() -> BundleWriter {
    let mut writer = BundleWriter::new();
    for name in GRAPHS {
        writer.graph(name, format!("the graph of {name}").into_bytes());
    }
    writer.file(
        LABELS,
        b"label_idx,phecode,phenotype\n1,8.5,\"Enteritis, viral\"\n0,8,Flu\n".to_vec(),
    );
    writer
}

fn valid() -> Vec<u8> {
    writer().to_bytes(manifest()).unwrap()
}

/// Replaces every occurrence of `from` (names occur in the directory and before the data).
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let mut found = 0;
    for start in 0..=bytes.len() - from.len() {
        if &bytes[start..start + from.len()] == from {
            bytes[start..start + from.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0);
    bytes
}

/// A zip of stored files with any names and contents.
fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in files {
        zip.start_file(*name, options).unwrap();
        std::io::Write::write_all(&mut zip, bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[track_caller]
fn refused(bytes: Vec<u8>, part: &str) {
    let error = Bundle::from_bytes(bytes).unwrap_err();
    let message = error.to_string();
    assert!(message.contains(part), "'{part}' is not in: {message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn what_was_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.sfm");
    let sha256 = writer().write(&path, manifest()).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    assert_eq!(bundle.sha256(), sha256);
    assert_eq!(bundle.manifest().base, manifest().base);
    assert_eq!(bundle.graph("risk.rnn"), Some(&b"the graph of risk.rnn"[..]));
    assert_eq!(bundle.graph("staging.rnn"), None);
    let labels = bundle.labels().unwrap();
    assert_eq!((labels[0].label_idx, labels[1].label_idx), (0, 1));
    assert_eq!(labels[1].phenotype, "Enteritis, viral");
    // Nothing is left beside it, and writing again replaces it.
    assert_eq!(writer().write(&path, manifest()).unwrap(), sha256);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn nothing_is_written_that_could_not_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.sfm");
    let error = BundleWriter::new().write(&path, manifest()).unwrap_err();
    assert!(matches!(error, BundleError::Missing(name) if name == "tokenizer.onnx"));
    assert!(!path.exists());
}

#[test]
fn what_is_no_bundle_is_refused() {
    for bytes in [vec![], b"PK".to_vec(), vec![0; 4096], b"EDF".repeat(1000)] {
        assert!(matches!(Bundle::from_bytes(bytes), Err(BundleError::Layout(_))));
    }
    refused(zip_of(&[("a.txt", b"a")]), "manifest.json");
    refused(zip_of(&[("manifest.json", b"{}")]), "format_version");
    assert!(matches!(Bundle::open("/nonexistent.sfm"), Err(BundleError::Read(_))));
    let folder = Bundle::open(std::env::temp_dir());
    assert!(matches!(folder, Err(BundleError::Layout(_))), "{folder:?}");
    for cut in [10, valid().len() / 2, valid().len() - 1] {
        refused(valid()[..cut].to_vec(), "is not a model bundle");
    }
}

#[test]
fn a_newer_format_says_so() {
    let newer = br#"{"format_version": 2, "unheard_of": {}}"#;
    refused(zip_of(&[("manifest.json", newer)]), "made by a newer version");
}

#[test]
fn tampering_is_found() {
    refused(replaced(&valid(), b"the graph of pool", b"the graph of poll"), "pool.onnx");
    refused(replaced(&valid(), b"Enteritis", b"Enteritus"), LABELS);
}

#[test]
fn files_that_the_manifest_does_not_list_are_refused() {
    let bytes = replaced(&valid(), b"pool.onnxthe graph of pool", b"poll.onnxthe graph of pool");
    // The name in the zip's directory, which is what counts, comes after the data.
    let at = bytes.windows(9).rposition(|w| w == b"pool.onnx").unwrap();
    let mut bytes = bytes;
    let start = bytes[..at].windows(9).rposition(|w| w == b"pool.onnx").unwrap();
    bytes[start..start + 9].copy_from_slice(b"poll.onnx");
    refused(bytes, "poll.onnx");
}

#[test]
fn names_with_a_path_are_refused() {
    for name in ["/etc/passwd", "../x.onnx", "a/b.onnx", "..", ".hidden", "a\\b", "a\0b", "é"] {
        refused(zip_of(&[("manifest.json", MANIFEST.as_bytes()), (name, b"x")]), "plain file name");
    }
}

#[test]
fn doubled_names_are_refused() {
    let bytes = zip_of(&[("manifest.json", b"{}"), ("aa.onnx", b"1"), ("ab.onnx", b"2")]);
    refused(replaced(&bytes, b"ab.onnx", b"aa.onnx"), "same name");
}

#[test]
fn zip_bombs_are_refused() {
    // Compression method 8 in the local and in the central header of the last file.
    let mut bytes = valid();
    let central = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    bytes[central + 10] = 8;
    refused(bytes, "compressed");

    // A file that claims 4 GB.
    let mut bytes = valid();
    bytes[central + 20..central + 28].copy_from_slice(&[0xf0, 0xff, 0xff, 0xff].repeat(2));
    assert!(Bundle::from_bytes(bytes).is_err());

    // All entries at the first file's place.
    let mut bytes = valid();
    bytes[central + 42..central + 46].copy_from_slice(&[0; 4]);
    assert!(Bundle::from_bytes(bytes).is_err());

    let names: Vec<String> = (0..=MAX_FILES).map(|i| format!("{i}.onnx")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    refused(zip_of(&files), "over the limit");
}

#[test]
fn sizes_out_of_range_are_refused() {
    let edits = [
        ("embed_dim\": 32", "embed_dim\": 0"),
        ("embed_dim\": 32", "embed_dim\": 1000000000"),
        ("\"heads\": 4", "\"heads\": 5"),
        ("\"heads\": 4", "\"heads\": 0"),
        ("window_patches\": 60", "window_patches\": 100000"),
        ("layers\": 1", "layers\": 999999999"),
        ("lowpass_hz\": 64.0", "lowpass_hz\": 65.0"),
        ("\"EKG\", ", "\"BAS\", "),
        ("[0.0, 100.0]", "[100.0, 0.0]"),
        ("classes\": 2", "classes\": -2"),
        ("\"license\"", "\"licence\""),
    ];
    for (from, to) in edits {
        assert!(MANIFEST.contains(from));
        let json = MANIFEST.replace(from, to);
        let error = Bundle::from_bytes(zip_of(&[("manifest.json", json.as_bytes())])).unwrap_err();
        assert!(matches!(error, BundleError::Manifest(_)), "{to}: {error}");
    }
}

#[test]
fn labels_must_fit_the_hazards() {
    let tables = [
        "label_idx,phecode,phenotype\n0,8,Flu\n",
        "label_idx,phecode,phenotype\n0,8,Flu\n0,9,Cold\n",
        "label_idx,phecode,phenotype\n0,8,Flu\n1,9,Cold\n2,10,Cough\n",
        "label_idx,phecode\n0,8\n1,9\n",
        "no table",
        "label_idx,phecode,phenotype\n0,8,\u{fffd}\n-1,9,Cold\n",
    ];
    for table in tables {
        let mut writer = writer();
        writer.file(LABELS, table.into());
        let bundle = Bundle::from_bytes(writer.to_bytes(manifest()).unwrap()).unwrap();
        assert!(matches!(bundle.labels(), Err(BundleError::Labels(_))), "{table}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Bundle::from_bytes(bytes);
    }

    #[test]
    fn damage_is_refused_or_harmless(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = valid();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(bundle) = Bundle::from_bytes(bytes) {
            // The manifest's texts may have changed; what it vouches for has not.
            for name in GRAPHS {
                let written = format!("the graph of {name}");
                prop_assert_eq!(bundle.graph(name), Some(written.as_bytes()));
            }
            let _ = bundle.labels();
        }
    }

    #[test]
    fn no_manifest_panics(json in "[{}\\[\\]\":,a-z_0-9.]{0,200}") {
        let _ = Bundle::from_bytes(zip_of(&[("manifest.json", json.as_bytes())]));
    }
}
