//! The end of a pass: statistics, risk, ledger, and what the user should know of how they came
//! about.

use sfm_models::{Modality, SleepStage};

use super::watch::Watch;
use super::{Network, Options, PassOutcome, PipelineError, Surroundings};
use crate::dsp::normalize::ChannelStats;
use crate::encode::TokenLog;
use crate::event::{Event, Night, OvernightRisk, Pass, SleepEpoch};
use crate::intake::Intake;
use crate::statistics::SleepStatistics;

/// Statistics, risk and ledger: the last event of a pass.
pub(super) fn conclude(
    pass: Pass,
    network: &Network,
    options: &Options,
    intake: &Intake,
    (hypnogram, log, stats): (Vec<SleepEpoch>, TokenLog, Vec<Option<ChannelStats>>),
    watch: &Watch,
    around: &mut Surroundings<'_>,
) -> Result<PassOutcome, PipelineError> {
    let risk = match &network.risk {
        Some(head) => head.night(&log, options.demographics)?,
        None => None,
    };
    let apnea = match &network.apnea {
        Some(head) => head.night(&log)?,
        None => None,
    };
    let stages: Vec<Option<SleepStage>> = hypnogram.iter().map(|e| e.stage).collect();
    let lights = (around.lights)().within(intake.length_s());
    let counted = lights.epochs(stages.len());
    let mut notes = notes(pass, network, intake, &log, risk.as_ref());
    notes.extend(lights.notes.iter().cloned());
    let night = Night {
        pass,
        statistics: SleepStatistics::from_hypnogram(&stages[counted.clone()]),
        lights: lights.to_show(),
        counted,
        missing: missing(watch, intake, stages.len()),
        risk,
        apnea,
        ledger: intake.ledger(),
        notes,
    };
    (around.emit)(Event::Night(Box::new(night.clone())));
    Ok(PassOutcome { hypnogram, log, stats, night, skipped_epochs: 0 })
}

/// Modalities without a channel, and those lost for more than half of `epochs`.
fn missing(watch: &Watch, intake: &Intake, epochs: usize) -> Vec<Modality> {
    let has_channel = |m: Modality| intake.modalities.iter().any(|found| found.modality == m);
    let is_missing = |m: &Modality| !has_channel(*m) || 2 * watch.lost_epochs(*m) > epochs;
    Modality::ALL.into_iter().filter(is_missing).collect()
}

/// What the user should know about how this night was computed.
fn notes(
    pass: Pass,
    network: &Network,
    intake: &Intake,
    log: &TokenLog,
    risk: Option<&OvernightRisk>,
) -> Vec<String> {
    let mut notes = Vec::new();
    if intake.broke_off() {
        notes.push("the recording broke off: this is the part before".to_owned());
    }
    if let Some(line) = network.backend.failure() {
        notes.push(format!("the engine that was chosen failed, another one took over: {line}"));
    }
    let flat = intake.flat_channels();
    if !flat.is_empty() {
        notes.push(format!("one value throughout, masked: {}", flat.join(", ")));
    }
    match network.staging() {
        None => notes.push("the bundle has no staging head: no hypnogram".to_owned()),
        Some(stager) if pass == Pass::Live => notes.push(format!(
            "live stages look back {} min",
            network.base.onset_s(stager.live_context() as u64) / 60.0
        )),
        Some(stager) if stager.stretches(log.len()) > 1 => notes.push(format!(
            "the recording is longer than the staging head's longest sequence: staged in {} overlapping stretches",
            stager.stretches(log.len())
        )),
        Some(_) => {}
    }
    if network.risk.is_none() {
        notes.push("the bundle has no risk head: no hazards".to_owned());
    }
    let Some(risk) = risk else { return notes };
    if risk.log_hazards.is_empty() {
        notes.push(
            "no hazards without --age and --sex; the night's risk embedding does not need them"
                .to_owned(),
        );
    }
    if risk.tokens_left_out > 0 {
        notes.push(format!(
            "the risk head takes the first {} tokens of a night, as the reference does; {} later ones are left out",
            risk.tokens, risk.tokens_left_out
        ));
    }
    notes
}
