//! Collects a channel's grid samples into patches aligned to the recording's start. A patch
//! with any sample missing is absent. Holds only patches that were begun and not yet taken, and
//! reuses their buffers.

use std::collections::VecDeque;

/// Patches of one channel that are being filled.
#[derive(Debug, Clone)]
pub struct PatchBuf {
    patch_samples: usize,
    /// Pending patches in ascending order.
    pending: VecDeque<Pending>,
    /// Buffers of patches that were taken.
    spare: Vec<Box<[f32]>>,
    /// Patches below this were taken or passed over.
    taken: u64,
    late: u64,
}

#[derive(Debug, Clone)]
struct Pending {
    index: u64,
    present: usize,
    /// NaN where there is no sample.
    samples: Box<[f32]>,
}

impl PatchBuf {
    /// A buffer for patches of `patch_samples` (at least 1) grid samples.
    pub fn new(patch_samples: usize) -> Self {
        Self {
            patch_samples: patch_samples.max(1),
            pending: VecDeque::new(),
            spare: Vec::new(),
            taken: 0,
            late: 0,
        }
    }

    /// Takes grid samples of which the first has index `grid`, as a conditioner emits them: in
    /// ascending order, each point at most once. Samples of patches already taken are dropped.
    pub fn push(&mut self, mut grid: u64, mut samples: &[f32]) {
        let length = self.patch_samples as u64;
        while !samples.is_empty() {
            let (index, offset) = (grid / length, (grid % length) as usize);
            let (now, rest) = samples.split_at(samples.len().min(self.patch_samples - offset));
            if index < self.taken {
                self.late += now.len() as u64;
            } else {
                let patch = self.patch(index);
                patch.samples[offset..offset + now.len()].copy_from_slice(now);
                patch.present += now.len();
            }
            grid += now.len() as u64;
            samples = rest;
        }
    }

    /// Copies patch `index` to `out` (of the patch's length) and forgets it and all before it.
    /// True if the patch is whole; where a sample is missing, `out` is NaN.
    pub fn take(&mut self, index: u64, out: &mut [f32]) -> bool {
        out.fill(f32::NAN);
        let mut whole = false;
        while let Some(patch) = self.pending.pop_front_if(|p| p.index <= index) {
            if patch.index == index {
                let n = out.len().min(self.patch_samples);
                out[..n].copy_from_slice(&patch.samples[..n]);
                whole = patch.present >= self.patch_samples;
            }
            self.spare.push(patch.samples);
        }
        self.taken = self.taken.max(index.saturating_add(1));
        whole
    }

    /// The samples of patch `index`, NaN where one is missing; `None` if none is there or it was
    /// taken.
    pub fn peek(&self, index: u64) -> Option<&[f32]> {
        self.pending.iter().find(|p| p.index == index).map(|p| &*p.samples)
    }

    /// Fraction, 0 to 1, of patch `index` that is there; 0 once it was taken.
    pub fn fraction_present(&self, index: u64) -> f64 {
        let patch = self.pending.iter().find(|p| p.index == index);
        patch.map_or(0.0, |p| p.present as f64 / self.patch_samples as f64)
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
            let length = self.patch_samples;
            let mut samples =
                self.spare.pop().unwrap_or_else(|| vec![0.0; length].into_boxed_slice());
            samples.fill(f32::NAN);
            self.pending.insert(at, Pending { index, present: 0, samples });
        }
        &mut self.pending[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
                    buf.push(grid as u64, &samples);
                }
                grid += n;
            }
            let mut out = vec![0.0; length];
            for (index, chunk) in present.chunks(length).enumerate() {
                let there = chunk.iter().filter(|&&p| p).count();
                prop_assert_eq!(buf.fraction_present(index as u64), there as f64 / length as f64);
                prop_assert_eq!(buf.take(index as u64, &mut out), there == length);
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
        buf.push(2, &[1.0, 2.0, 3.0]);
        buf.push(1 << 50, &[5.0; 4]);
        assert_eq!(buf.pending.len(), 3);
        let mut out = [0.0; 4];
        assert!(!buf.take(7, &mut out));
        assert!(out.iter().all(|x| x.is_nan()));
        buf.push(20, &[1.0; 16]);
        assert_eq!(buf.late_samples(), 12);
        assert_eq!(buf.spare.len(), 1, "the two passed over were kept, one is in use again");
        assert!(buf.take(1 << 48, &mut out));
        assert_eq!(out, [5.0; 4]);
    }
}
