//! The night's stages in the formats of [`crate::hypnogram`].

use sfm_models::SleepStage;

use super::{Format, file};
use crate::edf::DateTime;
use crate::event::Event;
use crate::hypnogram::{bids, luna, nsrr, profusion, usleep, yasa};
use crate::sink::hypnogram::Hypnogram;
use crate::sink::replace::ReplacedFile;
use crate::sink::{Place, Sink, SinkError};

/// Writes the files of one format.
#[derive(Debug)]
pub(super) struct StagesSink {
    format: Format,
    files: Vec<ReplacedFile>,
    hypnogram: Hypnogram,
    start: Option<DateTime>,
}

impl StagesSink {
    pub fn open(format: Format, place: &Place<'_>) -> Result<Self, SinkError> {
        let files =
            format.files().iter().map(|name| file(place, name)).collect::<Result<_, _>>()?;
        Ok(Self { format, files, hypnogram: Hypnogram::default(), start: None })
    }

    fn write(&mut self) -> Result<(), SinkError> {
        let stages = self.hypnogram.stages();
        for (file, bytes) in self.files.iter().zip(contents(self.format, &stages, self.start)) {
            file.write(&bytes.map_err(|reason| file.cannot_write(reason))?)?;
        }
        Ok(())
    }
}

impl Sink for StagesSink {
    fn name(&self) -> String {
        self.files.first().map_or_else(String::new, |file| file.path().display().to_string())
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        self.hypnogram.take(event);
        match event {
            Event::Started(started) => {
                self.start = started.start.as_ref().and_then(|start| start.parse().ok());
                Ok(())
            }
            Event::Night(_) if self.hypnogram.take_change() => self.write(),
            _ => Ok(()),
        }
    }

    /// A run that was stopped within a pass still leaves what it knows.
    fn finish(&mut self) -> Result<(), SinkError> {
        if self.hypnogram.take_change() { self.write() } else { Ok(()) }
    }
}

/// What they hold, in the order of their names.
fn contents(
    format: Format,
    stages: &[Option<SleepStage>],
    start: Option<DateTime>,
) -> Vec<std::io::Result<Vec<u8>>> {
    let text = |text: String| Ok(text.into_bytes());
    match format {
        Format::Luna => vec![text(luna::text(stages))],
        Format::NsrrXml => vec![text(nsrr::text(stages, start))],
        Format::ProfusionXml => vec![text(profusion::text(stages))],
        Format::Usleep => vec![text(usleep::tsv(stages)), usleep::npy(stages)],
        Format::Yasa => vec![text(yasa::text(stages))],
        Format::Bids => vec![text(bids::tsv(stages)), text(format!("{:#}\n", bids::sidecar()))],
        Format::Parquet | Format::Numpy | Format::Fhir => Vec::new(),
    }
}
