//! The hypnogram in characters: five rows, a column for one epoch or more. R is a color and a
//! letter of its own; what is provisional is dim and dotted, so that it shows without color too.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::Widget;
use sfm_models::SleepStage;

use crate::event::{EpochStatus, SleepEpoch};

/// The rows, as the AASM draws them.
const ROWS: [SleepStage; 5] =
    [SleepStage::Wake, SleepStage::Rem, SleepStage::N1, SleepStage::N2, SleepStage::N3];
/// Columns of the rows' names.
const NAMES: u16 = 3;

/// Draws epochs over `of` epochs' width.
pub(super) struct Hypnogram<'a> {
    pub epochs: &'a [Option<SleepEpoch>],
    pub of: usize,
}

impl Hypnogram<'_> {
    /// The stage that most epochs of the column have, and whether one of them is provisional.
    fn column(&self, column: usize, columns: usize) -> Option<(Option<SleepStage>, bool)> {
        let at = |column: usize| column * self.of / columns;
        let (first, end) = (at(column), at(column + 1).max(at(column) + 1));
        let range = first.min(self.epochs.len())..end.min(self.epochs.len());
        let known: Vec<&SleepEpoch> = self.epochs[range].iter().flatten().collect();
        let count = |stage: Option<SleepStage>| known.iter().filter(|e| e.stage == stage).count();
        let stages = std::iter::once(None).chain(ROWS.map(Some));
        let stage = stages.max_by_key(|stage| count(*stage))?;
        let is_open = known.iter().any(|e| e.status == EpochStatus::Provisional);
        (!known.is_empty()).then_some((stage, is_open))
    }
}

impl Widget for Hypnogram<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let columns = usize::from(area.width.saturating_sub(NAMES));
        if columns == 0 || area.height == 0 {
            return;
        }
        let row_of = |row: usize| area.y + (row as u16 * area.height / ROWS.len() as u16);
        for (row, stage) in ROWS.iter().enumerate() {
            buffer.set_string(
                area.x,
                row_of(row),
                stage.as_str(),
                Style::new().fg(color(Some(*stage))),
            );
        }
        for column in 0..columns {
            let Some((stage, is_open)) = self.column(column, columns) else { continue };
            let row = ROWS.iter().position(|known| Some(*known) == stage).unwrap_or(0);
            let symbol = match (stage, is_open) {
                (None, _) => "?",
                (_, true) => "░",
                (Some(SleepStage::Rem), _) => "R",
                _ => "█",
            };
            let mut style = Style::new().fg(color(stage));
            if is_open {
                style = style.add_modifier(Modifier::DIM);
            }
            let x = area.x + NAMES + column as u16;
            buffer.set_string(x, row_of(row), symbol, style);
        }
    }
}

/// A stage's color.
pub(super) fn color(stage: Option<SleepStage>) -> Color {
    match stage {
        Some(SleepStage::Wake) => Color::Yellow,
        Some(SleepStage::Rem) => Color::Red,
        Some(SleepStage::N1) => Color::Cyan,
        Some(SleepStage::N2) => Color::Blue,
        Some(SleepStage::N3) => Color::Magenta,
        None => Color::DarkGray,
    }
}
