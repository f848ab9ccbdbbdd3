//! The files of a cohort through the runtime's readers: they agree with one another.

use std::path::Path;

use sfm_models::{Modality, SleepStage};
use sfm_runtime::edf::{Header, annotations};
use sfm_runtime::montage::ChannelRules;
use sfm_runtime::source::{self, Source};
use sfm_trainer::synth::cohort::Cohort;

use crate::cohorts::{make, spec};

fn rows(folder: &Path, name: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(folder.join(name)).unwrap();
    let rows = reader.records();
    rows.map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

fn check_night(folder: &Path, laboratory: &str, id: &str) {
    let stages = rows(folder, &format!("stages/{laboratory}/{id}.csv"));
    let hypnogram = annotations(&folder.join(format!("hypnograms/{id}.edf"))).unwrap();
    assert_eq!(stages.len(), 6 * hypnogram.len());
    for (i, row) in stages.iter().enumerate() {
        let stage: usize = row[3].parse().unwrap();
        let epoch = &hypnogram[i / 6];
        assert_eq!(row[..2], [(5 * i).to_string(), (5 * i + 5).to_string()]);
        assert_eq!(row[2], ["Wake", "N1", "N2", "N3", "REM"][stage]);
        assert_eq!(epoch.text, SleepStage::ALL[stage].edf_text());
        assert_eq!((epoch.onset_s, epoch.duration_s), (30.0 * (i / 6) as f64, Some(30.0)));
    }
    let path = folder.join(format!("edf/{laboratory}/{id}.edf"));
    let header = Header::read(&mut std::fs::File::open(&path).unwrap()).unwrap();
    assert!(header.warnings.is_empty(), "{:?}", header.warnings);
    let seconds = header.record_count as f64 * header.record_duration_s;
    assert_eq!(seconds, 30.0 * hypnogram.len() as f64);

    let recording = source::open(&path).unwrap();
    let rules = ChannelRules::built_in().unwrap();
    let montage = rules.assign(&recording.info().signals, &Default::default()).unwrap();
    for modality in [Modality::Bas, Modality::Resp, Modality::Emg] {
        let channels = montage.channels(modality).count();
        assert!(channels >= 2, "{id}: {channels} channels of {modality}");
    }
}

#[test]
fn recordings_hypnograms_and_tables_tell_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let cohort: Cohort = make(folder, &spec(0, 4, 2));
    for (id, truth) in &cohort.nights {
        check_night(folder, truth.laboratory.as_str(), id);
    }
    let ids: Vec<&String> = cohort.nights.keys().collect();
    for table in ["is_event.csv", "time_to_event.csv", "demographics.csv"] {
        let rows = rows(folder, table);
        assert_eq!(rows.iter().map(|r| &r[0]).collect::<Vec<_>>(), ids, "{table}");
    }
    let labels = rows(folder, "labels.csv");
    let events = rows(folder, "is_event.csv");
    let years = rows(folder, "time_to_event.csv");
    for (row, truth) in events.iter().zip(cohort.nights.values()) {
        assert_eq!(row.len(), 1 + labels.len());
        let seen: Vec<bool> = row[1..].iter().map(|e| e == "1").collect();
        assert_eq!(seen, truth.events);
    }
    assert!(years.iter().flat_map(|r| &r[1..]).all(|y| y.parse::<f64>().unwrap() > 0.0));
}
