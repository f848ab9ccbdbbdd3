//! Access to the samples of a file's data records. Holds at most 8 MiB or what a single request
//! asks for, whatever the record size, and never more than the file is long. Decodes only the
//! samples asked for, straight from the record's bytes.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use super::EdfError;
use super::header::{Header, SampleFormat, Signal};
use super::tal::Tals;

/// Small records are read together up to this many bytes.
const BATCH_BYTES: u64 = 1 << 20;
/// A record beyond this is not held as a whole; each request reads its own slice.
const MAX_HELD_RECORD_BYTES: u64 = 8 << 20;

/// Reads samples by record, signal and range; sequential access reads the file once.
#[derive(Debug)]
pub struct RecordReader<R> {
    header: Header,
    data: RecordData<R>,
}

impl<R: Read + Seek> RecordReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// As [`Header::read`].
    pub fn new(mut input: R) -> Result<Self, EdfError> {
        let header = Header::read(&mut input)?;
        let data = RecordData { input, held: 0..0, batch: Vec::new(), slice: Vec::new() };
        Ok(RecordReader { header, data })
    }

    /// What is read from, at an undefined position.
    pub fn into_inner(self) -> R {
        self.data.input
    }

    /// The file's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Appends the physical values of samples `range` of a signal in one record. What lies
    /// outside the file yields nothing.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn physical(
        &mut self,
        record: u64,
        signal: usize,
        range: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), EdfError> {
        let Some((signal, place)) = locate(&self.header, record, signal, range) else {
            return Ok(());
        };
        let bytes = self.data.bytes(&self.header, record, place)?;
        decode(bytes, self.header.sample_format, out, |digital| signal.physical(digital) as f32);
        Ok(())
    }

    /// Appends digital values; otherwise as [`RecordReader::physical`].
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn digital(
        &mut self,
        record: u64,
        signal: usize,
        range: Range<usize>,
        out: &mut Vec<i32>,
    ) -> Result<(), EdfError> {
        let Some((_, place)) = locate(&self.header, record, signal, range) else { return Ok(()) };
        let bytes = self.data.bytes(&self.header, record, place)?;
        decode(bytes, self.header.sample_format, out, |digital| digital);
        Ok(())
    }

    /// The bytes of an annotation signal in one record. They are read on their own, so that
    /// scanning a night's annotations does not read its samples.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn annotation_bytes(&mut self, record: u64, signal: usize) -> Result<&[u8], EdfError> {
        let Some((_, place)) = locate(&self.header, record, signal, 0..usize::MAX) else {
            return Ok(&[]);
        };
        self.data.slice(&self.header, record, place)
    }

    /// Onset of a record by its time-keeping annotation, seconds after the header's start; `None`
    /// where the file keeps no time or the record's entry is damaged.
    ///
    /// # Errors
    /// [`EdfError::Io`].
    pub fn record_onset_s(&mut self, record: u64) -> Result<Option<f64>, EdfError> {
        let Some(timekeeper) = self.header.timekeeper() else { return Ok(None) };
        let bytes = self.annotation_bytes(record, timekeeper)?;
        Ok(Tals::new(bytes).next().filter(|tal| tal.keeps_time()).map(|tal| tal.onset_s))
    }
}

/// The signal and the place of its samples in the record, bytes; the range is cut to the record.
fn locate(
    header: &Header,
    record: u64,
    signal: usize,
    range: Range<usize>,
) -> Option<(&Signal, Range<u64>)> {
    let signal = header.signals.get(signal).filter(|_| record < header.record_count)?;
    let end = range.end.min(signal.samples_per_record);
    let start = range.start.min(end);
    let byte =
        |sample: usize| signal.record_offset + sample as u64 * header.sample_format.bytes() as u64;
    Some((signal, byte(start)..byte(end)))
}

fn decode<T>(bytes: &[u8], format: SampleFormat, out: &mut Vec<T>, value: impl Fn(i32) -> T) {
    match format {
        SampleFormat::I16 => {
            let (samples, _) = bytes.as_chunks::<2>();
            out.extend(samples.iter().map(|&b| value(i32::from(i16::from_le_bytes(b)))));
        }
        SampleFormat::I24 => {
            let (samples, _) = bytes.as_chunks::<3>();
            // Into the upper three bytes and back, which carries the sign.
            let digital = |&[a, b, c]: &[u8; 3]| i32::from_le_bytes([0, a, b, c]) >> 8;
            out.extend(samples.iter().map(|b| value(digital(b))));
        }
    }
}

/// The bytes behind the header, with what was read last. Places are within existing records,
/// so no buffer outgrows the file.
#[derive(Debug)]
struct RecordData<R> {
    input: R,
    /// The records whose bytes are in `batch`.
    held: Range<u64>,
    batch: Vec<u8>,
    slice: Vec<u8>,
}

impl<R: Read + Seek> RecordData<R> {
    fn bytes(
        &mut self,
        header: &Header,
        record: u64,
        place: Range<u64>,
    ) -> Result<&[u8], EdfError> {
        if header.record_bytes > MAX_HELD_RECORD_BYTES {
            return self.slice(header, record, place);
        }
        if !self.held.contains(&record) {
            self.hold(header, record)?;
        }
        let offset = (record - self.held.start) * header.record_bytes;
        let place = (offset + place.start) as usize..(offset + place.end) as usize;
        Ok(self.batch.get(place).unwrap_or_default())
    }

    fn hold(&mut self, header: &Header, first: u64) -> Result<(), EdfError> {
        let count = (BATCH_BYTES / header.record_bytes).max(1).min(header.record_count - first);
        self.held = 0..0;
        self.batch.resize((count * header.record_bytes) as usize, 0);
        let start = header.header_bytes + first * header.record_bytes;
        self.input.seek(SeekFrom::Start(start))?;
        self.input.read_exact(&mut self.batch)?;
        self.held = first..first + count;
        Ok(())
    }

    fn slice(
        &mut self,
        header: &Header,
        record: u64,
        place: Range<u64>,
    ) -> Result<&[u8], EdfError> {
        self.slice.resize((place.end - place.start) as usize, 0);
        let start = header.header_bytes + record * header.record_bytes + place.start;
        self.input.seek(SeekFrom::Start(start))?;
        self.input.read_exact(&mut self.slice)?;
        Ok(&self.slice)
    }
}
