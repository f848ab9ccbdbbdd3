//! Batches of windows against the samples that were written.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use sfm_models::Modality;
use sfm_trainer::data::windows::{Augment, Batch, Loader, Order, Shape, WindowIndex};

use crate::cohort::{self, PATCH_SAMPLES, WINDOW_PATCHES, WINDOW_SAMPLES};

const ORDER: Order = Order { batch_size: 4, seed: 9 };

fn shape(max_channels: [usize; 4]) -> Shape {
    Shape {
        modalities: Modality::ALL.to_vec(),
        max_channels: max_channels.to_vec(),
        window_patches: WINDOW_PATCHES,
        patch_samples: PATCH_SAMPLES,
    }
}

/// A number that says where it comes from, exact in float16.
fn mark(channel: usize, sample: usize) -> f32 {
    1.0 + (channel * 64 + sample / PATCH_SAMPLES) as f32
}

/// Two recordings: one whole, one with a hole, a dead channel and no EMG.
fn store(folder: &Path) -> Vec<String> {
    let marked = |channel: usize| move |sample: usize| mark(channel, sample);
    let whole: [_; 5] = std::array::from_fn(marked);
    let bas = Modality::Bas;
    cohort::write(
        &folder.join("a/whole.hdf5"),
        3 * WINDOW_SAMPLES + 100,
        &[
            ("C3-M2", bas, &whole[0]),
            ("C4-M1", bas, &whole[1]),
            ("Flow", Modality::Resp, &whole[2]),
            ("ECG", Modality::Ekg, &whole[3]),
            ("Chin", Modality::Emg, &whole[4]),
        ],
    );
    let holed = |sample: usize| match sample {
        // In the second patch of the first window.
        100 => f32::NAN,
        _ => mark(6, sample),
    };
    cohort::write(
        &folder.join("b/holed.hdf5"),
        2 * WINDOW_SAMPLES,
        &[("C3-M2", bas, &holed), ("C4-M1", bas, &|_| 0.0), ("Flow", Modality::Resp, &marked(7))],
    );
    // One modality only: nothing to compare it with.
    cohort::write(&folder.join("b/alone.hdf5"), 2 * WINDOW_SAMPLES, &[("C3-M2", bas, &marked(8))]);
    ["a/whole.hdf5", "b/holed.hdf5", "b/alone.hdf5"].map(str::to_owned).to_vec()
}

fn index(folder: &Path, max_channels: [usize; 4]) -> Arc<WindowIndex> {
    let names = store(folder);
    Arc::new(WindowIndex::open(folder, &names, shape(max_channels)).unwrap())
}

fn batches(
    index: &Arc<WindowIndex>,
    order: Order,
    augment: Option<Augment>,
    range: (u64, u64),
    workers: usize,
) -> Vec<Batch> {
    Loader::start(index, order, augment, range, workers).map(Result::unwrap).collect()
}

/// First samples of the patches of a window's modality, by token and channel; 0 where absent.
fn firsts(batch: &Batch, modality: usize, row: usize) -> Vec<Vec<f32>> {
    let members = &batch.modalities[modality];
    let Some(place) = members.rows.iter().position(|&r| r == row) else { return Vec::new() };
    let size = WINDOW_PATCHES * members.channels;
    let range = place * size..(place + 1) * size;
    let value = |i: usize| match members.present[i] {
        1.0 => batch.patches[members.patches[i] as usize * PATCH_SAMPLES],
        _ => 0.0,
    };
    let values: Vec<f32> = range.map(value).collect();
    values.chunks(members.channels).map(<[f32]>::to_vec).collect()
}

#[test]
fn every_patch_is_where_it_belongs() {
    let folder = tempfile::tempdir().unwrap();
    let index = index(folder.path(), [10, 7, 2, 4]);
    assert_eq!((index.len(), index.recordings()), (5, 2));
    assert_eq!(index.passed_over(), ["b/alone.hdf5"]);

    let order = Order { batch_size: 5, ..ORDER };
    let batch = batches(&index, order, None, (0, 1), 1).remove(0);
    let row = |window: usize| batch.windows.iter().position(|&w| w == window).unwrap();
    let token = |channel: usize, window: usize, token: usize| {
        mark(channel, window * WINDOW_SAMPLES + token * PATCH_SAMPLES)
    };
    for window in 0..3 {
        let bas: Vec<Vec<f32>> =
            (0..WINDOW_PATCHES).map(|t| vec![token(0, window, t), token(1, window, t)]).collect();
        assert_eq!(firsts(&batch, 0, row(window)), bas);
        let emg: Vec<Vec<f32>> = (0..WINDOW_PATCHES).map(|t| vec![token(4, window, t)]).collect();
        assert_eq!(firsts(&batch, 3, row(window)), emg);
    }
    // The hole takes one patch, the dead channel counts as absent: padding beside the others' two.
    let holed = firsts(&batch, 0, row(3));
    assert_eq!(
        holed,
        [[token(6, 0, 0), 0.0], [0.0, 0.0], [token(6, 0, 2), 0.0], [token(6, 0, 3), 0.0]]
    );
    assert!(firsts(&batch, 2, row(3)).is_empty() && firsts(&batch, 3, row(4)).is_empty());
    let live = batch.modalities.iter().flat_map(|m| &m.present).filter(|&&p| p == 1.0).count();
    assert_eq!(batch.patches.len(), live * PATCH_SAMPLES);
}

#[test]
fn a_pass_has_every_window_once_in_an_order_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let index = index(folder.path(), [10, 7, 2, 4]);
    let order = Order { batch_size: 1, ..ORDER };
    let windows: Vec<usize> =
        batches(&index, order, None, (0, 20), 3).iter().flat_map(|b| b.windows.clone()).collect();
    let passes: BTreeSet<&[usize]> = windows.chunks(5).collect();
    for pass in &passes {
        assert_eq!(pass.iter().copied().collect::<BTreeSet<_>>(), (0..5).collect());
    }
    assert!(passes.len() > 1, "every pass has the same order");
    // Too few for another batch: they are of another pass.
    assert_eq!(ORDER.batches(&index), 1);
}

#[test]
fn batches_do_not_depend_on_threads_or_on_where_a_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let index = index(folder.path(), [1, 7, 2, 4]);
    let augment = Some(Augment { channel_dropout: 0.3, modality_dropout: 0.3 });
    let straight = batches(&index, ORDER, augment, (0, 9), 1);
    assert_eq!(straight.len(), 9);
    assert_eq!(batches(&index, ORDER, augment, (0, 9), 4), straight);
    assert_eq!(batches(&index, ORDER, augment, (5, 9), 2), straight[5..]);
    assert_ne!(batches(&index, Order { seed: 10, ..ORDER }, augment, (0, 9), 1), straight);
}

#[test]
fn surplus_channels_are_drawn_in_training_and_the_first_in_validation() {
    let folder = tempfile::tempdir().unwrap();
    let index = index(folder.path(), [1, 7, 2, 4]);
    // Which of the two channels of the whole recording was read, from the value of its patches.
    let seen = |augment| -> BTreeSet<usize> {
        let batches = batches(&index, ORDER, augment, (0, 30), 1);
        let whole = batches.iter().flat_map(|batch| {
            let rows = batch.windows.iter().enumerate().filter(|(_, window)| **window < 3);
            rows.map(|(row, _)| firsts(batch, 0, row)[0][0] as usize / 64)
        });
        whole.collect()
    };
    assert_eq!(seen(None), BTreeSet::from([0]));
    assert_eq!(seen(Some(Augment::default())), BTreeSet::from([0, 1]));
}

#[test]
fn dropout_leaves_a_channel_and_two_modalities() {
    let folder = tempfile::tempdir().unwrap();
    let index = index(folder.path(), [10, 7, 2, 4]);
    let augment = Some(Augment { channel_dropout: 1.0, modality_dropout: 1.0 });
    let (mut kept, mut whole) = (BTreeSet::new(), 0);
    for batch in batches(&index, ORDER, augment, (0, 30), 2) {
        for (row, _) in batch.windows.iter().enumerate().filter(|(_, w)| **w < 3) {
            let there: Vec<usize> =
                (0..4).filter(|&m| !firsts(&batch, m, row).is_empty()).collect();
            assert_eq!(there.len(), 2);
            kept.extend(there);
            whole += 1;
        }
        assert!(batch.modalities.iter().all(|m| m.channels <= 1));
    }
    assert!(whole > 10 && kept.len() == 4, "always the same are left");
}

#[test]
fn fewer_windows_are_spread_over_all() {
    let folder = tempfile::tempdir().unwrap();
    let names = store(folder.path());
    let mut index = WindowIndex::open(folder.path(), &names, shape([10, 7, 2, 4])).unwrap();
    index.thin(2);
    let named: Vec<&str> = (0..2).filter_map(|window| index.name(window)).collect();
    assert_eq!((index.len(), named), (2, vec!["a/whole.hdf5", "a/whole.hdf5"]));
    index.thin(0);
    assert_eq!(index.len(), 2);
}
