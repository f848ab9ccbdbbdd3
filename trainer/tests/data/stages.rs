//! Stages by token, and how a recording's scoring is found.

use std::path::Path;

use sfm_models::SleepStage::{self, N1, N2, N3, Rem, Wake};
use sfm_runtime::hypnogram::ReadOptions;
use sfm_tests::reference;
use sfm_trainer::data::labels::{Hypnogram, StageFolder};

const HEADER: &str = "Start,Stop,StageName,StageNumber\n";

fn folder(path: &Path) -> StageFolder {
    StageFolder { path: path.to_owned(), options: ReadOptions::default() }
}

fn read_in(
    name: &str,
    text: &str,
    tokens: usize,
    options: ReadOptions,
) -> Result<Hypnogram, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(name), text).unwrap();
    let stages = StageFolder { path: dir.path().to_owned(), options };
    let file = stages.find("mesa/night.hdf5").map_err(|e| e.to_string())?.expect("is there");
    stages.read(&file, tokens).map_err(|e| e.to_string())
}

fn read(text: &str, tokens: usize) -> Result<Vec<Option<SleepStage>>, String> {
    read_in("night.csv", text, tokens, ReadOptions::default()).map(|found| found.stages)
}

#[test]
fn the_recordings_stages_are_read_row_by_row() {
    let path = reference::mini().dir.join("psg.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    let numbers: Vec<usize> =
        text.lines().skip(1).map(|row| row.rsplit(',').next().unwrap().parse().unwrap()).collect();
    let found = folder(path.parent().unwrap()).read(&path, numbers.len()).unwrap();
    assert_eq!(found.warnings, [] as [&str; 0]);
    let found: Vec<usize> = found.stages.iter().map(|s| s.unwrap().index()).collect();
    assert_eq!(found, numbers);
}

#[test]
fn rows_of_any_length_and_unknown_is_masked() {
    let text =
        format!("{HEADER}0,30,Wake,0\n30,35,N1,1\n35,40,Unknown,-1\n40,70,N2,2\n70,75,REM,4\n");
    let found = read(&text, 15).unwrap();
    let mut expected = vec![Some(Wake); 6];
    expected.extend([Some(N1), None]);
    expected.extend([Some(N2); 6]);
    expected.push(Some(Rem));
    assert_eq!(found, expected);
    // A token is what its middle is; a hole between rows is masked.
    let found = read(&format!("{HEADER}0,12,N3,3\n16,30,N2,2\n"), 6).unwrap();
    assert_eq!(found, [Some(N3), Some(N3), None, Some(N2), Some(N2), Some(N2)]);
    // The format of the published demo, names or numbers alone, the reference's own names, and rows
    // that say the same twice.
    let demo =
        "Start,Stop,StageName,StageNumber,EmbeddingNumber\n0,5,Unknown,-1,0\n5,10,Wake,0,1\n";
    assert_eq!(read(demo, 2).unwrap(), [None, Some(Wake)]);
    assert_eq!(read("Start,Stop,StageName\n0,5,Sleep stage R\n", 1).unwrap(), [Some(Rem)]);
    assert_eq!(read("Start,Stop,StageNumber\n0,5,3\n5,10,-1\n", 2).unwrap(), [Some(N3), None]);
    let names = format!(
        "{HEADER}0.0,5.0,Stage 1,1\n5.0,10.0,Stage 2,2\n5.0,10.0,Stage 2,2\n10.0,15.0,Stage 3,3\n"
    );
    assert_eq!(read(&names, 3).unwrap(), [Some(N1), Some(N2), Some(N3)]);
}

#[test]
fn scorings_of_every_format_are_found_by_the_recordings_name() {
    for (name, text) in [
        ("night.annot", "W\t.\te:1\t.\nR\t.\te:2\t.\n"),
        (
            "night_sleepscoring.txt",
            "Date, Time, Recording onset, Duration, Annotation\n2001-01-01, 22:30:00, 0, 30, Sleep stage W\n2001-01-01, 22:30:30, 30, 30, Sleep stage R\n",
        ),
        (
            "night-profusion.xml",
            "<CMPStudyConfig><EpochLength>30</EpochLength><SleepStage>0</SleepStage><SleepStage>5</SleepStage></CMPStudyConfig>",
        ),
        ("night.tsv", "onset\tduration\tstage\n0\t30\tWake\n30\t30\tREM\n"),
    ] {
        let found = read_in(name, text, 12, ReadOptions::default());
        let found = found.unwrap_or_else(|e| panic!("{name}: {e}"));
        let expected: Vec<_> = [[Some(Wake); 6], [Some(Rem); 6]].concat();
        assert_eq!((found.stages, found.warnings), (expected, vec![]), "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let stages = folder(dir.path());
    assert_eq!(stages.find("mesa/night.hdf5").unwrap(), None);
    std::fs::write(dir.path().join("night2.csv"), "").unwrap();
    assert_eq!(stages.find("mesa/night.hdf5").unwrap(), None, "another recording's");
    for name in ["night-nsrr.xml", "night-profusion.xml"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    let refusal = stages.find("mesa/night.hdf5").unwrap_err().to_string();
    assert!(
        refusal.contains("night-nsrr.xml: night-profusion.xml is a scoring of the same"),
        "{refusal}"
    );
    std::fs::create_dir(dir.path().join("mesa")).unwrap();
    let nearer = dir.path().join("mesa/night.csv");
    std::fs::write(&nearer, "").unwrap();
    assert_eq!(stages.find("mesa/night.hdf5").unwrap(), Some(nearer));
}

#[test]
fn what_a_file_does_not_say_is_asked_for_or_said() {
    let numbers = "0\n5\n".repeat(6);
    let refusal = read(&numbers, 72).unwrap_err();
    assert!(refusal.contains("line 2") && refusal.contains("isruc (5=R)"), "{refusal}");
    let isruc = ReadOptions { codes: Some("isruc".parse().unwrap()), ..ReadOptions::default() };
    let found = read_in("night.txt", &numbers, 72, isruc).unwrap();
    assert_eq!(found.stages[..12], [[Some(Wake); 6], [Some(Rem); 6]].concat());
    assert!(found.warnings.iter().any(|text| text.contains("has no times")), "{found:?}");
    // A value a second over six minutes.
    let seconds = "W\n".repeat(360);
    let refusal = read(&seconds, 72).unwrap_err();
    assert!(refusal.contains("a value per second") && refusal.contains("--epoch-s 1"), "{refusal}");
    let second = ReadOptions { epoch_s: Some(1.0), ..ReadOptions::default() };
    assert_eq!(read_in("night.txt", &seconds, 72, second).unwrap().stages, [Some(Wake); 72]);
    let clock = "Time,Stage\n22:00:00,W\n22:00:30,W\n22:01:00,R\n";
    let found = read_in("night.csv", clock, 18, ReadOptions::default()).unwrap();
    assert!(found.warnings[0].contains("first row is taken as the start"), "{found:?}");
}

#[test]
fn another_length_is_cut_to_the_shorter_and_said() {
    let text = format!("{HEADER}0,600,N2,2\n");
    let read = |tokens| read_in("night.csv", &text, tokens, ReadOptions::default()).unwrap();
    let longer = read(200);
    assert_eq!(longer.stages.iter().filter(|s| s.is_some()).count(), 120);
    assert_eq!(longer.stages.len(), 200);
    assert!(longer.warnings[0].contains("night.csv: scored for 600 s"), "{longer:?}");
    let shorter = read(100);
    assert_eq!(shorter.stages, vec![Some(N2); 100]);
    assert!(!shorter.warnings.is_empty());
    assert_eq!(read(126).warnings, [] as [&str; 0], "an epoch is nothing unusual");
}

#[test]
fn what_is_no_stage_or_time_is_refused_with_its_line() {
    for (row, word) in [
        ("5,10,Deep,0", "'Deep' is no sleep stage"),
        ("5,10,N5,5", "'N5'"),
        ("5,10,N2,7", "7 is no stage"),
        ("5,10,N2,1.5", "'1.5'"),
        ("5,10,N2,3", "different stages"),
        ("5,10,Wake,-1", "different stages"),
        ("nan,10,N2,2", "no start"),
        ("5,inf,N2,2", "'inf' is no time"),
        ("5,1e300,N2,2", "beyond a week"),
        ("10,5,N2,2", "stops before it starts"),
        ("0,10,N2,2", "overlaps"),
        ("5,x,N2,2", "'x' is no time"),
    ] {
        let refusal = read(&format!("{HEADER}0,5,Wake,0\n{row}\n"), 4).unwrap_err();
        assert!(refusal.contains(word) && refusal.contains("line 3"), "{row}: {refusal}");
        assert!(!refusal.contains('\n'));
    }
    assert!(read(HEADER, 4).unwrap_err().contains("no sleep stages"));
    assert!(read("", 4).unwrap_err().contains("is empty"));
    assert!(read("a,b\n0,5\n", 4).unwrap_err().contains("no hypnogram of a known format"));
    assert!(read("\u{1b}[2J,\0\n0,5\n", 4).unwrap_err().chars().all(|c| !c.is_control()));
}
