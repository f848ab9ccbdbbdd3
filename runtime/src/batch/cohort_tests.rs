use super::*;

/// A night of so much sleep, without a report.
pub fn night_row(name: &str, tst_min: f64, absent: &[&str]) -> Row {
    let statistics =
        SleepStatistics { trt_min: tst_min + 60.0, tst_min, ..SleepStatistics::default() };
    Row {
        entry: Entry {
            name: name.to_owned(),
            file: name.into(),
            folder: format!("{name}.sfm-out").into(),
        },
        reason: None,
        person: (Some(60.0), Some("m")),
        night: Some(Night {
            statistics,
            duration_s: Some(28_800.0),
            quality: super::super::marker::Quality::default(),
            apnea: None,
            absent: absent.iter().map(|&name| name.to_owned()).collect(),
            missing: absent.iter().map(|&name| name.to_owned()).collect(),
            pass: "final".to_owned(),
            embedding: vec![Some(0.5), None],
            log_hazards: vec![Some(-1.5), Some(0.25), Some(2.0)],
        }),
        has_report: false,
    }
}

pub fn failed_row(name: &str, reason: &str) -> Row {
    Row { reason: Some(reason.to_owned()), night: None, ..night_row(name, 0.0, &[]) }
}

fn labels() -> Vec<(String, String)> {
    [("250.2", "Diabetes"), ("250.2", "Again"), ("", "")]
        .map(|(code, name)| (code.to_owned(), name.to_owned()))
        .to_vec()
}

fn csv(rows: &[Row]) -> Vec<std::collections::BTreeMap<String, String>> {
    let labels = labels();
    let frame =
        Frame { bundle: "b", bundle_sha256: "00", embed_dim: 2, hazards: 3, labels: &labels };
    let mut text = Vec::new();
    frame.table(rows).write_csv(&mut text).expect("written");
    csv::Reader::from_reader(text.as_slice()).deserialize().map(|row| row.expect("a row")).collect()
}

#[test]
fn hazards_need_four_hours_of_sleep_and_three_modalities() {
    let rows = csv(&[
        night_row("whole", 240.0, &["EKG"]),
        night_row("short", 239.5, &[]),
        night_row("poor", 400.0, &["EKG", "EMG"]),
    ]);
    let hazard = |row: usize| rows[row]["hazard_250.2"].as_str();
    assert_eq!([hazard(0), hazard(1), hazard(2)], ["-1.5", "", ""]);
    assert_eq!(rows[0]["hazard_label_1"], "0.25");
    assert_eq!(rows[0]["hazard_label_2"], "2");
    assert_eq!((rows[1]["e_0"].as_str(), rows[1]["e_1"].as_str()), ("0.5", ""));
    assert_eq!(rows[2]["modalities_absent"], "EKG EMG");
}

#[test]
fn a_failed_night_has_its_reason_and_nothing_else() {
    let rows = csv(&[failed_row("a/=b", "-it is empty")]);
    assert_eq!((rows[0]["recording"].as_str(), rows[0]["status"].as_str()), ("a/=b", "failed"));
    assert_eq!(rows[0]["reason"], "'-it is empty");
    assert_eq!((rows[0]["tst_min"].as_str(), rows[0]["bundle"].as_str()), ("", ""));
    let mut text = Vec::new();
    failures(&[night_row("n", 1.0, &[]), failed_row("f", "gone")])
        .write_csv(&mut text)
        .expect("written");
    assert_eq!(text, b"recording,reason\nf,gone\n");
}
