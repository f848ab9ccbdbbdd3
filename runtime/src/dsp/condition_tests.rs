// One hole is a list of one range here.
#![allow(clippy::single_range_in_vec_init)]

use proptest::prelude::*;

use super::*;

fn preprocessing() -> Preprocessing {
    Preprocessing { rate_hz: 128, patch_samples: 640, lowpass_hz: 64.0, lowpass_order: 4 }
}

fn conditioner(rate_hz: f64) -> Conditioner {
    Conditioner::new(rate_hz, &preprocessing()).expect("valid rate")
}

/// Grid points by index; asserts that they ascend.
#[derive(Debug, Default, PartialEq)]
struct Grid(Vec<(u64, u32)>);

impl Grid {
    fn take(&mut self, points: GridPoints<'_>) {
        let first = points.first;
        assert!(self.0.last().is_none_or(|&(last, _)| last < first), "grid points must ascend");
        self.0.extend((first..).zip(points.values.iter().map(|x| x.to_bits())));
    }
}

fn noise(index: u64) -> f32 {
    let x = index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((x >> 40) as f32) / 1e5 - 80.0
}

#[test]
fn the_networks_own_rate_passes_bit_for_bit() {
    let mut conditioner = conditioner(128.0);
    let input: Vec<f32> = (0..1000).map(noise).collect();
    let mut grid = Grid::default();
    for (i, block) in input.chunks(37).enumerate() {
        conditioner.push(5 + 37 * i as u64, block, &mut |y| grid.take(y));
        assert_eq!(conditioner.ready_until(), 5 + grid.0.len() as u64);
    }
    let expected: Vec<_> = (5..).zip(input.iter().map(|x| x.to_bits())).collect();
    assert_eq!(grid.0, expected);
}

#[test]
fn a_segment_covers_its_time_and_no_more() {
    for rate_hz in [1.0, 32.0, 100.0, 128.0, 200.0, 256.0, 333.3, 512.0] {
        for (start, count) in [(0, 1), (3, 40), (1001, 700), (77, 5000)] {
            let mut conditioner = conditioner(rate_hz);
            let samples: Vec<f32> = (0..count).map(noise).collect();
            let mut grid = Grid::default();
            conditioner.push(start, &samples, &mut |y| grid.take(y));
            conditioner.finish(&mut |y| grid.take(y));
            let covered = |g: &u64| {
                let place = *g as f64 * rate_hz / 128.0;
                place >= start as f64 && place < (start + count) as f64
            };
            let last = ((start + count) as f64 * 128.0 / rate_hz) as u64 + 2;
            let expected: Vec<u64> = (0..last).filter(covered).collect();
            let points: Vec<u64> = grid.0.iter().map(|p| p.0).collect();
            assert_eq!(points, expected, "{rate_hz} Hz from {start}");
            assert!(conditioner.ready_until() >= points.last().map_or(0, |p| p + 1));
        }
    }
}

#[test]
fn a_long_gap_is_not_bridged_and_both_sides_stand_alone() {
    let samples: Vec<f32> = (0..6000).map(noise).collect();
    let (before, after) = (&samples[..2500], &samples[4000..]);
    let mut whole = Grid::default();
    let mut with_gap = conditioner(256.0);
    with_gap.push(0, before, &mut |y| whole.take(y));
    with_gap.push(4000, after, &mut |y| whole.take(y));
    with_gap.finish(&mut |y| whole.take(y));

    let mut parts = Grid::default();
    for (start, part) in [(0, before), (4000, after)] {
        let mut alone = conditioner(256.0);
        alone.push(start, part, &mut |y| parts.take(y));
        alone.finish(&mut |y| parts.take(y));
    }
    assert_eq!(whole, parts);
    assert!(whole.0.iter().all(|&(g, _)| !(1250..2000).contains(&g)));
}

#[test]
fn a_decided_gap_ends_the_segment_at_once_and_changes_no_point() {
    let samples: Vec<f32> = (0..6000).map(noise).collect();
    for rate_hz in [1.0, 100.0, 128.0, 256.0, 333.3] {
        let (mut jumped, mut told) = (Grid::default(), Grid::default());
        let mut jumping = conditioner(rate_hz);
        jumping.push(0, &samples[..2500], &mut |y| jumped.take(y));
        jumping.push(4000, &samples[4000..], &mut |y| jumped.take(y));
        let mut telling = conditioner(rate_hz);
        telling.push(0, &samples[..2500], &mut |y| told.take(y));
        for decided in [2400, 2501, 3700, 3600] {
            telling.push(decided, &[], &mut |y| told.take(y));
        }
        let until = telling.decided_until();
        assert!(telling.ready_until() >= until && telling.ready_until() <= until + 1);
        assert!(!telling.is_before(3700, until) && telling.is_before(3700, until + 1));
        telling.push(4000, &samples[4000..], &mut |y| told.take(y));
        assert_eq!(told, jumped, "{rate_hz} Hz");
        assert_eq!(telling.overlapping_samples(), 0);
    }
}

#[test]
fn not_a_number_is_a_gap() {
    let mut samples: Vec<f32> = (0..3000).map(noise).collect();
    samples[1000..1010].fill(f32::NAN);
    samples[2000] = f32::INFINITY;
    let (mut marked, mut jumped) = (Grid::default(), Grid::default());
    let mut conditioner_a = conditioner(200.0);
    conditioner_a.push(0, &samples, &mut |y| marked.take(y));
    conditioner_a.finish(&mut |y| marked.take(y));
    let mut conditioner_b = conditioner(200.0);
    for (start, end) in [(0, 1000), (1010, 2000), (2001, 3000)] {
        conditioner_b.push(start, &samples[start as usize..end], &mut |y| jumped.take(y));
    }
    conditioner_b.finish(&mut |y| jumped.take(y));
    assert_eq!(marked, jumped);
    assert_eq!(conditioner_a.not_finite_samples(), 11);
    assert!(marked.0.iter().all(|&(_, bits)| f32::from_bits(bits).is_finite()));
}

#[test]
fn what_was_there_is_dropped_and_counted() {
    let samples: Vec<f32> = (0..3000).map(noise).collect();
    let (mut once, mut twice) = (Grid::default(), Grid::default());
    let mut straight = conditioner(256.0);
    straight.push(0, &samples, &mut |y| once.take(y));
    let mut repeated = conditioner(256.0);
    repeated.push(0, &samples[..2000], &mut |y| twice.take(y));
    repeated.push(100, &samples[100..300], &mut |y| twice.take(y));
    repeated.push(1500, &samples[1500..], &mut |y| twice.take(y));
    assert_eq!(once, twice);
    assert_eq!(repeated.overlapping_samples(), 700);
}

#[test]
fn a_patch_is_ready_half_a_second_after_its_end() {
    for rate_hz in [200.0, 256.0, 500.0, 512.0] {
        let mut conditioner = conditioner(rate_hz);
        for start in (0..(5.5 * rate_hz) as u64).step_by(10) {
            assert_eq!(conditioner.ready_until(), 0);
            let block: Vec<f32> = (start..start + 10).map(noise).collect();
            conditioner.push(start, &block, &mut |_| {});
        }
        assert_eq!(conditioner.ready_until(), 640, "{rate_hz} Hz");
    }
}

#[test]
fn refuses_rates_and_descriptions_that_make_no_sense() {
    for rate_hz in [0.0, -5.0, f64::NAN, f64::INFINITY, 2.0 * MAX_RATE_HZ] {
        assert!(Conditioner::new(rate_hz, &preprocessing()).is_err());
    }
    let zero_rate = Preprocessing { rate_hz: 0, ..preprocessing() };
    assert!(Conditioner::new(256.0, &zero_rate).is_err());
    let negative_cutoff = Preprocessing { lowpass_hz: -1.0, ..preprocessing() };
    assert!(Conditioner::new(256.0, &negative_cutoff).is_err());
}

/// A sine with holes from and to these samples: the points that were measured, and the bridged ones.
fn with_holes(rate_hz: f64, holes: &[Range<u64>]) -> (Grid, Grid) {
    let value = |i: u64| (i as f64 / rate_hz * 6.0).sin() as f32;
    let (mut measured, mut bridged) = (Grid::default(), Grid::default());
    let mut conditioner = conditioner(rate_hz);
    let mut take = |y: GridPoints<'_>| match y.bridged {
        true => bridged.take(y),
        false => measured.take(y),
    };
    let mut start = 0;
    for hole in holes.iter().cloned().chain([5000..5001]) {
        let samples: Vec<f32> = (start..hole.start).map(value).collect();
        for (block, at) in samples.chunks(50).zip((start..).step_by(50)) {
            conditioner.push(at, block, &mut take);
        }
        // Half of the hole is decided before its end is known.
        conditioner.push((hole.start + hole.end) / 2, &[], &mut take);
        start = hole.end;
    }
    conditioner.finish(&mut take);
    (measured, bridged)
}

#[test]
fn a_short_hole_is_bridged_and_says_so() {
    for rate_hz in [10.0, 100.0, 128.0, 200.0, 256.0] {
        let limit = (MAX_BRIDGE_S * rate_hz) as u64;
        let (_, none) = with_holes(rate_hz, &[]);
        assert_eq!(none, Grid::default());
        let (measured, bridged) = with_holes(rate_hz, &[2000..2000 + limit]);
        let place = |grid: u64| grid as f64 * rate_hz / 128.0;
        let is_hole =
            |&(grid, _): &(u64, u32)| (2000.0..(2000 + limit) as f64).contains(&place(grid));
        assert!(!bridged.0.is_empty() && bridged.0.iter().all(is_hole), "{rate_hz} Hz");
        assert!(!measured.0.iter().any(is_hole), "{rate_hz} Hz");
        let points = (bridged.0.len() + measured.0.len()) as f64;
        assert_eq!(points, (5000.0 * 128.0 / rate_hz).ceil(), "{rate_hz} Hz: none is left out");
        let far = |(grid, bits): &(u64, u32)| {
            let expected = (place(*grid) / rate_hz * 6.0).sin();
            (f64::from(f32::from_bits(*bits)) - expected).abs()
        };
        // 0.3 s of this sine are 0.29 of its period: a chord stays within 0.4 of it.
        let furthest = bridged.0.iter().map(far).fold(0.0, f64::max);
        assert!(furthest < 0.45, "{rate_hz} Hz: {furthest}");
        let (_, bridged) = with_holes(rate_hz, &[2000..2001 + limit]);
        assert_eq!(bridged, Grid::default(), "{rate_hz} Hz: a sample too long");
    }
    // One lost sample of a slow channel.
    assert_eq!(with_holes(1.0, &[2000..2001]).1.0.len(), 128);
    assert_eq!(with_holes(1.0, &[2000..2002]).1.0.len(), 0);
}

#[test]
fn values_that_are_no_numbers_are_bridged_like_samples_that_never_came() {
    let mut samples: Vec<f32> = (0..3000).map(noise).collect();
    let (mut jumped, mut marked) = (Vec::new(), Vec::new());
    let mut conditioner_a = conditioner(200.0);
    conditioner_a.push(0, &samples[..1000], &mut |y| jumped.push((y.first, y.bridged)));
    conditioner_a.push(1010, &samples[1010..], &mut |y| jumped.push((y.first, y.bridged)));
    conditioner_a.finish(&mut |y| jumped.push((y.first, y.bridged)));
    samples[1000..1010].fill(f32::NAN);
    let mut conditioner_b = conditioner(200.0);
    conditioner_b.push(0, &samples, &mut |y| marked.push((y.first, y.bridged)));
    conditioner_b.finish(&mut |y| marked.push((y.first, y.bridged)));
    assert_eq!(jumped, marked);
    assert_eq!(marked.iter().filter(|(_, bridged)| *bridged).count(), 1);
}

proptest! {
    #[test]
    fn any_block_split_gives_the_same_bits(
        gaps in prop::collection::vec((1_u64..3000, prop_oneof![0_u64..100, 0_u64..900]), 1..7),
        blocks in prop::collection::vec(1_usize..900, 1..20),
        rate_hz in prop::sample::select(vec![1.0, 32.0, 100.0, 128.0, 200.0, 256.0, 300.3, 512.0]),
    ) {
        let run = |block_of: &mut dyn FnMut() -> usize| {
            let mut conditioner = conditioner(rate_hz);
            let mut grid = Grid::default();
            let mut start = 0;
            for &(length, gap) in &gaps {
                let samples: Vec<f32> = (start..start + length).map(noise).collect();
                let mut rest = samples.as_slice();
                let mut at = start;
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(block_of().min(rest.len()));
                    conditioner.push(at, now, &mut |y| grid.take(y));
                    at += now.len() as u64;
                    rest = later;
                }
                start += length + gap;
            }
            conditioner.finish(&mut |y| grid.take(y));
            grid
        };
        let mut sizes = blocks.iter().cycle();
        let whole = run(&mut || usize::MAX);
        let split = run(&mut || *sizes.next().expect("cycle"));
        prop_assert_eq!(whole, split);
    }
}
