//! `--backend`: an engine that is asked for by name and is not there is an error, `auto` falls
//! back and says why; what is there computes the same.

use std::path::PathBuf;

use sfm_runtime::infer::backend::probe_gpu;

use crate::run::{Bench, data, wait};
use crate::skip::skipped;

const FILE: &str = "edf/short_psg.edf";

/// ONNX Runtime on this machine, or a message.
fn onnx_runtime() -> Option<PathBuf> {
    let path = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).filter(|p| p.is_file());
    if path.is_none() {
        skipped("ort", "ORT_DYLIB_PATH names no ONNX Runtime");
    }
    path
}

#[test]
fn ort_without_its_library_is_2() {
    let bench = Bench::new();
    let file = data(FILE).into_os_string();
    let args =
        |backend: &str| ["--replay".into(), file.clone(), "--backend".into(), backend.into()];
    for path in ["/nowhere/libonnxruntime.so", "/etc/hostname"] {
        let mut command = bench.command(args("ort"));
        command.env("ORT_DYLIB_PATH", path);
        let run = wait(command);
        let line = run.refused(2);
        assert!(line.contains(path) && line.contains("set ORT_DYLIB_PATH"), "{line}");
    }
    assert!(!bench.path("short_psg.sfm-out").exists(), "refused before anything is written");
}

#[test]
fn cuda_without_a_gpu_is_2_and_auto_says_why_it_falls_back() {
    if let Ok(gpu) = probe_gpu(0) {
        skipped("no-gpu", format_args!("this machine has a GPU, {gpu}"));
        return;
    }
    let bench = Bench::new();
    let file = data(FILE).into_os_string();
    let with = |backend: &str| {
        let args = ["--replay".into(), file.clone(), "--backend".into(), backend.into()];
        wait(bench.command(args))
    };
    let run = with("cuda");
    let line = run.refused(2);
    assert!(line.contains("--backend cuda") && line.contains("use --backend auto"), "{line}");
    let run = with("auto");
    run.done();
    let line = run.stderr.lines().next().expect("the engine's line");
    assert!(line.starts_with("backend: tract on the CPU") && line.contains("no CUDA: "), "{line}");
}

#[test]
fn ort_computes_what_tract_computes() {
    let Some(library) = onnx_runtime() else { return };
    let bench = Bench::new();
    assert_eq!(bench.replay(&data(FILE), "--pass final").code, 0);
    let tract = bench.output();
    let file = data(FILE).into_os_string();
    let bundle = data("mini/mini.sfm").into_os_string();
    let args = ["--replay".into(), file, "--bundle".into(), bundle, "--out".into(), "out".into()];
    let args = args.into_iter();
    let more = ["--backend", "ort", "--pass", "final"].map(Into::into);
    let mut command = bench.command(args.chain(more));
    command.env("ORT_DYLIB_PATH", library);
    let run = wait(command);
    run.done();
    assert!(run.stderr.starts_with("backend: ONNX Runtime on the CPU"), "{run:#?}");
    for (a, b) in tract.hypnogram.iter().zip(&bench.output().hypnogram) {
        for (p, q) in a.probabilities.iter().zip(b.probabilities) {
            assert!((p - q).abs() < 1e-5, "{a:?} {b:?}");
        }
    }
}
