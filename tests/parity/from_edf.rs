//! From the EDF file itself: our filter, resampling and z-score in front of the same network.

use sfm_models::Modality;
use sfm_runtime::pipeline::Network;
use sfm_tests::reference::{self, Reference};

use crate::run::{on_every_engine, open, run_final};

/// Median cosine of 5-s embeddings with the reference's, each modality.
const MEDIAN_COSINE: f32 = 0.999;

#[test]
fn embeddings_from_the_edf_point_where_the_reference_does() {
    on_every_engine(&reference::all(), check);
}

fn check(reference: &Reference, network: &Network) {
    let (mut recording, montage) = open(&reference.dir.join("psg.edf"));
    let passed = run_final(&mut recording, &montage, network);
    let expected = reference.expected("embeddings_5s");
    let (patches, embed_dim) = (expected.shape[1], expected.shape[2]);
    for (modality, expected) in
        Modality::ALL.iter().zip(expected.values.chunks(patches * embed_dim))
    {
        let found = passed.tokens(*modality, patches);
        let pairs = found.chunks(embed_dim).zip(expected.chunks(embed_dim));
        let mut cosines: Vec<f32> = pairs.map(|(a, b)| cosine(a, b)).collect();
        cosines.sort_by(f32::total_cmp);
        let median = cosines[cosines.len() / 2];
        println!("{modality}: median cosine {median:.6}, least {:.6}", cosines[0]);
        assert!(median >= MEDIAN_COSINE, "{modality}: median cosine {median}");
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
