//! Lanes along the night: a figure an epoch as a line, and the flaws of every channel as a strip.

use plotters::prelude::*;

use super::super::record::{Flaw, GapSpan, Record};
use super::{Axis, DrawError, FLAT, Figure, HATCH, HUM, RANGE, SOUND, TRACE, TRACE_LOW, y_label};
use sfm_models::EPOCH_S;

/// Height of one channel's strip, units.
const STRIP: u32 = 40;
/// A shorter gap would not be seen, part of the axis.
const MIN_GAP: f64 = 0.001;

/// A line of a lane: one value an epoch.
pub(in super::super) struct Row {
    /// The values; nothing is drawn where there is none.
    pub values: Vec<Option<f32>>,
    /// It is the lowest of each epoch, drawn in another color below the mean.
    pub is_low: bool,
}

/// A lane of lines. The plane reaches over the values between `floor` and `ceiling` at least.
/// `None` where there is no value.
pub(in super::super) fn line_lane(
    about: (&'static str, String, String),
    axis: &Axis,
    rows: &[Row],
    (floor, ceiling): (f32, f32),
    unit: &str,
) -> Result<Option<Figure>, DrawError> {
    let known = || rows.iter().flat_map(|row| &row.values).flatten().copied();
    if known().next().is_none() {
        return Ok(None);
    }
    let least = f64::from(known().fold(floor, f32::min)).floor();
    let most = f64::from(known().fold(ceiling, f32::max)).ceil().max(least + 1.0);
    Figure::draw(about, 170, axis, least..most, |plane| {
        y_label(plane, most, &format!("{most} {unit}"))?;
        y_label(plane, least, &format!("{least}"))?;
        for row in rows {
            let color = if row.is_low { TRACE_LOW } else { TRACE };
            let points = row.values.iter().enumerate();
            let points: Vec<_> = points
                .map(|(n, y)| (((n as f64 + 0.5) * EPOCH_S).min(axis.end_s()), y.map(f64::from)))
                .collect();
            for stretch in points.chunk_by(|a, b| a.1.is_some() == b.1.is_some()) {
                let mut line: Vec<_> =
                    stretch.iter().filter_map(|(x, y)| Some((*x, (*y)?))).collect();
                // One value alone is a dash of its epoch's length.
                if let [(x, y)] = line[..] {
                    line = vec![
                        ((x - EPOCH_S / 2.0).max(0.0), y),
                        ((x + EPOCH_S / 2.0).min(axis.end_s()), y),
                    ];
                }
                plane.plotting_area().draw(&PathElement::new(line, color.stroke_width(3)))?;
            }
        }
        Ok(())
    })
    .map(Some)
}

/// A strip for each of `channels` (index in the source, name to show): what is wrong when.
pub(in super::super) fn quality_lane(
    about: (&'static str, String, String),
    axis: &Axis,
    record: &Record,
    channels: &[(usize, String)],
) -> Result<Figure, DrawError> {
    let rows = channels.len() as u32;
    let height = super::TOP + axis.height() + STRIP * rows.max(1);
    Figure::draw(about, height, axis, 0.0..f64::from(rows.max(1)), |plane| {
        let area = plane.plotting_area();
        let end_s = (record.epochs.len() as f64 * EPOCH_S).min(axis.end_s());
        for (row, (channel, name)) in (0..rows).rev().zip(channels) {
            let y = f64::from(row);
            y_label(plane, y + 0.5, name)?;
            let strip = |from: f64, to: f64, color: RGBColor, [low, high]: [f64; 2]| {
                let to = to.min(axis.end_s());
                area.draw(&Rectangle::new([(from, y + high), (to, y + low)], color.filled()))
            };
            strip(0.0, end_s, SOUND, [0.25, 0.75])?;
            for (flaw, from, to) in stretches(record.flaws.get(channel).map_or(&[], Vec::as_slice))
            {
                if let Some((color, heights)) = shown(flaw) {
                    strip(from as f64 * EPOCH_S, to as f64 * EPOCH_S, color, heights)?;
                }
            }
            for GapSpan { onset_s, duration_s, .. } in
                record.gaps.iter().filter(|g| g.channel == *channel)
            {
                let length_s = duration_s.max(MIN_GAP * axis.end_s());
                strip(onset_s.max(0.0), onset_s + length_s, super::PAPER, [0.1, 0.9])?;
                strip(onset_s.max(0.0), onset_s + length_s, HATCH, [0.1, 0.9])?;
            }
        }
        Ok(())
    })
}

/// Color and heights of a flaw: worse is taller, for who does not see colors.
fn shown(flaw: Flaw) -> Option<(RGBColor, [f64; 2])> {
    match flaw {
        // Gaps say it to the sample.
        Flaw::None | Flaw::Missing => None,
        Flaw::LineNoise => Some((HUM, [0.25, 0.5])),
        Flaw::OutOfRange => Some((RANGE, [0.1, 0.75])),
        Flaw::Flat => Some((FLAT, [0.1, 0.9])),
    }
}

fn stretches(flaws: &[Flaw]) -> impl Iterator<Item = (Flaw, usize, usize)> {
    let mut from = 0;
    flaws.chunk_by(|a, b| a == b).map(move |run| {
        let first = from;
        from += run.len();
        (run[0], first, from)
    })
}
