//! Packing of samples.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use sfm_firmware_bridge::{
    MAX_DELTA_SAMPLES, MAX_PAYLOAD_BYTES, SampleError, SampleFormat, SampleRate, SampleValues,
    pack, shortest_format,
};

const WHOLE_BYTES: [SampleFormat; 3] = [SampleFormat::I16, SampleFormat::I24, SampleFormat::I32];

fn unpack(format: SampleFormat, payload: &[u8]) -> Result<Vec<i32>, SampleError> {
    SampleValues::new(format, payload).map(Iterator::collect)
}

fn delta(values: &[i32]) -> Vec<u8> {
    let mut out = [0xAA; 5 * MAX_DELTA_SAMPLES];
    pack(SampleFormat::Delta, values, &mut out).unwrap().to_vec()
}

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
fn differences_are_packed_as_the_page_says() {
    assert_eq!(delta(&[]), [0]);
    assert_eq!(delta(&[-1]), [1, 0, 1]);
    assert_eq!(delta(&[150, 150, 150]), [3, 0, 0xAC, 2]);
    // Differences +1, -2, +3 are 2, 3, 6 in zigzag: 3 bits each, 010 011 110 from below.
    assert_eq!(delta(&[100, 101, 99, 102]), [4, 3, 0xC8, 1, 0b1001_1010, 0b1]);
    // Modulo 2^32 the difference is -1.
    assert_eq!(delta(&[i32::MIN, i32::MAX]), [2, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0xF, 1]);
}

#[test]
fn the_limits_are_those_of_two_s_complement() {
    for (format, min, max) in [
        (SampleFormat::I16, -32_768, 32_767),
        (SampleFormat::I24, -8_388_608, 8_388_607),
        (SampleFormat::I32, i32::MIN, i32::MAX),
        (SampleFormat::Delta, i32::MIN, i32::MAX),
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
    let refused = pack(SampleFormat::Delta, &[0, 1 << 20], &mut out);
    assert_eq!(refused, Err(SampleError::NoRoom { needed: 6 }));
    let count = MAX_DELTA_SAMPLES + 1;
    let refused = pack(SampleFormat::Delta, &vec![0; count], &mut out);
    assert_eq!(refused, Err(SampleError::TooMany { count }));
    assert_eq!(unpack(SampleFormat::I24, &[0; 5]), Err(SampleError::Ragged { bytes: 5 }));
}

#[test]
fn a_damaged_packing_of_differences_is_refused() {
    let ragged = |payload: &[u8]| Err(SampleError::Ragged { bytes: payload.len() });
    let malformed = |_: &[u8]| Err(SampleError::Malformed);
    type Refusal<'r> = &'r dyn Fn(&[u8]) -> Result<Vec<i32>, SampleError>;
    let cases: [(&str, &[u8], Refusal); 12] = [
        ("nothing at all", &[], &malformed),
        ("no samples and a byte behind them", &[0, 0], &ragged),
        ("no width", &[1], &malformed),
        ("no first sample", &[1, 0], &malformed),
        ("a first sample that goes on", &[1, 0, 0x80], &malformed),
        ("a first sample of 33 bits", &[1, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F], &malformed),
        ("differences that are missing", &[3, 8, 0, 1], &ragged),
        ("one difference too many", &[2, 8, 0, 1, 1], &ragged),
        ("bits behind the last difference", &[2, 3, 0, 0b1000], &malformed),
        ("33 bits each", &[2, 33, 0, 0, 0, 0, 0, 0], &malformed),
        ("1,025 samples that take no bits", &[0x81, 8, 0, 0], &malformed),
        ("4 billion samples", &[0xFF, 0xFF, 0xFF, 0xFF, 0xF, 32, 0], &malformed),
    ];
    for (what, payload, refusal) in cases {
        assert_eq!(unpack(SampleFormat::Delta, payload), refusal(payload), "{what}");
    }
    assert_eq!(unpack(SampleFormat::Delta, &[0x80, 8, 0, 0]).unwrap(), [0; MAX_DELTA_SAMPLES]);
}

#[test]
fn the_shortest_format_is_found() {
    let slow: Vec<i32> = (0..64).map(|i| 20_000 + 5 * i).collect();
    assert_eq!(shortest_format(&slow), SampleFormat::Delta);
    // As long as two 16-bit samples: whole bytes are simpler.
    assert_eq!(shortest_format(&[0, 1]), SampleFormat::I16);
    let noise = |i: i32| i.wrapping_mul(-1_640_531_527);
    let noisy: Vec<i32> = (0..64).map(|i| noise(i) >> 16).collect();
    assert_eq!(shortest_format(&noisy), SampleFormat::I16);
    let noisy: Vec<i32> = (0..64).map(|i| noise(i) >> 8).collect();
    assert_eq!(shortest_format(&noisy), SampleFormat::I24);
    let flat = [7; MAX_DELTA_SAMPLES + 1];
    assert_eq!(shortest_format(&flat), SampleFormat::I16);
    assert_eq!(shortest_format(&flat[1..]), SampleFormat::Delta);
}

#[test]
fn a_rate_is_a_ratio() {
    assert_eq!(SampleRate { samples: 1, seconds: 4 }.hz(), Some(0.25));
    assert_eq!(SampleRate { samples: 0, seconds: 1 }.hz(), None);
    assert_eq!(SampleRate { samples: 1, seconds: 0 }.hz(), None);
}

/// Signals from flat to white noise over all of `i32`.
fn signal() -> impl Strategy<Value = Vec<i32>> {
    let smooth = (any::<i32>(), 0..32_u32, prop::collection::vec(any::<i32>(), 0..100));
    smooth.prop_map(|(start, quiet_bits, steps)| {
        let walk = steps.iter().scan(start, |at, step| {
            *at = at.wrapping_add(step >> quiet_bits);
            Some(*at)
        });
        walk.collect()
    })
}

proptest! {
    #[test]
    fn packed_values_come_back(values in prop::collection::vec(any::<i32>(), 0..100)) {
        for format in WHOLE_BYTES {
            let unused = 32 - 8 * format.bytes().unwrap() as u32;
            let values: Vec<i32> = values.iter().map(|value| value >> unused).collect();
            let mut out = [0; 400];
            let packed = pack(format, &values, &mut out).unwrap();
            let unpacked = SampleValues::new(format, packed).unwrap();
            prop_assert_eq!(unpacked.len(), values.len());
            prop_assert!(unpacked.eq(values));
        }
    }

    #[test]
    fn differences_come_back(values in signal()) {
        let packed = delta(&values);
        let mut unpacked = SampleValues::new(SampleFormat::Delta, &packed).unwrap();
        prop_assert!(unpacked.clone().eq(values.iter().copied()));
        prop_assert_eq!(unpacked.clone().fold(Vec::new(), |mut all, v| { all.push(v); all }), &*values);
        for left in (0..values.len()).rev() {
            unpacked.next();
            prop_assert_eq!(unpacked.len(), left);
        }
        prop_assert_eq!(unpacked.next(), None);
        // With a byte less or more it is no packing.
        let cut = &packed[..packed.len() - 1];
        prop_assert!(SampleValues::new(SampleFormat::Delta, cut).is_err());
        let longer = [&*packed, &[0]].concat();
        prop_assert!(SampleValues::new(SampleFormat::Delta, &longer).is_err());
    }

    #[test]
    fn the_shortest_is_no_longer_than_any(values in signal()) {
        let mut out = [0; MAX_PAYLOAD_BYTES];
        let shortest = pack(shortest_format(&values), &values, &mut out).unwrap().to_vec();
        prop_assert_eq!(unpack(shortest_format(&values), &shortest), Ok(values.clone()));
        for format in [SampleFormat::Delta, SampleFormat::I16, SampleFormat::I24, SampleFormat::I32] {
            if let Ok(packed) = pack(format, &values, &mut out) {
                prop_assert!(shortest.len() <= packed.len());
            }
        }
    }

    #[test]
    fn any_bytes_are_values_or_refused(payload in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(values) = unpack(SampleFormat::Delta, &payload) {
            prop_assert!(values.len() <= MAX_DELTA_SAMPLES);
            prop_assert_eq!(unpack(SampleFormat::Delta, &delta(&values)), Ok(values));
        }
    }
}
