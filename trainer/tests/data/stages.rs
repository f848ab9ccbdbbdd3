//! Stage files.

use sfm_models::SleepStage::{self, N1, N2, N3, Rem, Wake};
use sfm_tests::reference;
use sfm_trainer::data::labels::{hypnogram, stages};

const HEADER: &str = "Start,Stop,StageName,StageNumber\n";

fn read(text: &str, tokens: usize) -> Result<Vec<Option<SleepStage>>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stages.csv");
    std::fs::write(&path, text).unwrap();
    stages(&path, tokens).map_err(|e| e.to_string())
}

#[test]
fn the_recordings_stages_are_read_row_by_row() {
    let path = reference::mini().dir.join("psg.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    let numbers: Vec<usize> =
        text.lines().skip(1).map(|row| row.rsplit(',').next().unwrap().parse().unwrap()).collect();
    let found = hypnogram(&path, numbers.len()).unwrap();
    assert_eq!(found.warning, None);
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
    // The format of the published demo, and names or numbers alone.
    let demo =
        "Start,Stop,StageName,StageNumber,EmbeddingNumber\n0,5,Unknown,-1,0\n5,10,Wake,0,1\n";
    assert_eq!(read(demo, 2).unwrap(), [None, Some(Wake)]);
    assert_eq!(read("Start,Stop,StageName\n0,5,Sleep stage R\n", 1).unwrap(), [Some(Rem)]);
    assert_eq!(read("Start,Stop,StageNumber\n0,5,3\n5,10,-1\n", 2).unwrap(), [Some(N3), None]);
}

#[test]
fn another_length_is_cut_to_the_shorter_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stages.csv");
    std::fs::write(&path, format!("{HEADER}0,600,N2,2\n")).unwrap();
    let longer = hypnogram(&path, 200).unwrap();
    assert_eq!(longer.stages.iter().filter(|s| s.is_some()).count(), 120);
    assert_eq!(longer.stages.len(), 200);
    assert!(longer.warning.unwrap().contains("stages.csv: scored for 600 s"));
    let shorter = hypnogram(&path, 100).unwrap();
    assert_eq!(shorter.stages, vec![Some(N2); 100]);
    assert!(shorter.warning.is_some());
    assert_eq!(hypnogram(&path, 126).unwrap().warning, None, "an epoch is nothing unusual");
}

#[test]
fn what_is_no_stage_or_time_is_refused_with_its_line() {
    for (row, word) in [
        ("5,10,Wach,0", "'Wach' is no stage"),
        ("5,10,N5,5", "'N5'"),
        ("5,10,N2,7", "'7' is no stage's number"),
        ("5,10,N2,1.5", "'1.5'"),
        ("5,10,N2,3", "different stages"),
        ("5,10,Wake,-1", "different stages"),
        ("nan,10,N2,2", "missing"),
        ("5,inf,N2,2", "'inf' is no number"),
        ("-5,10,N2,2", "no time"),
        ("5,1e300,N2,2", "no time"),
        ("10,5,N2,2", "before it starts"),
        ("0,10,N2,2", "before the row above ends"),
        ("5,10", "record"),
        ("5,x,N2,2", "'x' is no number"),
    ] {
        let refusal = read(&format!("{HEADER}0,5,Wake,0\n{row}\n"), 4).unwrap_err();
        assert!(refusal.contains(word) && refusal.contains("line 3"), "{row}: {refusal}");
        assert!(!refusal.contains('\n'));
    }
    assert!(read(HEADER, 4).unwrap_err().contains("no row"));
    assert!(read("", 4).unwrap_err().contains("no column 'Start'"));
    assert!(read("Start,Stop,Stage\n0,5,N2\n", 4).unwrap_err().contains("'StageName'"));
    assert!(read("\u{1b}[2J,\0\n0,5\n", 4).unwrap_err().chars().all(|c| !c.is_control()));
}
