//! A tiny store: windows of 4 patches of 64 samples, each with a rhythm of its own that every
//! modality shares, so that there is something to learn in a second.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sfm_models::Modality;
use sfm_trainer::data::store::StoreWriter;
use tempfile::TempDir;

pub const PATCH_SAMPLES: usize = 64;
pub const WINDOW_PATCHES: usize = 4;
pub const WINDOW_SAMPLES: usize = PATCH_SAMPLES * WINDOW_PATCHES;

pub const CONFIG: &str = r#"
[network]
embed_dim = 16
heads = 2
pooling_heads = 2
layers = 1
feed_forward = 32
dropout = 0.1
patch_samples = 64
window_patches = 4

[pretrain]
seed = 3
passes = 1000
max_steps = 10
batch_size = 8
channel_dropout = 0.2
modality_dropout = 0.1
workers = 2
log_every = 1
validate_every = 5
save_every = 5

[pretrain.optimizer]
kind = "adamw"
learning_rate = 0.01
weight_decay = 0.01
clip_norm = 1.0

[pretrain.schedule]
kind = "cosine"
warmup_steps = 2
"#;

/// A channel: its name, its modality, and sample by number.
pub type Channel<'a> = (&'a str, Modality, &'a dyn Fn(usize) -> f32);

/// Writes a recording of `samples` samples.
pub fn write(path: &Path, samples: usize, channels: &[Channel<'_>]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut store = StoreWriter::create(path).unwrap();
    for (name, modality, value) in channels {
        let samples: Vec<f32> = (0..samples).map(value).collect();
        store.channel(name, name, Some(*modality), &samples).unwrap();
    }
    store.finish().unwrap();
}

/// Recordings of `windows` windows; the second lacks EMG, the third has two ECG channels.
pub fn recording(path: &Path, seed: u64, windows: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rhythms: Vec<f32> = (0..windows).map(|_| rng.random_range(0.05..1.5)).collect();
    let noise: Vec<f32> =
        (0..windows * WINDOW_SAMPLES).map(|_| rng.random_range(-0.3..0.3)).collect();
    let wave = |phase: f32| {
        let (rhythms, noise) = (&rhythms, &noise);
        move |i: usize| {
            1.4 * (rhythms[i / WINDOW_SAMPLES % rhythms.len()] * i as f32 + phase).sin()
                + noise[(i + (phase * 100.0) as usize) % noise.len()]
        }
    };
    let (eeg, eog, flow, ecg, chin) = (wave(0.0), wave(0.5), wave(1.0), wave(2.0), wave(3.0));
    let mut channels: Vec<Channel<'_>> = vec![
        ("C3-M2", Modality::Bas, &eeg),
        ("E1-M2", Modality::Bas, &eog),
        ("Flow", Modality::Resp, &flow),
        ("ECG", Modality::Ekg, &ecg),
    ];
    match seed % 3 {
        0 => channels.push(("Chin", Modality::Emg, &chin)),
        1 => {}
        _ => channels.extend([
            ("Chin", Modality::Emg, &chin as &dyn Fn(usize) -> f32),
            ("ECG2", Modality::Ekg, &chin),
        ]),
    }
    write(path, windows * WINDOW_SAMPLES + 17, &channels);
}

/// A store, a split and a configuration in a temporary folder.
pub struct Cohort {
    pub folder: TempDir,
}

impl Cohort {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..5).map(|i| format!("sim/night-{i}.hdf5")).collect();
        for (i, name) in names.iter().enumerate() {
            recording(&folder.path().join("store").join(name), i as u64, 20);
        }
        let split = serde_json::json!({"pretrain": names[..4], "validation": names[4..]});
        std::fs::write(folder.path().join("split.json"), split.to_string()).unwrap();
        std::fs::write(folder.path().join("run.toml"), CONFIG).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes another configuration, with `from` replaced by `to`.
    pub fn configure(&self, from: &str, to: &str) {
        assert!(CONFIG.contains(from), "'{from}' is not in the configuration");
        std::fs::write(self.path("run.toml"), CONFIG.replace(from, to)).unwrap();
    }

    /// `sfm-train pretrain` on all of it, into `out`.
    pub fn command(&self, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sfm-train"));
        command.current_dir(self.folder.path()).args([
            "pretrain",
            "--config",
            "run.toml",
            "--store",
            "store",
            "--split",
            "split.json",
            "--device",
            "cpu",
            "--out",
            out,
        ]);
        command.args(more);
        command
    }

    /// Runs it.
    pub fn run(&self, out: &str, more: &[&str]) -> Output {
        self.command(out, more).output().unwrap()
    }

    /// Runs it, which has to succeed; what it printed.
    pub fn pretrain(&self, out: &str, more: &[&str]) -> String {
        let output = self.run(out, more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, which has to fail with `code`; the one line that it says.
    pub fn refused(&self, out: &str, more: &[&str], code: i32) -> String {
        refusal(&self.run(out, more), code)
    }
}

/// The one line of a failure with `code`.
pub fn refusal(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim_end().to_owned()
}
