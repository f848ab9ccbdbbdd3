//! Charts of evaluations as SVG: confusion matrix, boxes of quartiles, bars, forest plot.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::classification::Quartiles;
use crate::run::{RunError, replace};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

const FONT: &str = "sans-serif";
const BLUE: RGBColor = RGBColor(31, 119, 180);
/// Room for names at the left, pixels.
const NAMES: i32 = 190;
/// Height of a row, pixels.
const ROW: i32 = 28;
/// Room above and below the rows, pixels.
const MARGIN: i32 = 48;

/// A row of a chart with a horizontal axis.
#[derive(Debug, Clone)]
pub struct Row {
    /// At the left.
    pub name: String,
    /// What is drawn.
    pub mark: Mark,
}

/// What a [`Row`] shows.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    /// A bar from the axis' beginning.
    Bar(f64),
    /// Quartiles as a box, the extremes as whiskers.
    Quartiles(Quartiles),
    /// A figure, its interval, and a ceiling.
    Interval {
        /// The figure.
        value: f64,
        /// Its interval.
        interval: Option<(f64, f64)>,
        /// The best there can be.
        ceiling: Option<f64>,
    },
}

/// Draws counts by true class (rows) and predicted class (columns), shaded by the share of the row.
///
/// # Errors
/// [`RunError::Write`].
pub fn confusion(path: &Path, names: &[&str], counts: &[Vec<u64>]) -> Result<(), RunError> {
    const CELL: i32 = 84;
    let side = 150 + CELL * names.len() as i32;
    draw(path, (side as u32, side as u32), |area| {
        let center = |size: u32| {
            TextStyle::from((FONT, size).into_font()).pos(Pos::new(HPos::Center, VPos::Center))
        };
        let middle = |index: usize| 110 + CELL * index as i32 + CELL / 2;
        area.draw(&Text::new("predicted", (side / 2 + 50, 24), center(16)))?;
        area.draw(&Text::new("scored", (44, side - 16), center(16)))?;
        for (index, name) in names.iter().enumerate() {
            area.draw(&Text::new((*name).to_owned(), (middle(index), 70), center(16)))?;
            area.draw(&Text::new((*name).to_owned(), (60, middle(index)), center(16)))?;
        }
        for (row, counts) in counts.iter().enumerate() {
            let total = counts.iter().sum::<u64>().max(1) as f64;
            for (column, &count) in counts.iter().enumerate() {
                let share = count as f64 / total;
                let (x, y) = (middle(column), middle(row));
                let corners = [(x - CELL / 2, y - CELL / 2), (x + CELL / 2, y + CELL / 2)];
                area.draw(&Rectangle::new(corners, BLUE.mix(share).filled()))?;
                area.draw(&Rectangle::new(corners, BLACK.mix(0.3)))?;
                let color = if share > 0.6 { &WHITE } else { &BLACK };
                let percent = format!("{:.0} %", 100.0 * share);
                area.draw(&Text::new(percent, (x, y - 10), center(17).color(color)))?;
                area.draw(&Text::new(count.to_string(), (x, y + 14), center(13).color(color)))?;
            }
        }
        Ok(())
    })
}

/// Draws rows over a common axis from `from` to `to`, with a dashed line at `line`.
///
/// # Errors
/// [`RunError::Write`].
pub fn rows(
    path: &Path,
    title: &str,
    (from, to): (f64, f64),
    line: Option<f64>,
    rows: &[Row],
) -> Result<(), RunError> {
    const WIDTH: i32 = 900;
    let height = 2 * MARGIN + ROW * rows.len().max(1) as i32;
    let x_of = |value: f64| {
        let share = ((value - from) / (to - from)).clamp(0.0, 1.0);
        NAMES + (share * f64::from(WIDTH - NAMES - 90)) as i32
    };
    draw(path, (WIDTH as u32, height as u32), |area| {
        let text = |size: u32, place| {
            TextStyle::from((FONT, size).into_font()).pos(Pos::new(place, VPos::Center))
        };
        area.draw(&Text::new(title.to_owned(), (WIDTH / 2, 20), text(18, HPos::Center)))?;
        let bottom = height - MARGIN;
        for tick in 0..=5 {
            let value = from + (to - from) * f64::from(tick) / 5.0;
            let x = x_of(value);
            area.draw(&PathElement::new([(x, MARGIN), (x, bottom)], BLACK.mix(0.12)))?;
            let label = Text::new(format!("{value:.2}"), (x, bottom + 16), text(13, HPos::Center));
            area.draw(&label)?;
        }
        if let Some(line) = line {
            let x = x_of(line);
            for y in (MARGIN..bottom).step_by(8) {
                area.draw(&PathElement::new([(x, y), (x, (y + 4).min(bottom))], RED.mix(0.7)))?;
            }
        }
        for (index, row) in rows.iter().enumerate() {
            let y = MARGIN + ROW * index as i32 + ROW / 2;
            let name: String = row.name.chars().take(26).collect();
            area.draw(&Text::new(name, (NAMES - 10, y), text(14, HPos::Right)))?;
            let value = mark(area, &row.mark, y, &x_of)?;
            let value = if value.is_finite() { format!("{value:.3}") } else { "-".to_owned() };
            area.draw(&Text::new(value, (WIDTH - 80, y), text(14, HPos::Left)))?;
        }
        Ok(())
    })
}

/// Draws a mark and says the figure to print beside it.
fn mark(
    area: &Area<'_>,
    mark: &Mark,
    y: i32,
    x_of: &impl Fn(f64) -> i32,
) -> Result<f64, Box<dyn std::error::Error>> {
    let half = ROW / 2 - 6;
    let line = |from: f64, to: f64| PathElement::new([(x_of(from), y), (x_of(to), y)], BLUE);
    let tick = |at: f64, color: RGBColor| {
        PathElement::new([(x_of(at), y - half), (x_of(at), y + half)], color.stroke_width(2))
    };
    match *mark {
        Mark::Bar(value) => {
            if value.is_finite() {
                let corners = [(NAMES, y - half), (x_of(value), y + half)];
                area.draw(&Rectangle::new(corners, BLUE.mix(0.7).filled()))?;
            }
            Ok(value)
        }
        Mark::Quartiles(q) => {
            area.draw(&line(q.min, q.max))?;
            let corners = [(x_of(q.q1), y - half), (x_of(q.q3), y + half)];
            area.draw(&Rectangle::new(corners, BLUE.mix(0.4).filled()))?;
            area.draw(&tick(q.median, BLACK))?;
            Ok(q.median)
        }
        Mark::Interval { value, interval, ceiling } => {
            if let Some((low, high)) = interval {
                area.draw(&line(low, high))?;
            }
            if value.is_finite() {
                area.draw(&Circle::new((x_of(value), y), 5, BLUE.filled()))?;
            }
            if let Some(ceiling) = ceiling {
                area.draw(&tick(ceiling, RED))?;
            }
            Ok(value)
        }
    }
}

fn draw(
    path: &Path,
    size: (u32, u32),
    content: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<(), RunError> {
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(|e| e.to_string()).and_then(|()| {
            content(&area).map_err(|e| e.to_string())?;
            area.present().map_err(|e| e.to_string())
        })
    };
    match drawn {
        Ok(()) => replace(path, svg.as_bytes()),
        Err(error) => {
            Err(RunError::Write { path: path.to_owned(), source: std::io::Error::other(error) })
        }
    }
}
