use std::path::{Path, PathBuf};

use pulp::{Arch, Simd, WithSimd};

use super::weights::Convolution;
use super::*;

/// Against the graph in ONNX Runtime, absolute.
const ENGINE_TOLERANCE: f32 = 2e-5;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tokenizer").join(name)
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("golden file");
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4"))).collect()
}

fn golden_graph() -> Vec<u8> {
    std::fs::read(data("tokenizer.onnx")).expect("golden file")
}

fn golden_kernel() -> TokenizerKernel {
    TokenizerKernel::from_onnx(&golden_graph()).expect("the golden graph is a tokenizer")
}

fn architectures() -> Vec<Arch> {
    let mut found = vec![Arch::new(), Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    found.extend(pulp::x86::V3::try_new().map(Arch::V3));
    found
}

fn tokens(kernel: &TokenizerKernel, patches: &[f32]) -> Vec<f32> {
    let count = patches.len() / kernel.patch_samples();
    let mut tokens = vec![f32::NAN; count * kernel.embed_dim()];
    kernel.tokens_into(&mut kernel.scratch(), patches, &mut tokens);
    tokens
}

fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| uniform() + uniform() + uniform()).collect()
}

fn assert_close(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{what}: {worst:.1e}");
    assert!(worst < tolerance && got.iter().all(|x| x.is_finite()), "{what}: {worst:e}");
}

/// Written by tests/foreign/tokenizer_golden.py with ONNX Runtime.
#[test]
fn equals_onnx_runtime_on_every_instruction_set() {
    let (patches, expected) = (floats(&data("patches.f32")), floats(&data("tokens.f32")));
    for arch in architectures() {
        let weights = TokenizerWeights::from_onnx(&golden_graph()).expect("a tokenizer");
        let kernel = TokenizerKernel::on(arch, weights);
        let what = kernel.instruction_set();
        assert_close(&tokens(&kernel, &patches), &expected, ENGINE_TOLERANCE, &what);
    }
}

/// Plain loops in double precision, written from the definition of the layers.
fn reference(weights: &TokenizerWeights, patch: &[f32]) -> Vec<f32> {
    let mut x: Vec<f64> = patch.iter().map(|&v| f64::from(v)).collect();
    for c in &weights.convolutions {
        let positions = x.len() / c.inputs;
        let mut y = vec![0.0; c.outputs * c.length];
        for (i, y) in y.iter_mut().enumerate() {
            let (output, position) = (i / c.length, i % c.length);
            let mut sum = f64::from(c.bias[output]);
            for input in 0..c.inputs {
                for tap in 0..5 {
                    let at = 2 * position + tap;
                    if (2..positions + 2).contains(&at) {
                        let weight = c.weight[(output * c.inputs + input) * 5 + tap];
                        sum += f64::from(weight) * x[input * positions + at - 2];
                    }
                }
            }
            *y = if sum > 0.0 { sum } else { sum.exp_m1() };
        }
        let n = y.len() as f64;
        let mean = y.iter().sum::<f64>() / n;
        let variance = y.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let std = (variance + f64::from(c.epsilon)).sqrt();
        for (i, v) in y.iter_mut().enumerate() {
            *v = (*v - mean) / std * f64::from(c.norm_weight[i]) + f64::from(c.norm_bias[i]);
        }
        x = y;
    }
    let features = weights.linear_weight.len() / weights.linear_bias.len();
    let length = x.len() / features;
    let embed_dim = weights.linear_bias.len();
    let token = (0..embed_dim).map(|e| {
        let of = |f: usize| x[f * length..(f + 1) * length].iter().sum::<f64>() / length as f64;
        let product = |f: usize| of(f) * f64::from(weights.linear_weight[f * embed_dim + e]);
        ((0..features).map(product).sum::<f64>() + f64::from(weights.linear_bias[e])) as f32
    });
    token.collect()
}

/// Any widths, lengths and embedding sizes, not only the published ones.
fn random_weights(patch_samples: usize, channels: &[usize], embed_dim: usize) -> TokenizerWeights {
    let mut inputs = 1;
    let mut convolutions = Vec::new();
    for (i, &outputs) in channels.iter().enumerate() {
        let (seed, length) = (10 * i as u64 + 1, patch_samples >> (i + 1));
        let scaled =
            |count, seed, scale: f32| noise(count, seed).iter().map(|x| x * scale).collect();
        convolutions.push(Convolution {
            inputs,
            outputs,
            length,
            weight: scaled(outputs * inputs * 5, seed, 1.0 / (inputs as f32 * 5.0).sqrt()),
            bias: noise(outputs, seed + 1),
            norm_weight: noise(outputs * length, seed + 2),
            norm_bias: noise(outputs * length, seed + 3),
            epsilon: 1e-3,
        });
        inputs = outputs;
    }
    let linear_weight = noise(inputs * embed_dim, 1000);
    let linear_bias = noise(embed_dim, 1001);
    TokenizerWeights { patch_samples, convolutions, linear_weight, linear_bias }
}

#[test]
fn equals_plain_loops_at_any_size() {
    let plans: [(usize, &[usize], usize); 4] = [
        (640, &[4, 8, 16, 32, 64, 128], 128),
        (64, &[4, 8, 16, 32, 64, 128], 32),
        (192, &[3, 5, 9, 2, 7, 11], 13),
        (48, &[6], 1),
    ];
    for (samples, channels, embed_dim) in plans {
        for arch in architectures() {
            let weights = random_weights(samples, channels, embed_dim);
            let kernel = TokenizerKernel::on(arch, weights.clone());
            let patches = noise(samples * 19, 5);
            let expected: Vec<f32> =
                patches.chunks(samples).flat_map(|p| reference(&weights, p)).collect();
            let what = format!("{samples} samples, {}", kernel.instruction_set());
            assert_close(&tokens(&kernel, &patches), &expected, ENGINE_TOLERANCE, &what);
        }
    }
}

#[test]
fn a_token_does_not_depend_on_its_batch() {
    let kernel = golden_kernel();
    let patches = noise(90 * 640, 3);
    let all = tokens(&kernel, &patches);
    for batch in [1, 7, 15, 16, 33] {
        let parts: Vec<f32> =
            patches.chunks(batch * 640).flat_map(|part| tokens(&kernel, part)).collect();
        assert!(all.iter().zip(&parts).all(|(a, b)| a.to_bits() == b.to_bits()), "{batch}");
    }
}

struct Elu<'a>(&'a mut [f32]);

impl WithSimd for Elu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for x in S::as_mut_simd_f32s(self.0).0 {
            *x = simd::elu(simd, *x);
        }
    }
}

#[test]
fn elu_is_accurate_everywhere() {
    let inputs: Vec<f32> = (0..1_600_000)
        .map(|i| i as f32 * 1e-4 - 120.0)
        .chain([-1e30, -1e-8, -1e-20, 0.0, 1e-30, 3e38, f32::NEG_INFINITY, f32::INFINITY])
        .chain([-0.0; 8])
        .collect();
    for arch in architectures() {
        let mut outputs = inputs.clone();
        arch.dispatch(Elu(&mut outputs));
        for (&x, &y) in inputs.iter().zip(&outputs) {
            let exact = if x > 0.0 { f64::from(x) } else { f64::from(x).exp_m1() };
            let error = if x > 0.0 && x == y { 0.0 } else { (f64::from(y) - exact).abs() };
            assert!(error <= 1e-7, "{arch:?}: elu({x}) is {exact}, not {y}");
            assert!(error <= 1e-6 * exact.abs(), "{arch:?}: elu({x}) is {exact}, not {y}");
        }
    }
}

#[test]
fn an_exported_full_size_bundle_equals_its_goldens() {
    // Not in the repository: tokenizer.onnx of an imported bundle with ONNX Runtime's answer.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tokenizer");
    let Ok(graph) = std::fs::read(folder.join("tokenizer.onnx")) else {
        println!("skipped: {} is not there", folder.display());
        return;
    };
    let kernel = TokenizerKernel::from_onnx(&graph).expect("a tokenizer");
    let got = tokens(&kernel, &floats(&folder.join("patches.f32")));
    assert_close(&got, &floats(&folder.join("tokens.f32")), ENGINE_TOLERANCE, "full size");
}

mod refusals {
    use prost::Message;
    use tract_onnx::pb::ModelProto;

    use super::*;

    fn refusal(change: impl FnOnce(&mut tract_onnx::pb::GraphProto)) -> String {
        let mut model = ModelProto::decode(golden_graph().as_slice()).expect("onnx");
        change(model.graph.as_mut().expect("graph"));
        let error = TokenizerKernel::from_onnx(&model.encode_to_vec()).expect_err("refused");
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    }

    fn edit(name: &str, change: impl FnOnce(&mut tract_onnx::pb::TensorProto)) -> String {
        refusal(|graph| {
            let tensor = graph.initializer.iter_mut().find(|t| t.name == name);
            change(tensor.expect("initializer"));
        })
    }

    #[test]
    fn bytes_that_are_no_graph() {
        for bytes in [&b""[..], b"no onnx at all", &[0xff; 64]] {
            assert!(matches!(TokenizerKernel::from_onnx(bytes), Err(KernelError::NotOnnx(_))));
        }
    }

    #[test]
    fn every_initializer_by_name() {
        let model = ModelProto::decode(golden_graph().as_slice()).expect("onnx");
        for tensor in &model.graph.expect("graph").initializer {
            let name = tensor.name.as_str();
            if !["conv", "norm", "linear"].iter().any(|part| name.starts_with(part)) {
                continue;
            }
            let shape = edit(name, |t| {
                t.dims[0] += 1;
                t.raw_data.resize(t.dims.iter().product::<i64>() as usize * 4, 0);
            });
            assert!(shape.contains("initializer") || shape.contains("norm"), "{name}: {shape}");
            let rank = edit(name, |t| t.dims.push(1));
            assert!(rank.contains(name), "{rank}");
            let negative = edit(name, |t| t.dims[0] = -1);
            assert!(negative.contains(name), "{negative}");
            let cut = edit(name, |t| t.raw_data.truncate(t.raw_data.len() - 4));
            assert!(cut.contains(name), "{cut}");
            let kind = edit(name, |t| t.data_type = 7);
            assert!(kind.contains(name), "{kind}");
        }
        assert!(edit("norm2.bias", |t| t.name.clear()).contains("norm2.bias"));
        assert!(edit("linear.weight", |t| t.name.clear()).contains("linear.weight"));
    }

    #[test]
    fn a_size_that_only_the_file_claims() {
        let text = edit("norm0.weight", |t| t.dims[1] = i64::MAX / 8);
        assert!(text.contains("norm0.weight"), "{text}");
    }

    #[test]
    fn nodes_the_kernel_does_not_compute() {
        let of_type = |graph: &mut tract_onnx::pb::GraphProto, kind: &str| {
            graph.node.iter().position(|n| n.op_type == kind).expect("node")
        };
        let stride = refusal(|g| {
            let at = of_type(g, "Conv");
            let strides = g.node[at].attribute.iter_mut().find(|a| a.name == "strides");
            strides.expect("strides").ints = vec![1];
        });
        assert!(stride.contains("stride 2"), "{stride}");
        let no_elu = refusal(|g| {
            let at = of_type(g, "Elu");
            g.node[at].op_type = "Relu".into();
        });
        assert!(no_elu.contains("5 Elu"), "{no_elu}");
    }
}
