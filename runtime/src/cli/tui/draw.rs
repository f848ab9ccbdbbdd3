//! The picture: header, signals by modality, hypnogram, stage and probabilities, quality, gaps and
//! the last lines of the log. Small terminals show less, the smallest the stage alone.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::canvas::{Canvas, Context, Line as Segment};
use ratatui::widgets::{Block, Paragraph};
use sfm_models::{Modality, SleepStage};

use super::super::progress::{clock, figure};
use super::hypnogram::{Hypnogram, color};
use super::state::{SHOWN_S, State, Trace};
use crate::event::{EpochStatus, Pass};
use crate::health::Status;
use crate::text::escaped;

/// From this size on there is room for everything.
const WIDE: u16 = 72;
const HIGH: u16 = 22;
/// Columns of the figures at the right.
const FIGURES: u16 = 32;
const NOTICE: &str = "research software, not a medical device";
/// Epochs of the hypnogram's width where the length is not known: 8 h, more if need be.
const USUAL_NIGHT: usize = 960;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    let header = header(state);
    let rows = [Constraint::Length(header.len() as u16), Constraint::Min(0)];
    let [head, body] = Layout::vertical(rows).areas(area);
    frame.render_widget(Paragraph::new(header), head);
    if area.width >= WIDE && area.height >= HIGH {
        let rows = [Constraint::Min(9), Constraint::Length(7), Constraint::Length(4)];
        let [upper, sleep, log] = Layout::vertical(rows).areas(body);
        let [left, right] =
            Layout::horizontal([Constraint::Min(0), Constraint::Length(FIGURES)]).areas(upper);
        signals(frame, left, state);
        figures(frame, right, state);
        hypnogram(frame, sleep, state);
        lines(frame, log, state);
    } else {
        let rows = [Constraint::Length(2), Constraint::Min(0)];
        let [stage, sleep] = Layout::vertical(rows).areas(body);
        let mut lines = vec![stage_line(state)];
        lines.extend(quality_lines(state).into_iter().next());
        frame.render_widget(Paragraph::new(lines), stage);
        hypnogram(frame, sleep, state);
    }
}

/// Study, pass, position and speed; below it what has to be said, and what is wrong with a session.
fn header(state: &State) -> Vec<Line<'static>> {
    let mut first = vec![Span::styled(state.study.clone(), Modifier::BOLD), Span::raw("  ")];
    let mut second = vec![Span::styled(NOTICE, Color::Yellow)];
    if let Some(started) = &state.started {
        let pass = match started.pass {
            Pass::Live => "live",
            Pass::Final => "final",
        };
        let total = started.duration_s.map_or(String::new(), |s| format!(" of {}", clock(s)));
        let hint = match (state.stays, state.leaves) {
            (true, _) => "done; q leaves",
            (_, true) => "ending",
            _ => "q ends",
        };
        first.push(Span::raw(format!(
            "{pass} {}{total}  {} x  [{hint}]  {}",
            clock(state.position_s),
            figure(state.speed()),
            escaped(&started.bundle),
        )));
        if let Some(caution) = &started.caution {
            second.push(Span::raw(format!("; {}", escaped(caution))));
        }
    }
    let mut lines = vec![Line::from(first), Line::from(second)];
    if let Some((status, reasons)) = &state.trouble {
        let (word, color) = match status {
            Status::Failing => ("failing", Color::Red),
            Status::Degraded | Status::Ok => ("degraded", Color::Yellow),
        };
        let style = Style::new().fg(color).add_modifier(Modifier::BOLD);
        lines.push(Line::styled(format!("{word}: {reasons}"), style));
    }
    lines
}

/// A strip for each modality, as many of its channels as there is room for.
fn signals(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let block = Block::bordered().title(format!(" signals, last {SHOWN_S} s "));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let of = |modality: Modality| {
        state.traces.iter().filter(move |trace| trace.modality == Some(modality))
    };
    let strips: Vec<Modality> =
        Modality::ALL.into_iter().filter(|modality| of(*modality).next().is_some()).collect();
    let rows = Layout::vertical(strips.iter().map(|_| Constraint::Fill(1))).split(inner);
    for (modality, strip) in strips.into_iter().zip(rows.iter()) {
        let room = usize::from(strip.height / 2).max(1);
        let traces: Vec<&Trace> = of(modality).take(room).collect();
        let rows = Layout::vertical(traces.iter().map(|_| Constraint::Fill(1))).split(*strip);
        for (index, (trace, area)) in traces.iter().zip(rows.iter()).enumerate() {
            let is_lost = state.lost.contains(&modality);
            let name = if index == 0 { modality.as_str() } else { "" };
            trace_row(frame, *area, name, trace, (state.rate_hz, is_lost));
        }
    }
}

/// One channel: its names, and its samples in braille dots.
fn trace_row(
    frame: &mut Frame<'_>,
    area: Rect,
    modality: &str,
    trace: &Trace,
    (rate_hz, is_lost): (f64, bool),
) {
    let [name, plot] = Layout::horizontal([Constraint::Length(14), Constraint::Min(0)]).areas(area);
    let color = if is_lost { Color::DarkGray } else { Color::Green };
    let label: String = trace.label.chars().take(8).collect();
    let text = format!("{modality:<5}{label}");
    frame.render_widget(Paragraph::new(text).style(Style::new().fg(color)), name);
    // Two dots a column.
    let bars = bars(trace, 2 * usize::from(plot.width), rate_hz);
    let (low, high) = range(&bars);
    let paint = |context: &mut Context<'_>| {
        for &(x, low, high) in &bars {
            context.draw(&Segment { x1: x, x2: x, y1: low, y2: high, color });
        }
    };
    let canvas = Canvas::default()
        .marker(Marker::Braille)
        .x_bounds([0.0, SHOWN_S])
        .y_bounds([low, high])
        .paint(paint);
    frame.render_widget(canvas, plot);
}

/// For each of `count` stretches of the half minute its place, least and greatest value.
fn bars(trace: &Trace, count: usize, rate_hz: f64) -> Vec<(f64, f64, f64)> {
    let all = SHOWN_S * rate_hz;
    let missing = (all - trace.samples.len() as f64).max(0.0);
    let mut bars: Vec<(f64, f64, f64)> = Vec::with_capacity(count);
    let mut place = None;
    for (index, &sample) in trace.samples.iter().enumerate().filter(|(_, s)| s.is_finite()) {
        let sample = f64::from(sample);
        let at = ((missing + index as f64) / all * count as f64) as usize;
        match bars.last_mut().filter(|_| place == Some(at)) {
            Some((_, low, high)) => (*low, *high) = (low.min(sample), high.max(sample)),
            None => bars.push((at as f64 * SHOWN_S / count as f64, sample, sample)),
        }
        place = Some(at);
    }
    bars
}

/// From the least to the greatest value, and never nothing.
fn range(bars: &[(f64, f64, f64)]) -> (f64, f64) {
    let low = bars.iter().map(|bar| bar.1).fold(f64::INFINITY, f64::min);
    let high = bars.iter().map(|bar| bar.2).fold(f64::NEG_INFINITY, f64::max);
    match (low.is_finite(), high > low) {
        (false, _) => (-1.0, 1.0),
        (true, false) => (low - 1.0, low + 1.0),
        (true, true) => (low, high),
    }
}

/// Stage, probabilities, quality, gaps.
fn figures(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let rows = [Constraint::Length(8), Constraint::Min(0)];
    let [stage, rest] = Layout::vertical(rows).areas(area);
    let mut lines = vec![stage_line(state)];
    lines.extend(SleepStage::ALL.map(|stage| probability_line(state, stage)));
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" stage ")), stage);
    let mut lines = quality_lines(state);
    lines.extend(gap_lines(state));
    let block = Block::bordered().title(" quality and gaps ");
    frame.render_widget(Paragraph::new(lines).block(block), rest);
}

/// `N2  provisional  02:10:30`
fn stage_line(state: &State) -> Line<'static> {
    let Some(epoch) = &state.current else { return Line::from("stage: none yet") };
    let stage = epoch.stage.map_or("?", |stage| stage.as_str());
    let style = Style::new().fg(color(epoch.stage)).add_modifier(Modifier::BOLD);
    let is_open = epoch.status == EpochStatus::Provisional;
    let status = if is_open { Modifier::DIM } else { Modifier::empty() };
    Line::from(vec![
        Span::raw("stage "),
        Span::styled(format!("{stage:<3}"), style),
        Span::styled(epoch.status.as_str(), status),
        Span::raw(format!(" {}", clock(epoch.onset_s))),
    ])
}

fn probability_line(state: &State, stage: SleepStage) -> Line<'static> {
    const BAR: f32 = 16.0;
    let index = SleepStage::ALL.iter().position(|known| *known == stage).unwrap_or(0);
    let p = state.current.as_ref().map_or(f32::NAN, |epoch| epoch.probabilities[index]);
    let filled = if p.is_finite() { (p.clamp(0.0, 1.0) * BAR).round() as usize } else { 0 };
    let bar = format!("{:<width$}", "█".repeat(filled), width = BAR as usize);
    let value = if p.is_finite() { format!("{p:.2}") } else { "-".to_owned() };
    Line::from(vec![
        Span::raw(format!("{:<3}", stage.as_str())),
        Span::styled(bar, color(Some(stage))),
        Span::raw(format!(" {value:>4}")),
    ])
}

/// How much of the newest epoch is there and sound, and which leads are off.
fn quality_lines(state: &State) -> Vec<Line<'static>> {
    let Some(epoch) = &state.current else { return Vec::new() };
    let bad = state.quality.as_ref().filter(|quality| quality.epoch == epoch.epoch);
    let sound = bad.map_or(1.0, |quality| quality.sound);
    let (present, sound) = (100.0 * epoch.quality, 100.0 * sound);
    let mut lines = vec![Line::from(format!("present {present:.0} %, sound {sound:.0} %"))];
    let channels = bad.map_or(&[][..], |quality| &quality.channels);
    let alarm = Style::new().fg(Color::Red);
    for channel in channels.iter().filter(|channel| channel.lead_off) {
        lines.push(Line::styled(format!("lead off: {}", escaped(&channel.label)), alarm));
    }
    for lost in &state.lost {
        lines.push(Line::styled(format!("lost: {lost}"), alarm));
    }
    lines
}

fn gap_lines(state: &State) -> Vec<Line<'static>> {
    let with_gaps = || state.traces.iter().filter(|trace| trace.gaps > 0);
    if with_gaps().next().is_none() {
        return vec![Line::from("no gaps")];
    }
    let line = |trace: &Trace| {
        let gaps = if trace.gaps == 1 { "gap" } else { "gaps" };
        let (count, missing) = (trace.gaps, figure(trace.missing_s));
        Line::from(format!("{count} {gaps}, {missing} s  {}", trace.label))
    };
    with_gaps().map(line).collect()
}

fn hypnogram(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let block = Block::bordered().title(" hypnogram: █ settled, R REM, ░ provisional ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let duration_s = state.started.as_ref().and_then(|started| started.duration_s);
    let of = duration_s.map_or(USUAL_NIGHT, |s| (s / 30.0).ceil() as usize);
    let of = of.max(state.epochs.len()).max(1);
    frame.render_widget(Hypnogram { epochs: &state.epochs, of }, inner);
}

/// The last lines of the log.
fn lines(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let room = usize::from(area.height.saturating_sub(2));
    let skipped = state.lines.len().saturating_sub(room);
    let lines: Vec<Line<'_>> =
        state.lines.iter().skip(skipped).map(|l| Line::from(l.as_str())).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" log ")), area);
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
