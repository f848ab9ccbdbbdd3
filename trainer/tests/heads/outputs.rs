//! What `evaluate staging --live` reads of the output folders of `sfm-stream`.

use sfm_models::SleepStage;
use sfm_trainer::evaluate::outputs::{folder, read};

fn written(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir_all(folder.path().join("mesa/a.sfm-out")).expect("makes a folder");
    std::fs::write(folder.path().join("mesa/a.sfm-out/events.jsonl"), text).expect("writes");
    folder
}

#[test]
fn the_last_word_of_each_pass_is_taken() {
    let text = r#"{"event":"started","pass":"live"}
{"event":"epoch","pass":"live","epoch":0,"stage":"W","status":"provisional"}
{"event":"epoch","pass":"live","epoch":1,"stage":null,"status":"provisional"}
{"event":"epoch","pass":"live","epoch":0,"stage":"N1","status":"settled"}
{"event":"epoch","pass":"live","epoch":1,"stage":"N2","status":"settled"}
{"event":"epoch","pass":"final","epoch":0,"stage":"N1","status":"final"}
{"event":"epoch","pass":"final","epoch":1,"stage":"R","status":"final"}
"#;
    let dir = written(text);
    let found = folder(dir.path(), "mesa/a.hdf5").expect("is found");
    assert!(folder(dir.path(), "mesa/b.hdf5").is_none());
    let read = read(&found).expect("reads");
    assert_eq!(read.provisional, [Some(SleepStage::Wake), None]);
    assert_eq!(read.settled, [Some(SleepStage::N1), Some(SleepStage::N2)]);
    assert_eq!(read.last, [Some(SleepStage::N1), Some(SleepStage::Rem)]);
}

#[test]
fn folders_of_one_pass_or_with_damage_are_refused() {
    let refusal = |text: &str| {
        let dir = written(text);
        read(&dir.path().join("mesa/a.sfm-out")).expect_err("is refused")
    };
    let live = r#"{"event":"epoch","epoch":0,"stage":"W","status":"settled"}"#;
    assert!(refusal(live).contains("0 provisional, 1 settled and 0 final"), "{}", refusal(live));
    assert!(refusal("{\"event\":\"epo").contains("events.jsonl: line 1: "));
    let far = r#"{"event":"epoch","epoch":99999999999,"stage":"W","status":"final"}"#;
    assert!(refusal(far).contains("line 1: an epoch without a number that is possible"));
    let odd = r#"{"event":"epoch","epoch":0,"stage":"W","status":"guessed"}"#;
    assert!(refusal(odd).contains("without a status that is known"));
}
