//! Any bytes as a live session's journal, and any entries in whole records of one. Nothing may
//! panic or allocate by what is claimed; what is accepted is consistent and comes back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../../runtime/src/files.rs"]
mod files;
#[allow(dead_code)]
#[path = "../../../runtime/src/journal.rs"]
mod journal;
#[allow(dead_code)]
#[path = "../../../runtime/src/session_folder.rs"]
mod session_folder;

/// What the journal takes of the events.
mod event {
    pub struct SleepEpoch {
        pub epoch: u32,
        pub stage: Option<sfm_models::SleepStage>,
        pub probabilities: [f32; 5],
        pub quality: f32,
    }
}

use journal::{Contents, JournalNetwork};

fn network() -> JournalNetwork {
    JournalNetwork { bundle_sha256: "ab".to_owned(), embed_dim: 2, window_patches: 3 }
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // Checksums keep a fuzzer out of the entries; this way it reaches them. A byte 0xff ends one.
    let mut whole = record(&first());
    for body in bytes.split(|&byte| byte == 0xff) {
        whole.extend(record(body));
    }
    check(&whole);
});

fn check(bytes: &[u8]) {
    let Ok(Some(contents)) = Contents::read(bytes, &network()) else { return };
    assert!(contents.whole_bytes <= bytes.len() as u64, "more than there is");
    for (index, window) in (0..).zip(&contents.windows) {
        assert_eq!((window.window, window.first_patch, window.patches), (index, 3 * index, 3));
        for modality in window.modalities.iter().flatten() {
            assert_eq!((modality.tokens.len(), modality.present.len()), (6, 3));
        }
    }
    // What was kept is read again as the whole of it.
    let kept = &bytes[..contents.whole_bytes as usize];
    let again = Contents::read(kept, &network()).ok().flatten().expect("was accepted");
    assert_eq!(again.windows.len(), contents.windows.len());
}

fn first() -> Vec<u8> {
    let signature: ([u8; 8], u16) = (*b"SFMJRNL\0", 1);
    postcard::to_stdvec(&(signature, network())).expect("fits")
}

fn record(body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_le_bytes();
    let checksum = crc32fast::hash(body).to_le_bytes();
    [&length[..], &checksum, body].concat()
}
