//! Where events go. Sinks run on their own thread behind a queue; a sink that fails is reported
//! once. The main files of the output are tried again with the next event, so that they are whole
//! when a full disk has room again; another sink is left out from then on. The others go on.
//!
//! Every file of the output folder but `events.jsonl` is only ever replaced as a whole, so a kill
//! at any moment leaves the old content or the new one. `events.jsonl` grows by one write a line;
//! a line is complete when its newline is there.

mod csv;
mod edf;
pub mod formats;
mod hdf5;
mod hypnogram;
mod jsonl;
mod night;
mod queue;
mod replace;
pub mod report;

use std::path::Path;
use std::sync::Arc;

use sfm_models::ReferenceQuantiles;

pub use self::csv::CsvSink;
pub(crate) use self::csv::no_formula;
pub use self::edf::EdfSink;
pub use self::hdf5::Hdf5Sink;
pub use self::jsonl::JsonlSink;
pub use self::night::{NightSink, add_to_night};
pub use self::queue::{Sinks, WhenFull};
pub(crate) use self::replace::ReplacedFile;
pub use self::replace::write_whole;
use crate::event::Event;
use crate::health::Health;

/// The files that every run writes, or removes where it has nothing to write.
pub const OUTPUT: [&str; 8] = [
    "events.jsonl",
    "hypnogram.csv",
    "hypnogram.edf",
    "embeddings.h5",
    "night.json",
    "risk.csv",
    "report.html",
    "report.pdf",
];

/// Takes events in order.
pub trait Sink: Send {
    /// The sink's name in messages, e.g. the file it writes.
    fn name(&self) -> String;

    /// Whether a run is incomplete without what it writes, as without a file of the output folder.
    fn is_output(&self) -> bool {
        true
    }

    /// Whether it keeps what it could not write and can be called again after a failure: with room
    /// on the disk again its file is whole.
    fn can_try_again(&self) -> bool {
        false
    }

    /// The output folder is `out_dir` from now on: another one, or one that was made again under
    /// the same path.
    ///
    /// # Errors
    /// As [`Sink::take`]: it cannot follow.
    fn move_to(&mut self, out_dir: &Path) -> Result<(), SinkError> {
        let name = self.name();
        if !self.is_output() || Path::new(&name).starts_with(out_dir) {
            return Ok(());
        }
        Err(SinkError(format!("{name}: is not written any more, its folder is another's now")))
    }

    /// Takes one event.
    ///
    /// # Errors
    /// One sentence with the file and the reason; unless it can try again, the sink is not called
    /// again.
    fn take(&mut self, event: &Event) -> Result<(), SinkError>;

    /// Takes an event that was emitted before a restart, so that the output goes on from there.
    /// For sinks that write anew what they hold it is an event like any other.
    ///
    /// # Errors
    /// As [`Sink::take`].
    fn restore(&mut self, event: &Event) -> Result<(), SinkError> {
        self.take(event)
    }

    /// Brings the output up to date with the events taken so far. Called within half a second
    /// after an event, and not more often than that: the place for what costs more than an
    /// append.
    ///
    /// # Errors
    /// As [`Sink::take`].
    fn publish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// The last pass is over: completes what is open.
    ///
    /// # Errors
    /// As [`Sink::take`].
    fn finish(&mut self) -> Result<(), SinkError> {
        self.publish()
    }
}

/// Why a sink cannot go on: one sentence with the file and the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);

impl SinkError {
    /// The sentence for a file that cannot be written.
    pub(crate) fn cannot_write(path: &Path, reason: impl std::fmt::Display) -> Self {
        SinkError(format!(
            "{}: cannot be written ({reason}); free the space or the name, or choose another \
             folder with --out",
            path.display()
        ))
    }
}

/// Where and for what the sinks of one run are opened.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The output folder; it exists.
    pub out_dir: &'a Path,
    /// The recording or the bed by a short name: the file's without its ending, the device's id.
    /// Untrusted text.
    pub study: &'a str,
    /// The recording on the disk, for what copies it; in a live session it grows until the end.
    pub recording: &'a Path,
    /// Names of the hazards; may be empty.
    pub labels: &'a Labels,
    /// The hazards of the bundle's cohort, where it brings them.
    pub quantiles: Option<&'a ReferenceQuantiles>,
    /// A session that goes on after a cut: windows that are known and will be restored.
    pub resumed: Option<u32>,
    /// How the live session is; `None` for a replay, which nobody watches.
    pub health: Option<&'a Arc<Health>>,
}

/// The phecode and the phenotype of each of the risk head's labels, in its order.
pub type Labels = [(String, String)];

/// Makes the output folder and opens every sink that writes a file of it.
///
/// What an earlier run left of these files is removed, so that the folder never mixes two
/// recordings; files of other names are left alone. `labels` names the hazards of `risk.csv` and
/// may be empty.
///
/// # Errors
/// The folder cannot be made or a file in it cannot be written.
pub fn open_all(out_dir: &Path, labels: &Labels) -> Result<Vec<Box<dyn Sink>>, SinkError> {
    std::fs::create_dir_all(out_dir).map_err(|reason| {
        SinkError(format!(
            "{}: cannot be made a folder ({reason}); choose another one with --out",
            out_dir.display()
        ))
    })?;
    open_each(out_dir, labels).into_iter().collect()
}

/// A sink, or why it cannot be opened.
pub(crate) type Opened = Result<Box<dyn Sink>, SinkError>;

fn boxed(sink: Result<impl Sink + 'static, SinkError>) -> Opened {
    sink.map(|sink| Box::new(sink) as Box<dyn Sink>)
}

/// As [`open_all`], each on its own, in a folder that is there.
pub(crate) fn open_each(out_dir: &Path, labels: &Labels) -> Vec<Opened> {
    vec![
        boxed(JsonlSink::open(out_dir)),
        boxed(CsvSink::open(out_dir)),
        boxed(EdfSink::open(out_dir)),
        boxed(Hdf5Sink::open(out_dir)),
        boxed(NightSink::open(out_dir, labels.to_vec())),
    ]
}

/// Opens every sink of a folder that a session left when it was cut, to go on in it. `windows` is
/// the number of windows that are known and will be restored: `events.jsonl` is kept up to the
/// last of them, since everything behind it is emitted anew. The other files stay as they are
/// until they are replaced.
///
/// # Errors
/// As [`open_all`].
pub fn reopen_all(
    out_dir: &Path,
    labels: &Labels,
    windows: u32,
) -> Result<Vec<Box<dyn Sink>>, SinkError> {
    std::fs::create_dir_all(out_dir).map_err(|reason| SinkError::cannot_write(out_dir, reason))?;
    reopen_each(out_dir, labels, windows).into_iter().collect()
}

/// As [`reopen_all`], each on its own, in a folder that is there.
pub(crate) fn reopen_each(out_dir: &Path, labels: &Labels, windows: u32) -> Vec<Opened> {
    vec![
        boxed(JsonlSink::reopen(out_dir, windows)),
        boxed(CsvSink::reopen(out_dir)),
        Ok(Box::new(EdfSink::reopen(out_dir))),
        Ok(Box::new(Hdf5Sink::reopen(out_dir))),
        Ok(Box::new(NightSink::reopen(out_dir, labels.to_vec()))),
    ]
}
