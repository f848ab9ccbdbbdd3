//! The packed way of a batch through the network gives what each modality alone gives.

use burn::backend::Flex;
use burn::prelude::*;
use sfm_models::Modality;
use sfm_trainer::data::windows::{Batch, Members, Shape};
use sfm_trainer::network::NetworkConfig;
use sfm_trainer::pretrain::Pretrainer;

const PATCH_SAMPLES: usize = 64;
const TOKENS: usize = 3;

fn network() -> NetworkConfig {
    NetworkConfig {
        embed_dim: 8,
        heads: 2,
        pooling_heads: 2,
        layers: 1,
        feed_forward: 16,
        patch_samples: PATCH_SAMPLES,
        window_patches: TOKENS,
        modalities: vec![Modality::Bas, Modality::Emg],
        ..Default::default()
    }
}

/// A window's patches: by channel, by token; nothing where absent.
type Window = Vec<Vec<Option<Vec<f32>>>>;

fn patch(seed: usize) -> Option<Vec<f32>> {
    Some((0..PATCH_SAMPLES).map(|i| ((seed * 7 + 3) as f32 * i as f32 * 0.1).sin()).collect())
}

fn batch(windows: &[[Window; 2]]) -> Batch {
    let mut patches = Vec::new();
    let mut modalities = vec![Members::default(), Members::default()];
    for (m, members) in modalities.iter_mut().enumerate() {
        let there = windows.iter().enumerate().filter(|(_, w)| !w[m].is_empty());
        members.channels = windows.iter().map(|w| w[m].len()).max().unwrap_or(0);
        for (row, window) in there {
            members.rows.push(row);
            for token in 0..TOKENS {
                for channel in 0..members.channels {
                    let patch = window[m].get(channel).and_then(|c| c[token].as_ref());
                    members.present.push(if patch.is_some() { 1.0 } else { 0.0 });
                    members.patches.push(match patch {
                        Some(_) => (patches.len() / PATCH_SAMPLES) as i64,
                        None => 0,
                    });
                    patches.extend(patch.into_iter().flatten());
                }
            }
        }
    }
    Batch { windows: (0..windows.len()).collect(), patches, modalities }
}

/// The window alone, in the network's plain form.
fn alone(pretrainer: &Pretrainer<Flex>, window: &Window) -> Vec<f32> {
    let device = Default::default();
    let flat = |f: &dyn Fn(&Option<Vec<f32>>) -> Vec<f32>| -> Vec<f32> {
        window.iter().flatten().flat_map(f).collect()
    };
    let patches = flat(&|p| p.clone().unwrap_or(vec![0.0; PATCH_SAMPLES]));
    let present = flat(&|p| vec![if p.is_some() { 1.0 } else { 0.0 }]);
    let channels = window.len();
    let patches = TensorData::new(patches, [1, channels, TOKENS, PATCH_SAMPLES]);
    let present = TensorData::new(present, [1, channels, TOKENS]);
    let encoded = pretrainer
        .base
        .forward(Tensor::from_data(patches, &device), Tensor::from_data(present, &device));
    encoded.window.into_data().to_vec().unwrap()
}

#[test]
fn a_packed_batch_is_embedded_as_its_windows_alone() {
    let device = Default::default();
    let network = network();
    let pretrainer = Pretrainer::<Flex>::new(&network, 0.0, &device);
    let channel = |seed: usize| (0..TOKENS).map(|t| patch(seed + t)).collect::<Vec<_>>();
    let mut holed = channel(40);
    holed[1] = None;
    let windows = [
        [vec![channel(0), channel(10)], vec![channel(20)]],
        [vec![channel(30)], vec![]],
        [vec![], vec![holed, channel(50)]],
    ];
    let batch = batch(&windows);
    let shape = Shape::of(&network);
    let embedded = pretrainer.forward(&batch, &shape, &device).unwrap();
    let present: Vec<f32> = embedded.present.into_data().to_vec().unwrap();
    assert_eq!(present, [1.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    let embeddings: Vec<f32> = embedded.embeddings.into_data().to_vec().unwrap();
    let mut rows = embeddings.chunks(network.embed_dim);
    for modality in 0..2 {
        for window in &windows {
            let row = rows.next().unwrap();
            if window[modality].is_empty() {
                assert!(row.iter().all(|&x| x == 0.0));
                continue;
            }
            let wanted = alone(&pretrainer, &window[modality]);
            let off = row.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-5, "off by {off}");
        }
    }
}

#[test]
fn a_batch_without_signal_gives_nothing() {
    let network = network();
    let device = Default::default();
    let pretrainer = Pretrainer::<Flex>::new(&network, 0.0, &device);
    let batch = batch(&[[vec![], vec![]], [vec![], vec![]]]);
    assert!(pretrainer.forward(&batch, &Shape::of(&network), &device).is_none());
}
