use proptest::prelude::*;

use super::*;

const SECONDS: u64 = 300;

fn signal(label: &str, unit: &str, rate_hz: f64) -> SignalInfo {
    SignalInfo {
        label: label.to_owned(),
        rate_hz,
        unit: unit.to_owned(),
        physical_min: -500.0,
        physical_max: 500.0,
        digital_min: -32768,
        digital_max: 32767,
    }
}

fn meter(signal: &SignalInfo, modality: Modality, rule: MaskRule) -> PieceMeter {
    let preprocessing =
        Preprocessing { rate_hz: 128, patch_samples: 640, lowpass_hz: 64.0, lowpass_order: 4 };
    PieceMeter::new(signal, modality, &preprocessing, rule)
}

fn white(slot: u64) -> f32 {
    let x = (slot + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((x ^ (x >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Slow waves of 40 units with a little noise, which is what most signals are like.
fn wave(slot: u64, rate_hz: f64) -> f32 {
    let time_s = slot as f64 / rate_hz;
    (40.0 * (time_s * 5.0).sin() + 10.0 * (time_s * 61.0).sin()) as f32 + 2.0 * white(slot)
}

/// Which of the pieces are bad of a signal that is a wave but for what `other` makes of it.
fn bad(
    signal: &SignalInfo,
    modality: Modality,
    rule: MaskRule,
    other: impl Fn(f64, f32, u64) -> f32,
) -> Vec<u64> {
    let mut meter = meter(signal, modality, rule);
    let rate_hz = signal.rate_hz;
    let samples: Vec<f32> = (0..(SECONDS as f64 * rate_hz) as u64)
        .map(|slot| other(slot as f64 / rate_hz, wave(slot, rate_hz), slot))
        .collect();
    for (at, block) in (0..).step_by(77).zip(samples.chunks(77)) {
        meter.take(at, block);
    }
    (0..SECONDS / 5).filter(|&piece| meter.is_bad(piece)).collect()
}

fn within(time_s: f64) -> bool {
    (100.0..200.0).contains(&time_s)
}

#[test]
fn a_sound_signal_loses_nothing() {
    for (modality, rate_hz) in [
        (Modality::Bas, 256.0),
        (Modality::Bas, 100.0),
        (Modality::Ekg, 200.0),
        (Modality::Emg, 256.0),
        (Modality::Resp, 32.0),
        (Modality::Resp, 333.3),
        (Modality::Resp, 1.0),
    ] {
        let signal = signal("Any", "uV", rate_hz);
        assert_eq!(bad(&signal, modality, MaskRule::Bad, |_, x, _| x), [0; 0], "{modality}");
    }
}

#[test]
fn flat_pieces_are_bad_under_every_rule_and_nothing_else_is_under_one() {
    let eeg = signal("C4-M1", "uV", 256.0);
    let flat = |time_s: f64, x: f32, _: u64| if within(time_s) { 12.5 } else { x };
    let expected: Vec<u64> = (20..40).collect();
    for rule in [MaskRule::Flat, MaskRule::Bad] {
        assert_eq!(bad(&eeg, Modality::Bas, rule, flat), expected, "{rule:?}");
    }
    // One value but for the last digit: a bundle that says so takes that for flat too.
    let nearly = |time_s: f64, x: f32, slot: u64| match within(time_s) {
        true => 0.1 * (slot % 2) as f32,
        false => x,
    };
    assert_eq!(bad(&eeg, Modality::Bas, MaskRule::Flat, nearly), [0; 0]);
    assert_eq!(bad(&eeg, Modality::Bas, MaskRule::Bad, nearly), expected);
}

#[test]
fn breath_may_stop_for_a_minute_and_slow_trends_may_stay() {
    let flow = signal("Airflow", "V", 32.0);
    let flat = |time_s: f64, x: f32, _: u64| if within(time_s) { 0.0 } else { x };
    let expected: Vec<u64> = (31..40).collect();
    for rule in [MaskRule::Flat, MaskRule::Bad] {
        assert_eq!(bad(&flow, Modality::Resp, rule, flat), expected, "{rule:?}");
    }
    let saturation = signal("SpO2", "%", 1.0);
    let held = |_: f64, _: f32, _: u64| 97.0;
    assert_eq!(bad(&saturation, Modality::Resp, MaskRule::Bad, held), [0; 0]);
    let off = |time_s: f64, _: f32, _: u64| if within(time_s) { 0.0 } else { 97.0 };
    assert_eq!(bad(&saturation, Modality::Resp, MaskRule::Bad, off), (20..40).collect::<Vec<_>>());
    assert_eq!(bad(&saturation, Modality::Resp, MaskRule::Flat, off), [0; 0]);
}

#[test]
fn mains_noise_and_the_impossible_are_bad_where_the_bundle_says_so() {
    let eeg = signal("C4-M1", "uV", 256.0);
    let belt = signal("Thorax", "V", 32.0);
    let mains = |hz: f64| {
        move |time_s: f64, x: f32, _: u64| match within(time_s) {
            true => x + 100.0 * (time_s * hz * std::f64::consts::TAU).sin() as f32,
            false => x,
        }
    };
    let noise = |height: f32| {
        move |time_s: f64, x: f32, slot: u64| match within(time_s) {
            true => height * white(slot),
            false => x,
        }
    };
    let expected: Vec<u64> = (20..40).collect();
    for hz in [50.0, 60.0] {
        assert_eq!(bad(&eeg, Modality::Bas, MaskRule::Bad, mains(hz)), expected, "{hz} Hz");
        assert_eq!(bad(&eeg, Modality::Bas, MaskRule::Flat, mains(hz)), [0; 0], "{hz} Hz");
    }
    assert_eq!(bad(&eeg, Modality::Bas, MaskRule::Bad, mains(17.0)), [0; 0], "no mains");
    for height in [50.0, 400.0] {
        assert_eq!(bad(&eeg, Modality::Bas, MaskRule::Bad, noise(height)), expected, "{height}");
        assert_eq!(bad(&belt, Modality::Resp, MaskRule::Bad, noise(height)), expected);
        assert_eq!(bad(&belt, Modality::Resp, MaskRule::Flat, noise(height)), [0; 0]);
    }
    // The amplifier while nothing is breathed, a muscle, a microphone.
    assert_eq!(bad(&belt, Modality::Resp, MaskRule::Bad, noise(3.0)), [0; 0]);
    let muscle = signal("Chin EMG", "uV", 256.0);
    assert_eq!(bad(&muscle, Modality::Emg, MaskRule::Bad, noise(100.0)), [0; 0]);
    let snore = signal("Snore", "V", 200.0);
    let breath = |time_s: f64, _: f32, slot: u64| {
        let height = if within(time_s) { 40.0 } else { 2.0 };
        height * (time_s * 0.75).sin().powi(8) as f32 * white(slot) + 0.1 * white(slot)
    };
    assert_eq!(bad(&snore, Modality::Resp, MaskRule::Bad, breath), [0; 0]);
    assert_eq!(bad(&snore, Modality::Resp, MaskRule::Bad, noise(200.0)), expected);
    // Beyond any brain, and at the converter's limit.
    let huge = |time_s: f64, x: f32, _: u64| if within(time_s) { 10.0 * x } else { x };
    assert_eq!(bad(&eeg, Modality::Bas, MaskRule::Bad, huge), expected);
    let rail = |time_s: f64, x: f32, slot: u64| match within(time_s) {
        true => 500.0 - (slot % 3 / 2) as f32,
        false => x,
    };
    assert_eq!(bad(&eeg, Modality::Bas, MaskRule::Bad, rail), expected);
}

#[test]
fn what_is_bad_from_the_start_is_bad() {
    let eeg = signal("C4-M1", "uV", 256.0);
    let noise = |_: f64, _: f32, slot: u64| 0.5 * white(slot);
    let all: Vec<u64> = (0..SECONDS / 5).collect();
    assert_eq!(bad(&eeg, Modality::Bas, MaskRule::Bad, noise), all);
}

#[test]
fn what_was_never_there_is_not_bad() {
    let eeg = signal("C4-M1", "uV", 256.0);
    let mut meter = meter(&eeg, Modality::Bas, MaskRule::Bad);
    meter.take(0, &[5.0; 2560]);
    meter.take(100 * 256, &[5.0; 100]);
    assert!(meter.is_bad(0) && meter.is_bad(1));
    assert!((2..20).all(|piece| !meter.is_bad(piece)));
    assert!(!meter.is_bad(20), "a few samples say nothing");
    assert!(!meter.is_bad(21));
}

proptest! {
    /// Holes and noise at random: no cut of the samples changes a verdict.
    #[test]
    fn nothing_depends_on_how_samples_came(
        blocks in prop::collection::vec(1_usize..900, 1..20),
        holes in prop::collection::vec((0_u64..60, 1_u64..700), 0..6),
        scale in 0.2_f32..3.0,
        rate_hz in prop::sample::select(vec![32.0, 100.0, 256.0, 333.3]),
    ) {
        let signal = signal("C4-M1", "uV", rate_hz);
        let count = (60.0 * rate_hz) as u64;
        let hole = |slot: u64| holes.iter().any(|&(at_s, length)| {
            let start = (at_s as f64 * rate_hz) as u64;
            (start..start + length).contains(&slot)
        });
        let value = |slot: u64| match (slot as f64 / rate_hz / 7.0) as u64 % 3 {
            0 => wave(slot, rate_hz),
            1 => scale * 40.0 * white(slot) + wave(slot, rate_hz),
            _ => 1.0,
        };
        let run = |block_of: &mut dyn FnMut() -> u64| {
            let mut meter = meter(&signal, Modality::Bas, MaskRule::Bad);
            let (mut slot, mut bad) = (0, Vec::new());
            while slot < count {
                let end = (slot + block_of()).min(count);
                let there: Vec<u64> = (slot..end).take_while(|&slot| !hole(slot)).collect();
                let samples: Vec<f32> = there.iter().map(|&slot| value(slot)).collect();
                meter.take(slot, &samples);
                slot += (there.len() as u64).max(1);
                // As soon as a piece is decided, or all at the end.
                if block_of().is_multiple_of(2) {
                    let decided = (slot as f64 / rate_hz / 5.0) as u64;
                    bad.extend((bad.len() as u64..decided).map(|piece| meter.is_bad(piece)));
                }
            }
            bad.extend((bad.len() as u64..12).map(|piece| meter.is_bad(piece)));
            bad
        };
        let mut sizes = blocks.iter().map(|&b| b as u64).cycle();
        let whole = run(&mut || u64::MAX >> 1);
        let split = run(&mut || sizes.next().expect("cycle"));
        prop_assert_eq!(whole, split);
    }
}
