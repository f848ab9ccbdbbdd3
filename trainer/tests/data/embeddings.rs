//! Embeddings of a store: against the reference, against `sfm-stream`, and burn against tract.

use sfm_models::Modality;
use sfm_runtime::pipeline::Network;
use sfm_tests::reference;
use sfm_trainer::data::embeddings::{Rows, write};
use sfm_trainer::data::{Night, StoreFile};
use sfm_trainer::embed::{self, BurnEmbedder, Embedded, Embedder, RuntimeEmbedder};

use crate::made::{base, bundle, by_the_rules, edf, final_pass, noise, store_of, tract};

/// Largest absolute difference to the reference and between engines.
const TOLERANCE: f32 = 1e-4;

fn rows(all: &[Rows], modality: Modality) -> &[f32] {
    &all.iter().find(|rows| rows.modality == modality).unwrap().values
}

#[test]
fn of_the_references_store_they_are_the_references() {
    for reference in reference::all() {
        let file = StoreFile::open(reference.dir.join("psg.hdf5")).unwrap();
        let embedder = RuntimeEmbedder::load(&bundle(&reference), &tract()).unwrap();
        let found = embed::recording(&file, &embedder, true).unwrap();
        check(&reference, "embeddings_5s", &found.tokens);
        check(&reference, "embeddings_5min", &found.windows);
    }
}

fn check(reference: &reference::Reference, name: &str, found: &[Rows]) {
    let expected = reference.expected(name);
    let each = expected.shape[1] * expected.shape[2];
    for (modality, expected) in Modality::ALL.into_iter().zip(expected.values.chunks(each)) {
        let what = format!("{name} {modality}");
        reference::assert_close(&what, rows(found, modality), expected, TOLERANCE);
    }
}

#[test]
fn they_are_those_of_the_final_pass_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let mini = reference::mini();
    let bundle = bundle(&mini);
    let store = store_of(&mini, dir.path());
    // A second recording has a hole longer than a window and lacks two modalities.
    let (holes_edf, holes) = (dir.path().join("holes.edf"), dir.path().join("holes.hdf5"));
    let onsets: Vec<f64> = (0..60).map(|s| s as f64 + if s < 21 { 0.0 } else { 931.3 }).collect();
    std::fs::write(&holes_edf, edf(&["EEG C3-M2", "ECG"], &onsets, noise)).unwrap();
    by_the_rules().recording(&holes_edf, &holes).unwrap();

    let network = Network::load(&bundle, &tract()).unwrap();
    let embedder = RuntimeEmbedder::load(&bundle, &tract()).unwrap();
    let embed_dim = embedder.sizes().embed_dim;
    for path in [store, holes] {
        let passed = final_pass(&path, &network);
        let found = embed::recording(&StoreFile::open(&path).unwrap(), &embedder, false).unwrap();
        for modality in Modality::ALL {
            let m = modality.index();
            let absent = passed.windows.iter().all(|w| w.pooled[m].is_none());
            assert_eq!(absent, !found.tokens.iter().any(|rows| rows.modality == modality));
            if absent {
                continue;
            }
            let nan = |n: usize| vec![f32::NAN; n * embed_dim];
            let tokens = passed
                .windows
                .iter()
                .flat_map(|w| w.tokens[m].clone().unwrap_or_else(|| nan(w.patches as usize)));
            let pooled =
                passed.windows.iter().flat_map(|w| w.pooled[m].clone().unwrap_or_else(|| nan(1)));
            assert_same(&tokens.collect::<Vec<_>>(), rows(&found.tokens, modality));
            assert_same(&pooled.collect::<Vec<_>>(), rows(&found.windows, modality));
        }
    }
}

fn assert_same(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().any(|x| x.is_finite()));
    let differ = a.iter().zip(b).filter(|(x, y)| x != y && !(x.is_nan() && y.is_nan())).count();
    assert_eq!(differ, 0, "of {}", a.len());
}

#[test]
fn burn_and_tract_agree() {
    let dir = tempfile::tempdir().unwrap();
    let mini = reference::mini();
    let file = StoreFile::open(store_of(&mini, dir.path())).unwrap();
    let burn = BurnEmbedder::new(base(&mini), Default::default());
    let tract = RuntimeEmbedder::load(&bundle(&mini), &tract()).unwrap();
    assert_eq!(burn.sizes(), tract.sizes());
    let a = embed::recording(&file, &burn, false).unwrap();
    let b = embed::recording(&file, &tract, false).unwrap();
    for modality in Modality::ALL {
        let close = |what: &str, a: &[Rows], b: &[Rows]| {
            let what = format!("{modality} {what}");
            reference::assert_close(&what, rows(a, modality), rows(b, modality), TOLERANCE);
        };
        close("5 s", &a.tokens, &b.tokens);
        close("5 min", &a.windows, &b.windows);
    }
}

#[test]
fn a_night_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (tokens, windows) = (dir.path().join("emb/c/a.hdf5"), dir.path().join("win/c/a.hdf5"));
    let nan = f32::NAN;
    let embedded = Embedded {
        tokens: vec![
            Rows { modality: Modality::Resp, values: vec![1.0, 2.0, nan, nan, 5.0, 6.0] },
            Rows { modality: Modality::Emg, values: vec![nan, nan, 3.0, 4.0, 7.0, 8.0] },
        ],
        windows: vec![Rows { modality: Modality::Resp, values: vec![9.0, 10.0] }],
    };
    embed::write_both(&embedded, 2, &tokens, &windows).unwrap();
    let night = Night::read(&tokens, &[Modality::Emg, Modality::Bas, Modality::Resp]).unwrap();
    assert_eq!((night.tokens, night.embed_dim), (3, 2));
    assert_eq!(night.present, [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
    assert_eq!(night.modality(0), (&[0.0, 0.0, 3.0, 4.0, 7.0, 8.0][..], &[0.0, 1.0, 1.0][..]));
    assert_eq!(night.modality(2).0, [1.0, 2.0, 0.0, 0.0, 5.0, 6.0]);
    assert_eq!(Night::read(&windows, &[Modality::Resp]).unwrap().values, [9.0, 10.0]);
}

#[test]
fn nights_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("night.hdf5");
    let refusal = |rows: &[(Modality, Vec<f32>)]| {
        let rows: Vec<Rows> = rows
            .iter()
            .map(|(modality, values)| Rows { modality: *modality, values: values.clone() })
            .collect();
        write(&path, 2, &rows).unwrap();
        Night::read(&path, &Modality::ALL).unwrap_err().to_string()
    };
    assert!(refusal(&[]).contains("no embeddings"));
    let uneven = [(Modality::Bas, vec![0.0; 4]), (Modality::Emg, vec![0.0; 6])];
    assert!(refusal(&uneven).contains("another size"));
    assert!(refusal(&[(Modality::Bas, vec![0.0, 1.0, f32::NAN, 1.0])]).contains("row 1"));
    assert!(Night::read(dir.path().join("none.hdf5"), &Modality::ALL).is_err());
}
