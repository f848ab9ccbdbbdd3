//! Sleep statistics against YASA's figures of ten pseudo-random hypnograms
//! (`tests/foreign/hypnogram.py --write-goldens tests/data/yasa.json`, YASA 0.8.1).

use serde_json::Value;
use sfm_models::SleepStage;
use sfm_runtime::statistics::SleepStatistics;

fn hypnogram(letters: &str) -> Vec<Option<SleepStage>> {
    letters
        .chars()
        .map(|letter| match letter {
            'W' => Some(SleepStage::Wake),
            '1' => Some(SleepStage::N1),
            '2' => Some(SleepStage::N2),
            '3' => Some(SleepStage::N3),
            'R' => Some(SleepStage::Rem),
            '?' => None,
            other => panic!("{other} is no stage"),
        })
        .collect()
}

/// Figures are halves of minutes, so they agree exactly; YASA rounds percentages to 4 decimals.
#[test]
fn ten_hypnograms_as_yasa() {
    let text = include_str!("../data/yasa.json");
    let nights: Vec<Value> = serde_json::from_str(text).expect("goldens");
    assert_eq!(nights.len(), 10);
    for (index, night) in nights.iter().enumerate() {
        let letters = night["hypnogram"].as_str().expect("letters");
        let ours = SleepStatistics::from_hypnogram(&hypnogram(letters));
        let yasa = |key: &str| night["yasa"][key].as_f64();
        let same = |name: &str, ours: Option<f64>, theirs: Option<f64>| {
            assert_eq!(ours, theirs, "{name} of night {index}");
        };
        same("TRT", Some(ours.trt_min), yasa("TIB"));
        same("TST", Some(ours.tst_min), yasa("TST"));
        same("SPT", Some(ours.spt_min), yasa("SPT"));
        same("SOL", ours.sol_min, yasa("SOL"));
        same("unscored", Some(ours.unscored_min), yasa("UNS").or(Some(0.0)));
        // YASA counts REM latency from lights out and ends WASO with the last epoch of sleep.
        let from_onset = yasa("Lat_REM").zip(yasa("SOL")).map(|(rem, sol)| rem - sol);
        same("REM latency", ours.rem_latency_min, from_onset);
        let within = ours.waso_min.zip(ours.terminal_wake_min).map(|(all, end)| all - end);
        same("WASO", within, yasa("WASO"));
        for (stage, key) in SleepStage::ALL.into_iter().zip(["WAKE", "N1", "N2", "N3", "REM"]) {
            same(key, Some(ours.stage_min[stage]), yasa(key));
            same(key, ours.stage_pct_of_tst[stage].map(rounded), yasa(&format!("%{key}")));
        }
        same("efficiency", ours.sleep_efficiency_pct.map(rounded), yasa("SE"));
        // YASA's fragmentation index: changes from sleep to wake an hour of sleep.
        if let Some(fragmentation) = yasa("SFI").filter(|_| !letters.contains('?')) {
            let awakenings = fragmentation * ours.tst_min / 60.0;
            assert_eq!(f64::from(ours.awakenings), awakenings.round(), "night {index}");
        }
    }
}

fn rounded(percent: f64) -> f64 {
    (percent * 1e4).round() / 1e4
}
