//! Files we did not write: formats recognized by content, real recordings, and non-recordings.

use std::path::{Path, PathBuf};

use sfm_runtime::edf::annotations;
use sfm_runtime::hypnogram::HypnogramWriter;
use sfm_runtime::source::{Recording, Source, open};
use sfm_tests::skip::skipped;

use crate::files::read_all;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)
}

/// A file of the shared folder beside the repository; `None`, and a message, where it is absent.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/edf").join(name);
    if !path.is_file() {
        skipped("shared", format_args!("no {}", path.display()));
        return None;
    }
    Some(path)
}

fn refusal(path: &Path) -> String {
    let Err(error) = open(path) else { panic!("{} was opened", path.display()) };
    let message = error.to_string();
    assert!(message.starts_with(&path.display().to_string()), "{message}");
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn the_repositorys_recording() {
    let mut recording = open(&data("mini/psg.edf")).expect("opens");
    assert!(matches!(recording, Recording::Edf(_)));
    let info = recording.info().clone();
    assert_eq!((info.signals.len(), info.format.as_str()), (18, "EDF"));
    assert_eq!(info.duration_s, Some(360.0));
    let channels = read_all(&mut recording);
    for (signal, stretches) in info.signals.iter().zip(&channels) {
        assert_eq!(stretches.len(), 1, "{}", signal.label);
        assert_eq!(stretches[0].1.len() as f64, 360.0 * signal.rate_hz, "{}", signal.label);
    }
}

#[test]
fn edf_and_bdf_of_the_same_five_minutes() {
    let (Some(edf), Some(bdf)) = (shared("short_psg.edf"), shared("short_psg.bdf")) else { return };
    let (mut edf, mut bdf) = (open(&edf).expect("opens"), open(&bdf).expect("opens"));
    assert_eq!(edf.info().signals.len(), 7);
    assert_eq!(edf.info().duration_s, Some(300.0));
    assert_eq!(edf.info().start.as_deref(), Some("1989-04-24T16:13:00"));
    assert_eq!(read_all(&mut edf), read_all(&mut bdf));
}

#[test]
fn a_start_within_a_second_shifts_nothing() {
    let Some(path) = shared("test_subsecond.edf") else { return };
    let recording = open(&path).expect("opens");
    assert_eq!(recording.info().start.as_deref(), Some("2020-01-24T04:05:56.394"));
    assert_eq!(recording.info().signals.len(), 1);
    assert_eq!(annotations(&path).expect("reads")[0].onset_s, 1.951_171_9);
}

#[test]
fn a_scored_night() {
    let Some(path) = shared("SC4001EC-Hypnogram.edf") else { return };
    let scored = annotations(&path).expect("reads");
    assert_eq!((scored[0].text.as_str(), scored[0].duration_s), ("Sleep stage W", Some(30_630.0)));
    assert!(scored.iter().any(|a| a.text == "Sleep stage 4"));
    assert!(refusal(&path).contains("holds annotations but no signals"));
}

#[test]
fn a_hypnogram_we_wrote() {
    use sfm_models::SleepStage::{N2, Rem, Wake};
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("hypnogram.edf");
    let mut hypnogram = HypnogramWriter::create(&path, None).expect("creates");
    assert_eq!(annotations(&path).expect("opens before the first epoch"), []);
    let stages = [None, Some(Wake), Some(N2), Some(Rem)];
    for (epoch, stage) in stages.into_iter().enumerate() {
        hypnogram.append(stage).expect("appends");
        assert_eq!(annotations(&path).expect("opens after each epoch").len(), epoch + 1);
    }
    hypnogram.finish().expect("finishes");
    let read: Vec<_> = annotations(&path)
        .expect("reads")
        .into_iter()
        .map(|a| (a.onset_s, a.duration_s, a.text))
        .collect();
    let epoch = |i: usize, text: &str| (30.0 * i as f64, Some(30.0), text.to_owned());
    assert_eq!(
        read,
        [
            epoch(0, "Sleep stage ?"),
            epoch(1, "Sleep stage W"),
            epoch(2, "Sleep stage N2"),
            epoch(3, "Sleep stage R")
        ]
    );
}

#[test]
fn what_is_no_recording_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    assert!(refusal(folder.path()).contains("folder"));
    assert!(refusal(&folder.path().join("absent.edf")).contains("No such file"));
    let noise: Vec<u8> =
        (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (content, reason) in [
        (&b""[..], "is empty"),
        (b"Dear diary, I slept badly.\n", "neither EDF"),
        (&noise, "neither EDF"),
        (&[0; 4096], "neither EDF"),
        (b"0       cut", "is cut"),
        (b"\x89HDF\r\n\x1a\n", "damaged HDF5"),
        (b"PK\x03\x04a bundle", "neither EDF"),
    ] {
        // The name says EDF: it must not matter.
        let path = folder.path().join("study.edf");
        std::fs::write(&path, content).expect("write");
        assert!(refusal(&path).contains(reason), "{}", refusal(&path));
    }
}
