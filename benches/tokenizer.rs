//! The tokenizer kernel on one thread: a window of 15 channels at once (900 patches, and 912 for
//! full lanes) and one patch of 15 channels, the step of a live recording.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sfm_runtime::infer::tokenizer_kernel::TokenizerKernel;

fn tokenizer(criterion: &mut Criterion) {
    // Its tokens are 32 wide, not 128: the linear layer is 2 % of the arithmetic then.
    let graph =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tokenizer/tokenizer.onnx");
    let graph = std::fs::read(graph).expect("the repository holds this graph");
    let kernel = TokenizerKernel::from_onnx(&graph).expect("a tokenizer");
    let mut scratch = kernel.scratch();
    let mut group = criterion.benchmark_group(format!("tokenizer {}", kernel.instruction_set()));
    for count in [15, 16, 900, 912] {
        let patches: Vec<f32> = (0..(count * kernel.patch_samples()) as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 16_384.0 - 2.0)
            .collect();
        let mut tokens = vec![0.0; count * kernel.embed_dim()];
        // Elements are floating-point operations: Gelem/s is GFLOP/s.
        group.throughput(Throughput::Elements(count as u64 * kernel.flop_per_patch()));
        group.bench_function(format!("{count} patches"), |bencher| {
            bencher.iter(|| {
                kernel.tokens_into(&mut scratch, black_box(&patches), &mut tokens);
                black_box(&tokens);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, tokenizer);
criterion_main!(benches);
