//! Live against final: a bundle stages recordings with the runtime's own two passes, as it would at
//! the bedside and afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use sfm_models::{Bundle, Modality, SleepStage};
use sfm_runtime::event::{EpochStatus, Event, SleepEpoch};
use sfm_runtime::infer::backend::{Backend, BackendChoice};
use sfm_runtime::lights::Lights;
use sfm_runtime::montage::{ChannelRules, Montage};
use sfm_runtime::pipeline::{Network, Options, Surroundings, final_pass, live_pass};
use sfm_runtime::source::{self, Source};

/// A bundle, ready to stage recordings.
pub struct Replay {
    network: Network,
    rules: ChannelRules,
    limits: BTreeMap<Modality, usize>,
    /// The engine, and why.
    pub engine: String,
}

/// The stages of a night's epochs; `None` is `?`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hypnograms {
    /// As said when the epoch's 30 s were in.
    pub provisional: Vec<Option<SleepStage>>,
    /// As said when its window closed.
    pub settled: Vec<Option<SleepStage>>,
    /// As said after the night.
    pub last: Vec<Option<SleepStage>>,
}

impl Replay {
    /// Loads `bundle`, which must have a staging head.
    ///
    /// # Errors
    /// A sentence.
    pub fn load(bundle: &Bundle) -> Result<Self, String> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let backend = Backend::choose(BackendChoice::Auto, threads).map_err(|e| e.to_string())?;
        let network = Network::load(bundle, &backend).map_err(|e| e.to_string())?;
        if network.staging().is_none() {
            return Err("has no staging head to evaluate".to_owned());
        }
        let base = &bundle.manifest().base;
        let mut limits = base.max_channels.clone();
        for modality in Modality::ALL {
            if !base.modalities.contains(&modality) {
                limits.insert(modality, 0);
            }
        }
        let rules = ChannelRules::built_in().map_err(|e| e.to_string())?;
        let rules = rules.with_policy(bundle.manifest().channels);
        Ok(Self { network, rules, limits, engine: backend.why().to_owned() })
    }

    /// Stages the recording at `path` in both passes.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn stage(&self, path: &Path) -> Result<Hypnograms, String> {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let mut recording = source::open(path).map_err(|e| e.to_string())?;
        let montage: Montage =
            self.rules.assign(&recording.info().signals, &self.limits).map_err(|e| named(&e))?;
        if montage.used() == 0 {
            return Err(named(&"none of its channels is one the network takes"));
        }
        recording.select(&montage.to_read());
        let stop = AtomicBool::new(false);
        let mut provisional = Vec::new();
        let mut emit = |event: Event| {
            if let Event::Epoch(SleepEpoch { status: EpochStatus::Provisional, stage, .. }) = event
            {
                provisional.push(stage);
            }
        };
        let mut around = Surroundings {
            emit: &mut emit,
            progress: &mut |_| (),
            stop: &stop,
            lights: &Lights::default,
        };
        let mut options = Options::default();
        let live = live_pass(&mut recording, &montage, &self.network, &options, &mut around)
            .map_err(|e| named(&e))?;
        options.stats = Some(live.stats);
        recording.rewind();
        let mut around = Surroundings {
            emit: &mut |_| (),
            progress: &mut |_| (),
            stop: &stop,
            lights: &Lights::default,
        };
        let last = final_pass(&mut recording, &montage, &self.network, &options, &mut around)
            .map_err(|e| named(&e))?;
        let stages = |epochs: &[SleepEpoch]| epochs.iter().map(|epoch| epoch.stage).collect();
        Ok(Hypnograms {
            provisional,
            settled: stages(&live.hypnogram),
            last: stages(&last.hypnogram),
        })
    }
}
