//! Runs passes of the pipeline as the program does, and keeps their events.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::backend::Flex;
use sfm_models::manifest::Training;
use sfm_models::{Bundle, Modality};
use sfm_runtime::event::{Event, WindowEmbedding};
use sfm_runtime::infer::backend::{Backend, BackendChoice};
use sfm_runtime::lights::Lights;
use sfm_runtime::montage::{ChannelRules, Montage};
use sfm_runtime::pipeline::{
    Network, Options, PassOutcome, Surroundings, final_pass, live_pass, measure,
};
use sfm_runtime::source::{self, Recording, Source};
use sfm_tests::reference::Reference;
use sfm_tests::skip::skipped;
use sfm_trainer::export::bundle::{About, BundleBuilder};
use sfm_trainer::import;

/// The reference's checkpoints as a bundle.
pub fn bundle(reference: &Reference) -> Bundle {
    let device = Default::default();
    let base = import::base::<Flex>(&reference.dir.join("model_base"), &device).expect("base");
    let staging = import::staging(&reference.dir.join("model_sleep_staging"), &base, &device);
    let risk = import::risk(&reference.dir.join("model_diagnosis"), &base, &device);
    let about =
        About { name: "parity".into(), license: "MIT".into(), training: Training::random() };
    let mut builder = BundleBuilder::new(&base, about);
    builder.staging(&staging.expect("staging"));
    let risk = risk.expect("risk");
    builder.risk(&risk.head, risk.max_seq_length, (0.0, 100.0));
    Bundle::from_bytes(builder.to_bytes().expect("bytes")).expect("a bundle")
}

/// Checks the networks of each reference on every engine of this machine.
pub fn on_every_engine(references: &[Reference], check: impl Fn(&Reference, &Network)) {
    for reference in references {
        let bundle = bundle(reference);
        for (engine, backend) in engines() {
            println!("{} on {engine}", reference.dir.display());
            check(reference, &Network::load(&bundle, &backend).expect("loads"));
        }
    }
}

/// Every engine of this machine, with its name; the others are reported.
fn engines() -> Vec<(&'static str, Backend)> {
    let choices = [
        ("tract", BackendChoice::Tract),
        ("ort", BackendChoice::Ort),
        ("cuda", BackendChoice::Cuda),
    ];
    let mut engines = Vec::new();
    for (name, choice) in choices {
        match Backend::choose(choice, 2) {
            Ok(backend) => engines.push((name, backend)),
            Err(reason) => skipped(name, format_args!("engine {name}: {reason}")),
        }
    }
    engines
}

/// tract, which every machine has.
pub fn tract(bundle: &Bundle) -> Network {
    let backend = Backend::choose(BackendChoice::Tract, 2).expect("tract");
    Network::load(bundle, &backend).expect("loads")
}

/// A recording with its channels mapped.
pub fn open(path: &Path) -> (Recording, Montage) {
    let mut recording = source::open(path).expect("opens");
    let rules = ChannelRules::built_in().expect("rules");
    let montage = rules.assign(&recording.info().signals, &BTreeMap::new()).expect("a montage");
    let used: Vec<usize> = (0..montage.decisions.len())
        .filter(|&channel| montage.decisions[channel].modality.is_some())
        .collect();
    recording.select(&used);
    (recording, montage)
}

/// What a pass said and left.
pub struct Passed {
    pub outcome: PassOutcome,
    pub events: Vec<Event>,
}

impl Passed {
    /// The events as the program writes them.
    pub fn lines(&self) -> Vec<String> {
        self.events.iter().map(|e| serde_json::to_string(e).expect("JSON")).collect()
    }

    fn windows(&self) -> impl Iterator<Item = &WindowEmbedding> {
        self.events.iter().filter_map(|event| match event {
            Event::Window(window) => Some(window.as_ref()),
            _ => None,
        })
    }

    /// 5-min embeddings [windows, E] of the first `windows` windows.
    pub fn pooled(&self, modality: Modality, windows: usize) -> Vec<f32> {
        let pooled = self.windows().take(windows).map(|w| w.pooled[modality.index()].as_ref());
        pooled.flat_map(|p| p.expect("the modality is present").clone()).collect()
    }

    /// 5-s embeddings [patches, E] of the first `patches` patches.
    pub fn tokens(&self, modality: Modality, patches: usize) -> Vec<f32> {
        let log = &self.outcome.log;
        let (width, embed_dim) = (log.width(), log.embed_dim());
        log.tokens()[..patches * width]
            .chunks_exact(width)
            .flat_map(|row| &row[modality.index() * embed_dim..][..embed_dim])
            .copied()
            .collect()
    }
}

/// The final pass over `recording`, measured first.
pub fn run_final(recording: &mut Recording, montage: &Montage, network: &Network) -> Passed {
    let stop = AtomicBool::new(false);
    let mut around = Surroundings {
        emit: &mut |_| (),
        progress: &mut |_| (),
        stop: &stop,
        lights: &Lights::default,
    };
    let stats = measure(recording, montage, network, &mut around).expect("measured");
    recording.rewind();
    let options = Options { stats: Some(stats), ..Options::default() };
    run(recording, montage, network, &options, final_pass)
}

/// The live pass over `recording`.
pub fn run_live(
    recording: &mut Recording,
    montage: &Montage,
    network: &Network,
    options: &Options,
) -> Passed {
    run(recording, montage, network, options, live_pass)
}

type Pass = fn(
    &mut dyn Source,
    &Montage,
    &Network,
    &Options,
    &mut Surroundings<'_>,
) -> Result<PassOutcome, sfm_runtime::pipeline::PipelineError>;

fn run(
    recording: &mut Recording,
    montage: &Montage,
    network: &Network,
    options: &Options,
    pass: Pass,
) -> Passed {
    let stop = AtomicBool::new(false);
    let mut events = Vec::new();
    let mut around = Surroundings {
        emit: &mut |event| events.push(event),
        progress: &mut |_| (),
        stop: &stop,
        lights: &Lights::default,
    };
    let outcome = pass(recording, montage, network, options, &mut around).expect("passes");
    Passed { outcome, events }
}
