//! Heads in checkpoints: `head.json` says what a head is, `head.mpk` holds its weights. A head that
//! is asked for as another kind is refused.

use std::path::Path;

use burn::prelude::*;
use serde::{Deserialize, Serialize};
use sfm_models::Modality;

use super::risk::Variant;
use crate::network::{HeadConfig, NetworkConfig};
use crate::nn::{ApneaHead, RiskHead, Stager};
use crate::run::{CheckpointReader, RunError};

/// Part of a checkpoint: the [`HeadAbout`].
pub const ABOUT: &str = "head.json";
/// Part of a checkpoint: the head's weights.
pub const WEIGHTS: &str = "head.mpk";
/// Part of a risk head's best checkpoint: K rows of the [`QUANTILES`] of the log-hazards of the
/// training set.
pub const REFERENCE: &str = "reference.json";
/// How many quantiles of each hazard: the percentiles 0 to 100.
pub const QUANTILES: usize = 101;

/// Kinds of heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A [`Stager`].
    Staging,
    /// A [`RiskHead`], or what a [`Variant`] has instead.
    Risk,
    /// An [`ApneaHead`].
    Apnea,
}

/// What a head is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadAbout {
    /// The kind.
    pub kind: Kind,
    /// E, the length of a token.
    pub embed_dim: usize,
    /// The modality axis.
    pub modalities: Vec<Modality>,
    /// Sizes. `max_seq_length` is the longest stretch that is staged at once, or how much of a
    /// night's beginning a risk or apnea head sees.
    pub config: HeadConfig,
    /// Stages, hazards, or severities.
    pub classes: usize,
    /// Age and sex enter.
    pub demographics: bool,
    /// Ages in years that go in as 0 and as 1.
    pub age_range: (f64, f64),
    /// Names of the hazards: the header of `is_event.csv`.
    pub labels: Vec<String>,
    /// Hazards that had an event in training; the others learned nothing.
    pub learned: Vec<bool>,
    /// Kind of risk head.
    pub variant: Option<Variant>,
    /// Recordings it was trained on.
    pub recordings: usize,
    /// The base network of a supervised head, and the windows of a night that it sees.
    pub signals: Option<(NetworkConfig, usize)>,
}

impl HeadAbout {
    /// Reads the part of the checkpoint at `path`.
    ///
    /// # Errors
    /// [`RunError`] if it cannot be read, or is no head of `kind`.
    pub fn read(path: &Path, kind: Kind) -> Result<(Self, CheckpointReader), RunError> {
        let mut checkpoint = CheckpointReader::open(path)?;
        let about: HeadAbout = checkpoint.json(ABOUT)?;
        let refused = |reason: String| RunError::Refused {
            path: path.to_owned(),
            reason: format!("{ABOUT}: {reason}"),
        };
        about.config.check(about.embed_dim).map_err(refused)?;
        if let Some((network, _)) = &about.signals {
            network.check().map_err(refused)?;
        }
        if about.kind != kind {
            return Err(refused(format!("a head for {:?}, not {kind:?}", about.kind)));
        }
        if about.classes == 0 || about.classes > 20_000 {
            return Err(refused(format!("{} classes", about.classes)));
        }
        Ok((about, checkpoint))
    }
}

/// Reads a staging head.
///
/// # Errors
/// [`RunError`] if the file cannot be read, or holds none.
pub fn read_stager<B: Backend>(
    path: &Path,
    device: &B::Device,
) -> Result<(HeadAbout, Stager<B>), RunError> {
    let (about, mut checkpoint) = HeadAbout::read(path, Kind::Staging)?;
    let record = checkpoint.record::<B, _>(WEIGHTS, device)?;
    let head = about.config.stager(about.embed_dim).init(device).load_record(record);
    Ok((about, head))
}

/// Reads a risk head of the variants with and without demographics.
///
/// # Errors
/// [`RunError`] if the file cannot be read, or holds none.
pub fn read_risk<B: Backend>(
    path: &Path,
    device: &B::Device,
) -> Result<(HeadAbout, RiskHead<B>), RunError> {
    let (about, mut checkpoint) = HeadAbout::read(path, Kind::Risk)?;
    if let Some(variant @ (Variant::DemographicsOnly | Variant::Supervised)) = about.variant {
        return Err(RunError::Refused {
            path: path.to_owned(),
            reason: format!("the variant {variant} is for comparison only and is not exported"),
        });
    }
    let record = checkpoint.record::<B, _>(WEIGHTS, device)?;
    let config = about.config.risk(about.embed_dim, about.classes, about.demographics);
    Ok((about, config.init(device).load_record(record)))
}

/// Reads an apnea head.
///
/// # Errors
/// [`RunError`] if the file cannot be read, or holds none.
pub fn read_apnea<B: Backend>(
    path: &Path,
    device: &B::Device,
) -> Result<(HeadAbout, ApneaHead<B>), RunError> {
    let (about, mut checkpoint) = HeadAbout::read(path, Kind::Apnea)?;
    let record = checkpoint.record::<B, _>(WEIGHTS, device)?;
    let head = about.config.apnea(about.embed_dim).init(device).load_record(record);
    Ok((about, head))
}

/// Checks that the checkpoint at `path` holds an apnea or risk head that `about` can begin with.
///
/// # Errors
/// [`RunError`] if the file cannot be read, or holds no such head of the same sizes.
pub fn check_beginning(path: &Path, about: &HeadAbout) -> Result<Kind, RunError> {
    let there: HeadAbout = CheckpointReader::open(path)?.json(ABOUT)?;
    let refused = |reason: String| {
        Err(RunError::Refused { path: path.to_owned(), reason: format!("{ABOUT}: {reason}") })
    };
    let has_signals = there.signals.is_some() || there.variant == Some(Variant::DemographicsOnly);
    if there.kind == Kind::Staging || has_signals {
        return refused("nothing in it that a risk head could begin with".to_owned());
    }
    let sizes = |about: &HeadAbout| {
        let HeadConfig { pooling_heads, layers, feed_forward, .. } = about.config;
        [about.embed_dim, pooling_heads, layers, feed_forward]
    };
    if sizes(&there) != sizes(about) {
        return refused(format!(
            "embed_dim, pooling_heads, layers and feed_forward are {:?}, those of the head that is \
             to begin with it {:?}",
            sizes(&there),
            sizes(about)
        ));
    }
    Ok(there.kind)
}

/// `head` with pooling and LSTM of the apnea or risk head in the checkpoint at `path`: what tells an
/// apnea tells of hazards too, and a night has more apneas than a life has outcomes.
///
/// # Errors
/// As [`check_beginning`].
pub fn begun_with<B: Backend>(
    mut head: RiskHead<B>,
    about: &HeadAbout,
    path: &Path,
    device: &B::Device,
) -> Result<RiskHead<B>, RunError> {
    (head.pooling, head.lstm) = match check_beginning(path, about)? {
        Kind::Apnea => {
            let (_, apnea) = read_apnea::<B>(path, device)?;
            (apnea.pooling, apnea.lstm)
        }
        _ => {
            let (_, risk) = read_risk::<B>(path, device)?;
            (risk.pooling, risk.lstm)
        }
    };
    Ok(head)
}

/// Reads the quantiles of the training set's log-hazards from a risk head's best checkpoint.
///
/// # Errors
/// [`RunError`] if the file cannot be read, or holds none.
pub fn read_reference(path: &Path) -> Result<Vec<Vec<f32>>, RunError> {
    CheckpointReader::open(path)?.json(REFERENCE)
}
