//! Packed samples: digital values of 2, 3 or 4 bytes, two's complement, little-endian, without
//! gaps, or their differences in as few bits as they need. Refuses a value that its format cannot
//! hold rather than clip it, and a payload that is not what its format makes.

use core::slice::Iter;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use crate::delta::{self, DeltaValues};

/// How the samples of a channel are packed. Each block says its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum SampleFormat {
    /// 2 bytes: -32,768 to 32,767.
    I16,
    /// 3 bytes: -8,388,608 to 8,388,607.
    I24,
    /// 4 bytes.
    I32,
    /// Differences of neighbors, all in as many bits as the largest needs; at most
    /// [`MAX_DELTA_SAMPLES`](crate::MAX_DELTA_SAMPLES) samples.
    Delta,
}

impl SampleFormat {
    /// Bytes of one sample; `None` where that depends on the samples.
    pub const fn bytes(self) -> Option<usize> {
        match self {
            SampleFormat::I16 => Some(2),
            SampleFormat::I24 => Some(3),
            SampleFormat::I32 => Some(4),
            SampleFormat::Delta => None,
        }
    }

    /// Whether the format can hold `value`.
    pub const fn holds(self, value: i32) -> bool {
        let unused_bits = match self {
            SampleFormat::I16 => 16,
            SampleFormat::I24 => 8,
            SampleFormat::I32 | SampleFormat::Delta => 0,
        };
        (value << unused_bits) >> unused_bits == value
    }
}

/// Why samples were not packed or cannot be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// The format cannot hold a value.
    #[error("sample {index} is {value}, more than the format holds")]
    OutOfRange {
        /// Index of the value.
        index: usize,
        /// The value.
        value: i32,
    },
    /// The output buffer is too short.
    #[error("the samples need {needed} bytes")]
    NoRoom {
        /// Bytes that are needed.
        needed: usize,
    },
    /// The payload is no whole number of samples.
    #[error("the payload of {bytes} bytes is no whole number of samples")]
    Ragged {
        /// Bytes of the payload.
        bytes: usize,
    },
    /// More samples than a block of differences holds.
    #[error("{count} samples are more than a block of differences holds")]
    TooMany {
        /// Number of the samples.
        count: usize,
    },
    /// A payload of differences claims too many samples or bits, or its last bits are not zero.
    #[error("the payload is no packing of differences")]
    Malformed,
}

/// Packs `values` into the beginning of `out` and returns the packed bytes.
///
/// # Errors
/// [`SampleError::NoRoom`], [`SampleError::OutOfRange`] and, for differences,
/// [`SampleError::TooMany`].
pub fn pack<'o>(
    format: SampleFormat,
    values: &[i32],
    out: &'o mut [u8],
) -> Result<&'o [u8], SampleError> {
    let Some(width) = format.bytes() else { return delta::pack(values, out) };
    let needed = values.len().saturating_mul(width);
    let Some(out) = out.get_mut(..needed) else { return Err(SampleError::NoRoom { needed }) };
    for (index, (&value, packed)) in values.iter().zip(out.chunks_exact_mut(width)).enumerate() {
        if !format.holds(value) {
            return Err(SampleError::OutOfRange { index, value });
        }
        for (to, from) in packed.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }
    Ok(out)
}

/// The format in which `values` take the fewest bytes. Of two with the same number it is the one
/// with whole bytes.
pub fn shortest_format(values: &[i32]) -> SampleFormat {
    let all_fit = |format: SampleFormat| values.iter().all(|&value| format.holds(value));
    let whole = [SampleFormat::I16, SampleFormat::I24].into_iter().find(|&format| all_fit(format));
    let whole = whole.unwrap_or(SampleFormat::I32);
    let whole_bytes = values.len().saturating_mul(whole.bytes().unwrap_or(4));
    let delta_pays =
        values.len() <= delta::MAX_DELTA_SAMPLES && delta::packed_bytes(values) < whole_bytes;
    if delta_pays { SampleFormat::Delta } else { whole }
}

/// The values of a packed payload.
#[derive(Debug, Clone)]
pub struct SampleValues<'a>(Packed<'a>);

#[derive(Debug, Clone)]
enum Packed<'a> {
    I16(Iter<'a, [u8; 2]>),
    I24(Iter<'a, [u8; 3]>),
    I32(Iter<'a, [u8; 4]>),
    Delta(DeltaValues<'a>),
}

impl<'a> SampleValues<'a> {
    /// The values in `payload`.
    ///
    /// # Errors
    /// [`SampleError::Ragged`] if a part of a sample is left over or missing,
    /// [`SampleError::Malformed`].
    pub fn new(format: SampleFormat, payload: &'a [u8]) -> Result<Self, SampleError> {
        Ok(Self(match format {
            SampleFormat::I16 => Packed::I16(whole(payload)?),
            SampleFormat::I24 => Packed::I24(whole(payload)?),
            SampleFormat::I32 => Packed::I32(whole(payload)?),
            SampleFormat::Delta => Packed::Delta(DeltaValues::new(payload)?),
        }))
    }
}

fn whole<const N: usize>(payload: &[u8]) -> Result<Iter<'_, [u8; N]>, SampleError> {
    match payload.as_chunks() {
        (samples, []) => Ok(samples.iter()),
        _ => Err(SampleError::Ragged { bytes: payload.len() }),
    }
}

fn from_i16(bytes: &[u8; 2]) -> i32 {
    i16::from_le_bytes(*bytes).into()
}

fn from_i24(&[low, middle, high]: &[u8; 3]) -> i32 {
    // Down again from the top: the shift carries the sign.
    i32::from_le_bytes([0, low, middle, high]) >> 8
}

fn from_i32(bytes: &[u8; 4]) -> i32 {
    i32::from_le_bytes(*bytes)
}

impl Iterator for SampleValues<'_> {
    type Item = i32;

    #[inline]
    fn next(&mut self) -> Option<i32> {
        match &mut self.0 {
            Packed::I16(samples) => samples.next().map(from_i16),
            Packed::I24(samples) => samples.next().map(from_i24),
            Packed::I32(samples) => samples.next().map(from_i32),
            Packed::Delta(samples) => samples.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Packed::I16(samples) => samples.size_hint(),
            Packed::I24(samples) => samples.size_hint(),
            Packed::I32(samples) => samples.size_hint(),
            Packed::Delta(samples) => samples.size_hint(),
        }
    }

    /// One loop a format, for `for_each` and the like.
    #[inline]
    fn fold<B, F: FnMut(B, i32) -> B>(self, init: B, f: F) -> B {
        match self.0 {
            Packed::I16(samples) => samples.map(from_i16).fold(init, f),
            Packed::I24(samples) => samples.map(from_i24).fold(init, f),
            Packed::I32(samples) => samples.map(from_i32).fold(init, f),
            Packed::Delta(samples) => samples.fold(init, f),
        }
    }
}

impl ExactSizeIterator for SampleValues<'_> {}
