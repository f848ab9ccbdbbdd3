use super::*;

const E: usize = 4;

fn network() -> JournalNetwork {
    JournalNetwork { bundle_sha256: "ab".repeat(32), embed_dim: E as u32, window_patches: 6 }
}

/// A window whose numbers tell it from every other.
fn window(index: u32, patches: u32) -> JournalWindow {
    let numbers = |count: usize, offset: f32| {
        (0..count).map(|i| index as f32 + offset + i as f32 * 0.1).collect()
    };
    let modality = |offset: f32| JournalModality {
        tokens: numbers(patches as usize * E, offset),
        present: (0..patches).map(|row| f32::from(u8::from(row != 1))).collect(),
        pooled: numbers(E, -offset),
    };
    let epoch = JournalEpoch {
        epoch: index,
        stage: Some(SleepStage::Rem),
        probabilities: [0.1, 0.2, 0.3, 0.15, f32::MIN_POSITIVE],
        quality: 0.75,
    };
    JournalWindow {
        window: index,
        first_patch: index * 6,
        patches,
        modalities: [Some(modality(0.5)), None, Some(modality(f32::EPSILON)), None],
        epochs: vec![epoch],
    }
}

fn written(dir: &Path, windows: u32) -> Vec<JournalWindow> {
    let mut journal = Journal::create(dir, network()).expect("created");
    (0..windows)
        .map(|index| {
            let window = window(index, 6);
            journal.append(&window).expect("appended");
            window
        })
        .collect()
}

#[test]
fn windows_come_back_to_the_bit_and_the_journal_goes_on() {
    let dir = tempfile::tempdir().expect("folder");
    let mut expected = written(dir.path(), 3);
    let (mut journal, windows) = Journal::reopen(dir.path(), network()).expect("reopened");
    assert_eq!(windows, expected);
    expected.push(window(3, 6));
    journal.append(&expected[3]).expect("appended");
    let (_, windows) = Journal::reopen(dir.path(), network()).expect("reopened");
    assert_eq!(windows, expected);
}

#[test]
fn not_a_number_comes_back_as_it_was() {
    let dir = tempfile::tempdir().expect("folder");
    let mut journal = Journal::create(dir.path(), network()).expect("created");
    let odd = f32::from_bits(0x7fc0_1234);
    let mut absent = window(0, 6);
    absent.epochs[0].probabilities = [odd; 5];
    absent.epochs[0].stage = None;
    journal.append(&absent).expect("appended");
    let (_, windows) = Journal::reopen(dir.path(), network()).expect("reopened");
    assert_eq!(windows[0].epochs[0].probabilities.map(f32::to_bits), [0x7fc0_1234; 5]);
}

#[test]
fn a_cut_at_any_byte_keeps_the_whole_entries_before_it() {
    let dir = tempfile::tempdir().expect("folder");
    let expected = written(dir.path(), 2);
    let path = dir.path().join(JOURNAL);
    let bytes = std::fs::read(&path).expect("reads");
    let whole = |bytes: &[u8]| {
        let contents = Contents::read(bytes, &network()).expect("is a journal");
        contents.map(|contents| (contents.windows.len(), contents.whole_bytes))
    };
    let (_, all) = whole(&bytes).expect("whole");
    assert_eq!(all, bytes.len() as u64);
    let (mut seen, mut last) = ([0; 3], 0);
    for cut in 0..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).expect("writes");
        let (mut journal, windows) = Journal::reopen(dir.path(), network()).expect("reopened");
        assert_eq!(windows, expected[..windows.len()]);
        assert!(windows.len() >= last && windows.len() < 2);
        last = windows.len();
        seen[windows.len()] += 1;
        let next = window(windows.len() as u32, 6);
        journal.append(&next).expect("appended");
        let after = std::fs::read(&path).expect("reads");
        assert_eq!(whole(&after), Some((windows.len() + 1, after.len() as u64)));
    }
    assert!(seen[0] > 50 && seen[1] > 50, "{seen:?}");
}

#[test]
fn damage_ends_the_journal_there() {
    let dir = tempfile::tempdir().expect("folder");
    written(dir.path(), 3);
    let bytes = std::fs::read(dir.path().join(JOURNAL)).expect("reads");
    let count = |bytes: &[u8]| match Contents::read(bytes, &network()) {
        Ok(contents) => contents.map_or(0, |contents| contents.windows.len()),
        Err(_) => 0,
    };
    assert_eq!(count(&bytes), 3);
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x40;
        assert!(count(&damaged) < 3, "a flipped bit at {place} was not seen");
    }
    // A length beyond all entries is not believed.
    let mut long = bytes[..bytes.len() - 1].to_vec();
    long.extend([0xff; 64]);
    assert!(count(&long) < 3);
}

#[test]
fn a_part_window_is_dropped_when_the_session_goes_on() {
    let dir = tempfile::tempdir().expect("folder");
    let expected = written(dir.path(), 2);
    let (mut journal, _) = Journal::reopen(dir.path(), network()).expect("reopened");
    journal.append(&window(2, 4)).expect("the end of the session");
    let (mut journal, windows) = Journal::reopen(dir.path(), network()).expect("reopened");
    assert_eq!(windows, expected);
    journal.append(&window(2, 6)).expect("appended");
    let (_, windows) = Journal::reopen(dir.path(), network()).expect("reopened");
    assert_eq!(windows.len(), 3);
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_written() {
    let dir = tempfile::tempdir().expect("folder");
    written(dir.path(), 1);
    let before = std::fs::read(dir.path().join(JOURNAL)).expect("reads");
    let (mut journal, _) = Journal::reopen(dir.path(), network()).expect("reopened");
    let mut wide = window(1, 6);
    if let Some(modality) = &mut wide.modalities[0] {
        modality.tokens.push(0.0);
    }
    let skewed = JournalWindow { first_patch: 7, ..window(1, 6) };
    for unfit in [window(0, 6), window(2, 6), window(1, 0), window(1, 7), wide, skewed] {
        let error = journal.append(&unfit).expect_err("refused");
        assert!(matches!(error, JournalError::Unfit { .. }), "{error}");
        assert!(!error.to_string().contains('\n'));
    }
    assert_eq!(std::fs::read(dir.path().join(JOURNAL)).expect("reads"), before);
}

#[test]
fn another_bundles_journal_is_refused_in_one_line_and_left_alone() {
    let dir = tempfile::tempdir().expect("folder");
    written(dir.path(), 1);
    let path = dir.path().join(JOURNAL);
    let before = std::fs::read(&path).expect("reads");
    let other = JournalNetwork { bundle_sha256: "cd".repeat(32), ..network() };
    let wider = JournalNetwork { embed_dim: 8, ..network() };
    for (network, expected) in [(other, "another bundle"), (wider, "other sizes")] {
        let message = Journal::reopen(dir.path(), network).expect_err("refused").to_string();
        assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        assert!(message.starts_with(&path.display().to_string()), "{message}");
    }
    assert_eq!(std::fs::read(&path).expect("reads"), before);
}

#[test]
fn a_session_without_a_journal_begins_one() {
    let dir = tempfile::tempdir().expect("folder");
    let (mut journal, windows) = Journal::reopen(dir.path(), network()).expect("begun");
    assert!(windows.is_empty());
    journal.append(&window(0, 6)).expect("appended");
}
