//! Packed samples: digital values of 2, 3 or 4 bytes, two's complement, little-endian, without
//! gaps. Refuses a value that its format cannot hold rather than clip it.

use core::slice::ChunksExact;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// How the samples of a channel are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum SampleFormat {
    /// 2 bytes: -32,768 to 32,767.
    I16,
    /// 3 bytes: -8,388,608 to 8,388,607.
    I24,
    /// 4 bytes.
    I32,
}

impl SampleFormat {
    /// Bytes of one sample.
    pub const fn bytes(self) -> usize {
        match self {
            SampleFormat::I16 => 2,
            SampleFormat::I24 => 3,
            SampleFormat::I32 => 4,
        }
    }

    /// Whether the format can hold `value`.
    pub const fn holds(self, value: i32) -> bool {
        let unused_bits = 32 - 8 * self.bytes() as u32;
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
}

/// Packs `values` into the beginning of `out` and returns the packed bytes.
///
/// # Errors
/// [`SampleError::NoRoom`] and [`SampleError::OutOfRange`].
pub fn pack<'o>(
    format: SampleFormat,
    values: &[i32],
    out: &'o mut [u8],
) -> Result<&'o [u8], SampleError> {
    let width = format.bytes();
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

/// The values of a packed payload.
#[derive(Debug, Clone)]
pub struct SampleValues<'a> {
    packed: ChunksExact<'a, u8>,
    unused_bits: u32,
}

impl<'a> SampleValues<'a> {
    /// The values in `payload`.
    ///
    /// # Errors
    /// [`SampleError::Ragged`] if a part of a sample is left over.
    pub fn new(format: SampleFormat, payload: &'a [u8]) -> Result<Self, SampleError> {
        let packed = payload.chunks_exact(format.bytes());
        if !packed.remainder().is_empty() {
            return Err(SampleError::Ragged { bytes: payload.len() });
        }
        Ok(Self { packed, unused_bits: 32 - 8 * format.bytes() as u32 })
    }
}

impl Iterator for SampleValues<'_> {
    type Item = i32;

    fn next(&mut self) -> Option<i32> {
        let bits = self.packed.next()?.iter().rev().fold(0, |bits, &b| bits << 8 | u32::from(b));
        // Up and down again: the second shift carries the sign.
        Some((bits << self.unused_bits).cast_signed() >> self.unused_bits)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.packed.size_hint()
    }
}

impl ExactSizeIterator for SampleValues<'_> {}
