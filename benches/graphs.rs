//! Every graph of a bundle on every engine of this machine, one thread, at the shapes of a
//! night, beside plain matrix products of the network's sizes. Gelem/s is GFLOP/s.
//!
//! `SFM_BUNDLE=FILE.sfm` chooses the bundle; the built-in one is small. The floating-point
//! operations counted are those of the matrix products and convolutions, two a multiply-add.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sfm_models::{Bundle, Manifest, graph};
use sfm_runtime::infer::Input;
use sfm_runtime::infer::backend::{Backend, BackendChoice};

/// Tokens of 8 h.
const NIGHT: usize = 5760;

/// A graph with the shapes of its float inputs, of its outputs, and its operations.
struct Case {
    graph: String,
    label: String,
    inputs: Vec<Vec<usize>>,
    /// Row positions, for the graph that takes them.
    positions: Option<usize>,
    outputs: Vec<usize>,
    flop: u64,
}

fn graphs(criterion: &mut Criterion) {
    let bundle = bundle();
    for choice in [BackendChoice::Tract, BackendChoice::Ort, BackendChoice::Cuda] {
        let backend = match Backend::choose(choice, 1) {
            Ok(backend) => backend,
            Err(reason) => {
                println!("skipped: {reason}");
                continue;
            }
        };
        let mut group = criterion.benchmark_group(format!("{choice:?}").to_lowercase());
        group.sample_size(10);
        for case in cases(bundle.manifest()) {
            let onnx = bundle.graph(&case.graph).expect("the bundle holds its graphs");
            let session = backend.load(&case.graph, onnx).expect("loads");
            let data: Vec<Vec<f32>> = case.inputs.iter().map(|shape| values(shape)).collect();
            let positions: Vec<i64> = (0..case.positions.unwrap_or(0) as i64).collect();
            let shape = [positions.len()];
            let mut inputs: Vec<Input<'_>> = case
                .inputs
                .iter()
                .zip(&data)
                .map(|(shape, data)| Input::F32(shape, data))
                .collect();
            if case.positions.is_some() {
                inputs.push(Input::I64(&shape, &positions));
            }
            let mut outputs: Vec<Vec<f32>> =
                case.outputs.iter().map(|&length| vec![0.0; length]).collect();
            group.throughput(Throughput::Elements(case.flop));
            group.bench_function(format!("{}, {}", case.graph, case.label), |bencher| {
                bencher.iter(|| {
                    let mut slices: Vec<&mut [f32]> =
                        outputs.iter_mut().map(Vec::as_mut_slice).collect();
                    session.run(black_box(&inputs), &mut slices).expect("runs");
                });
            });
        }
        group.finish();
    }
}

/// Plain products [m, k] x [k, n] by the `gemm` crate on one thread.
fn products(criterion: &mut Criterion) {
    let base = bundle().manifest().base.clone();
    let (embed, wide) = (base.embed_dim, base.feed_forward);
    let mut group = criterion.benchmark_group("plain matrix product");
    for (m, k, n) in [(60, embed, wide), (60, wide, embed), (360, embed, wide), (360, wide, embed)]
    {
        let (a, b, mut c) = (values(&[m, k]), values(&[k, n]), vec![0.0_f32; m * n]);
        group.throughput(Throughput::Elements((2 * m * k * n) as u64));
        group.bench_function(format!("[{m}, {k}] x [{k}, {n}]"), |bencher| {
            bencher.iter(|| {
                let (a, b) = (black_box(&a), black_box(&b));
                // SAFETY: row-major slices of exactly m*k, k*n and m*n values, with the strides
                // that go with them.
                unsafe {
                    gemm::gemm(
                        m,
                        n,
                        k,
                        c.as_mut_ptr(),
                        1,
                        n as isize,
                        false,
                        a.as_ptr(),
                        1,
                        k as isize,
                        b.as_ptr(),
                        1,
                        n as isize,
                        0.0,
                        1.0,
                        false,
                        false,
                        false,
                        gemm::Parallelism::None,
                    );
                }
                black_box(&c);
            });
        });
    }
    group.finish();
}

fn cases(manifest: &Manifest) -> Vec<Case> {
    let base = &manifest.base;
    let (e, wide, samples) =
        (base.embed_dim, base.feed_forward, manifest.preprocessing.patch_samples);
    // Operations of one transformer layer's row with `keys` keys: four projections, scores and
    // their application, feed-forward.
    let row = |keys: usize| 2 * (4 * e * e + 2 * keys * e + 2 * e * wide);
    let case =
        |graph: &str, label: &str, inputs: &[&[usize]], outputs: &[usize], flop: usize| Case {
            graph: graph.to_owned(),
            label: label.to_owned(),
            inputs: inputs.iter().map(|shape| shape.to_vec()).collect(),
            positions: None,
            outputs: outputs.to_vec(),
            flop: flop as u64,
        };
    let encoder = |tokens: usize| tokens * row(tokens) * (base.layers + 1);
    let mut cases = vec![
        case(graph::TOKENIZER, "900 patches", &[&[900, samples]], &[900 * e], 900 * 1_600_000),
        case(
            graph::POOL,
            "60 patches x 6 channels",
            &[&[60, 6, e], &[60, 6]],
            &[60 * e],
            360 * row(6),
        ),
        case(graph::ENCODER, "60 tokens", &[&[1, 60, e], &[1, 60]], &[60 * e, e], encoder(60)),
        case(graph::ENCODER, "12 tokens", &[&[1, 12, e], &[1, 12]], &[12 * e, e], encoder(12)),
    ];
    if manifest.staging.is_some() {
        let attend = graph::staging_attend(0);
        let night = NIGHT.min(manifest.staging.as_ref().map_or(0, |s| s.max_seq_length));
        let inputs: [&[usize]; 4] = [&[60, e], &[night, e], &[night, e], &[night]];
        let flop = 60 * 2 * (2 * e * e + 2 * night * e + 2 * e * wide);
        let pool = case(
            graph::STAGING_POOL,
            "60 tokens",
            &[&[60, 4, e], &[60, 4]],
            &[60 * e],
            240 * row(4),
        );
        cases.push(Case { positions: Some(60), ..pool });
        cases.push(case(&attend, "60 queries of a night", &inputs, &[60 * e], flop));
        // Two directions of hidden size E/2: four gates from input and state.
        let rnn = night * 2 * 2 * 4 * (e / 2) * (e + e / 2);
        cases.push(case(graph::STAGING_RNN, "a night", &[&[night, e]], &[night * 5], rnn));
    }
    cases
}

fn bundle() -> Bundle {
    match std::env::var_os("SFM_BUNDLE") {
        Some(path) => Bundle::open(path).expect("SFM_BUNDLE is a bundle"),
        None => Bundle::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/mini/mini.sfm"))
            .expect("the repository holds this bundle"),
    }
}

/// Reproducible values in -1 to 1; the masks of a graph are not meant to be 0 or 1 for timing.
fn values(shape: &[usize]) -> Vec<f32> {
    let length: usize = shape.iter().product();
    (0..length as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 32_768.0 - 1.0)
        .collect()
}

criterion_group!(benches, graphs, products);
criterion_main!(benches);
