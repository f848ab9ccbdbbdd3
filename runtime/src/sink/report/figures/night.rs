//! All pictures of a night, from top to bottom, and what the signals did not give.

use super::super::record::Record;
use super::super::text::{Text, fill};
use super::super::trends::{EpochTrend, Role, Trends};
use super::{
    Axis, DrawError, Figure, Row, hypnodensity, hypnogram, line_lane, quality_lane, spectrogram,
};
use crate::text::escaped;

/// Longest name beside a strip, characters.
const NAME: usize = 13;

/// The pictures.
pub(in super::super) struct Pictures {
    /// From top to bottom.
    pub figures: Vec<Figure>,
    /// What no channel gives.
    pub absent: Vec<String>,
    /// The axis of them all.
    pub axis: Axis,
}

impl Pictures {
    /// Draws them; none of a recording without an epoch.
    pub fn draw(
        record: &Record,
        trends: &Trends,
        axis: Axis,
        text: &Text,
    ) -> Result<Self, DrawError> {
        let mut pictures = Pictures { figures: Vec::new(), absent: Vec::new(), axis };
        if record.epochs.is_empty() {
            return Ok(pictures);
        }
        let axis = &pictures.axis.clone();
        pictures.figures.push(hypnogram(record, axis, text)?);
        pictures.figures.push(hypnodensity(record, axis, text)?);
        let title = |(name, template): (&str, &str), role| {
            let Some(watched) = trends.watched(role) else { return name.to_owned() };
            let unit = escaped(&watched.unit);
            let unit = if unit.is_empty() { text.muscle_unitless } else { &unit };
            fill(template, &[&escaped(&watched.label), unit])
        };
        pictures.push(spectrogram(trends, axis, text)?, || {
            title((text.spectrogram, text.spectrogram_of), Role::Eeg)
        });
        let row = |value: &dyn Fn(&EpochTrend) -> Option<f32>, is_low| Row {
            values: trends.epochs.iter().map(value).collect(),
            is_low,
        };
        // The mean lies upon the lowest, which is mostly the same.
        let rows =
            [row(&|e| e.spo2_pct.map(|s| s.1), true), row(&|e| e.spo2_pct.map(|s| s.0), false)];
        pictures.lane(
            ("spo2", title((text.spo2, text.spo2_of), Role::Spo2)),
            text,
            &rows,
            (90.0, 100.0),
            "%",
        )?;
        let rows = [row(&|e| e.heart_bpm.or(e.pulse_bpm), false)];
        let is_pulse = !trends.has_ecg_rate() && trends.watched(Role::Pulse).is_some();
        let heart = if is_pulse { Role::Pulse } else { Role::Ecg };
        pictures.lane(
            ("heart-rate", title((text.heart, text.heart_of), heart)),
            text,
            &rows,
            (50.0, 90.0),
            "/min",
        )?;
        let rows = [row(&|e| e.muscle_rms, false)];
        pictures.lane(
            ("movement", title((text.muscle, text.muscle_of), Role::Muscle)),
            text,
            &rows,
            (0.0, 1.0),
            "",
        )?;
        let about = ("quality", text.quality.to_owned(), text.quality_described.to_owned());
        pictures.figures.push(quality_lane(about, axis, record, &names(record))?);
        Ok(pictures)
    }

    fn push(&mut self, figure: Option<Figure>, name: impl FnOnce() -> String) {
        match figure {
            Some(figure) => self.figures.push(figure),
            None => self.absent.push(name()),
        }
    }

    fn lane(
        &mut self,
        (name, title): (&'static str, String),
        text: &Text,
        rows: &[Row],
        range: (f32, f32),
        unit: &str,
    ) -> Result<(), DrawError> {
        let mut values: Vec<f32> =
            rows.iter().flat_map(|row| &row.values).flatten().copied().collect();
        values.sort_by(f32::total_cmp);
        let at = |n: usize| values.get(n).map_or_else(String::new, |v| format!("{v:.0}"));
        let (middle, last) = (values.len() / 2, values.len().saturating_sub(1));
        let described = fill(text.lane_described, &[&at(0), &at(last), unit, &at(middle)]);
        let figure = line_lane((name, title.clone(), described), &self.axis, rows, range, unit)?;
        self.push(figure, || title);
        Ok(())
    }
}

/// The mapped channels and what they are called beside their strips.
fn names(record: &Record) -> Vec<(usize, String)> {
    let channels = record.started.iter().flat_map(|started| &started.channels);
    let name = |label: &str| {
        let label = escaped(label);
        if label.chars().count() <= NAME {
            return label;
        }
        label.chars().take(NAME - 1).chain(['…']).collect()
    };
    channels.filter(|c| c.modality.is_some()).map(|c| (c.channel, name(&c.label))).collect()
}
