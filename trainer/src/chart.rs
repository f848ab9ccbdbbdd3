//! Line charts as SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::run::{RunError, replace};

/// One line of a panel.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// (x, y); values that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Lines over a common axis.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Above the panel.
    pub title: String,
    /// Under the x axis.
    pub x_label: String,
    /// Beside the y axis.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
}

/// Width of a chart, pixels.
const WIDTH: u32 = 960;
/// Height of a panel, pixels.
const PANEL_HEIGHT: u32 = 360;

/// Writes `panels`, one above the other, to `path`.
///
/// # Errors
/// [`RunError::Write`].
pub fn lines(path: &Path, panels: &[Panel]) -> Result<(), RunError> {
    let mut svg = String::new();
    let drawn = {
        let size = (WIDTH, PANEL_HEIGHT * panels.len().max(1) as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(|e| e.to_string()).and_then(|()| {
            let areas = root.split_evenly((panels.len().max(1), 1));
            panels
                .iter()
                .zip(&areas)
                .try_for_each(|(panel, area)| draw(panel, area).map_err(|e| e.to_string()))
        })
    };
    match drawn {
        Ok(()) => replace(path, svg.as_bytes()),
        Err(error) => {
            Err(RunError::Write { path: path.to_owned(), source: std::io::Error::other(error) })
        }
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw(panel: &Panel, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let finite = |series: &Series| -> Vec<(f64, f64)> {
        series.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    let all: Vec<(f64, f64)> = panel.series.iter().flat_map(finite).collect();
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(span(all.iter().map(|p| p.0)), span(all.iter().map(|p| p.1)))?;
    chart.configure_mesh().x_desc(&panel.x_label).y_desc(&panel.y_label).draw()?;
    for (index, series) in panel.series.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        chart
            .draw_series(LineSeries::new(finite(series), color.stroke_width(2)))?
            .label(&series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    if panel.series.len() > 1 {
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
    }
    Ok(())
}

/// From the least to the greatest value, widened where they are one.
fn span(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (min, max) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), v| (v.min(min), v.max(max)));
    if min > max {
        return 0.0..1.0;
    }
    let pad = if max > min { 0.03 * (max - min) } else { 0.5 };
    min - pad..max + pad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_holds_its_texts_and_a_line_for_each_series() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("curves.svg");
        let series = |name: &str| Series {
            name: name.into(),
            points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)],
        };
        let panel = Panel {
            title: "loss".into(),
            x_label: "step".into(),
            y_label: "nats".into(),
            series: vec![series("train"), series("validation")],
        };
        lines(&path, &[panel]).expect("writes");
        let svg = std::fs::read_to_string(path).expect("reads");
        for text in ["loss", "step", "nats", "train", "validation"] {
            assert!(svg.contains(text), "no '{text}' in the chart");
        }
        assert!(svg.matches("<polyline").count() >= 2);
        assert!(!svg.contains("NaN"));
    }
}
