use std::path::Path;

use proptest::prelude::*;
use sfm_models::manifest::Preprocessing;

use super::super::{Conditioner, GridPoints, butterworth};
use super::*;

/// Against scipy, in units of the signal's standard deviation.
const FILTFILT_TOLERANCE: f64 = 1e-6;

struct Golden {
    name: String,
    rate_hz: f64,
    input: Vec<f32>,
    filtered: Vec<f64>,
    resampled: Vec<f64>,
}

/// Written by tests/foreign/filter_goldens.py.
fn goldens() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/filter");
    let index = std::fs::read_to_string(folder.join("goldens.json")).expect("goldens.json");
    let index: serde_json::Value = serde_json::from_str(&index).expect("json");
    let blob = std::fs::read(folder.join("goldens.bin")).expect("goldens.bin");
    let mut rest = blob.as_slice();
    let doubles = |count: usize, rest: &mut &[u8]| {
        let (now, later) = rest.split_at(count * 8);
        *rest = later;
        now.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8"))).collect()
    };
    let cases = index["cases"].as_array().expect("cases").iter().map(|case| {
        let count = |key: &str| case[key].as_u64().expect("count") as usize;
        let samples = count("samples");
        let (now, later) = rest.split_at(samples * 4);
        rest = later;
        Golden {
            name: case["name"].as_str().expect("name").to_owned(),
            rate_hz: case["rate_hz"].as_f64().expect("rate"),
            input: now
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().expect("4")))
                .collect(),
            filtered: doubles(samples, &mut rest),
            resampled: doubles(count("grid_samples"), &mut rest),
        }
    });
    cases.collect()
}

fn preprocessing() -> Preprocessing {
    Preprocessing { rate_hz: 128, patch_samples: 640, lowpass_hz: 64.0, lowpass_order: 4 }
}

fn std(x: &[f32]) -> f64 {
    let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / x.len() as f64;
    (x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / x.len() as f64).sqrt()
}

fn zero_phase(rate_hz: f64, hop_s: f64) -> ZeroPhase {
    let sections = butterworth::low_pass(4, 64.0 / (rate_hz / 2.0)).expect("valid design");
    let ahead = look_ahead(&sections, rate_hz);
    ZeroPhase::new(sections, 4, hop_s * rate_hz, ahead)
}

fn filter_whole(filter: &mut ZeroPhase, input: &[f32], block: usize) -> Vec<f64> {
    let mut output = Vec::new();
    filter.begin(0);
    for samples in input.chunks(block) {
        filter.push(samples, &mut |y| output.extend_from_slice(y));
    }
    filter.finish(&mut |y| output.extend_from_slice(y));
    output
}

#[test]
fn equals_filtfilt() {
    for golden in goldens().iter().filter(|g| g.rate_hz > 128.0) {
        let scale = std(&golden.input).max(1.0);
        for hop_s in [0.3, 1.0, 5.0] {
            let output = filter_whole(&mut zero_phase(golden.rate_hz, hop_s), &golden.input, 100);
            assert_eq!(output.len(), golden.filtered.len(), "{}", golden.name);
            let worst = output
                .iter()
                .zip(&golden.filtered)
                .map(|(y, z)| (y - z).abs() / scale)
                .fold(0.0, f64::max);
            println!("{}, hop {hop_s} s: {worst:.1e} of the std", golden.name);
            assert!(worst < FILTFILT_TOLERANCE, "{}, hop {hop_s} s: {worst:e}", golden.name);
        }
    }
}

#[test]
fn conditioner_equals_filtfilt_and_interp() {
    for golden in goldens() {
        let mut conditioner =
            Conditioner::new(golden.rate_hz, &preprocessing()).expect("valid rate");
        let mut output = Vec::new();
        let mut take = |y: GridPoints<'_>| {
            assert_eq!((y.first, y.bridged), (output.len() as u64, false));
            output.extend_from_slice(y.values);
        };
        for (i, samples) in golden.input.chunks(77).enumerate() {
            conditioner.push(77 * i as u64, samples, &mut take);
        }
        conditioner.finish(&mut take);
        assert_eq!(output.len(), golden.resampled.len(), "{}", golden.name);
        assert_eq!(conditioner.ready_until(), output.len() as u64, "{}", golden.name);
        let scale = std(&golden.input).max(1.0);
        for (y, z) in output.iter().zip(&golden.resampled) {
            let rounding = z.abs() * f64::from(f32::EPSILON);
            let difference = (f64::from(*y) - z).abs();
            assert!(difference < FILTFILT_TOLERANCE * scale + rounding, "{}", golden.name);
        }
    }
}

#[test]
fn the_look_ahead_follows_the_poles() {
    let ahead = |cutoff_hz: f64, rate_hz: f64| {
        look_ahead(&butterworth::low_pass(4, 2.0 * cutoff_hz / rate_hz).expect("valid"), rate_hz)
    };
    assert_eq!(ahead(64.0, 256.0), 128);
    assert!(
        (700..800).contains(&ahead(4.0, 256.0)),
        "27.6 time constants of 1 / (8 pi sin(pi / 8)) s"
    );
    assert_eq!(ahead(0.01, 256.0), 2560, "capped");
}

#[test]
fn a_slow_low_pass_still_equals_the_whole_recording() {
    let rate_hz = 256.0;
    let sections = butterworth::low_pass(3, 2.0 / 128.0).expect("valid design");
    let ahead = look_ahead(&sections, rate_hz);
    let input: Vec<f32> = (0..20_000).map(|i| ((i * i) % 997) as f32 + 1000.0).collect();
    let whole = filter_whole(&mut ZeroPhase::new(sections.clone(), 3, 1e9, ahead), &input, 640);
    let hops = filter_whole(&mut ZeroPhase::new(sections, 3, 1280.0, ahead), &input, 640);
    for (x, y) in whole.iter().zip(&hops) {
        assert!((x - y).abs() < FILTFILT_TOLERANCE * std(&input));
    }
}

proptest! {
    #[test]
    fn any_block_split_gives_the_same_bits(
        count in 1_usize..4000,
        seed in 0_u32..1000,
        blocks in prop::collection::vec(1_usize..700, 1..20),
        rate_hz in prop::sample::select(vec![200.0, 256.0, 300.3, 512.0]),
    ) {
        let input: Vec<f32> = (0..count as u32)
            .map(|i| ((i.wrapping_mul(2_654_435_761).wrapping_add(seed * 77)) >> 16) as f32 * 0.01)
            .collect();
        let mut filter = zero_phase(rate_hz, 1.0);
        let whole = filter_whole(&mut filter, &input, count);
        let mut split = Vec::new();
        let mut rest = input.as_slice();
        filter.begin(0);
        for &block in blocks.iter().cycle() {
            let (now, later) = rest.split_at(block.min(rest.len()));
            filter.push(now, &mut |y| split.extend_from_slice(y));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        filter.finish(&mut |y| split.extend_from_slice(y));
        prop_assert_eq!(whole, split);
    }
}
