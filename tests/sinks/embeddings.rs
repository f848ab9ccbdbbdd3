//! `embeddings.h5`: every figure in its place, late and absent modalities, part-windows, the cost
//! of a night. `tests/foreign/embeddings.py` opens the same file with h5py.

use std::path::Path;
use std::time::{Duration, Instant};

use rust_hdf5::H5File;
use sfm_models::Modality;
use sfm_runtime::event::{Event, Pass};
use sfm_runtime::sink::{Hdf5Sink, Sink};

use crate::synthetic::Recording;

/// What one data set holds, in row-major order.
pub fn read(out: &Path, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
    let file = H5File::open(out.join("embeddings.h5")).expect("embeddings.h5 opens");
    let set = file.dataset(name).ok()?;
    Some((set.shape(), set.read_raw::<f32>().expect("values")))
}

/// Every row as the pass that wrote it last made it; `by` says which one that was.
pub fn check(out: &Path, recording: Recording, by: impl Fn(u32) -> Option<Pass>) {
    for modality in Modality::ALL {
        let Some((shape, values)) = read(out, modality.as_str()) else {
            let came = |w| by(w).is_some_and(|pass| Recording::present(pass, w, modality));
            assert!(!(0..recording.windows()).any(came), "{modality} is missing");
            continue;
        };
        assert_eq!(shape[1], recording.dim);
        for (patch, row) in (0..).zip(values.chunks(recording.dim)) {
            let pass = by(patch / 60);
            let want = |c| pass.map_or(f32::NAN, |p| Recording::token(p, modality, patch, c));
            let same = (0..).zip(row).all(|(c, v)| want(c).to_bits() == v.to_bits());
            assert!(same, "{modality} patch {patch}: {row:?}");
        }
        let (shape, values) = read(out, &format!("5min/{modality}")).expect("its windows");
        assert_eq!(shape[1], recording.dim);
        for (window, row) in (0..).zip(values.chunks(recording.dim)) {
            let pass = by(window);
            let want = |c| pass.map_or(f32::NAN, |p| Recording::pooled(p, modality, window, c));
            let same = (0..).zip(row).all(|(c, v)| want(c).to_bits() == v.to_bits());
            assert!(same, "{modality} window {window}: {row:?}");
        }
    }
}

fn windows(recording: Recording, pass: Pass) -> impl Iterator<Item = Event> {
    (0..recording.windows()).map(move |window| recording.window(pass, window))
}

#[test]
fn a_later_pass_replaces_the_rows_of_an_earlier_one() {
    let recording = Recording { epochs: 124, dim: 8 };
    let temp = tempfile::tempdir().expect("temp");
    let mut sink = Hdf5Sink::open(temp.path()).expect("sink");
    for (index, event) in windows(recording, Pass::Live).enumerate() {
        sink.take(&event).expect("taken");
        if index % 3 == 0 {
            sink.publish().expect("published");
        }
    }
    sink.publish().expect("published");
    check(temp.path(), recording, |_| Some(Pass::Live));
    let (shape, _) = read(temp.path(), "RESP").expect("RESP");
    assert_eq!(shape, [124 * 6, 8], "the part-window has 24 rows");
    assert_eq!(read(temp.path(), "5min/RESP").expect("RESP").0, [13, 8]);
    assert!(read(temp.path(), "EKG").is_none());

    for event in windows(recording, Pass::Final).take(7) {
        sink.take(&event).expect("taken");
        sink.publish().expect("published");
    }
    let by = |window| if window < 7 { Pass::Final } else { Pass::Live };
    check(temp.path(), recording, |window| Some(by(window)));
    for event in windows(recording, Pass::Final).skip(7) {
        sink.take(&event).expect("taken");
    }
    sink.finish().expect("finished");
    check(temp.path(), recording, |_| Some(Pass::Final));
}

#[test]
fn windows_that_never_came_are_nan() {
    let recording = Recording { epochs: 200, dim: 4 };
    let temp = tempfile::tempdir().expect("temp");
    let mut sink = Hdf5Sink::open(temp.path()).expect("sink");
    for window in [1, 15, 8] {
        sink.take(&recording.window(Pass::Live, window)).expect("taken");
        sink.publish().expect("published");
    }
    check(temp.path(), recording, |w| [1, 8, 15].contains(&w).then_some(Pass::Live));
    assert_eq!(read(temp.path(), "BAS").expect("BAS").0, [16 * 60, 4]);
}

#[test]
fn a_window_of_another_width_is_an_error_and_the_file_stays() {
    let recording = Recording { epochs: 20, dim: 8 };
    let temp = tempfile::tempdir().expect("temp");
    let mut sink = Hdf5Sink::open(temp.path()).expect("sink");
    sink.take(&recording.window(Pass::Live, 0)).expect("taken");
    sink.publish().expect("published");
    let other = Recording { epochs: 20, dim: 9 };
    let failure = sink.take(&other.window(Pass::Live, 1)).expect_err("another width");
    assert!(failure.to_string().contains("embeddings.h5"), "{failure}");
    check(temp.path(), Recording { epochs: 10, dim: 8 }, |_| Some(Pass::Live));
}

/// 100 windows at the network's full width, each one published: what a live night of 8 h 20 min
/// costs in all. The bar is loose (a busy machine); the figure is printed.
#[test]
fn a_published_window_is_cheap() {
    let recording = Recording { epochs: 1000, dim: 128 };
    let temp = tempfile::tempdir().expect("temp");
    let mut sink = Hdf5Sink::open(temp.path()).expect("sink");
    let events: Vec<_> = windows(recording, Pass::Live).collect();
    let mut longest = Duration::ZERO;
    let begun = Instant::now();
    for event in &events {
        let one = Instant::now();
        sink.take(event).expect("taken");
        sink.publish().expect("published");
        longest = longest.max(one.elapsed());
    }
    let all = begun.elapsed();
    let bytes = std::fs::metadata(temp.path().join("embeddings.h5")).expect("file").len();
    println!("100 windows: {all:?} in all, {longest:?} at most, {bytes} bytes");
    check(temp.path(), recording, |_| Some(Pass::Live));
    let figures = 3 * (6000 + 100) * 128 * 4;
    assert!(bytes < figures + figures / 5, "{bytes} bytes for {figures} of figures");
    assert!(all < Duration::from_secs(10), "{all:?}");
}
