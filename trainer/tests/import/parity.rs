//! burn against the PyTorch reference.

use burn::backend::Flex;
use burn::prelude::*;
use sfm_models::Modality;

use crate::data::{Device, Recording, assert_close, recordings, values};

const AGE_60_MALE: [f32; 2] = [0.60, 1.0];
const AGE_35_FEMALE: [f32; 2] = [0.35, 0.0];

#[test]
fn embeddings_stages_and_hazards_equal_the_reference() {
    for recording in recordings() {
        let embeddings = check_base(&recording);
        check_heads(&recording, embeddings);
    }
}

/// Compares every modality's embeddings and returns the 5-s ones, [1, M, T, E].
fn check_base(recording: &Recording) -> Tensor<Flex, 4> {
    let imported = recording.base();
    let expected_5s = recording.expected("embeddings_5s");
    let expected_5min = recording.expected("embeddings_5min");
    let mut embeddings = Vec::new();
    for (index, &modality) in Modality::ALL.iter().enumerate() {
        let patches = recording.windows(&imported, modality);
        let [windows, channels, tokens, _] = patches.dims();
        let present = Tensor::ones([windows, channels, tokens], &Device::default());
        let encoded = imported.base.forward(patches, present);

        let patches = windows * tokens;
        assert_eq!(expected_5s.shape, [4, patches, imported.config.embed_dim]);
        let of_modality = |all: &[f32], rows: usize| {
            let size = rows * imported.config.embed_dim;
            all[index * size..(index + 1) * size].to_vec()
        };
        let expected = of_modality(&expected_5s.values, patches);
        assert_close(&format!("{modality} 5 s"), &values(&encoded.embeddings), &expected);
        let expected = of_modality(&expected_5min.values, windows);
        assert_close(&format!("{modality} 5 min"), &values(&encoded.window), &expected);
        embeddings.push(encoded.embeddings.reshape([1, 1, patches, imported.config.embed_dim]));
    }
    Tensor::cat(embeddings, 1)
}

fn check_heads(recording: &Recording, embeddings: Tensor<Flex, 4>) {
    let imported = recording.base();
    let stager = recording.staging(&imported);
    let risk = recording.risk(&imported).head;
    let [_, modalities, tokens, _] = embeddings.dims();
    let all = Tensor::<Flex, 3>::ones([1, modalities, tokens], &Device::default());
    let emg = Modality::Emg.index();
    let no_emg = all.clone().slice_fill([0..1, emg..emg + 1, 0..tokens], 0.0);

    let check = |name: &str, found: Vec<f32>| {
        assert_close(name, &found, &recording.expected(name).values);
    };
    let logits = |present| values(&stager.forward(embeddings.clone(), present));
    check("stage_logits", logits(all.clone()));
    check("stage_logits_no_emg", logits(no_emg.clone()));
    let hazards = |present, demographics: [f32; 2]| {
        let demographics = Tensor::from_data([demographics], &Device::default());
        values(&risk.forward(embeddings.clone(), present, demographics).log_hazard)
    };
    check("hazards_age60_male", hazards(all.clone(), AGE_60_MALE));
    check("hazards_age35_female", hazards(all, AGE_35_FEMALE));
    check("hazards_no_emg_age60_male", hazards(no_emg, AGE_60_MALE));
}
