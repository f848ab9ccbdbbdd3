//! Conditioning of one channel: what a night of 18 channels costs before the network.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sfm_models::manifest::Preprocessing;
use sfm_runtime::dsp::{ChannelStats, Conditioner, RunningStats, normalize::z_score_into};

const MINUTES: usize = 10;
/// Samples handed over at a time: one second, as an EDF record of a usual recording.
const BLOCK_S: usize = 1;

fn condition(criterion: &mut Criterion) {
    let preprocessing =
        Preprocessing { rate_hz: 128, patch_samples: 640, lowpass_hz: 64.0, lowpass_order: 4 };
    let mut group = criterion.benchmark_group("condition");
    for rate in [100, 128, 200, 256, 512] {
        let samples = noise(MINUTES * 60 * rate);
        group.throughput(Throughput::Elements(samples.len() as u64));
        group.bench_function(format!("{rate} Hz"), |bencher| {
            let mut conditioner =
                Conditioner::new(rate as f64, &preprocessing).expect("a usual rate");
            let mut start = 0;
            bencher.iter(|| {
                for block in samples.chunks(BLOCK_S * rate) {
                    conditioner.push(start, block, &mut |y| {
                        black_box(y);
                    });
                    start += block.len() as u64;
                }
            });
        });
    }
    group.finish();
}

fn normalize(criterion: &mut Criterion) {
    let samples = noise(MINUTES * 60 * 128);
    let mut output = vec![0.0; samples.len()];
    let mut group = criterion.benchmark_group("normalize");
    group.throughput(Throughput::Elements(samples.len() as u64));
    group.bench_function("running mean and variance", |bencher| {
        bencher.iter(|| {
            let mut running = RunningStats::new();
            samples.chunks(640).for_each(|patch| running.add_patch(patch));
            running.stats()
        });
    });
    group.bench_function("z-score", |bencher| {
        let stats = ChannelStats { count: 1, mean: 3.0, std: 20.0 };
        bencher.iter(|| {
            for (x, z) in samples.chunks(640).zip(output.chunks_mut(640)) {
                z_score_into(x, &stats, z);
            }
            black_box(&output);
        });
    });
    group.finish();
}

fn noise(count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 * 1e-3 - 32.0).collect()
}

criterion_group!(benches, condition, normalize);
criterion_main!(benches);
