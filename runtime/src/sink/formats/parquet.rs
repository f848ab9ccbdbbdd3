//! Embeddings as Parquet: `embeddings.parquet` with a row a patch (`patch`, `onset_s`, and a list of
//! E floats for each of BAS, RESP, EKG, EMG), `embeddings.5min.parquet` with a row a window
//! (`window`, `onset_s`, the lists). A list is null where there is no signal. Row groups of an hour
//! go to the disk as they fill.

use std::fs::File;
use std::sync::Arc;

use parquet::data_type::{DoubleType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use sfm_models::Modality;

use super::file;
use crate::event::{Event, WindowEmbedding};
use crate::sink::replace::ReplacedFile;
use crate::sink::{Place, Sink, SinkError};
use sfm_models::EPOCH_S;

/// Patches of an hour.
const GROUP_ROWS: usize = 720;
/// A patch, seconds.
const PATCH_S: f64 = EPOCH_S / 6.0;

/// Writes both tables.
#[derive(Debug)]
pub(super) struct ParquetSink {
    tokens: Table,
    pooled: Table,
}

/// One file.
#[derive(Debug)]
struct Table {
    place: ReplacedFile,
    /// `patch` or `window`, the name of the first column.
    index: &'static str,
    writer: Option<SerializedFileWriter<File>>,
    rows: Rows,
}

/// Rows that are not yet written.
#[derive(Debug, Default)]
struct Rows {
    index: Vec<i32>,
    onset_s: Vec<f64>,
    lists: [List; Modality::COUNT],
}

/// A column of lists in Parquet's own form: all values, and by level what is there.
#[derive(Debug, Default)]
struct List {
    values: Vec<f32>,
    /// 2 for a value, 0 for a row that is null.
    definition: Vec<i16>,
    /// 0 where a row begins, 1 within it.
    repetition: Vec<i16>,
}

impl ParquetSink {
    pub fn open(place: &Place<'_>) -> Result<Self, SinkError> {
        let table = |name, index| {
            Ok(Table { place: file(place, name)?, index, writer: None, rows: Rows::default() })
        };
        Ok(Self {
            tokens: table("embeddings.parquet", "patch")?,
            pooled: table("embeddings.5min.parquet", "window")?,
        })
    }

    /// Forgets what an earlier pass left open.
    fn begin(&mut self) {
        for table in [&mut self.tokens, &mut self.pooled] {
            if table.writer.take().is_some() {
                table.place.give_up();
            }
            table.rows = Rows::default();
        }
    }

    fn write(&mut self, window: &WindowEmbedding) -> Result<(), SinkError> {
        let (patches, width) = (window.patches as usize, window.embed_dim);
        let fits = width > 0
            && window.tokens.iter().flatten().all(|rows| rows.len() == patches * width)
            && window.pooled.iter().flatten().all(|row| row.len() == width);
        if !fits {
            return Err(self.tokens.place.cannot_write("rows differ in length"));
        }
        for patch in 0..patches {
            let index = window.first_patch + patch as u32;
            let values = |rows: &Option<Vec<f32>>| {
                rows.as_ref().map(|rows| rows[patch * width..][..width].to_vec())
            };
            self.tokens.rows.push(index, index, window.tokens.each_ref().map(values));
        }
        self.pooled.rows.push(window.window, window.first_patch, window.pooled.clone());
        for table in [&mut self.tokens, &mut self.pooled] {
            if table.rows.index.len() >= GROUP_ROWS {
                let written = table.write_group();
                written.map_err(|reason| table.cannot_write(reason))?;
            }
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), SinkError> {
        for table in [&mut self.tokens, &mut self.pooled] {
            let written = table.complete();
            if written.map_err(|reason| table.cannot_write(reason))? {
                table.place.put_in_place()?;
            }
        }
        Ok(())
    }
}

impl Sink for ParquetSink {
    fn name(&self) -> String {
        self.tokens.place.path().display().to_string()
    }

    fn take(&mut self, event: &Event) -> Result<(), SinkError> {
        match event {
            Event::Started(_) => {
                self.begin();
                Ok(())
            }
            Event::Window(window) => self.write(window),
            Event::Night(_) => self.complete(),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.complete()
    }
}

impl Table {
    /// Writes the rows that wait as a row group.
    fn write_group(&mut self) -> Result<(), ParquetError> {
        let rows = std::mem::take(&mut self.rows);
        if self.writer.is_none() {
            self.writer = Some(self.begin()?);
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let mut group = writer.next_row_group()?;
        let mut lists = rows.lists.iter();
        for column in 0.. {
            let Some(mut writer) = group.next_column()? else { break };
            match column {
                0 => writer.typed::<Int32Type>().write_batch(&rows.index, None, None)?,
                1 => writer.typed::<DoubleType>().write_batch(&rows.onset_s, None, None)?,
                _ => {
                    let Some(List { values, definition, repetition }) = lists.next() else { break };
                    let writer = writer.typed::<FloatType>();
                    writer.write_batch(values, Some(definition), Some(repetition))?
                }
            };
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }

    fn begin(&self) -> Result<SerializedFileWriter<File>, ParquetError> {
        let list = |modality: &Modality| {
            format!(
                "optional group {modality} (LIST) {{ repeated group list {{ \
                 required float element; }} }}"
            )
        };
        let lists: String = Modality::ALL.iter().map(list).collect();
        let schema = format!(
            "message embeddings {{ required int32 {}; required double onset_s; {lists} }}",
            self.index
        );
        let properties = WriterProperties::builder()
            .set_created_by(concat!("sfm-stream ", env!("CARGO_PKG_VERSION")).to_owned())
            // Floats of a network do not repeat.
            .set_dictionary_enabled(false)
            .build();
        let file = self.place.begin()?;
        SerializedFileWriter::new(file, Arc::new(parse_message_type(&schema)?), properties.into())
    }

    /// Writes the rest and the footer; `false` if there is nothing to write.
    fn complete(&mut self) -> Result<bool, ParquetError> {
        if !self.rows.index.is_empty() {
            self.write_group()?;
        }
        let Some(writer) = self.writer.take() else { return Ok(false) };
        writer.close()?;
        Ok(true)
    }

    fn cannot_write(&self, reason: ParquetError) -> SinkError {
        self.place.give_up();
        self.place.cannot_write(reason)
    }
}

impl Rows {
    fn push(&mut self, index: u32, patch: u32, lists: [Option<Vec<f32>>; Modality::COUNT]) {
        self.index.push(i32::try_from(index).unwrap_or(i32::MAX));
        self.onset_s.push(f64::from(patch) * PATCH_S);
        for (list, row) in self.lists.iter_mut().zip(lists) {
            list.push(row);
        }
    }
}

impl List {
    /// A row of NaN is a patch that is absent.
    fn push(&mut self, row: Option<Vec<f32>>) {
        let Some(row) = row.filter(|row| !row.iter().all(|value| value.is_nan())) else {
            self.definition.push(0);
            self.repetition.push(0);
            return;
        };
        self.definition.extend(row.iter().map(|_| 2));
        self.repetition.extend((0..row.len()).map(|at| i16::from(at > 0)));
        self.values.extend(row);
    }
}
