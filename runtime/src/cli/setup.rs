//! What a run needs before its channels are known, and what follows from them: bundle, engine,
//! worker threads; montage and the event that begins a pass. The same for a file, for sensors, and
//! for a session that is recovered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sfm_models::manifest::ChannelPolicy;
use sfm_models::{Bundle, Manifest, Modality, ReferenceQuantiles};

use super::args::RunArgs;
use super::first_minutes::good_parts;
use super::progress::Progress;
use super::summary::StageChanges;
use super::{Failure, bundle, channel_rules, say};
use crate::event::{ChannelUse, Event, Pass, SleepEpoch, Started};
use crate::infer::backend::{Backend, BackendChoice, Engine};
use crate::infer::onnxruntime::Device;
use crate::infer::{Fault, InferError};
use crate::montage::{ChannelRules, Montage, MontageError};
use crate::night::Demographics;
use crate::pipeline::{Network, PipelineError};
use crate::signal::StreamInfo;
use crate::source::{Recording, Source};
use sfm_models::EPOCH_S;

/// A night has some hundred independent steps at a time at most.
const MAX_THREADS: usize = 256;

/// How long a window waits for those of other beds, to share a run of the encoder.
const BATCH_WITHIN: Duration = Duration::from_millis(5);

/// What is fixed before there are channels.
pub(super) struct Setup {
    rules: ChannelRules,
    /// The bundle.
    pub bundle: Bundle,
    /// The engine and why it was chosen.
    pub backend: Backend,
    /// The bundle's networks on the engine.
    pub network: Network,
    /// `--keep-bad`.
    pub keep_bad: bool,
    /// Age and sex.
    pub demographics: Option<Demographics>,
    /// Phecode and phenotype of each hazard.
    pub labels: Vec<(String, String)>,
    /// The hazards of the bundle's cohort, where it brings them.
    pub quantiles: Option<ReferenceQuantiles>,
}

/// A source's channels, and what they are used for.
pub(super) struct Study {
    /// Which channel serves which modality.
    pub montage: Montage,
    /// The event that begins a pass.
    pub started: Started,
    /// What is odd about the source.
    pub warnings: Vec<String>,
}

impl Setup {
    /// Opens the bundle and the engine.
    pub fn open(args: &RunArgs, threads: usize) -> Result<Self, Failure> {
        Self::load(args, threads, Network::load)
    }

    /// The same for several recordings at a time. On a GPU their windows share batches; on a CPU
    /// every core has a window of its own anyway.
    pub fn open_for_many(args: &RunArgs, threads: usize) -> Result<Self, Failure> {
        Self::load(args, threads, |bundle, backend| match backend.engine {
            Engine::OnnxRuntime(Device::Cuda(_)) => {
                Network::load_shared(bundle, backend, BATCH_WITHIN)
            }
            _ => Network::load(bundle, backend),
        })
    }

    /// The same for several sessions at a time, whose windows share batches.
    pub fn open_shared(args: &RunArgs, threads: usize) -> Result<Self, Failure> {
        Self::load(args, threads, |bundle, backend| {
            Network::load_shared(bundle, backend, BATCH_WITHIN)
        })
    }

    fn load(
        args: &RunArgs,
        threads: usize,
        load: impl FnOnce(&Bundle, &Backend) -> Result<Network, InferError>,
    ) -> Result<Self, Failure> {
        let demographics = demographics(args)?;
        let bundle = bundle::open(args.bundle.as_deref())?;
        let rules = channel_rules(&args.channels, bundle.manifest().channels)?;
        let labels = labels(&bundle)?;
        let quantiles = bundle.quantiles().map_err(Failure::bundle)?;
        let choice = args.backend.unwrap_or(BackendChoice::Auto);
        let backend = Backend::choose(choice, threads).map_err(Failure::usage)?.telling(say);
        let network = load(&bundle, &backend).map_err(Failure::bundle)?;
        let network = if args.keep_bad { network.keeping_bad() } else { network };
        let keep_bad = args.keep_bad;
        Ok(Self { rules, bundle, backend, network, keep_bad, demographics, labels, quantiles })
    }

    /// What becomes of the channels of a recording, which is called `name` in messages.
    pub fn study(&self, recording: &mut Recording, name: &str) -> Result<Study, Failure> {
        let manifest = self.bundle.manifest();
        let montage = montage_of(&self.rules, &channel_limits(manifest), recording, manifest)?;
        self.study_of(recording.info(), montage, name)
    }

    /// The same for sensors, by rules of their session: no one is there to correct a `--map` for
    /// channels that have not come, so that is a warning.
    pub fn study_sensors(&self, info: &StreamInfo, rules: &ChannelRules) -> Result<Study, Failure> {
        let limits = channel_limits(self.bundle.manifest());
        let (montage, missing) =
            rules.assign_sensors(&info.signals, &limits).map_err(Failure::usage)?;
        let mut study = self.study_of(info, montage, "this session")?;
        study.warnings.extend(missing.into_iter().map(|missing| match missing {
            MontageError::UnknownMap { label, .. } => {
                format!("--map {label}: no channel of this session has this label")
            }
            MontageError::UnknownElectrode { derivation, label, .. } => {
                format!("--derive {derivation}: no channel of this session has the label {label}")
            }
            other => other.to_string(),
        }));
        Ok(study)
    }

    /// The rules that were given at the start.
    pub fn rules(&self) -> &ChannelRules {
        &self.rules
    }

    fn study_of(&self, info: &StreamInfo, montage: Montage, name: &str) -> Result<Study, Failure> {
        let manifest = self.bundle.manifest();
        if montage.used() == 0 {
            return Err(Failure::input(format!(
                "{name}: none of its {} channels is one the network takes; 'sfm-stream inspect' says why, --map LABEL=MODALITY decides otherwise",
                montage.recorded()
            )));
        }
        let started = self.started(info, &montage);
        Ok(Study { montage, started, warnings: warnings(info, manifest) })
    }

    fn started(&self, info: &StreamInfo, montage: &Montage) -> Started {
        let manifest = self.bundle.manifest();
        let info = montage.extended(info);
        Started {
            pass: Pass::Live,
            format: info.format.clone(),
            start: info.start.clone(),
            duration_s: info.duration_s,
            channels: montage
                .decisions
                .iter()
                .map(|decision| ChannelUse {
                    channel: decision.channel,
                    label: decision.label.clone(),
                    rate_hz: info.signals[decision.channel].rate_hz,
                    unit: info.signals[decision.channel].unit.clone(),
                    modality: decision.modality,
                    rule: decision.rule.clone(),
                })
                .collect(),
            modalities_absent: montage.absent(),
            bundle: manifest.name.clone(),
            bundle_sha256: self.bundle.sha256(),
            training_data: manifest.training.data.clone(),
            caution: manifest.training.caution().map(str::to_owned),
            backend: self.backend.why().to_owned(),
        }
    }
}

impl Study {
    /// The recording's channels that serve a modality, themselves or in a derivation.
    pub fn used(&self) -> Vec<usize> {
        self.montage.to_read()
    }

    /// One line each on stderr: engine, channels, what is odd about the source.
    pub fn explain(&self) {
        say(&format!("backend: {}", self.started.backend));
        say(&format!("channels: {}", self.montage.summary()));
        self.montage.no_room().into_iter().for_each(|line| say(&line));
        if !self.started.modalities_absent.is_empty() {
            let absent: Vec<_> =
                self.started.modalities_absent.iter().map(|m| m.as_str()).collect();
            say(&format!("absent: no channel for {}; masked", absent.join(", ")));
        }
        if let Some(caution) = &self.started.caution {
            say(&format!("warning: {caution}"));
        }
        for warning in &self.warnings {
            say(&format!("warning: {warning}"));
        }
    }

    /// Tells `send` that `pass` begins.
    pub fn begin(&mut self, pass: Pass, mut send: impl FnMut(Event)) {
        self.started.pass = pass;
        send(Event::Started(Box::new(self.started.clone())));
        for message in self.warnings.clone() {
            send(Event::Warning { message });
        }
    }

    /// The progress of the pass that has begun, unless it is shown elsewhere.
    pub fn progress(&self, is_shown: bool, begun: Instant) -> Option<Progress> {
        is_shown.then(|| Progress::new(self.started.duration_s, self.started.pass, begun))
    }
}

/// The user's line for a pass that failed; `out` is where what was done lies.
pub(super) fn failed(error: PipelineError, out: &std::path::Path) -> Failure {
    match error {
        PipelineError::Source(e) => Failure::input(e),
        PipelineError::Channel(e) => {
            Failure::input(format!("{e}; leave the channel out with --map 'LABEL=none'"))
        }
        PipelineError::Interrupted => interrupted(out),
        PipelineError::Infer(e) if e.fault == Fault::Graph => {
            Failure::bundle(format!("{e}; use another bundle, 'bundle verify' checks one"))
        }
        PipelineError::Infer(e) => Failure::run(e),
    }
}

/// The user stopped the run.
pub(super) fn interrupted(out: &std::path::Path) -> Failure {
    Failure::run(format!("interrupted; what was done is in {}", out.display()))
}

/// The worker threads of a run.
pub(super) fn threads(args: &RunArgs) -> Result<usize, Failure> {
    match args.threads {
        Some(threads) if (1..=MAX_THREADS).contains(&threads) => Ok(threads),
        Some(threads) => {
            Err(Failure::usage(format!("--threads {threads} is not in 1 to {MAX_THREADS}")))
        }
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)),
    }
}

/// What the source found odd, and a length that leaves nothing to do.
fn warnings(info: &StreamInfo, manifest: &Manifest) -> Vec<String> {
    let mut warnings = info.warnings.clone();
    let patch_s = EPOCH_S / manifest.preprocessing.epoch_patches() as f64;
    if let Some(duration_s) = info.duration_s.filter(|&s| s < patch_s) {
        warnings.push(format!(
            "the recording is {duration_s} s long, too short for a single {patch_s}-s patch: no stages"
        ));
    }
    warnings
}

fn demographics(args: &RunArgs) -> Result<Option<Demographics>, Failure> {
    match (args.age, args.sex) {
        (Some(age_years), Some(sex)) if (0.0..=130.0).contains(&age_years) => {
            Ok(Some(Demographics { age_years, sex }))
        }
        (Some(age), _) if !(0.0..=130.0).contains(&age) => {
            Err(Failure::usage(format!("--age {age} is no age in years")))
        }
        (None, None) => Ok(None),
        _ => Err(Failure::usage("the hazards need both --age and --sex; give both or neither")),
    }
}

/// Phecode and phenotype of each hazard of the bundle.
pub(super) fn labels(bundle: &Bundle) -> Result<Vec<(String, String)>, Failure> {
    let labels = bundle.labels().map_err(Failure::bundle)?;
    Ok(labels.into_iter().map(|label| (label.phecode, label.phenotype)).collect())
}

/// What becomes of the channels of a recording. Where there are more of them than `limits` allow, those
/// with the better signal in the first minutes are taken among equals; not of a live session's recording,
/// which knew nothing of its samples when it began. What is preprocessed stays as it is.
pub(super) fn montage_of(
    rules: &ChannelRules,
    limits: &BTreeMap<Modality, usize>,
    recording: &mut Recording,
    manifest: &Manifest,
) -> Result<Montage, Failure> {
    let info = recording.info().clone();
    let rules = match info.preprocessed {
        true => rules.clone().with_policy(ChannelPolicy::Reference),
        false => rules.clone(),
    };
    let montage = rules.assign(&info.signals, limits).map_err(Failure::usage)?;
    if !montage.is_crowded || !rules.chooses() || recording.is_of_a_session() {
        return Ok(montage);
    }
    let all = rules.assign(&info.signals, &BTreeMap::new()).map_err(Failure::usage)?;
    let good = good_parts(recording, &all, &manifest.preprocessing).map_err(Failure::input)?;
    rules.assign_judged(&info.signals, limits, &good).map_err(Failure::usage)
}

/// At most as many channels as the network was trained with; none of a modality it lacks.
pub(super) fn channel_limits(manifest: &Manifest) -> BTreeMap<Modality, usize> {
    let mut limits = manifest.base.max_channels.clone();
    for modality in Modality::ALL {
        if !manifest.base.modalities.contains(&modality) {
            limits.insert(modality, 0);
        }
    }
    limits
}

/// How many epochs changed their stage.
pub(super) fn stage_changes(live: &[SleepEpoch], last: &[SleepEpoch]) -> StageChanges {
    let pairs = live.iter().zip(last);
    StageChanges {
        changed: pairs.clone().filter(|(a, b)| a.stage != b.stage).count() as u32,
        epochs: pairs.count() as u32,
    }
}
