//! Live beside final: with the whole recording's mean and standard deviation put in, nothing
//! is left that tells the two apart but the order of floating-point sums.

use sfm_models::Modality;
use sfm_runtime::event::{EpochStatus, Event};
use sfm_runtime::pipeline::{Network, Options};
use sfm_tests::reference::{self, Reference, assert_close};

use crate::run::{bundle, on_every_engine, open, run_final, run_live, tract};

const TOLERANCE: f32 = 1e-4;

#[test]
fn live_with_whole_recording_statistics_equals_final() {
    on_every_engine(&reference::all(), check);
}

fn check(reference: &Reference, network: &Network) {
    let (mut recording, montage) = open(&reference.dir.join("psg.edf"));
    let last = run_final(&mut recording, &montage, network);
    recording.rewind();
    let stats = Some(last.outcome.stats.clone());
    let options = Options { stats, ..Options::default() };
    let live = run_live(&mut recording, &montage, network, &options);

    assert_eq!(live.outcome.log.present(), last.outcome.log.present());
    let (a, b) = (live.outcome.log.tokens(), last.outcome.log.tokens());
    assert_close("5-s embeddings", a, b, TOLERANCE);
    let windows = live.outcome.log.len().div_ceil(60);
    for modality in Modality::ALL {
        let (a, b) = (live.pooled(modality, windows), last.pooled(modality, windows));
        assert_close(&format!("{modality} 5 min"), &a, &b, TOLERANCE);
    }
    // The live stages look back only; over the night the same tokens give the same logits.
    let stager = network.staging().expect("a staging head");
    let a = stager.night(&live.outcome.log).expect("staged").concat();
    let b = stager.night(&last.outcome.log).expect("staged").concat();
    assert_close("stage logits", &a, &b, TOLERANCE);
    let risk = |passed: &crate::run::Passed| {
        passed.outcome.night.risk.clone().expect("a risk head").embedding
    };
    assert_close("risk embedding", &risk(&live), &risk(&last), TOLERANCE);
}

#[test]
fn without_them_the_running_z_score_does_differ() {
    let reference = reference::mini();
    let network = tract(&bundle(&reference));
    let (mut recording, montage) = open(&reference.dir.join("psg.edf"));
    let last = run_final(&mut recording, &montage, &network);
    recording.rewind();
    let live = run_live(&mut recording, &montage, &network, &Options::default());
    let difference =
        reference::largest_difference(live.outcome.log.tokens(), last.outcome.log.tokens());
    assert!(difference > 1e-2, "the live pass saw the future: {difference:e}");
    // By the end it has seen what the final pass starts with.
    for (live, last) in live.outcome.stats.iter().zip(&last.outcome.stats) {
        assert_eq!(live.map(|s| (s.mean, s.std)), last.map(|s| (s.mean, s.std)));
    }
}

#[test]
fn every_epoch_is_provisional_then_settled() {
    let reference = reference::mini();
    let network = tract(&bundle(&reference));
    let (mut recording, montage) = open(&reference.dir.join("psg.edf"));
    let live = run_live(&mut recording, &montage, &network, &Options::default());
    let said = |status: EpochStatus| -> Vec<u32> {
        let epochs = live.events.iter().filter_map(|event| match event {
            Event::Epoch(epoch) if epoch.status == status => Some(epoch.epoch),
            _ => None,
        });
        epochs.collect()
    };
    let all: Vec<u32> = (0..12).collect();
    assert_eq!(said(EpochStatus::Provisional), all);
    assert_eq!(said(EpochStatus::Settled), all);
    assert!(said(EpochStatus::Final).is_empty());
    assert!(live.outcome.hypnogram.iter().all(|e| e.status == EpochStatus::Settled));
}
