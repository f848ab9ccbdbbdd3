//! The spectrogram of one EEG channel: its pixels as a PNG, axis and scale around it. Colors are
//! those of cividis (Nuñez, Anderton, Renslow 2018), which color-blind people see as others do.

use resvg::tiny_skia::{ColorU8, Pixmap};

use super::super::spectrum::{FROM_HZ, TO_HZ};
use super::super::text::{Text, fill};
use super::super::trends::{EpochTrend, Role, Trends};
use super::stages::MAX_COLUMNS;
use super::{Axis, DrawError, Figure, Image, LEFT, RIGHT, TOP, WIDTH, y_label};
use crate::text::escaped;
use sfm_models::EPOCH_S;

const HEIGHT: u32 = 330;
/// Parts of all values that are darker or brighter than the scale.
const OUTSIDE: f64 = 0.02;
/// Shades; fewer make a smaller file and no visible difference.
const SHADES: f32 = 64.0;
/// cividis at nine equal steps.
const CIVIDIS: [[f32; 3]; 9] = [
    [0.0, 34.0, 78.0],
    [26.0, 56.0, 111.0],
    [67.0, 78.0, 108.0],
    [97.0, 101.0, 111.0],
    [125.0, 124.0, 120.0],
    [155.0, 148.0, 118.0],
    [188.0, 174.0, 108.0],
    [222.0, 201.0, 88.0],
    [254.0, 232.0, 56.0],
];

/// `None` where there is no EEG, or nothing of it.
pub(in super::super) fn spectrogram(
    trends: &Trends,
    axis: &Axis,
    text: &Text,
) -> Result<Option<Figure>, DrawError> {
    let Some(eeg) = trends.watched(Role::Eeg) else { return Ok(None) };
    let columns = columns(&trends.epochs);
    let Some((least, most)) = scale(&columns) else { return Ok(None) };
    let title = fill(text.spectrogram_of, &[&escaped(&eeg.label)]);
    let range = [format!("{least:.0}"), format!("{most:.0}")];
    let description = fill(text.spectrogram_described, &[&range[0], &range[1]]);
    let about = ("spectrogram", title, description);
    let mut figure = Figure::draw(about, HEIGHT, axis, FROM_HZ..TO_HZ, |plane| {
        for hz in [4.0, 8.0, 12.0, 16.0, 30.0] {
            y_label(plane, hz, &if hz == TO_HZ { format!("{hz} Hz") } else { format!("{hz}") })?;
        }
        Ok(())
    })?;
    let size = trends.epochs.len().div_ceil(MAX_COLUMNS).max(1);
    let plane = WIDTH - LEFT - RIGHT;
    let part = (columns.len() * size) as f64 * EPOCH_S / axis.end_s();
    let width = (f64::from(plane) * part).round() as u32;
    let height = HEIGHT - TOP - axis.height();
    figure.image =
        Some(Image { place: [LEFT, TOP, width, height], png: png(&columns, least, most)? });
    Ok(Some(figure))
}

/// Mean spectrum by column of the picture, dB.
fn columns(epochs: &[EpochTrend]) -> Vec<Option<Vec<f32>>> {
    let size = epochs.len().div_ceil(MAX_COLUMNS).max(1);
    let mean = |epochs: &[EpochTrend]| {
        let mut known = epochs.iter().filter_map(|epoch| epoch.spectrum_db.as_ref());
        let mut sum = known.next()?.clone();
        let mut count = 1.0;
        for spectrum in known {
            sum.iter_mut().zip(spectrum).for_each(|(sum, value)| *sum += value);
            count += 1.0;
        }
        sum.iter_mut().for_each(|sum| *sum /= count);
        Some(sum)
    };
    epochs.chunks(size).map(mean).collect()
}

/// Ends of the color scale.
fn scale(columns: &[Option<Vec<f32>>]) -> Option<(f32, f32)> {
    let mut values: Vec<f32> = columns.iter().flatten().flatten().copied().collect();
    values.sort_by(f32::total_cmp);
    let last = values.len().checked_sub(1)?;
    let at = |part: f64| values[(part * last as f64).round() as usize];
    let (least, most) = (at(OUTSIDE), at(1.0 - OUTSIDE));
    Some((least, most.max(least + 1.0)))
}

/// One pixel a column and frequency, high frequencies above; transparent where there is nothing.
fn png(columns: &[Option<Vec<f32>>], least: f32, most: f32) -> Result<Vec<u8>, DrawError> {
    let height = columns.iter().flatten().map(Vec::len).next().unwrap_or(1);
    let (width, rows) = (columns.len() as u32, height as u32);
    let mut image = Pixmap::new(width, rows).ok_or("a picture without pixels")?;
    for (x, column) in columns.iter().enumerate() {
        for (bin, value) in column.iter().flatten().enumerate() {
            let shade = ((value - least) / (most - least)).clamp(0.0, 1.0);
            let pixel = (height - 1 - bin) * columns.len() + x;
            image.pixels_mut()[pixel] = cividis((shade * SHADES).round() / SHADES).premultiply();
        }
    }
    Ok(image.encode_png()?)
}

fn cividis(shade: f32) -> ColorU8 {
    let place = shade * (CIVIDIS.len() - 1) as f32;
    let below = (place as usize).min(CIVIDIS.len() - 2);
    let part = place - below as f32;
    let mix =
        |k: usize| (CIVIDIS[below][k] * (1.0 - part) + CIVIDIS[below + 1][k] * part).round() as u8;
    ColorU8::from_rgba(mix(0), mix(1), mix(2), 255)
}
