//! From the reference's preprocessed signals: embeddings, logits and hazards to 1e-4.

use sfm_models::Modality;
use sfm_runtime::encode::TokenLog;
use sfm_runtime::night::{Demographics, Sex};
use sfm_runtime::pipeline::Network;
use sfm_tests::reference::{self, Reference, assert_close};

use crate::run::{Passed, on_every_engine, open, run_final};

const TOLERANCE: f32 = 1e-4;

#[test]
fn embeddings_logits_and_hazards_equal_the_reference() {
    on_every_engine(&reference::all(), |reference, network| {
        let (mut recording, montage) = open(&reference.dir.join("psg.hdf5"));
        let passed = run_final(&mut recording, &montage, network);
        check_embeddings(reference, &passed);
        check_heads(reference, &passed, network);
    });
}

fn check_embeddings(reference: &Reference, passed: &Passed) {
    let tokens = reference.expected("embeddings_5s");
    let pooled = reference.expected("embeddings_5min");
    let (patches, windows) = (tokens.shape[1], pooled.shape[1]);
    for modality in Modality::ALL {
        let of = |array: &reference::Array| {
            let length = array.values.len() / Modality::COUNT;
            array.values[modality.index() * length..][..length].to_vec()
        };
        let found = passed.tokens(modality, patches);
        assert_close(&format!("{modality} 5 s"), &found, &of(&tokens), TOLERANCE);
        let found = passed.pooled(modality, windows);
        assert_close(&format!("{modality} 5 min"), &found, &of(&pooled), TOLERANCE);
    }
}

/// The reference drops the last part-window, so the heads see whole windows here.
fn check_heads(reference: &Reference, passed: &Passed, network: &Network) {
    let stager = network.staging().expect("a staging head");
    let risk = network.risk().expect("a risk head");
    let mut log = passed.outcome.log.clone();
    log.truncate(reference.expected("embeddings_5s").shape[1]);

    let logits = |log: &TokenLog| stager.night(log).expect("staged").concat();
    let hazards = |log: &TokenLog, age_years, sex| {
        let risk = risk.night(log, Some(Demographics { age_years, sex })).expect("computed");
        risk.expect("tokens").log_hazards
    };
    let check = |name: &str, found: &[f32]| {
        assert_close(name, found, &reference.expected(name).values, TOLERANCE);
    };
    check("stage_logits", &logits(&log));
    check("hazards_age60_male", &hazards(&log, 60.0, Sex::M));
    check("hazards_age35_female", &hazards(&log, 35.0, Sex::F));

    let absent = vec![0.0; log.len()];
    let zeros = vec![0.0; log.len() * log.embed_dim()];
    log.write(0, Modality::Emg, &zeros, &absent);
    check("stage_logits_no_emg", &logits(&log));
    check("hazards_no_emg_age60_male", &hazards(&log, 60.0, Sex::M));
}
