//! Any bytes as a model bundle, as its manifest and as its label table. Nothing may panic, and
//! what is accepted must be consistent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfm_models::Manifest;
use sfm_models::bundle::{Bundle, BundleWriter, Label};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = Bundle::from_bytes(bytes.to_vec()) {
        for name in bundle.manifest().required_files() {
            assert!(bundle.file(&name).is_some(), "{name} was promised");
        }
        let _ = bundle.labels();
    }
    if let Ok(labels) = Label::parse_csv(bytes, 12) {
        assert_eq!(labels.len(), 12);
    }
    // Hashes keep a fuzzer out of whole bundles; this way it reaches the manifest's checks.
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes)
        && let Ok(written) = BundleWriter::new().to_bytes(manifest)
    {
        Bundle::from_bytes(written).expect("what was written is read");
    }
});
