//! Reads the files of `--out` as their users would, and checks that they agree with each other.

use std::path::Path;

use rust_hdf5::H5File;
use serde_json::Value;
use sfm_models::Modality;
use sfm_runtime::edf::annotations;

const STAGES: [&str; 5] = ["W", "N1", "N2", "N3", "R"];
const CSV_HEADER: &str = "epoch,onset_s,stage,p_wake,p_n1,p_n2,p_n3,p_rem,quality,status";

/// One row of `hypnogram.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub stage: String,
    pub probabilities: [f64; 5],
    pub quality: f64,
    pub status: String,
}

/// All files of a run that was carried through.
pub struct Output {
    pub hypnogram: Vec<Row>,
    pub events: Vec<Value>,
    pub night: Value,
    /// Rows and columns by modality; `None` where it has no data set.
    pub embeddings: [Option<(usize, usize)>; Modality::COUNT],
    pub risk: Vec<String>,
}

impl Output {
    pub fn read(out: &Path) -> Self {
        let mut names: Vec<_> = std::fs::read_dir(out)
            .expect("the folder")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        let expected = [
            "embeddings.h5",
            "events.jsonl",
            "hypnogram.csv",
            "hypnogram.edf",
            "night.json",
            "report.html",
            "risk.csv",
        ];
        assert_eq!(names, expected);
        let hypnogram = rows(&text(out, "hypnogram.csv"));
        check_annotations(out, &hypnogram);
        let output = Self {
            hypnogram,
            events: events(&text(out, "events.jsonl")),
            night: serde_json::from_str(&text(out, "night.json")).expect("night.json"),
            embeddings: embeddings(out),
            risk: text(out, "risk.csv").lines().map(str::to_owned).collect(),
        };
        output.check_statistics();
        assert_eq!(output.risk[0], "label_idx,phecode,phenotype,log_hazard,percentile");
        output
    }

    /// The stages as one word an epoch.
    pub fn stages(&self) -> Vec<&str> {
        self.hypnogram.iter().map(|row| row.stage.as_str()).collect()
    }

    /// The events of a kind.
    pub fn of_kind<'a>(&'a self, kind: &str) -> Vec<&'a Value> {
        self.events.iter().filter(|event| event["event"] == kind).collect()
    }

    /// The ledger's line of a channel.
    pub fn ledger(&self, label: &str) -> &Value {
        let lines = self.night["gap_ledger"].as_array().expect("lines");
        lines.iter().find(|line| line["label"] == label).expect("a line of the channel")
    }

    pub fn notes(&self) -> String {
        self.night["notes"].to_string()
    }

    /// Asserts that every epoch is `?`, with no figure made up for it.
    pub fn nothing_is_staged(&self) {
        assert!(self.hypnogram.iter().all(|row| row.stage == "?" && row.quality == 0.0));
        assert!(self.hypnogram.iter().flat_map(|row| row.probabilities).all(f64::is_nan));
        assert_eq!(self.embeddings, [None; Modality::COUNT]);
        let statistics = &self.night["statistics"];
        assert_eq!(statistics["tst_min"], 0.0);
        assert!(statistics["sleep_efficiency_pct"].is_null(), "{statistics}");
        assert!(statistics["sol_min"].is_null(), "{statistics}");
    }

    /// The statistics follow from the hypnogram.
    fn check_statistics(&self) {
        let statistics = &self.night["statistics"];
        let minutes = |count: usize| 0.5 * count as f64;
        let end = |n: usize| self.night["counted_epochs"][n].as_u64().expect("a number") as usize;
        let counted = &self.hypnogram[end(0)..end(1)];
        assert_eq!(statistics["trt_min"], minutes(counted.len()));
        let mut staged = 0.0;
        for stage in STAGES {
            let count = counted.iter().filter(|row| row.stage == stage).count();
            assert_eq!(statistics["stage_min"][stage], minutes(count), "{stage}");
            staged += minutes(count);
        }
        assert_eq!(statistics["unscored_min"], minutes(counted.len()) - staged);
    }
}

fn text(out: &Path, name: &str) -> String {
    std::fs::read_to_string(out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The rows of a `hypnogram.csv`; each must make sense.
pub fn rows(csv: &str) -> Vec<Row> {
    assert!(csv.ends_with('\n'), "{csv}");
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some(CSV_HEADER));
    lines.enumerate().map(|(index, line)| row(index, line)).collect()
}

fn row(index: usize, line: &str) -> Row {
    let fields: Vec<&str> = line.split(',').collect();
    assert_eq!(fields.len(), 10, "{line}");
    let number = |field: usize| fields[field].parse::<f64>().expect("a number");
    assert_eq!(number(0), index as f64, "{line}");
    assert_eq!(number(1), 30.0 * index as f64, "{line}");
    let row = Row {
        stage: fields[2].to_owned(),
        probabilities: [3, 4, 5, 6, 7].map(number),
        quality: number(8),
        status: fields[9].to_owned(),
    };
    assert!((0.0..=1.0).contains(&row.quality), "{line}");
    assert!(["provisional", "settled", "final"].contains(&fields[9]), "{line}");
    let sum: f64 = row.probabilities.iter().sum();
    match STAGES.iter().position(|stage| *stage == row.stage) {
        Some(best) => {
            let most = row.probabilities.iter().copied().fold(0.0, f64::max);
            assert_eq!(row.probabilities[best], most, "{line}");
            assert!((sum - 1.0).abs() < 1e-5, "{line}");
            assert!(row.quality > 0.0, "{line}");
        }
        None => {
            assert_eq!(row.stage, "?", "{line}");
            assert!(sum.is_nan() || (sum - 1.0).abs() < 1e-5, "{line}");
        }
    }
    row
}

/// The events of an `events.jsonl` that is complete.
pub fn events(jsonl: &str) -> Vec<Value> {
    assert!(jsonl.is_empty() || jsonl.ends_with('\n'));
    jsonl.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// `hypnogram.edf` says what `hypnogram.csv` says.
fn check_annotations(out: &Path, hypnogram: &[Row]) {
    let annotations = annotations(&out.join("hypnogram.edf")).expect("hypnogram.edf opens");
    assert_eq!(annotations.len(), hypnogram.len());
    for (index, (annotation, row)) in annotations.iter().zip(hypnogram).enumerate() {
        assert_eq!(annotation.onset_s, 30.0 * index as f64);
        assert_eq!(annotation.duration_s, Some(30.0));
        assert_eq!(annotation.text, format!("Sleep stage {}", row.stage));
    }
}

/// Sizes of the tokens' data sets; those of the windows must fit them.
pub fn embeddings(out: &Path) -> [Option<(usize, usize)>; Modality::COUNT] {
    let file = H5File::open(out.join("embeddings.h5")).expect("embeddings.h5 opens");
    Modality::ALL.map(|modality| {
        let tokens = file.dataset(modality.as_str()).ok()?;
        let pooled = file.dataset(&format!("5min/{modality}")).expect("its windows");
        let (tokens, pooled) = (tokens.shape(), pooled.shape());
        assert_eq!(pooled, [tokens[0].div_ceil(60), tokens[1]]);
        Some((tokens[0], tokens[1]))
    })
}
