//! `report.html`: the night on a page, written when a pass is over; the later pass replaces it. With
//! `--report-pdf` the same as PDF, with `--plots` its pictures as SVG and PNG. Holds figures an epoch
//! (`record`, `trends`), never signals, and no field of a recording's header but its start. Runs on the
//! sinks' thread.

mod agreement;
mod figures;
mod heart;
mod page;
mod pdf;
mod png;
mod record;
mod spectrum;
mod text;
mod trends;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::figures::{Axis, DrawError, Figure, Pictures};
use self::page::Page;
use self::png::Painter;
use self::record::Record;
pub use self::text::Language;
use self::trends::Trends;
use super::replace::ReplacedFile;
use super::{Place, Sink, SinkError};
use crate::event::{Event, Night};
use crate::files;
use crate::lights::LightsMark;
use sfm_models::EPOCH_S;

const FILE_NAME: &str = "report.html";
const PDF: &str = "report.pdf";
pub(crate) const PLOTS: &str = "plots";
/// All pictures there may be.
const NAMES: [&str; 7] =
    ["hypnogram", "hypnodensity", "spectrogram", "spo2", "heart-rate", "movement", "quality"];

/// Arguments.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ReportArgs {
    /// No report.html
    #[arg(long)]
    pub no_report: bool,
    /// Write the report as report.pdf too
    #[arg(long)]
    pub report_pdf: bool,
    /// Write the report's pictures as SVG and PNG too, into the folder plots
    #[arg(long)]
    pub plots: bool,
    /// Language of the report [default: en]
    #[arg(long)]
    pub language: Option<Language>,
}

/// What the report tells of a run that no event does.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The cohort of the percentiles and its number of recordings.
    pub cohort: Option<(String, usize)>,
    /// Phecode and phenotype of each hazard; may be empty.
    pub labels: Vec<(String, String)>,
    /// Arguments the run was started with: name without dashes, value.
    pub settings: Vec<(&'static str, String)>,
}

impl ReportArgs {
    /// These arguments, completed from a configuration file's.
    pub fn or(&self, file: Self) -> Self {
        Self {
            no_report: self.no_report || file.no_report,
            report_pdf: self.report_pdf || file.report_pdf,
            plots: self.plots || file.plots,
            language: self.language.or(file.language),
        }
    }

    /// The sinks these arguments ask for. What an earlier run left of their files is removed, asked
    /// for or not, so that the folder never tells of two recordings.
    ///
    /// # Errors
    /// One sentence with the file and the reason.
    pub fn sinks(&self, place: &Place<'_>, about: About) -> Result<Vec<Box<dyn Sink>>, SinkError> {
        let page = place_of(place, place.out_dir, FILE_NAME)?;
        let pdf = place_of(place, place.out_dir, PDF)?;
        let plots = place.out_dir.join(PLOTS);
        for name in NAMES.iter().flat_map(|name| [format!("{name}.svg"), format!("{name}.png")]) {
            if std::fs::symlink_metadata(&plots).is_ok_and(|about| about.is_dir()) {
                place_of(place, &plots, &name)?;
            }
        }
        if !self.want_signals() {
            return Ok(Vec::new());
        }
        Ok(vec![Box::new(ReportSink {
            page: (!self.no_report).then_some(page),
            pdf: self.report_pdf.then_some(pdf),
            plots: self.plots.then_some(plots),
            about,
            language: self.language.unwrap_or_default(),
            study: place.study.to_owned(),
            recording: place.recording.to_owned(),
            out_dir: place.out_dir.to_owned(),
            record: Record::default(),
            trends: Trends::default(),
            checksum: Checksum::Later,
            left_undone: Vec::new(),
        })])
    }

    /// Whether they look at the signals themselves.
    pub fn want_signals(&self) -> bool {
        !self.no_report || self.report_pdf || self.plots
    }
}

/// The place of a file; what lies there is removed unless a session goes on.
fn place_of(place: &Place<'_>, dir: &Path, name: &str) -> Result<ReplacedFile, SinkError> {
    match place.resumed {
        Some(_) => Ok(ReplacedFile::reopen(dir, name)),
        None => ReplacedFile::open(dir, name),
    }
}

/// SHA-256 of the recording.
#[derive(Debug)]
enum Checksum {
    /// Hexadecimal.
    Known(String),
    /// The recording is not closed yet.
    Later,
    /// It is gone, or its disk fails.
    Unreadable,
}

/// Writes `report.html`, `report.pdf` and `plots`.
struct ReportSink {
    page: Option<ReplacedFile>,
    pdf: Option<ReplacedFile>,
    plots: Option<PathBuf>,
    about: About,
    language: Language,
    study: String,
    recording: PathBuf,
    out_dir: PathBuf,
    record: Record,
    trends: Trends,
    checksum: Checksum,
    /// What could not be done of the last pass.
    left_undone: Vec<SinkError>,
}

impl ReportSink {
    fn write(&mut self, night: &Night) -> Result<(), SinkError> {
        self.trends.close();
        let Some(started) = &self.record.started else { return Ok(()) };
        let text = self.language.text();
        // A live session's recording has no length before it is closed.
        if started.duration_s.is_some() && !matches!(self.checksum, Checksum::Known(_)) {
            self.checksum = sha256(&self.recording).map_or(Checksum::Unreadable, Checksum::Known);
        }
        let shown_s = self.record.epochs.len() as f64 * EPOCH_S;
        let name = |mark: &LightsMark| if mark.is_on { text.lights_on } else { text.lights_off };
        let marks = &night.lights.marks;
        let marks = marks.iter().map(|mark| (mark.onset_s, name(mark).to_owned())).collect();
        let axis = Axis::new(shown_s, started.start.as_deref(), marks);
        let cannot =
            |reason: DrawError| SinkError::cannot_write(&self.out_dir.join(FILE_NAME), reason);
        let pictures = Pictures::draw(&self.record, &self.trends, axis, text).map_err(cannot)?;
        let page = Page {
            text,
            study: &self.study,
            about: &self.about,
            record: &self.record,
            night,
            pictures: &pictures,
            checksum: &self.checksum,
        };
        if let Some(file) = &self.page {
            file.write(page.html().as_bytes())?;
        }
        self.left_undone.clear();
        if let Some(file) = &self.pdf {
            let body = page.body(started).into_string();
            match pdf::pdf(text, &page.title(), &body, &pictures.figures) {
                Ok(Some(pdf)) => file.write(&pdf)?,
                Ok(None) => self.left_undone.push(no_font(file.path(), "no PDF")),
                Err(reason) => {
                    // That of the live pass would stay beside the final page.
                    let _ = files::remove(file.path());
                    self.left_undone.push(file.cannot_write(reason));
                }
            }
        }
        if let Some(plots) = &self.plots {
            self.left_undone.extend(write_plots(plots, &pictures.figures)?);
        }
        Ok(())
    }
}

/// Writes every picture; returns what could not be done without a font.
fn write_plots(dir: &Path, figures: &[Figure]) -> Result<Option<SinkError>, SinkError> {
    files::make_folder_within(dir).map_err(|reason| SinkError::cannot_write(dir, reason))?;
    let painter = Painter::new();
    for figure in figures {
        let file = |ending: &str| ReplacedFile::reopen(dir, &format!("{}.{ending}", figure.name));
        file("svg").write(figure.alone(true).as_bytes())?;
        if let Some(painter) = &painter {
            let png = painter.png(figure).map_err(|reason| file("png").cannot_write(reason))?;
            file("png").write(&png)?;
        }
    }
    Ok(painter.is_none().then(|| no_font(dir, "no PNG beside the SVG files")))
}

fn no_font(path: &Path, what: &str) -> SinkError {
    SinkError(format!(
        "{}: {what}, since this machine has no font to write with; install one (DejaVu Sans)",
        path.display()
    ))
}

impl Sink for ReportSink {
    fn name(&self) -> String {
        self.out_dir.join(FILE_NAME).display().to_string()
    }

    fn move_to(&mut self, out_dir: &Path) -> Result<(), SinkError> {
        [&mut self.page, &mut self.pdf]
            .into_iter()
            .flatten()
            .for_each(|file| file.move_to(out_dir));
        if let Some(plots) = &mut self.plots {
            *plots = out_dir.join(PLOTS);
        }
        // Of a live session it is in the same folder.
        if let Some(name) = self.recording.file_name() {
            self.recording = out_dir.join(name);
        }
        self.out_dir = out_dir.to_owned();
        Ok(())
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        self.record.take(event);
        match event {
            Event::Started(started) => self.trends.begin(started),
            Event::Signals(patch) => self.trends.take(patch),
            Event::Night(night) => self.write(night)?,
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let left: Vec<String> = self.left_undone.drain(..).map(|error| error.0).collect();
        if left.is_empty() { Ok(()) } else { Err(SinkError(left.join("; "))) }
    }
}

/// Hexadecimal SHA-256 of a file.
fn sha256(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
