//! EDF and BDF recordings to the store: runtime's own filter, resampling and z-score over the whole
//! recording, so that a stored sample is what the final pass of `sfm-stream` sees, to float16.
//!
//! A missing sample (a gap of EDF+D, a value that is no number or beyond float16) is NaN, which the
//! readers take as absent. A channel without any signal is left out, as the pipeline masks it.
//! Refuses recordings without a channel that the rules map.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sfm_models::Modality;
use sfm_models::manifest::Preprocessing;
use sfm_runtime::dsp::normalize::z_score_into;
use sfm_runtime::dsp::{ChannelStats, Conditioner, GridPoints, RunningStats};
use sfm_runtime::montage::derived::DerivedSource;
use sfm_runtime::montage::{ChannelRules, Montage, MontageError};
use sfm_runtime::signal::{SampleBlock, SignalInfo};
use sfm_runtime::source::{self, Recording, Source};

use crate::data::store::{MAX_SAMPLES, RATE_HZ, StoreWriter};
use crate::data::{DataError, replace};

/// Signal at 128 Hz held at once for a recording; longer ones are read in several goes, a group of
/// channels each.
const HELD_BYTES: usize = 384 << 20;

/// The reference's preprocessing, which the store is made with.
pub fn preprocessing() -> Preprocessing {
    Preprocessing {
        rate_hz: RATE_HZ,
        patch_samples: 640,
        lowpass_hz: f64::from(RATE_HZ) / 2.0,
        lowpass_order: 4,
    }
}

/// Why a recording is not in the store. One line, for the user.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    /// The recording cannot be read.
    #[error(transparent)]
    Source(#[from] source::SourceError),
    /// Its channels cannot be mapped, or none of them is.
    #[error("{}: {reason}", path.display())]
    Channels {
        /// The recording.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// What is kept of recordings, and as what.
pub struct Preprocess {
    rules: ChannelRules,
    /// `--map` entries, and whether any recording had a channel for them.
    map: Vec<(String, AtomicBool)>,
    keep_all: bool,
}

impl Preprocess {
    /// Channels that `rules` or the `LABEL=MODALITY` entries of `map` give a modality, or all of
    /// them with `keep_all`.
    ///
    /// # Errors
    /// [`MontageError::BadMap`].
    pub fn new(rules: ChannelRules, map: &[String], keep_all: bool) -> Result<Self, MontageError> {
        rules.clone().with_map(map)?;
        let map = map.iter().map(|entry| (entry.clone(), AtomicBool::new(false))).collect();
        Ok(Preprocess { rules, map, keep_all })
    }

    /// Entries of `map` for which no recording so far had a channel.
    pub fn unused_map(&self) -> impl Iterator<Item = &str> {
        let unused = self.map.iter().filter(|(_, used)| !used.load(Ordering::Relaxed));
        unused.map(|(entry, _)| entry.as_str())
    }

    /// Makes the store's file `to` of the recording `from`. Returns what the user should know.
    ///
    /// # Errors
    /// [`PreprocessError`]; then `to` is as it was.
    pub fn recording(&self, from: &Path, to: &Path) -> Result<Vec<String>, PreprocessError> {
        let refuse = |reason: String| PreprocessError::Channels { path: from.into(), reason };
        let mut recording = source::open(from)?;
        if recording.info().preprocessed {
            return Err(refuse("is preprocessed already; give EDF or BDF".to_owned()));
        }
        let montage = self.montage(&recording.info().signals).map_err(|e| refuse(e.to_string()))?;
        // Derived channels are stored as recorded ones are.
        let info = montage.extended(recording.info());
        let mut notes = info.warnings.clone();
        let channels = self.channels(&info.signals, &montage, &mut notes);
        if channels.is_empty() {
            return Err(refuse(format!(
                "none of its {} channels is one the network takes; 'sfm-stream inspect' says why, \
                 --map LABEL=MODALITY decides otherwise",
                info.signals.len()
            )));
        }
        let length = grid_length(info.duration_s);
        let at_once = (HELD_BYTES / size_of::<f32>() / length.max(1)).max(1);
        replace(to, |part| {
            let mut writer = StoreWriter::create(part)?;
            let mut written = 0;
            for group in channels.chunks(at_once) {
                for conditioned in condition(&mut recording, &montage, group, length, from)? {
                    written += usize::from(conditioned.store(&mut writer, &mut notes)?);
                }
            }
            if written == 0 {
                let reason = "none of its channels has any signal: each is one value throughout";
                return Err(DataError::refused(from, reason));
            }
            writer.finish()
        })?;
        Ok(notes.into_iter().map(|note| format!("{}: {note}", from.display())).collect())
    }

    /// Decisions by the rules and those entries of `--map` that mean a channel of this recording:
    /// the recordings of a cohort differ.
    fn montage(&self, signals: &[SignalInfo]) -> Result<Montage, MontageError> {
        let unlimited = Default::default();
        let mut entries = Vec::new();
        for (entry, used) in &self.map {
            let assigned =
                self.rules.clone().with_map(&[entry])?.assign_sensors(signals, &unlimited);
            let is_unknown = |e: &MontageError| matches!(e, MontageError::UnknownMap { .. });
            if !assigned.is_ok_and(|(_, missing)| missing.iter().any(is_unknown)) {
                used.store(true, Ordering::Relaxed);
                entries.push(entry);
            }
        }
        // Nor has every recording the channels of every derivation.
        let (montage, _) =
            self.rules.clone().with_map(&entries)?.assign_sensors(signals, &unlimited)?;
        Ok(montage)
    }

    fn channels(
        &self,
        signals: &[SignalInfo],
        montage: &Montage,
        notes: &mut Vec<String>,
    ) -> Vec<Channel> {
        let mut channels = Vec::new();
        let names = unique_names(signals.iter().map(|s| s.label.as_str()));
        for ((signal, decision), name) in signals.iter().zip(&montage.decisions).zip(names) {
            if decision.modality.is_none() && !self.keep_all {
                continue;
            }
            match Conditioner::new(signal.rate_hz, &preprocessing()) {
                Ok(conditioner) => channels.push(Channel {
                    index: decision.channel,
                    name,
                    label: signal.label.clone(),
                    modality: decision.modality,
                    conditioner,
                }),
                Err(e) => notes.push(format!("'{}' is left out: {e}", signal.label)),
            }
        }
        channels
    }
}

/// A channel to be stored.
#[derive(Clone)]
struct Channel {
    /// Index in the recording.
    index: usize,
    name: String,
    label: String,
    modality: Option<Modality>,
    conditioner: Conditioner,
}

/// A channel on the network's time grid, NaN where there is no sample.
struct Conditioned {
    channel: Channel,
    samples: Vec<f32>,
    /// It went on behind [`MAX_SAMPLES`].
    too_long: bool,
}

/// Reads a group of channels through filter and resampler.
fn condition(
    recording: &mut Recording,
    montage: &Montage,
    group: &[Channel],
    length: usize,
    from: &Path,
) -> Result<Vec<Conditioned>, DataError> {
    let indices: Vec<usize> = group.iter().map(|c| c.index).collect();
    let montage = montage.only(&indices);
    recording.select(&montage.to_read());
    let mut source = DerivedSource::new(recording, &montage);
    let mut conditioned: Vec<Conditioned> = group
        .iter()
        .map(|channel| Conditioned {
            channel: channel.clone(),
            samples: Vec::with_capacity(length),
            too_long: false,
        })
        .collect();
    let mut place = vec![None; indices.iter().max().map_or(0, |&last| last + 1)];
    for (slot, &index) in indices.iter().enumerate() {
        place[index] = Some(slot);
    }
    let mut block = SampleBlock::default();
    // The message names the file already.
    let broken = |e: source::SourceError| DataError::refused(from, format!("breaks off: {e}"));
    while source.next_block(&mut block).map_err(broken)? {
        let slot = place.get(block.channel).copied().flatten();
        let Some(channel) = slot.and_then(|slot| conditioned.get_mut(slot)) else { continue };
        channel.push(&block);
    }
    for channel in &mut conditioned {
        channel.finish();
        if channel.too_long {
            return Err(DataError::refused(from, "is longer than 7 days; cut it"));
        }
    }
    Ok(conditioned)
}

impl Conditioned {
    fn push(&mut self, block: &SampleBlock) {
        let Conditioned { channel, samples, too_long } = self;
        let mut put = |points: GridPoints<'_>| place(samples, too_long, points);
        channel.conditioner.push(block.start, &block.samples, &mut put);
    }

    fn finish(&mut self) {
        let Conditioned { channel, samples, too_long } = self;
        channel.conditioner.finish(&mut |points| place(samples, too_long, points));
    }

    /// Writes the z-scored channel; false if it has no signal and is left out.
    fn store(
        mut self,
        writer: &mut StoreWriter,
        notes: &mut Vec<String>,
    ) -> Result<bool, DataError> {
        let label = &self.channel.label;
        let stats = match whole_recording(&self.samples) {
            None => {
                notes.push(format!("'{label}' is left out: it has no sample that is a number"));
                return Ok(false);
            }
            Some(stats) if stats.is_flat() => {
                notes.push(format!("'{label}' is left out: it is one value throughout"));
                return Ok(false);
            }
            Some(stats) => stats,
        };
        let missing = self.samples.len() as u64 - stats.count;
        if missing > 0 {
            let missing_s = missing as f64 / f64::from(RATE_HZ);
            notes.push(format!("'{label}' lacks {missing_s:.1} s, stored as NaN"));
        }
        let mut z = vec![0.0; preprocessing().patch_samples];
        for patch in self.samples.chunks_mut(z.len()) {
            let z = &mut z[..patch.len()];
            z_score_into(patch, &stats, z);
            patch.copy_from_slice(z);
        }
        let Channel { name, label, modality, .. } = &self.channel;
        writer.channel(name, label, *modality, &self.samples)?;
        Ok(true)
    }
}

/// Puts grid points behind those that are there, with NaN between and for bridged ones: the store
/// holds what was measured.
fn place(samples: &mut Vec<f32>, too_long: &mut bool, points: GridPoints<'_>) {
    if points.first.saturating_add(points.values.len() as u64) > MAX_SAMPLES as u64 {
        *too_long = true;
        return;
    }
    if !points.bridged {
        samples.resize((points.first as usize).max(samples.len()), f32::NAN);
        samples.extend_from_slice(points.values);
    }
}

/// Mean and deviation as the pipeline measures them, patch by patch.
fn whole_recording(samples: &[f32]) -> Option<ChannelStats> {
    let mut running = RunningStats::new();
    samples.chunks(preprocessing().patch_samples).for_each(|patch| running.add_patch(patch));
    running.stats()
}

/// Samples of a channel of this length at 128 Hz, at most what is taken.
fn grid_length(duration_s: Option<f64>) -> usize {
    let samples = duration_s.unwrap_or_default() * f64::from(RATE_HZ);
    (samples.ceil().max(0.0) as usize).min(MAX_SAMPLES)
}

/// Names of data sets for all channels of a recording, before any is left out: the second of two
/// equal labels gets `_1`, as in the reference. `/` would make a group of HDF5.
fn unique_names<'a>(labels: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for label in labels {
        let clean = |c: char| if c == '/' || c.is_control() { '_' } else { c };
        let base: String = match label {
            "" | "." | ".." => "channel".to_owned(),
            _ => label.chars().map(clean).collect(),
        };
        let mut name = base.clone();
        let mut copy = 0;
        while names.contains(&name) {
            copy += 1;
            name = format!("{base}_{copy}");
        }
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_no_path() {
        let names = unique_names(["EEG", "EEG", "Sp/O2", "EEG_1", "", "EEG"].into_iter());
        assert_eq!(names, ["EEG", "EEG_1", "Sp_O2", "EEG_1_1", "channel", "EEG_2"]);
    }
}
