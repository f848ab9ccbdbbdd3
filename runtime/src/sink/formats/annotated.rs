//! `annotated.edf` (`.bdf`): a copy of the recording with the best known stages as EDF+ annotations,
//! made when everything else is over. A recording that is no EDF or BDF is refused at the start.

use std::io::{BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};

use super::{file, is_same};
use crate::edf::annotate::{Identity, annotate};
use crate::edf::{Annotation, EdfError};
use crate::event::Event;
use crate::files;
use crate::sink::hypnogram::{Hypnogram, annotation};
use crate::sink::replace::ReplacedFile;
use crate::sink::{Place, Sink, SinkError};

/// Writes the copy.
#[derive(Debug)]
pub(super) struct AnnotatedSink {
    recording: PathBuf,
    file: ReplacedFile,
    hypnogram: Hypnogram,
    identity: Identity,
}

impl AnnotatedSink {
    pub fn open(place: &Place<'_>, keep_identity: bool) -> Result<Self, SinkError> {
        let name = name_of_copy(place.recording)?;
        let path = place.out_dir.join(name);
        if is_same(&path, place.recording) {
            return Err(SinkError(format!(
                "{}: --annotated-edf would replace the recording itself; choose another folder with --out",
                path.display()
            )));
        }
        Ok(Self {
            recording: place.recording.to_owned(),
            file: file(place, name)?,
            hypnogram: Hypnogram::default(),
            identity: if keep_identity { Identity::Kept } else { Identity::Anonymous },
        })
    }

    fn copy(&self) -> Result<(), EdfError> {
        let annotations: Vec<Annotation> = self.hypnogram.epochs().map(annotation).collect();
        let recording = BufReader::new(files::open_input(&self.recording)?);
        let mut copy = BufWriter::new(self.file.begin()?);
        annotate(recording, &mut copy, &annotations, self.identity)
    }
}

impl Sink for AnnotatedSink {
    fn name(&self) -> String {
        self.file.path().display().to_string()
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        self.hypnogram.take(event);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        match self.copy() {
            Ok(()) => self.file.put_in_place(),
            Err(reason) => {
                self.file.give_up();
                Err(self.file.cannot_write(reason))
            }
        }
    }
}

/// By the recording's first byte; a live session's recording may not have one yet.
fn name_of_copy(recording: &Path) -> Result<&'static str, SinkError> {
    let mut first = [0];
    let read = files::open_input(recording).and_then(|mut file| file.read(&mut first));
    let is_bdf = recording.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("bdf"));
    match (read, first) {
        (Ok(1), [0xff]) => Ok("annotated.bdf"),
        (Ok(1), [b'0']) => Ok("annotated.edf"),
        (Ok(1), _) => Err(SinkError(format!(
            "{}: --annotated-edf needs an EDF or BDF recording, and this is none",
            recording.display()
        ))),
        _ if is_bdf => Ok("annotated.bdf"),
        _ => Ok("annotated.edf"),
    }
}
