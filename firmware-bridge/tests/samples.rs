//! Packing of samples.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use sfm_firmware_bridge::{SampleError, SampleFormat, SampleRate, SampleValues, pack};

const FORMATS: [SampleFormat; 3] = [SampleFormat::I16, SampleFormat::I24, SampleFormat::I32];

#[test]
fn bytes_are_little_endian_and_signed() {
    let mut out = [0; 16];
    assert_eq!(pack(SampleFormat::I16, &[-2, 0x0102], &mut out).unwrap(), [0xFE, 0xFF, 2, 1]);
    assert_eq!(
        pack(SampleFormat::I24, &[-2, 0x010203], &mut out).unwrap(),
        [0xFE, 0xFF, 0xFF, 3, 2, 1]
    );
    assert_eq!(pack(SampleFormat::I32, &[i32::MIN], &mut out).unwrap(), [0, 0, 0, 0x80]);
}

#[test]
fn the_limits_are_those_of_two_s_complement() {
    for (format, min, max) in [
        (SampleFormat::I16, -32_768, 32_767),
        (SampleFormat::I24, -8_388_608, 8_388_607),
        (SampleFormat::I32, i32::MIN, i32::MAX),
    ] {
        assert!(format.holds(min) && format.holds(max) && format.holds(0));
        assert!(max == i32::MAX || !format.holds(max + 1) && !format.holds(min - 1));
    }
}

#[test]
fn nothing_is_clipped_cut_or_overrun() {
    let mut out = [0; 5];
    let refused = pack(SampleFormat::I16, &[1, 40_000], &mut out);
    assert_eq!(refused, Err(SampleError::OutOfRange { index: 1, value: 40_000 }));
    let refused = pack(SampleFormat::I24, &[1, 2], &mut out);
    assert_eq!(refused, Err(SampleError::NoRoom { needed: 6 }));
    let refused = SampleValues::new(SampleFormat::I24, &[0; 5]).map(|_| ());
    assert_eq!(refused, Err(SampleError::Ragged { bytes: 5 }));
}

#[test]
fn a_rate_is_a_ratio() {
    assert_eq!(SampleRate { samples: 1, seconds: 4 }.hz(), Some(0.25));
    assert_eq!(SampleRate { samples: 0, seconds: 1 }.hz(), None);
    assert_eq!(SampleRate { samples: 1, seconds: 0 }.hz(), None);
}

proptest! {
    #[test]
    fn packed_values_come_back(values in prop::collection::vec(any::<i32>(), 0..100)) {
        for format in FORMATS {
            let unused = 32 - 8 * format.bytes() as u32;
            let values: Vec<i32> = values.iter().map(|value| value >> unused).collect();
            let mut out = [0; 400];
            let packed = pack(format, &values, &mut out).unwrap();
            let unpacked = SampleValues::new(format, packed).unwrap();
            prop_assert_eq!(unpacked.len(), values.len());
            prop_assert!(unpacked.eq(values));
        }
    }
}
