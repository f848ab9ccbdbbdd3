//! What must not matter: how the source cuts its blocks, how fast it is, how many threads there
//! are, where a channel stands in the file.

use std::path::PathBuf;

use sfm_runtime::event::Event;
use sfm_runtime::pipeline::{Network, Options};
use sfm_tests::reference::{self, assert_close};

use crate::run::{Passed, bundle, on_every_engine, open, run_final, run_live, tract};

fn recording() -> PathBuf {
    reference::mini().dir.join("psg.edf")
}

fn live_events(block_samples: Option<usize>, speed: Option<f64>) -> Vec<String> {
    let network = tract(&bundle(&reference::mini()));
    let (mut recording, montage) = open(&recording());
    if let Some(samples) = block_samples {
        recording = recording.with_block_samples(samples);
    }
    let options = Options { speed, ..Options::default() };
    run_live(&mut recording, &montage, &network, &options).lines()
}

#[test]
fn any_block_size_and_speed_give_the_same_events_byte_for_byte() {
    let expected = live_events(None, None);
    assert!(expected.len() > 24, "{} events", expected.len());
    for block in [7, 256, 1000] {
        assert_eq!(live_events(Some(block), None), expected, "blocks of {block} samples");
    }
    // 6 min in about 0.7 s.
    assert_eq!(live_events(None, Some(500.0)), expected, "at 500 times real time");
}

#[test]
fn where_nothing_is_flat_nothing_is_masked() {
    let network = tract(&bundle(&reference::mini()));
    let as_reference = tract(&bundle(&reference::mini())).keeping_bad();
    let (mut recording, montage) = open(&recording());
    let live = run_live(&mut recording, &montage, &network, &Options::default()).lines();
    recording.rewind();
    let kept = run_live(&mut recording, &montage, &as_reference, &Options::default()).lines();
    assert_eq!(live, kept);
    recording.rewind();
    let last = run_final(&mut recording, &montage, &network).lines();
    recording.rewind();
    assert_eq!(last, run_final(&mut recording, &montage, &as_reference).lines());
}

#[test]
fn any_number_of_threads_gives_the_same_probabilities() {
    on_every_engine(&[reference::mini()], |_, network| same_with_any_threads(network));
}

fn same_with_any_threads(network: &Network) {
    let with_threads = |threads: usize| -> (Passed, Passed) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let (mut recording, montage) = open(&recording());
            let last = run_final(&mut recording, &montage, network);
            recording.rewind();
            let live = run_live(&mut recording, &montage, network, &Options::default());
            (last, live)
        })
    };
    let probabilities = |passed: &Passed| -> Vec<f32> {
        let epochs = passed.events.iter().filter_map(|event| match event {
            Event::Epoch(epoch) => Some(epoch.probabilities),
            _ => None,
        });
        epochs.flatten().collect()
    };
    let (last, live) = with_threads(1);
    for threads in [2, 3, 5] {
        let (other_last, other_live) = with_threads(threads);
        for (name, a, b) in [("final", &last, &other_last), ("live", &live, &other_live)] {
            let what = format!("{name} with {threads} threads");
            assert_close(&what, &probabilities(b), &probabilities(a), 1e-5);
        }
    }
}
