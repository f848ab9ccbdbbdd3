//! Files that are cut or damaged: one line that names them, never a panic.

use sfm_models::Modality;
use sfm_tests::reference;
use sfm_trainer::data::{DataError, Night, StoreFile};

/// Opens a file and reads all of it.
fn read_all(path: &std::path::Path) -> Result<(), DataError> {
    let file = StoreFile::open(path)?;
    let mut out = vec![0.0; 5_000];
    for (index, channel) in file.channels().iter().enumerate() {
        for first in (0..channel.samples).step_by(out.len()) {
            file.read(index, first, &mut out)?;
        }
    }
    Ok(())
}

#[test]
fn a_store_that_is_cut_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.hdf5");
    let whole = std::fs::read(reference::mini().dir.join("psg.hdf5")).unwrap();
    for part in [0, 1, 8, 100, 2_000, whole.len() / 3, whole.len() / 2, whole.len() - 1_000] {
        std::fs::write(&path, &whole[..part]).unwrap();
        let Err(refusal) = read_all(&path) else { panic!("{part} bytes are read") };
        let refusal = refusal.to_string();
        assert!(refusal.contains("cut.hdf5") && !refusal.contains('\n'), "{part}: {refusal}");
    }
}

#[test]
fn damage_anywhere_is_an_error_or_other_samples_but_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.hdf5");
    let whole = std::fs::read(reference::mini().dir.join("psg.hdf5")).unwrap();
    let mut place = 9_u64;
    for _ in 0..150 {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut bytes = whole.clone();
        // Half of the damage lies in the headers at the front.
        let reach = if place & 1 == 0 { 20_000 } else { bytes.len() };
        let at = (place >> 33) as usize % (reach - 8);
        bytes[at..at + 4].copy_from_slice(&[0xff, 0xfe, 0x80, 0x00]);
        std::fs::write(&path, &bytes).unwrap();
        if let Err(refusal) = read_all(&path) {
            assert!(!refusal.to_string().contains('\n'));
        }
        let _ = Night::read(&path, &Modality::ALL);
    }
}

#[test]
fn other_files_are_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.hdf5");
    std::fs::write(&path, "Study ID,age\n").unwrap();
    for path in [path, dir.path().to_owned(), dir.path().join("absent.hdf5")] {
        assert!(StoreFile::open(&path).is_err());
        assert!(Night::read(&path, &Modality::ALL).is_err());
    }
    // Signals are no embeddings, though some are named as modalities.
    let signals = reference::mini().dir.join("psg.hdf5");
    assert!(
        Night::read(signals, &Modality::ALL).unwrap_err().to_string().contains("has 1 dimensions")
    );
}
