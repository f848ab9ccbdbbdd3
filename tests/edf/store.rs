//! The preprocessed HDF5 as a source.

use std::path::Path;

use sfm_runtime::source::{Recording, Source, open};

use crate::files::read_all;

fn mini() -> Recording {
    open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/mini/psg.hdf5")).expect("opens")
}

#[test]
fn channels_are_z_scores_at_128_hz() {
    let mut store = mini();
    let info = store.info().clone();
    assert!(info.preprocessed && info.warnings.is_empty(), "{info:?}");
    assert_eq!((info.signals.len(), info.duration_s), (18, Some(360.0)));
    assert!(info.signals.iter().any(|s| s.label == "EOG-L" && s.rate_hz == 128.0));
    for (signal, stretches) in info.signals.iter().zip(read_all(&mut store)) {
        assert_eq!(stretches.len(), 1, "{}", signal.label);
        let samples = &stretches[0].1;
        assert_eq!(samples.len(), 46_080, "{}", signal.label);
        let mean = samples.iter().map(|&x| f64::from(x)).sum::<f64>() / 46_080.0;
        let square = samples.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 46_080.0;
        let flat = samples.iter().all(|&x| x == 0.0);
        assert!(mean.abs() < 1e-3, "{}: mean {mean}", signal.label);
        assert!(flat || (square - 1.0).abs() < 1e-3, "{}: variance {square}", signal.label);
        // By h5py: the first sample, those on both sides of a chunk's end, and the last.
        let by_h5py = match signal.label.as_str() {
            "EEG1" => [-0.007_801_056, 1.004_882_8, 0.281_25, -1.233_398_4],
            "SpO2" => [1.084_960_9, -0.116_516_11, -0.137_451_17, 1.113_281_3],
            _ => continue,
        };
        assert_eq!([0, 38_399, 38_400, 46_079].map(|i: usize| samples[i]), by_h5py);
    }
}

#[test]
fn any_block_length_yields_the_same_samples() {
    let expected = read_all(&mut mini());
    for n in [1000, 38_400, 1_000_000] {
        assert_eq!(read_all(&mut mini().with_block_samples(n)), expected, "blocks of {n}");
    }
}

#[test]
fn selected_channels_and_rewinding() {
    let mut store = mini();
    let expected = read_all(&mut store);
    store.select(&[3, 99]);
    let selected = read_all(&mut store);
    assert_eq!(selected[3], expected[3]);
    assert!(selected[0].is_empty());
    store.rewind();
    assert_eq!(read_all(&mut store)[3], expected[3]);
}
