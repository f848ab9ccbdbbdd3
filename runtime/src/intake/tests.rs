use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;

use super::*;
use crate::montage::ChannelRules;
use crate::ring::{WhenFull, rings};
use crate::signal::{SampleBlock, SignalInfo};

const CHANNELS: [(&str, f64); 4] =
    [("C4-M1", 200.0), ("Chin EMG", 128.0), ("Airflow", 10.0), ("ECG", 333.3)];
/// Patches of one epoch.
const ROWS: u64 = 6;

fn info() -> StreamInfo {
    let signal = |(label, rate_hz): (&str, f64)| SignalInfo {
        label: label.to_owned(),
        rate_hz,
        unit: "uV".to_owned(),
        physical_min: -3276.8,
        physical_max: 3276.7,
        digital_min: -32768,
        digital_max: 32767,
    };
    StreamInfo {
        format: "made".to_owned(),
        start: None,
        duration_s: None,
        preprocessed: false,
        signals: CHANNELS.map(signal).to_vec(),
        warnings: Vec::new(),
    }
}

fn intake(when_full: WhenFull) -> (crate::ring::RingWriter, Intake) {
    let info = info();
    let rules = ChannelRules::built_in().expect("rules");
    let montage = rules.assign(&info.signals, &BTreeMap::new()).expect("a montage");
    assert_eq!(montage.used(), CHANNELS.len(), "{}", montage.summary());
    let rates = CHANNELS.map(|(_, rate_hz)| Some(rate_hz));
    // So large that a test on one thread never waits for itself.
    let (writer, readers, state) = rings(&rates, 2000.0, when_full);
    let preprocessing =
        Preprocessing { rate_hz: 128, patch_samples: 640, lowpass_hz: 64.0, lowpass_order: 4 };
    let mut intake = Intake::new(&info, &montage, &preprocessing, readers, state, Pass::Live)
        .expect("usual rates");
    intake.watch_quality(&info);
    intake.mask_pieces(&info, &preprocessing, MaskRule::Bad);
    (writer, intake)
}

fn block(channel: usize, start: u64, samples: u64) -> SampleBlock {
    let rate_hz = CHANNELS[channel].1;
    // Noise on a wave; at times the noise is all there is, and at times one value.
    let noise = |index: u64| {
        let x = (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ channel as u64);
        let (white, time_s) = (((x >> 40) as f32) / 1e5 - 80.0, index as f64 / rate_hz);
        match (time_s / 12.0) as u64 % 7 {
            2 => white,
            3 => 5.0,
            _ => 0.1 * white + 100.0 * (time_s * 6.0).sin() as f32,
        }
    };
    SampleBlock { channel, start, samples: (start..start + samples).map(noise).collect() }
}

/// Everything that leaves the intake, in order.
#[derive(Debug, Default, PartialEq)]
struct Left {
    taken: u64,
    lines: Vec<String>,
}

impl Left {
    fn take(&mut self, intake: &mut Intake) {
        loop {
            let rows = ROWS.min(intake.ready_patches() - self.taken);
            if rows < ROWS && !(intake.finished() && rows > 0) {
                return;
            }
            let mut hasher = DefaultHasher::new();
            let mut presence = Vec::new();
            for modality in &mut intake.modalities {
                let mut batch = PatchBatch::default();
                modality.gather(self.taken, rows as usize, &Normalization::Running, &mut batch);
                batch.patches.iter().for_each(|x| x.to_bits().hash(&mut hasher));
                presence.push((batch.present, batch.shares));
            }
            let epoch = (self.taken / ROWS) as u32;
            self.taken += rows;
            let gaps = intake.take_gaps(self.taken);
            let quality = intake.take_quality(epoch, rows as f64 / ROWS as f64);
            let hash = hasher.finish();
            self.lines.push(format!("{epoch} {gaps:?} {presence:?} {quality:?} {hash:x}"));
        }
    }

    fn end(mut self, intake: &mut Intake) -> Vec<String> {
        while !intake.finished() {
            intake.advance(&Timings::default());
        }
        self.take(intake);
        self.lines.push(format!("{:?} {:?}", intake.take_last_gaps(), intake.ledger()));
        self.lines
    }
}

/// A stretch of a channel: present or missing, in hundredths of a second.
type Stretch = (bool, u64);

/// What a channel delivers: the stretches cut where `cuts` says; a missing piece is told or not.
fn blocks(
    channel: usize,
    stretches: &[Stretch],
    cuts: &mut impl Iterator<Item = u64>,
) -> Vec<SampleBlock> {
    let rate_hz = CHANNELS[channel].1;
    let (mut blocks, mut slot, mut end_s) = (Vec::new(), 0, 0.0);
    for &(present, hundredths) in stretches {
        end_s += hundredths as f64 / 100.0;
        let end = (end_s * rate_hz) as u64;
        while slot < end {
            let cut = cuts.next().unwrap_or(u64::MAX);
            let here = cut.clamp(1, end - slot);
            if present {
                blocks.push(block(channel, slot, here));
            } else if !cut.is_multiple_of(3) || slot + here == end {
                // The end of a hole is always decided, as every source does.
                blocks.push(block(channel, slot + here, 0));
            }
            slot += here;
        }
    }
    blocks
}

fn stretches() -> impl Strategy<Value = Vec<Vec<Stretch>>> {
    let stretch = (prop::bool::weighted(0.6), prop_oneof![1_u64..20, 100_u64..4000]);
    prop::collection::vec(prop::collection::vec(stretch, 1..8), CHANNELS.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn nothing_depends_on_how_samples_came(
        channels in stretches(),
        cuts in prop::collection::vec(prop_oneof![1_u64..40, 200_u64..3000], 1..60),
        turns in prop::collection::vec((0..CHANNELS.len(), 1_usize..9, prop::bool::weighted(0.4)), 1..80),
    ) {
        let whole = {
            let (mut writer, mut intake) = intake(WhenFull::Wait);
            for (channel, stretches) in channels.iter().enumerate() {
                for block in blocks(channel, stretches, &mut std::iter::empty()) {
                    writer.push(&block);
                }
            }
            drop(writer);
            Left::default().end(&mut intake)
        };
        for when_full in [WhenFull::Wait, WhenFull::Drop] {
            let (mut writer, mut intake) = intake(when_full);
            let mut cuts = cuts.iter().copied().cycle();
            let mut queues: Vec<_> = channels
                .iter()
                .enumerate()
                .map(|(channel, s)| blocks(channel, s, &mut cuts).into_iter())
                .collect();
            let mut left = Left::default();
            for &(channel, count, drained) in turns.iter().cycle().take(2000) {
                queues[channel].by_ref().take(count).for_each(|block| { writer.push(&block); });
                if drained {
                    intake.drain(&Timings::default(), false);
                    left.take(&mut intake);
                }
            }
            // Channels whose turn never came.
            queues.into_iter().flatten().for_each(|block| { writer.push(&block); });
            drop(writer);
            prop_assert_eq!(&left.end(&mut intake), &whole, "{:?}", when_full);
        }
    }
}

#[test]
fn a_hole_told_in_pieces_is_one_gap_told_behind_its_end() {
    let (mut writer, mut intake) = intake(WhenFull::Wait);
    for (channel, (_, rate_hz)) in CHANNELS.into_iter().enumerate().skip(1) {
        writer.push(&block(channel, (100.0 * rate_hz) as u64, 0));
    }
    writer.push(&block(0, 0, 2000));
    for decided in [2500, 3000, 7000] {
        writer.push(&block(0, decided, 0));
    }
    intake.drain(&Timings::default(), false);
    assert_eq!(intake.ready_patches(), 7, "decided until 35 s");
    assert_eq!(intake.take_gaps(6), [], "it may still grow");
    assert_eq!(intake.ledger()[0].missing, 5000);
    writer.push(&block(0, 8000, 4000));
    intake.drain(&Timings::default(), false);
    assert_eq!(intake.take_gaps(8), [], "it ends with the boundary and not before");
    let gaps = intake.take_gaps(9);
    let of = |gap: &Gap| (gap.channel, gap.start, gap.samples, gap.onset_s, gap.duration_s);
    assert_eq!(gaps.iter().map(of).collect::<Vec<_>>(), [(0, 2000, 6000, 10.0, 30.0)]);
    assert_eq!(intake.ledger()[0].gaps, 1);
    drop(writer);
    while !intake.finished() {
        intake.advance(&Timings::default());
    }
    // The other channels never came; the source gave them up.
    assert_eq!(
        intake.take_last_gaps().iter().map(|gap| gap.channel).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!(intake.ledger()[2].missing, 1000);
}

#[test]
fn a_silent_channel_is_waited_for_until_the_source_decides() {
    let (mut writer, mut intake) = intake(WhenFull::Wait);
    for (channel, (_, rate_hz)) in CHANNELS.into_iter().enumerate().skip(1) {
        writer.push(&block(channel, 0, (1000.0 * rate_hz) as u64));
    }
    intake.drain(&Timings::default(), false);
    assert_eq!(intake.ready_patches(), 0);
    writer.push(&block(0, 200 * 1000, 0));
    intake.drain(&Timings::default(), false);
    assert!(intake.ready_patches() >= 199, "{}", intake.ready_patches());
}
