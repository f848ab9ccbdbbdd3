use std::collections::BTreeMap;

use sfm_models::manifest::ChannelPolicy;

use super::*;
use crate::montage::ChannelRules;
use crate::signal::SignalInfo;

/// Blocks as they were given.
struct Given {
    info: StreamInfo,
    blocks: VecDeque<SampleBlock>,
}

impl Source for Given {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next_block(&mut self, block: &mut SampleBlock) -> Result<bool, SourceError> {
        let Some(next) = self.blocks.pop_front() else { return Ok(false) };
        *block = next;
        Ok(true)
    }
}

fn info(channels: &[(&str, f64, &str)]) -> StreamInfo {
    let signal = |&(label, rate_hz, unit): &(&str, f64, &str)| SignalInfo {
        label: label.to_owned(),
        rate_hz,
        unit: unit.to_owned(),
        physical_min: -100.0,
        physical_max: 100.0,
        digital_min: -100,
        digital_max: 100,
    };
    StreamInfo {
        format: String::new(),
        start: None,
        duration_s: None,
        preprocessed: false,
        signals: channels.iter().map(signal).collect(),
        warnings: Vec::new(),
    }
}

/// Each sample of the last channel, and what is known to be missing after the last.
fn derived(
    channels: &[(&str, f64, &str)],
    blocks: &[(usize, u64, &[f32])],
) -> (Vec<(u64, f32)>, u64) {
    let info = info(channels);
    let rules = ChannelRules::built_in().expect("rules").with_policy(ChannelPolicy::Aasm);
    let montage = rules.assign(&info.signals, &BTreeMap::new()).expect("assigned");
    assert_eq!(montage.derivations.len(), 1, "{montage:?}");
    let block = |&(channel, start, samples): &(usize, u64, &[f32])| SampleBlock {
        channel,
        start,
        samples: samples.to_vec(),
    };
    let mut source = Given { info, blocks: blocks.iter().map(block).collect() };
    let mut source = DerivedSource::new(&mut source, &montage);
    let (mut found, mut until) = (Vec::new(), 0);
    let mut block = SampleBlock::default();
    while source.next_block(&mut block).expect("no error") {
        if block.channel == channels.len() {
            assert!(block.start >= until, "in order");
            until = block.start + block.samples.len() as u64;
            found.extend((block.start..).zip(block.samples.iter().copied()));
        }
    }
    (found, until)
}

const PAIR: [(&str, f64, &str); 2] = [("C3", 128.0, "uV"), ("M2", 128.0, "uV")];

#[test]
fn one_is_taken_from_the_other_however_blocks_are_cut() {
    let whole = derived(&PAIR, &[(0, 0, &[5.0, 6.0, 7.0, 8.0]), (1, 0, &[1.0, 2.0, 3.0, 4.0])]);
    assert_eq!(whole, (vec![(0, 4.0), (1, 4.0), (2, 4.0), (3, 4.0)], 4));
    let cut = derived(
        &PAIR,
        &[
            (1, 0, &[1.0]),
            (0, 0, &[5.0, 6.0]),
            (1, 1, &[2.0, 3.0]),
            (0, 2, &[7.0]),
            (1, 3, &[4.0]),
            (0, 3, &[8.0]),
        ],
    );
    assert_eq!(cut, whole);
}

#[test]
fn it_is_missing_where_one_of_them_is() {
    let blocks: &[(usize, u64, &[f32])] = &[
        (0, 0, &[5.0, 6.0]),
        (1, 0, &[1.0, 1.0, 1.0, f32::NAN, 1.0, 1.0, 1.0, 1.0]),
        (0, 5, &[7.0]),
        (0, 9, &[]),
        (1, 12, &[]),
    ];
    assert_eq!(derived(&PAIR, blocks), (vec![(0, 4.0), (1, 5.0), (5, 6.0)], 9));
    // Hours are passed over at once.
    let far = 1 << 40;
    let blocks: &[(usize, u64, &[f32])] = &[(0, far, &[2.0]), (1, far, &[1.0])];
    assert_eq!(derived(&PAIR, blocks), (vec![(far, 1.0)], far + 1));
}

#[test]
fn a_slower_one_is_interpolated_and_units_are_converted() {
    let pair = [("C3", 128.0, "uV"), ("M2", 64.0, "mV")];
    let blocks: &[(usize, u64, &[f32])] =
        &[(0, 0, &[10.0; 6]), (1, 0, &[0.0, 0.002]), (1, 2, &[0.004])];
    let (found, until) = derived(&pair, blocks);
    let values: Vec<i32> = found.iter().map(|(_, value)| value.round() as i32).collect();
    assert_eq!((values, until), (vec![10, 9, 8, 7, 6], 5), "the sixth needs a fourth of M2");
}
