use super::*;

fn signal(label: &str, unit: &str, rate_hz: f64) -> SignalInfo {
    SignalInfo {
        label: label.to_owned(),
        rate_hz,
        unit: unit.to_owned(),
        physical_min: -3276.8,
        physical_max: 3276.7,
        digital_min: -32768,
        digital_max: 32767,
    }
}

/// 40 uV of many frequencies on an offset, deterministic.
fn noise(slot: u64) -> f32 {
    let x = (slot + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((x >> 40) as f32) / (1 << 24) as f32 * 80.0 - 40.0 + 300.0
}

/// Whole epochs of `sample`, in blocks of `cut`.
fn verdicts(
    meter: &mut QualityMeter,
    epochs: u32,
    cut: usize,
    sample: impl Fn(u64) -> Option<f32>,
) -> Vec<(ChannelQuality, f32)> {
    let slots = (f64::from(epochs) * 30.0 * meter.rate_hz).ceil() as u64;
    let slots: Vec<u64> = (0..slots).collect();
    for block in slots.chunks(cut) {
        let mut rest = block;
        while let Some(first) = rest.iter().position(|&slot| sample(slot).is_some()) {
            let run: Vec<f32> = rest[first..].iter().map_while(|&slot| sample(slot)).collect();
            meter.take(rest[first], &run);
            rest = &rest[first + run.len()..];
        }
    }
    (0..epochs).map(|epoch| meter.epoch(epoch, 1.0)).collect()
}

fn eeg() -> QualityMeter {
    QualityMeter::new(&signal("C4-M1", "uV", 256.0), Modality::Bas)
}

#[test]
fn a_good_signal_has_nothing_to_report_however_it_is_cut() {
    for rate_hz in [10.0, 100.0, 128.0, 256.0, 333.3, 512.0] {
        for cut in [1, 7, 1000, 100_000] {
            let mut meter = QualityMeter::new(&signal("C4-M1", "uV", rate_hz), Modality::Bas);
            let all = verdicts(&mut meter, 3, cut, |slot| Some(noise(slot)));
            assert!(
                all.iter().all(|v| *v == (ChannelQuality::default(), 1.0)),
                "{rate_hz} Hz: {all:?}"
            );
        }
    }
}

#[test]
fn parts_of_an_epoch_are_flat_clipped_wild_and_missing() {
    // Each for five seconds of the second epoch, from its 5th second on.
    let sample = |slot: u64| match (slot / 256).checked_sub(30 + 5) {
        Some(0..5) => Some(123.0),
        Some(5..10) => Some(if slot % 20 < 9 { 3276.7 } else { 3000.0 - noise(slot) }),
        Some(10..15) => Some(if slot % 256 == 9 { -3200.0 } else { 3000.0 - noise(slot) }),
        Some(15..20) => None,
        _ => Some(noise(slot)),
    };
    for cut in [13, 256, 100_000] {
        let all = verdicts(&mut eeg(), 3, cut, sample);
        let expected = ChannelQuality {
            missing: 0.167,
            flat: 0.167,
            clipped: 0.167,
            implausible: 0.167,
            ..ChannelQuality::default()
        };
        assert_eq!(all[1].0, expected);
        // 15 of the 25 s that are there.
        assert!((all[1].1 - 0.4).abs() < 1e-3, "{}", all[1].1);
        assert_eq!((&all[0], &all[2]), (&(ChannelQuality::default(), 1.0), &all[0]));
    }
}

#[test]
fn a_lead_that_is_off_is_flat_or_at_a_limit() {
    for value in [0.0, 17.25, 3276.7, -3276.8] {
        let all = verdicts(&mut eeg(), 1, 256, |slot| {
            Some(if slot < 12 * 256 { noise(slot) } else { value })
        });
        assert!(all[0].0.lead_off, "{value}: {:?}", all[0].0);
        assert!((all[0].1 - 0.4).abs() < 1e-3);
    }
}

#[test]
fn line_noise_is_its_share_of_the_power() {
    for (hz, amplitude, share) in [(50.0, 200.0, 0.974), (60.0, 200.0, 0.974), (50.0, 40.0, 0.6)] {
        let sine = |slot: u64| amplitude * (TAU * hz * slot as f64 / 256.0).sin() as f32;
        let all = verdicts(&mut eeg(), 1, 100, |slot| Some(noise(slot) + sine(slot)));
        // Against 80 uV of uniform noise: a^2 / 2 of a^2 / 2 + 80^2 / 12.
        assert!((all[0].0.line_noise - share).abs() < 0.02, "{hz} Hz: {:?}", all[0].0);
        assert_eq!(all[0].1, 1.0 - all[0].0.line_noise);
    }
    // 10 Hz and a drift are no line noise.
    let alpha = |slot: u64| 100.0 * (TAU * 10.0 * slot as f64 / 256.0).sin() as f32;
    let all = verdicts(&mut eeg(), 1, 100, |slot| Some(alpha(slot) + slot as f32 / 10.0));
    assert_eq!(all[0].0.line_noise, 0.0);
}

#[test]
fn an_oximeter_may_stay_at_one_value_but_not_at_an_impossible_one() {
    let mut spo2 = signal("SpO2", "%", 1.0);
    (spo2.physical_min, spo2.physical_max) = (0.0, 100.0);
    let of = |value: f32| {
        let mut meter = QualityMeter::new(&spo2, Modality::Resp);
        verdicts(&mut meter, 1, 5, |slot| Some(if slot < 15 { 97.0 } else { value }))[0].clone()
    };
    assert_eq!(of(97.0), (ChannelQuality::default(), 1.0));
    assert_eq!(of(100.0).0, ChannelQuality::default());
    for value in [0.0, 49.0, 127.0] {
        let (quality, sound) = of(value);
        assert_eq!((quality.implausible, quality.lead_off, sound), (0.5, false, 0.5), "{value}");
    }
}

#[test]
fn a_resting_airflow_is_flat_only_as_a_whole() {
    let airflow = signal("Airflow", "", 32.0);
    let of = |flat_s: u64| {
        let mut meter = QualityMeter::new(&airflow, Modality::Resp);
        let value = |slot: u64| if slot / 32 < flat_s { 5.0 } else { noise(slot) };
        verdicts(&mut meter, 1, 32, |slot| Some(value(slot)))[0].clone()
    };
    assert_eq!(of(25), (ChannelQuality::default(), 1.0));
    let (quality, sound) = of(30);
    assert_eq!((quality.flat, quality.lead_off, sound), (1.0, false, 0.0));
}

#[test]
fn an_epoch_of_which_nothing_came_is_missing_and_not_unsound() {
    let mut meter = eeg();
    meter.take(10 * 7680 + 5, &[1.0, 2.0, 3.0]);
    assert_eq!(meter.epoch(0, 1.0).0.missing, 1.0);
    assert_eq!(meter.epoch(9, 1.0), (ChannelQuality { missing: 1.0, ..Default::default() }, 1.0));
    assert_eq!(meter.epoch(10, 1.0).1, 1.0);
    assert_eq!(meter.epoch(11, 0.5).0.missing, 1.0);
    // The part of an epoch at the end of a recording is whole in itself.
    let mut meter = eeg();
    meter.take(0, &(0..5 * 256).map(noise).collect::<Vec<_>>());
    assert_eq!(meter.epoch(0, 1.0 / 6.0), (ChannelQuality::default(), 1.0));
}
