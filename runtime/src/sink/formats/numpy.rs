//! Embeddings as NumPy arrays: `embeddings.BAS.npy` [patches, E] and `embeddings.5min.BAS.npy`
//! [windows, E] and so on, float32, as `embeddings.h5` has them: NaN rows where there is no signal,
//! no file for a modality that is absent throughout. Rows go to the disk as they come, beside the
//! files' places, and take them when the pass is over.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use sfm_models::Modality;

use super::file;
use crate::event::{Event, WindowEmbedding};
use crate::sink::replace::ReplacedFile;
use crate::sink::{Place, Sink, SinkError};

/// Bytes of an array's header, which is rewritten when the number of rows is known.
const HEADER_BYTES: usize = 128;
/// Rows of NaN written at a time.
const FILL_ROWS: u64 = 60;

/// Writes the arrays.
#[derive(Debug)]
pub(super) struct NumpySink {
    /// By modality.
    tokens: Vec<Array>,
    pooled: Vec<Array>,
    /// Rows that each of the arrays will have.
    patches: u64,
    windows: u64,
}

/// One file.
#[derive(Debug)]
struct Array {
    place: ReplacedFile,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    width: usize,
    rows: u64,
}

impl NumpySink {
    pub fn open(place: &Place<'_>) -> Result<Self, SinkError> {
        let arrays = |scale: &str| {
            let name = |modality: &Modality| format!("embeddings{scale}.{modality}.npy");
            let array = |m| Ok(Array { place: file(place, &name(m))?, open: None });
            Modality::ALL.iter().map(array).collect::<Result<_, SinkError>>()
        };
        Ok(Self { tokens: arrays("")?, pooled: arrays(".5min")?, patches: 0, windows: 0 })
    }

    /// Forgets what an earlier pass left open.
    fn begin(&mut self) {
        for array in self.tokens.iter_mut().chain(&mut self.pooled) {
            if array.open.take().is_some() {
                array.place.give_up();
            }
        }
        (self.patches, self.windows) = (0, 0);
    }

    fn write(&mut self, window: &WindowEmbedding) -> Result<(), SinkError> {
        let (first, count) = (u64::from(window.first_patch), u64::from(window.patches));
        for (array, rows) in self.tokens.iter_mut().zip(&window.tokens) {
            array.write(first, count, window.embed_dim, rows.as_deref())?;
        }
        let at = u64::from(window.window);
        for (array, row) in self.pooled.iter_mut().zip(&window.pooled) {
            array.write(at, 1, window.embed_dim, row.as_deref())?;
        }
        self.patches = self.patches.max(first + count);
        self.windows = self.windows.max(at + 1);
        Ok(())
    }

    fn complete(&mut self) -> Result<(), SinkError> {
        let (patches, windows) = (self.patches, self.windows);
        self.tokens.iter_mut().try_for_each(|array| array.complete(patches))?;
        self.pooled.iter_mut().try_for_each(|array| array.complete(windows))
    }
}

impl Sink for NumpySink {
    fn name(&self) -> String {
        self.tokens.first().map_or_else(String::new, |a| a.place.path().display().to_string())
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        match event {
            Event::Started(_) => {
                self.begin();
                Ok(())
            }
            Event::Window(window) => self.write(window).inspect_err(|_| self.begin()),
            Event::Night(_) => self.finish(),
            _ => Ok(()),
        }
    }

    /// What fails gives the disk its space back.
    fn finish(&mut self) -> Result<(), SinkError> {
        self.complete().inspect_err(|_| self.begin())
    }
}

impl Array {
    /// Writes rows from `first` on, NaN where there are none; a file appears with the first rows
    /// that are.
    fn write(
        &mut self,
        first: u64,
        count: u64,
        width: usize,
        rows: Option<&[f32]>,
    ) -> Result<(), SinkError> {
        let fits = rows.is_none_or(|rows| rows.len() as u64 == count * width as u64);
        if !fits || self.open.as_ref().is_some_and(|open| open.width != width) {
            return Err(self.place.cannot_write("rows differ in length"));
        }
        let written = match (&mut self.open, rows) {
            (None, None) => Ok(()),
            (Some(open), _) => open.write(first, count, rows),
            (None, Some(_)) => Open::create(&self.place, width).and_then(|mut open| {
                open.write(first, count, rows)?;
                self.open = Some(open);
                Ok(())
            }),
        };
        written.map_err(|reason| self.place.cannot_write(reason))
    }

    /// Fills the array up to `rows` rows and puts it in its place.
    fn complete(&mut self, rows: u64) -> Result<(), SinkError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let written = open.write(rows, 0, None).and_then(|()| open.write_header());
        written.map_err(|reason| {
            self.place.give_up();
            self.place.cannot_write(reason)
        })?;
        self.place.put_in_place()
    }
}

impl Open {
    fn create(place: &ReplacedFile, width: usize) -> io::Result<Self> {
        let mut open = Self { file: place.begin()?, width, rows: 0 };
        open.write_header()?;
        Ok(open)
    }

    fn write(&mut self, first: u64, count: u64, rows: Option<&[f32]>) -> io::Result<()> {
        while self.rows < first {
            let missing = (first - self.rows).min(FILL_ROWS);
            self.put(self.rows, missing, None)?;
        }
        self.put(first, count, rows)
    }

    fn put(&mut self, first: u64, count: u64, rows: Option<&[f32]>) -> io::Result<()> {
        let values = count as usize * self.width;
        let bytes: Vec<u8> = match rows {
            Some(rows) => rows.iter().flat_map(|v| v.to_le_bytes()).collect(),
            None => f32::NAN.to_le_bytes().repeat(values),
        };
        let place = HEADER_BYTES as u64 + first * self.width as u64 * size_of::<f32>() as u64;
        self.file.seek(SeekFrom::Start(place))?;
        self.file.write_all(&bytes)?;
        self.rows = self.rows.max(first + count);
        Ok(())
    }

    /// The header of NumPy's format 1.0 (numpy.lib.format), padded to a fixed length.
    fn write_header(&mut self) -> io::Result<()> {
        let shape = format!("({}, {})", self.rows, self.width);
        let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        let length = HEADER_BYTES - 10;
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend((length as u16).to_le_bytes());
        header.extend(format!("{dict:<width$}\n", width = length - 1).bytes());
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header)
    }
}
