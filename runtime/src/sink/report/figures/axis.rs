//! The time axis of all pictures: clock time where the recording says when it began, hours since its
//! start otherwise; lights off and on.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::{DrawError, GRID, MUTED, Plane, text};

/// Distances of labels, seconds.
const STEPS_S: [u32; 9] = [10, 60, 300, 600, 1_800, 3_600, 7_200, 14_400, 21_600];
/// More labels than this would touch.
const MAX_LABELS: f64 = 13.0;
const DAY_S: u32 = 86_400;

/// Where pictures begin and end, and what is written along them.
#[derive(Debug, Clone)]
pub(in super::super) struct Axis {
    end_s: f64,
    /// Seconds since midnight at the start of the recording.
    clock_s: Option<u32>,
    /// Place and text of vertical marks: lights off, lights on.
    pub marks: Vec<(f64, String)>,
    /// Whether labels are written below; all pictures of a column have the same.
    pub has_labels: bool,
}

impl Axis {
    /// For a recording of `duration_s` that began at `start`, ISO 8601.
    pub fn new(duration_s: f64, start: Option<&str>, marks: Vec<(f64, String)>) -> Self {
        let end_s = if duration_s.is_finite() { duration_s.max(30.0) } else { 30.0 };
        Axis { end_s, clock_s: start.and_then(clock_s), marks, has_labels: true }
    }

    /// The end, seconds.
    pub fn end_s(&self) -> f64 {
        self.end_s
    }

    /// Whether labels are times of the day.
    pub fn is_clock(&self) -> bool {
        self.clock_s.is_some()
    }

    /// The time of the day at `at_s`, or where that is unknown the time since the start.
    pub(super) fn time(&self, at_s: f64) -> String {
        let seconds = self.clock_s.unwrap_or(0) + at_s as u32;
        let seconds = if self.is_clock() { seconds % DAY_S } else { seconds };
        format!("{}:{:02}", seconds / 3_600, seconds / 60 % 60)
    }

    /// Room below the plane.
    pub(super) fn height(&self) -> u32 {
        if self.has_labels { 46 } else { 14 }
    }

    /// Places and texts of the labels.
    fn ticks(&self) -> Vec<(f64, String)> {
        let fits = |step: &u32| self.end_s / f64::from(*step) <= MAX_LABELS;
        let step = STEPS_S.into_iter().find(fits).unwrap_or(DAY_S);
        let begin = self.clock_s.unwrap_or(0);
        let first = begin.next_multiple_of(step);
        let ticks = (0..).map(|n| first + n * step).map(|clock| (clock, f64::from(clock - begin)));
        let label = |clock: u32| {
            let clock = if self.clock_s.is_some() { clock % DAY_S } else { clock };
            let (hours, minutes, seconds) = (clock / 3_600, clock / 60 % 60, clock % 60);
            if step < 60 {
                format!("{hours}:{minutes:02}:{seconds:02}")
            } else {
                format!("{hours}:{minutes:02}")
            }
        };
        ticks
            .take_while(|(_, at)| *at <= self.end_s)
            .map(|(clock, at)| (at, label(clock)))
            .collect()
    }

    /// Vertical lines, below everything else.
    pub(super) fn grid(&self, plane: &Plane<'_, '_>) -> Result<(), DrawError> {
        let y = plane.y_range();
        for (at, _) in self.ticks() {
            plane
                .plotting_area()
                .draw(&PathElement::new(vec![(at, y.start), (at, y.end)], GRID.stroke_width(2)))?;
        }
        Ok(())
    }

    /// Labels, marks and the base line, above everything else.
    pub(super) fn labels(
        &self,
        root: &DrawingArea<SVGBackend<'_>, Shift>,
        plane: &Plane<'_, '_>,
    ) -> Result<(), DrawError> {
        let y = plane.y_range();
        let line = |at: f64, color: RGBColor, width| {
            PathElement::new(vec![(at, y.start), (at, y.end)], color.stroke_width(width))
        };
        for (at, _) in self.marks.iter().filter(|(at, _)| (0.0..=self.end_s).contains(at)) {
            plane.plotting_area().draw(&line(*at, MUTED, 4))?;
        }
        let base = vec![(0.0, y.start), (self.end_s, y.start)];
        plane.plotting_area().draw(&PathElement::new(base, MUTED.stroke_width(2)))?;
        if self.has_labels {
            for (at, label) in self.ticks() {
                let (x, bottom) = plane.backend_coord(&(at, y.start));
                root.draw_text(&label, &text(MUTED, HPos::Center, VPos::Top), (x, bottom + 10))?;
            }
        }
        Ok(())
    }
}

/// Seconds since midnight of `YYYY-MM-DDTHH:MM:SS`, as written.
fn clock_s(start: &str) -> Option<u32> {
    let (_, time) = start.split_once('T')?;
    let mut parts = time.get(..8)?.split(':').map(|part| part.parse::<u32>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    (hours < 24 && minutes < 60 && seconds < 60).then_some(hours * 3_600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(duration_s: f64, start: Option<&str>) -> Vec<String> {
        let axis = Axis::new(duration_s, start, Vec::new());
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn labels_are_whole_times_of_the_day() {
        let night = labels(8.0 * 3600.0, Some("2020-01-01T21:45:00"));
        assert_eq!(night[..3], ["22:00", "23:00", "0:00"]);
        assert_eq!(labels(600.0, Some("2020-01-01T21:45:30"))[0], "21:46");
        assert_eq!(labels(8.0 * 3600.0, None)[..2], ["0:00", "1:00"]);
        assert_eq!(labels(86_400.0, None).last().map(String::as_str), Some("24:00"));
        for duration_s in [0.0, 30.0, 600.0, 86_400.0, 1e6, f64::NAN] {
            assert!((1..=14).contains(&labels(duration_s, None).len()), "{duration_s}");
        }
    }

    #[test]
    fn a_start_that_is_no_time_is_no_clock() {
        for text in ["", "2020-01-01", "2020-01-01T25:00:00", "T1:2:3", "2020-01-01Tüüüüüüüü"]
        {
            assert_eq!(clock_s(text), None, "{text}");
        }
    }
}
