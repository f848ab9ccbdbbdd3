//! Samples packed as differences: of neighbors, all in as many bits as the largest needs. Owns no
//! memory. Refuses a payload whose length is not the one that its own head asks for; differences
//! are modulo 2^32, so no sum overflows.
//!
//! Of sleep recordings' 16-bit EEG it leaves 55 to 75 %, of 24-bit EEG 35 to 40 %. Bytewise varints
//! leave 95 % of the former, Rice codes 5 points less than this at twice the code.

use crate::sample::SampleError;

/// The most samples of a payload of differences: a flat signal takes no bits, and without a limit a
/// few bytes could claim billions.
pub const MAX_DELTA_SAMPLES: usize = 1024;

/// Bits of the longest difference.
const MAX_WIDTH: u32 = 32;

const fn zigzag(value: i32) -> u32 {
    (value << 1 ^ value >> 31).cast_unsigned()
}

const fn from_zigzag(bits: u32) -> i32 {
    (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()
}

fn differences(values: &[i32]) -> impl Iterator<Item = u32> {
    values.iter().zip(values.iter().skip(1)).map(|(a, &b)| zigzag(b.wrapping_sub(*a)))
}

/// Bits that each difference of `values` takes.
fn width(values: &[i32]) -> u32 {
    // The union of all bits is as wide as the widest.
    MAX_WIDTH - differences(values).fold(0, |union, bits| union | bits).leading_zeros()
}

const fn varint_bytes(value: u32) -> usize {
    let bits = MAX_WIDTH - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Bytes of `count` differences of `width` bits.
const fn body_bytes(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Bytes that [`pack`] writes for `values`, at most [`MAX_DELTA_SAMPLES`] of them.
pub(crate) fn packed_bytes(values: &[i32]) -> usize {
    let Some(&first) = values.first() else { return 1 };
    let head = varint_bytes(values.len() as u32) + 1 + varint_bytes(zigzag(first));
    head + body_bytes(values.len() - 1, width(values))
}

/// Packs `values` into the beginning of `out`.
pub(crate) fn pack<'o>(values: &[i32], out: &'o mut [u8]) -> Result<&'o [u8], SampleError> {
    let count = values.len();
    if count > MAX_DELTA_SAMPLES {
        return Err(SampleError::TooMany { count });
    }
    let needed = packed_bytes(values);
    let Some(out) = out.get_mut(..needed) else { return Err(SampleError::NoRoom { needed }) };
    let mut rest = &mut *out;
    put_varint(&mut rest, count as u32);
    if let Some(&first) = values.first()
        && let Some(byte) = rest.split_off_first_mut()
    {
        let width = width(values);
        *byte = width as u8;
        put_varint(&mut rest, zigzag(first));
        put_differences(rest, values, width);
    }
    Ok(out)
}

/// Writes `value` to the beginning of `out`, which becomes what is behind it.
fn put_varint(out: &mut &mut [u8], mut value: u32) {
    while let Some(byte) = out.split_off_first_mut() {
        *byte = value as u8 & 0x7F;
        value >>= 7;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
}

fn put_differences(out: &mut [u8], values: &[i32], width: u32) {
    let (mut held, mut held_bits) = (0_u64, 0);
    let mut differences = differences(values);
    for byte in out {
        while held_bits < 8
            && let Some(bits) = differences.next()
        {
            held |= u64::from(bits) << held_bits;
            held_bits += width;
        }
        *byte = held as u8;
        held >>= 8;
        held_bits = held_bits.saturating_sub(8);
    }
}

/// The values of a payload of differences.
#[derive(Debug, Clone)]
pub(crate) struct DeltaValues<'a> {
    /// Bytes that are not in `held` yet.
    packed: &'a [u8],
    width: u32,
    /// Values to come, `next` among them.
    left: usize,
    next: i32,
    /// The next `held_bits` bits.
    held: u64,
    held_bits: u32,
}

impl<'a> DeltaValues<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Result<Self, SampleError> {
        let (count, rest) = take_varint(payload)?;
        let left = count as usize;
        let (width, next, packed) = match rest.split_first() {
            Some((&width, rest)) if left > 0 => {
                let (first, packed) = take_varint(rest)?;
                (u32::from(width), from_zigzag(first), packed)
            }
            _ => (0, 0, rest),
        };
        if left > MAX_DELTA_SAMPLES || width > MAX_WIDTH || left > 0 && rest.is_empty() {
            return Err(SampleError::Malformed);
        }
        let differences = left.saturating_sub(1);
        if packed.len() != body_bytes(differences, width) {
            return Err(SampleError::Ragged { bytes: payload.len() });
        }
        let used_bits = differences * width as usize % 8;
        if used_bits > 0 && packed.last().is_some_and(|last| last >> used_bits != 0) {
            return Err(SampleError::Malformed);
        }
        Ok(Self { packed, width, left, next, held: 0, held_bits: 0 })
    }

    /// Takes bytes until a difference is held: four at a time but for the last ones.
    fn refill(&mut self) {
        if let Some((word, rest)) = self.packed.split_first_chunk() {
            self.held |= u64::from(u32::from_le_bytes(*word)) << self.held_bits;
            self.held_bits += 32;
            self.packed = rest;
            return;
        }
        while self.held_bits < self.width
            && let Some((&byte, rest)) = self.packed.split_first()
        {
            self.held |= u64::from(byte) << self.held_bits;
            self.held_bits += 8;
            self.packed = rest;
        }
    }
}

fn take_varint(bytes: &[u8]) -> Result<(u32, &[u8]), SampleError> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            let value = u32::try_from(value).map_err(|_| SampleError::Malformed)?;
            return Ok((value, bytes.get(index + 1..).unwrap_or_default()));
        }
    }
    Err(SampleError::Malformed)
}

impl Iterator for DeltaValues<'_> {
    type Item = i32;

    #[inline]
    fn next(&mut self) -> Option<i32> {
        self.left = self.left.checked_sub(1)?;
        let value = self.next;
        if self.left > 0 {
            if self.held_bits < self.width {
                self.refill();
            }
            let bits = self.held & ((1 << self.width) - 1);
            self.held >>= self.width;
            self.held_bits = self.held_bits.saturating_sub(self.width);
            self.next = value.wrapping_add(from_zigzag(bits as u32));
        }
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}
