//! The newest signals of a bed, for its pictures: of every four samples the smallest and the
//! largest, in 2,000 steps of the patch's largest value, which a screen cannot tell from the
//! samples. Holds 30 min at most, 4.4 MB at 19 channels. Plain data.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::event::{ChannelPatch, SignalPatch};

/// Patches of 30 min.
const MAX_PATCHES: usize = 360;
/// Patches of one answer: 5 min.
pub const MAX_ANSWER: usize = 60;
/// Samples that become one pair.
const SAMPLES_PER_PAIR: usize = 4;
/// Steps on either side of zero.
const STEPS: f32 = 2000.0;

/// The newest patches.
#[derive(Debug, Default)]
pub struct Signals {
    patches: VecDeque<Arc<ShownPatch>>,
}

/// A patch of every mapped channel.
#[derive(Debug, PartialEq, Serialize)]
pub struct ShownPatch {
    /// Index from the start of the recording.
    pub patch: u32,
    /// Start behind the start of the recording, seconds.
    pub onset_s: f64,
    /// Length, seconds.
    pub duration_s: f64,
    /// The mapped channels, by modality.
    pub channels: Vec<ShownChannel>,
}

/// One channel of it.
#[derive(Debug, PartialEq, Serialize)]
pub struct ShownChannel {
    /// Index in the source.
    pub channel: usize,
    /// What a point is multiplied by for the physical value.
    pub scale: f32,
    /// Smallest and largest of each [`SAMPLES_PER_PAIR`] samples in turn, `null` where samples are
    /// missing; empty if there is none at all.
    pub points: Vec<Point>,
}

/// A value in steps, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point(i16);

impl Point {
    const MISSING: Self = Self(i16::MIN);
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == Self::MISSING {
            serializer.serialize_none()
        } else {
            serializer.serialize_i16(self.0)
        }
    }
}

/// Where the signals are: what is told of them as they come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Extent {
    /// The oldest patch that can be had.
    pub first_patch: u32,
    /// Behind the newest one.
    pub next_patch: u32,
}

impl Signals {
    /// Takes a patch.
    pub fn push(&mut self, patch: &SignalPatch) {
        super::state::push_last(&mut self.patches, Arc::new(ShownPatch::of(patch)), MAX_PATCHES);
    }

    /// What is there.
    pub fn extent(&self) -> Extent {
        let first_patch = self.patches.front().map_or(0, |patch| patch.patch);
        let next_patch = self.patches.back().map_or(0, |patch| patch.patch + 1);
        Extent { first_patch, next_patch }
    }

    /// The patches from index `from` on, at most [`MAX_ANSWER`] of them.
    pub fn since(&self, from: u32) -> Vec<Arc<ShownPatch>> {
        let start = self.patches.partition_point(|patch| patch.patch < from);
        self.patches.iter().skip(start).take(MAX_ANSWER).cloned().collect()
    }
}

impl ShownPatch {
    fn of(patch: &SignalPatch) -> Self {
        let samples = patch.channels.iter().map(|channel| channel.samples.len()).max();
        Self {
            patch: patch.patch,
            onset_s: patch.onset_s,
            duration_s: samples.unwrap_or(0) as f64 / patch.rate_hz,
            channels: patch.channels.iter().map(ShownChannel::of).collect(),
        }
    }
}

impl ShownChannel {
    fn of(channel: &ChannelPatch) -> Self {
        let finite = channel.samples.iter().filter(|sample| sample.is_finite());
        let largest = finite.fold(0.0_f32, |largest, sample| largest.max(sample.abs()));
        let scale = if largest > 0.0 { largest / STEPS } else { 1.0 };
        let pairs = channel.samples.chunks(SAMPLES_PER_PAIR);
        Self {
            channel: channel.channel,
            scale,
            points: pairs.flat_map(|samples| pair(samples, scale)).collect(),
        }
    }
}

fn pair(samples: &[f32], scale: f32) -> [Point; 2] {
    let finite = || samples.iter().copied().filter(|sample| sample.is_finite());
    if finite().next().is_none() {
        return [Point::MISSING; 2];
    }
    [finite().fold(f32::MAX, f32::min), finite().fold(f32::MIN, f32::max)]
        .map(|value| Point((value / scale).round() as i16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Pass;

    fn patch(patch: u32, samples: Vec<f32>) -> SignalPatch {
        SignalPatch {
            pass: Pass::Live,
            patch,
            onset_s: f64::from(patch) * 5.0,
            rate_hz: 128.0,
            channels: vec![ChannelPatch { channel: 3, samples }],
        }
    }

    #[test]
    fn every_extreme_is_shown_within_a_step() {
        let samples: Vec<f32> = (0..640).map(|i| 80.0 * (i as f32 * 0.7).sin()).collect();
        let shown = ShownPatch::of(&patch(0, samples.clone()));
        let channel = &shown.channels[0];
        assert_eq!((channel.channel, channel.points.len()), (3, 320));
        assert_eq!(shown.duration_s, 5.0);
        for (four, shown) in samples.chunks(4).zip(channel.points.chunks(2)) {
            let low = four.iter().copied().fold(f32::MAX, f32::min);
            let high = four.iter().copied().fold(f32::MIN, f32::max);
            for (value, point) in [(low, shown[0]), (high, shown[1])] {
                let error = (value - f32::from(point.0) * channel.scale).abs();
                assert!(error <= 0.51 * channel.scale, "{value} is shown off by {error}");
            }
        }
    }

    #[test]
    fn what_is_missing_is_null_and_not_zero() {
        let mut samples = vec![1.0; 16];
        samples[4..8].fill(f32::NAN);
        samples[8] = f32::INFINITY;
        let shown = ShownPatch::of(&patch(0, samples));
        let json = serde_json::to_value(&shown.channels[0].points).expect("JSON");
        assert_eq!(json, serde_json::json!([2000, 2000, null, null, 2000, 2000, 2000, 2000]));
        let none = ShownPatch::of(&patch(0, vec![]));
        assert!(none.channels[0].points.is_empty());
        let zero = ShownPatch::of(&patch(0, vec![0.0; 8]));
        assert_eq!(zero.channels[0].points, [Point(0); 4]);
    }

    #[test]
    fn no_more_than_half_an_hour_is_kept() {
        let mut signals = Signals::default();
        assert_eq!(signals.extent(), Extent::default());
        for index in 0..400 {
            signals.push(&patch(index, vec![0.0; 640]));
        }
        assert_eq!(signals.extent(), Extent { first_patch: 40, next_patch: 400 });
        assert_eq!(signals.since(0).len(), MAX_ANSWER);
        assert_eq!(signals.since(0)[0].patch, 40);
        assert_eq!(signals.since(397).len(), 3);
        assert!(signals.since(400).is_empty());
    }
}
