//! Collects a channel's grid samples into patches aligned to the recording's start. A patch counts
//! if all of its time is there and at least four fifths of it were measured, the rest bridged. Holds
//! only patches that were begun and not yet taken, and reuses their buffers.

use std::collections::VecDeque;

use super::GridPoints;

/// Part of a patch that has to be measured, in per cent; holes in the rest are bridged.
const MEASURED_PERCENT: usize = 80;

/// Patches of one channel that are being filled.
#[derive(Debug, Clone)]
pub struct PatchBuf {
    patch_samples: usize,
    /// Pending patches in ascending order.
    pending: VecDeque<Pending>,
    /// Buffers of patches that were passed over.
    spare: Vec<Pending>,
    /// The patch that was taken last.
    latest: Pending,
    /// Patches below this were taken or passed over.
    taken: u64,
    late: u64,
}

#[derive(Debug, Clone)]
struct Pending {
    index: u64,
    /// Points that were measured.
    measured: usize,
    /// NaN where nothing was measured.
    samples: Box<[f32]>,
    /// Points of bridged holes: place in the patch and value.
    bridged: Vec<(usize, f32)>,
}

impl Pending {
    fn new(patch_samples: usize) -> Self {
        let samples = vec![f32::NAN; patch_samples].into_boxed_slice();
        Self { index: 0, measured: 0, samples, bridged: Vec::new() }
    }

    fn begin(&mut self, index: u64) {
        (self.index, self.measured) = (index, 0);
        self.samples.fill(f32::NAN);
        self.bridged.clear();
    }

    /// The part that was measured, if the patch counts.
    fn share(&self) -> Option<f32> {
        let all = self.samples.len();
        let counts = self.measured + self.bridged.len() >= all
            && 100 * self.measured >= MEASURED_PERCENT * all;
        counts.then(|| self.measured as f32 / all as f32)
    }
}

impl PatchBuf {
    /// A buffer for patches of `patch_samples` (at least 1) grid samples.
    pub fn new(patch_samples: usize) -> Self {
        let patch_samples = patch_samples.max(1);
        Self {
            patch_samples,
            pending: VecDeque::new(),
            spare: Vec::new(),
            latest: Pending::new(patch_samples),
            taken: 0,
            late: 0,
        }
    }

    /// Takes grid points as a conditioner emits them: in ascending order, each at most once.
    /// Those of patches already taken are dropped.
    pub fn push(&mut self, points: GridPoints<'_>) {
        let length = self.patch_samples as u64;
        let (mut grid, mut samples) = (points.first, points.values);
        while !samples.is_empty() {
            let (index, offset) = (grid / length, (grid % length) as usize);
            let (now, rest) = samples.split_at(samples.len().min(self.patch_samples - offset));
            if index < self.taken {
                self.late += now.len() as u64;
            } else if points.bridged {
                self.patch(index).bridged.extend((offset..).zip(now.iter().copied()));
            } else {
                let patch = self.patch(index);
                patch.samples[offset..offset + now.len()].copy_from_slice(now);
                patch.measured += now.len();
            }
            grid += now.len() as u64;
            samples = rest;
        }
    }

    /// Copies what was measured of patch `index` to `out` (of the patch's length), NaN elsewhere,
    /// and forgets it and all before it. The part that was measured, 0 to 1, if the patch counts:
    /// [`PatchBuf::bridge`] then completes it.
    pub fn take(&mut self, index: u64, out: &mut [f32]) -> Option<f32> {
        let mut share = None;
        self.latest.begin(index);
        while let Some(mut patch) = self.pending.pop_front_if(|p| p.index <= index) {
            if patch.index == index {
                share = patch.share();
                std::mem::swap(&mut self.latest, &mut patch);
            }
            self.spare.push(patch);
        }
        self.taken = self.taken.max(index.saturating_add(1));
        out.fill(f32::NAN);
        let n = out.len().min(self.patch_samples);
        out[..n].copy_from_slice(&self.latest.samples[..n]);
        share
    }

    /// Puts the bridges of the patch taken last into it.
    pub fn bridge(&self, patch: &mut [f32]) {
        for &(place, value) in &self.latest.bridged {
            if let Some(point) = patch.get_mut(place) {
                *point = value;
            }
        }
    }

    /// What was measured of patch `index`, NaN elsewhere; `None` if nothing is there or it was
    /// taken.
    pub fn peek(&self, index: u64) -> Option<&[f32]> {
        self.pending.iter().find(|p| p.index == index).map(|p| &*p.samples)
    }

    /// Fraction, 0 to 1, of patch `index` that was measured; 0 once it was taken.
    pub fn fraction_present(&self, index: u64) -> f64 {
        let patch = self.pending.iter().find(|p| p.index == index);
        patch.map_or(0.0, |p| p.measured as f64 / self.patch_samples as f64)
    }

    /// Index of the newest patch that has any sample; `None` if nothing is pending.
    pub fn newest(&self) -> Option<u64> {
        self.pending.back().map(|p| p.index)
    }

    /// Samples dropped because their patch had been taken.
    pub fn late_samples(&self) -> u64 {
        self.late
    }

    fn patch(&mut self, index: u64) -> &mut Pending {
        let at = self.pending.partition_point(|p| p.index < index);
        if self.pending.get(at).is_none_or(|p| p.index != index) {
            let mut patch = self.spare.pop().unwrap_or_else(|| Pending::new(self.patch_samples));
            patch.begin(index);
            self.pending.insert(at, patch);
        }
        &mut self.pending[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn measured(first: u64, values: &[f32]) -> GridPoints<'_> {
        GridPoints { first, values, bridged: false }
    }

    #[test]
    fn four_fifths_have_to_be_measured_and_the_rest_bridged() {
        let mut out = [0.0; 10];
        for (holes, bridged, share) in [
            (0..0, true, Some(1.0)),
            (3..5, true, Some(0.8)),
            (3..6, true, None),
            (9..10, false, None),
        ] {
            let mut buf = PatchBuf::new(10);
            let values: Vec<f32> = (0..10).map(|i| i as f32).collect();
            buf.push(measured(0, &values[..holes.start]));
            if bridged {
                let values = &values[holes.clone()];
                buf.push(GridPoints { first: holes.start as u64, values, bridged });
            }
            buf.push(measured(holes.end as u64, &values[holes.end..]));
            assert_eq!(buf.take(0, &mut out), share, "{holes:?}");
            let missing = |i: usize| holes.contains(&i);
            assert!(out.iter().enumerate().all(|(i, x)| x.is_nan() == missing(i)), "{holes:?}");
            buf.bridge(&mut out);
            assert!(!bridged || out == *values, "{holes:?}");
            // The next patch has nothing of this one.
            assert_eq!(buf.take(1, &mut out), None);
            buf.bridge(&mut out);
            assert!(out.iter().all(|x| x.is_nan()));
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_patches(
            present in prop::collection::vec(prop::bool::weighted(0.97), 1..400),
            cuts in prop::collection::vec(1_usize..50, 1..40),
        ) {
            let length = 16;
            let value = |grid: usize| grid as f32 * 0.5;
            let mut buf = PatchBuf::new(length);
            let mut cut = cuts.iter().cycle();
            let mut grid = 0;
            while grid < present.len() {
                let run = present[grid..].iter().take_while(|&&p| p == present[grid]).count();
                let n = run.min(*cut.next().expect("cycle"));
                if present[grid] {
                    let samples: Vec<f32> = (grid..grid + n).map(value).collect();
                    buf.push(measured(grid as u64, &samples));
                }
                grid += n;
            }
            let mut out = vec![0.0; length];
            for (index, chunk) in present.chunks(length).enumerate() {
                let there = chunk.iter().filter(|&&p| p).count();
                prop_assert_eq!(buf.fraction_present(index as u64), there as f64 / length as f64);
                let share = (there == length).then_some(1.0);
                prop_assert_eq!(buf.take(index as u64, &mut out), share);
                for (i, &x) in out.iter().enumerate() {
                    if chunk.get(i).copied().unwrap_or(false) {
                        prop_assert_eq!(x, value(index * length + i));
                    } else {
                        prop_assert!(x.is_nan());
                    }
                }
            }
        }
    }

    #[test]
    fn a_long_gap_costs_no_memory_and_late_samples_are_dropped() {
        let mut buf = PatchBuf::new(4);
        buf.push(measured(2, &[1.0, 2.0, 3.0]));
        buf.push(measured(1 << 50, &[5.0; 4]));
        assert_eq!(buf.pending.len(), 3);
        let mut out = [0.0; 4];
        assert_eq!(buf.take(7, &mut out), None);
        assert!(out.iter().all(|x| x.is_nan()));
        buf.push(measured(20, &[1.0; 16]));
        assert_eq!(buf.late_samples(), 12);
        assert_eq!(buf.spare.len(), 1, "the two passed over were kept, one is in use again");
        assert_eq!(buf.take(1 << 48, &mut out), Some(1.0));
        assert_eq!(out, [5.0; 4]);
    }
}
