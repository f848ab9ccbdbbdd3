use super::*;

/// What `/metrics` shows after `work`.
fn rendered(work: impl FnOnce()) -> String {
    let recorder = builder().expect("buckets").build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        work();
    });
    recorder.handle().render()
}

fn use_all() {
    let device = DeviceMeter::new("3", 0xa1);
    device.received(100);
    device.placed(98);
    device.befell(Befell::Lost, 7);
    device.befell(Befell::Rejected, 2);
    device.link(true);
    device.reconnected();
    let round_trip = Duration::from_millis(4);
    device.clock(ClockFit { offset_s: -1.5, drift_ppm: 200.0, round_trip });
    device.rate(256.0256, 256.0);
    let bed = BedMeter::new("3");
    bed.ring_fill(0.25);
    bed.ring_overflow(5);
    bed.epoch_delay(Duration::from_millis(80));
    bed.settled(10);
    bed.skipped(1);
    bed.events_dropped(2);
    bed.heartbeat_age(Duration::from_millis(1500));
    bed.health(1);
    bed.recorder(true);
    bed.recorded(4096);
    bed.disk_free(1 << 40);
    let mut ages = SampleAges::new("3");
    ages.set(
        Some(0.5),
        [(0xa1, "C3 \"x\"", Some(0.5)), (0xa1, "SpO2", Some(12.5)), (0xb2, "Flow", None)],
    );
    process_health(1);
    RefusalMeter::new(&["no_hello", "no_room"]).refused(1, 3);
    InferenceMeter::default().record(Step::Encoder, Duration::from_micros(1800));
    console_dropped("standard error");
    metrics::gauge!(START_TIME.name).set(1.0);
    metrics::gauge!(BUILD.name, "version" => "1").set(1.0);
    // Dropping them would say that session and link are over.
    std::mem::forget((device, bed, ages));
}

#[test]
fn every_value_is_shown_under_its_name() {
    let text = rendered(use_all);
    for line in [
        r#"sfm_samples_received_total{bed="3",device="00000000000000a1"} 100"#,
        r#"sfm_samples_placed_total{bed="3",device="00000000000000a1"} 98"#,
        r#"sfm_ledger_total{bed="3",device="00000000000000a1",kind="lost"} 7"#,
        r#"sfm_ledger_total{bed="3",device="00000000000000a1",kind="rejected"} 2"#,
        r#"sfm_ledger_total{bed="3",device="00000000000000a1",kind="late"} 0"#,
        r#"sfm_link_up{bed="3",device="00000000000000a1"} 1"#,
        r#"sfm_clock_offset_seconds{bed="3",device="00000000000000a1"} -1.5"#,
        r#"sfm_clock_round_trip_seconds{bed="3",device="00000000000000a1"} 0.004"#,
        r#"sfm_ring_fill_ratio{bed="3"} 0.25"#,
        r#"sfm_epoch_delay_seconds_bucket{bed="3",le="0.05"} 0"#,
        r#"sfm_epoch_delay_seconds_bucket{bed="3",le="0.1"} 1"#,
        r#"sfm_recorder_written_bytes_total{bed="3"} 4096"#,
        r#"sfm_disk_free_bytes{bed="3"} 1099511627776"#,
        r#"sfm_inference_seconds_bucket{step="encoder",le="0.001"} 0"#,
        r#"sfm_inference_seconds_bucket{step="encoder",le="0.0025"} 1"#,
        r#"sfm_session_on{bed="3"} 1"#,
        r#"sfm_bed_sample_age_seconds{bed="3"} 0.5"#,
        r#"sfm_sample_age_seconds{bed="3",device="00000000000000a1",channel="SpO2"} 12.5"#,
        r#"sfm_sample_age_seconds{bed="3",device="00000000000000a1",channel="C3 \"x\""} 0.5"#,
        r#"sfm_sample_age_seconds{bed="3",device="00000000000000b2",channel="Flow"} NaN"#,
        "sfm_process_health 1",
        r#"sfm_refused_total{kind="no_room"} 3"#,
        r#"sfm_refused_total{kind="no_hello"} 0"#,
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    let drift = text.lines().find_map(|line| line.strip_prefix("sfm_clock_drift_ratio{"));
    let drift = drift.and_then(|rest| rest.split(' ').next_back()?.parse::<f64>().ok());
    assert!((drift.expect("a drift") - 2e-4).abs() < 1e-12);
}

#[test]
fn every_metric_is_described_and_written() {
    let text = rendered(use_all);
    for metric in ALL {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let described = format!("# HELP {} {}\n# TYPE {0} {kind}\n", metric.name, metric.help);
        assert!(text.contains(&described), "{described} is not in\n{text}");
    }
    let shown = text.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(shown, ALL.len(), "a metric is not in the table:\n{text}");
}

#[test]
fn names_follow_the_conventions() {
    for &Metric { name, kind, unit, help } in ALL {
        let words = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
        assert!(name.chars().all(words), "{name}");
        assert!(name.starts_with("sfm_") || name == START_TIME.name, "{name}");
        assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        let base = name.trim_end_matches("_total");
        assert_eq!(base.ends_with("_seconds"), unit == Unit::Seconds, "{name}");
        assert_eq!(base.ends_with("_bytes"), unit == Unit::Bytes, "{name}");
        assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
    }
}

#[test]
fn what_ends_counts_as_over() {
    let text = rendered(|| {
        let (device, bed) = (DeviceMeter::new("3", 1), BedMeter::new("3"));
        device.link(true);
        bed.recorder(true);
    });
    for name in ["sfm_session_on", "sfm_recorder_on", "sfm_link_up"] {
        let line = text.lines().find(|line| line.starts_with(name)).expect(name);
        assert!(line.ends_with(" 0"), "{line}");
    }
}

#[test]
fn made_up_device_ids_share_one_series() {
    static LABELS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let first = known(&LABELS, "first");
    let many: BTreeSet<String> =
        (0..100_000).map(|id| known(&LABELS, &format!("{id:016x}"))).collect();
    assert_eq!(many.len(), MAX_LABELS, "255 of them and 'other'");
    assert!(many.contains(OTHER));
    assert_eq!(known(&LABELS, "first"), first, "a known one keeps its own");
}

#[test]
fn a_channel_that_is_no_more_has_no_age() {
    let text = rendered(|| {
        let mut ages = SampleAges::new("3");
        ages.set(Some(1.0), [(1, "C3", Some(1.0)), (1, "C4", Some(2.0))]);
        ages.set(Some(1.0), [(1, "C3", Some(1.5))]);
        std::mem::forget(ages);
    });
    let age = |channel: &str| {
        let channel = format!("channel=\"{channel}\"");
        text.lines().find(|line| line.contains(&channel)).and_then(|line| line.rsplit(' ').next())
    };
    assert_eq!((age("C3"), age("C4")), (Some("1.5"), Some("NaN")));
    let over = rendered(|| SampleAges::new("3").set(Some(1.0), [(1, "C3", Some(1.0))]));
    let ages = over.lines().filter(|line| line.contains("sample_age_seconds{"));
    assert!(
        ages.clone().count() == 2 && ages.into_iter().all(|line| line.ends_with(" NaN")),
        "{over}"
    );
}
