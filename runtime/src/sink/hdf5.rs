//! `embeddings.h5`: data sets BAS RESP EKG EMG [patches, E] and in the group `5min` the same names
//! [windows, E], float32, extendable. Rows of absent patches and windows are NaN; a modality that
//! is absent throughout has no data set. A later pass replaces the rows of an earlier one.
//!
//! HDF5 has no crash-safe append: between the first and the last write of an update the file does
//! not open. So an update goes to a copy, which then takes the file's place.

use std::path::Path;

use rust_hdf5::{H5Dataset, H5File, Hdf5Error};
use sfm_models::Modality;

use super::replace::ReplacedFile;
use super::{Sink, SinkError};
use crate::event::{Event, WindowEmbedding};
use crate::files;

/// The group of the windows' embeddings.
const WINDOW_GROUP: &str = "5min";

/// Rows of one chunk of the tokens' data sets: a whole window.
const TOKEN_CHUNK: usize = 60;

/// Rows of one chunk of the windows' data sets: an hour.
const WINDOW_CHUNK: usize = 12;

/// Windows held back at most, so that a fast replay does not pile them up between publications.
const MOST_PENDING: usize = 16;

/// Writes `embeddings.h5`.
#[derive(Debug)]
pub struct Hdf5Sink {
    file: ReplacedFile,
    pending: Vec<WindowEmbedding>,
    /// What the file in place holds; `None` before the first publication.
    in_place: Option<Extent>,
    /// A window did not fit.
    has_lost: bool,
}

/// Size of the file's data sets.
#[derive(Debug, Clone, Copy)]
struct Extent {
    embed_dim: usize,
    patches: usize,
    windows: usize,
    /// Which modalities have a token and a window data set.
    tokens: [bool; Modality::COUNT],
    pooled: [bool; Modality::COUNT],
}

impl Hdf5Sink {
    /// Takes the place of `embeddings.h5` in `out_dir`; the file appears with the first window.
    ///
    /// # Errors
    /// The place of the file cannot be freed.
    pub fn open(out_dir: &Path) -> Result<Self, SinkError> {
        let file = ReplacedFile::open(out_dir, "embeddings.h5")?;
        Ok(Hdf5Sink { file, pending: Vec::new(), in_place: None, has_lost: false })
    }

    /// Goes on with the `embeddings.h5` of `out_dir`, which is replaced with the first windows.
    pub fn reopen(out_dir: &Path) -> Self {
        let file = ReplacedFile::reopen(out_dir, "embeddings.h5");
        Hdf5Sink { file, pending: Vec::new(), in_place: None, has_lost: false }
    }

    /// Writes a copy of the file that holds the pending windows too and puts it in place.
    fn update(&mut self) -> Result<(), SinkError> {
        let before = self.in_place;
        let after = self.extent_with_pending();
        // Without the file that it goes on in, as in a folder that was made again, it begins a new one.
        let before = before.filter(|_| self.file.path().exists());
        let copied = self.file.begin().and_then(|mut part| match before {
            Some(_) => std::io::copy(&mut files::open_input(self.file.path())?, &mut part),
            None => Ok(0),
        });
        let written = copied.map_err(|reason| self.file.cannot_write(reason)).and_then(|_| {
            self.write_part(before, after).map_err(|reason| self.file.cannot_write(reason))
        });
        // The disk may be full: the other files need the room.
        written.inspect_err(|_| self.file.give_up())?;
        self.file.put_in_place()?;
        self.in_place = Some(after);
        self.pending.clear();
        Ok(())
    }

    fn write_part(&self, before: Option<Extent>, after: Extent) -> Result<(), Hdf5Error> {
        // The part file is this sink's own, and some network disks know no locks.
        let options = H5File::options().no_locking();
        let file = match before {
            Some(_) => options.open_rw(self.file.part())?,
            None => {
                let file = options.create(self.file.part())?;
                file.create_group(WINDOW_GROUP)?;
                file
            }
        };
        for modality in Modality::ALL {
            let m = modality.index();
            if after.tokens[m] {
                let exists = before.is_some_and(|before| before.tokens[m]);
                let rows = Rows { chunk: TOKEN_CHUNK, rows: after.patches, width: after.embed_dim };
                let tokens = rows.open(&file, "", modality, exists)?;
                for window in &self.pending {
                    let (first, count) = (window.first_patch as usize, window.patches as usize);
                    rows.write(&tokens, first, count, window.tokens[m].as_deref())?;
                }
            }
            if after.pooled[m] {
                let exists = before.is_some_and(|before| before.pooled[m]);
                let rows =
                    Rows { chunk: WINDOW_CHUNK, rows: after.windows, width: after.embed_dim };
                let pooled = rows.open(&file, WINDOW_GROUP, modality, exists)?;
                for window in &self.pending {
                    rows.write(&pooled, window.window as usize, 1, window.pooled[m].as_deref())?;
                }
            }
        }
        file.close_no_sync()
    }

    fn extent_with_pending(&self) -> Extent {
        let mut extent = self.in_place.unwrap_or(Extent {
            embed_dim: self.pending.first().map_or(0, |window| window.embed_dim),
            patches: 0,
            windows: 0,
            tokens: [false; Modality::COUNT],
            pooled: [false; Modality::COUNT],
        });
        for window in &self.pending {
            extent.patches =
                extent.patches.max(window.first_patch as usize + window.patches as usize);
            extent.windows = extent.windows.max(window.window as usize + 1);
            for m in 0..Modality::COUNT {
                extent.tokens[m] |= window.tokens[m].is_some();
                extent.pooled[m] |= window.pooled[m].is_some();
            }
        }
        extent
    }

    /// The data sets have one width, and a row too many or too few would shift all behind it.
    fn check(&self, window: &WindowEmbedding) -> Result<(), SinkError> {
        let width = self
            .in_place
            .map(|extent| extent.embed_dim)
            .or_else(|| self.pending.first().map(|first| first.embed_dim))
            .unwrap_or(window.embed_dim);
        let tokens = window.patches as usize * width;
        let fits = width > 0
            && window.embed_dim == width
            && window.tokens.iter().flatten().all(|values| values.len() == tokens)
            && window.pooled.iter().flatten().all(|values| values.len() == width);
        if fits {
            return Ok(());
        }
        let reason = format!("window {} does not have {width} figures a row", window.window);
        Err(self.file.cannot_write(reason))
    }
}

impl Sink for Hdf5Sink {
    fn name(&self) -> String {
        self.file.path().display().to_string()
    }

    fn can_try_again(&self) -> bool {
        !self.has_lost
    }

    fn move_to(&mut self, out_dir: &Path) -> Result<(), SinkError> {
        self.file.move_to(out_dir);
        Ok(())
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        let Event::Window(window) = event else { return Ok(()) };
        self.check(window).inspect_err(|_| self.has_lost = true)?;
        self.pending.push(window.as_ref().clone());
        if self.pending.len() >= MOST_PENDING { self.update() } else { Ok(()) }
    }

    fn publish(&mut self) -> Result<(), SinkError> {
        if self.pending.is_empty() { Ok(()) } else { self.update() }
    }

    /// A recording too short for a window still gets a file that opens.
    fn finish(&mut self) -> Result<(), SinkError> {
        if self.in_place.is_none() || !self.pending.is_empty() { self.update() } else { Ok(()) }
    }
}

/// Shape of one data set.
struct Rows {
    chunk: usize,
    rows: usize,
    width: usize,
}

impl Rows {
    /// The data set of a modality at its new length. One that is new reads as NaN throughout, so a
    /// modality that turns up late needs no rows for the time before.
    fn open(
        &self,
        file: &H5File,
        group: &str,
        modality: Modality,
        exists: bool,
    ) -> Result<H5Dataset, Hdf5Error> {
        let name = modality.as_str();
        if exists {
            let path = if group.is_empty() { name.to_owned() } else { format!("{group}/{name}") };
            let set = file.dataset_writer(&path)?;
            set.extend(&[self.rows, self.width])?;
            return Ok(set);
        }
        let builder = if group.is_empty() {
            file.new_dataset::<f32>()
        } else {
            file.root_group().group(group)?.new_dataset::<f32>()
        };
        builder
            .shape([self.rows, self.width])
            .max_shape(&[None, Some(self.width)])
            .chunk(&[self.chunk, self.width])
            .fill_value(f32::NAN)
            .create(name)
    }

    /// Replaces `count` rows by `values`, or by NaN where there are none.
    fn write(
        &self,
        set: &H5Dataset,
        first: usize,
        count: usize,
        values: Option<&[f32]>,
    ) -> Result<(), Hdf5Error> {
        if count == 0 {
            return Ok(());
        }
        match values {
            Some(values) => set.write_slice(&[first, 0], &[count, self.width], values),
            None => {
                let absent = vec![f32::NAN; count * self.width];
                set.write_slice(&[first, 0], &[count, self.width], &absent)
            }
        }
    }
}
