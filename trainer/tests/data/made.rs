//! Recordings made for a test, and the runtime's final pass over a file.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use burn::backend::Flex;
use sfm_models::manifest::Training;
use sfm_models::{Bundle, Modality};
use sfm_runtime::edf::{Continuity, EdfWriter, RecordingSpec, SampleFormat, SignalSpec};
use sfm_runtime::event::{Event, WindowEmbedding};
use sfm_runtime::infer::backend::{Backend, BackendChoice};
use sfm_runtime::lights::Lights;
use sfm_runtime::montage::ChannelRules;
use sfm_runtime::pipeline::{self, Network, Options, PassOutcome, Surroundings};
use sfm_runtime::source::{self, Source};
use sfm_tests::reference::Reference;
use sfm_trainer::export::bundle::{About, BundleBuilder};
use sfm_trainer::import;
use sfm_trainer::network::BaseNetwork;
use sfm_trainer::preprocess::Preprocess;

/// Samples per second of every made channel.
pub const RATE: usize = 256;

/// EDF of one-second records; `sample` gives channel and index without holes. A record's onset may
/// lie later than where the one before it ended.
pub fn edf(labels: &[&str], onsets_s: &[f64], sample: impl Fn(usize, usize) -> i32) -> Vec<u8> {
    let signal = |label: &&str| SignalSpec {
        label: (*label).to_owned(),
        unit: "uV".to_owned(),
        prefilter: String::new(),
        physical_min: -1000.0,
        physical_max: 1000.0,
        digital_min: -32768,
        digital_max: 32767,
        samples_per_record: RATE,
    };
    let spec = RecordingSpec {
        sample_format: SampleFormat::I16,
        continuity: Continuity::Discontinuous,
        start: "2024-02-29T22:58:41".parse().ok(),
        record_duration_s: 1.0,
        signals: labels.iter().map(signal).collect(),
        annotation_bytes: 40,
    };
    let mut writer = EdfWriter::new(Cursor::new(Vec::new()), &spec).unwrap();
    for (record, &onset_s) in onsets_s.iter().enumerate() {
        let digital: Vec<Vec<i32>> = (0..labels.len())
            .map(|channel| (0..RATE).map(|i| sample(channel, record * RATE + i)).collect())
            .collect();
        let digital: Vec<&[i32]> = digital.iter().map(Vec::as_slice).collect();
        writer.write_record_at(onset_s, &digital, &[]).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// `seconds` records one after the other.
pub fn continuous(seconds: usize) -> Vec<f64> {
    (0..seconds).map(|s| s as f64).collect()
}

/// Noise that differs by channel.
pub fn noise(channel: usize, sample: usize) -> i32 {
    let mut x = (channel as u64 + 1) * 0x9e37_79b9_7f4a_7c15 + sample as u64;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) % 4001) as i32 - 2000
}

/// Keeps what the built-in rules map.
pub fn by_the_rules() -> Preprocess {
    Preprocess::new(ChannelRules::built_in().unwrap(), &[], false).unwrap()
}

/// The store's file of a recording of the parity data, in `dir`.
pub fn store_of(reference: &Reference, dir: &Path) -> PathBuf {
    let to = dir.join("psg.hdf5");
    by_the_rules().recording(&reference.dir.join("psg.edf"), &to).unwrap();
    to
}

pub fn base(reference: &Reference) -> BaseNetwork<Flex> {
    import::base(&reference.dir.join("model_base"), &Default::default()).unwrap()
}

/// A bundle of the reference's base network and staging head.
pub fn bundle(reference: &Reference) -> Bundle {
    let device = Default::default();
    let base = base(reference);
    let stager =
        import::staging::<Flex>(&reference.dir.join("model_sleep_staging"), &base, &device);
    let about = About {
        name: "parity".to_owned(),
        license: "MIT".to_owned(),
        training: Training::random(),
    };
    let mut builder = BundleBuilder::new(&base, about);
    builder.staging(&stager.unwrap());
    Bundle::from_bytes(builder.to_bytes().unwrap()).unwrap()
}

pub fn tract() -> Backend {
    Backend::choose(BackendChoice::Tract, 2).unwrap()
}

/// What `sfm-stream --pass final` computes of a file.
pub struct Passed {
    pub outcome: PassOutcome,
    pub windows: Vec<WindowEmbedding>,
}

pub fn final_pass(path: &Path, network: &Network) -> Passed {
    let mut recording = source::open(path).unwrap();
    let rules = ChannelRules::built_in().unwrap();
    let montage = rules.assign(&recording.info().signals, &BTreeMap::new()).unwrap();
    let used: Vec<usize> = Modality::ALL.iter().flat_map(|m| montage.channels(*m)).collect();
    recording.select(&used);
    let stop = AtomicBool::new(false);
    let mut windows = Vec::new();
    let mut emit = |event| {
        if let Event::Window(window) = event {
            windows.push(*window);
        }
    };
    let mut around = Surroundings {
        emit: &mut emit,
        progress: &mut |_| (),
        stop: &stop,
        lights: &Lights::default,
    };
    let stats = pipeline::measure(&mut recording, &montage, network, &mut around).unwrap();
    recording.rewind();
    let options = Options { stats: Some(stats), ..Options::default() };
    let outcome =
        pipeline::final_pass(&mut recording, &montage, network, &options, &mut around).unwrap();
    Passed { outcome, windows }
}
