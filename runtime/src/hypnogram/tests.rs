//! Every format gives back what was written into it, and refuses what is none.

use super::*;

const LETTERS: &str = "WW?W1122233332RRRR??W";

fn night() -> Vec<Option<SleepStage>> {
    LETTERS
        .chars()
        .map(|letter| match letter {
            'W' => Some(SleepStage::Wake),
            '1' => Some(SleepStage::N1),
            '2' => Some(SleepStage::N2),
            '3' => Some(SleepStage::N3),
            'R' => Some(SleepStage::Rem),
            _ => None,
        })
        .collect()
}

fn read_text(text: &str) -> Result<Scoring, String> {
    recognized(text.as_bytes())
}

#[test]
fn what_is_written_is_read_again() {
    let night = night();
    let npy = usleep::npy(&night).expect("an array");
    let bids = bids::tsv(&night);
    for (what, bytes) in [
        ("luna", luna::text(&night).into_bytes()),
        ("nsrr", nsrr::text(&night, None).into_bytes()),
        ("profusion", profusion::text(&night).into_bytes()),
        ("usleep", usleep::tsv(&night).into_bytes()),
        ("npy", npy),
        ("yasa", yasa::text(&night).into_bytes()),
        ("bids", bids.into_bytes()),
    ] {
        let scoring = recognized(&bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(scoring.is_on_grid(), "{what}");
        assert_eq!(scoring.epochs(), night, "{what}");
    }
}

#[test]
fn other_ways_of_saying_it() {
    let wake_n3_rem = [Some(SleepStage::Wake), Some(SleepStage::N3), Some(SleepStage::Rem)];
    for text in [
        "Start,Stop,StageName,StageNumber\n0,30,Wake,0\n30,60,N3,3\n60,90,REM,4\n",
        "\u{feff}\"Start\",\"Stop\",\"StageName\",\"StageNumber\"\r\n0,30,Wake,0\r\n30,60,Stage 4,3\r\n60,90,R,4\r\n",
        "0,30,W\n30,30,N3\n60,30,REM\n",
        "W\nN3\nREM\n",
        "0\n3\n4\n",
        "Stage\nWAKE\nN3\nREM\n",
        "Time,Stage\n2024-01-01 23:59:30,WAKE\n2024-01-02 00:00:00,N3\n2024-01-02 00:00:30,REM\n",
        "epoch,onset,duration,value,description\n0,0.0,30.0,0,WAKE\n1,30.0,30.0,3,N3\n2,60.0,30.0,4,REM\n",
        "onset\tduration\ttrial_type\n0\t30\tWake\n10\t15\tarousal\n30\t30\tSleep stage 4\n60\t30\tREM\n",
        "# N3 | deep\nwake\t.\t.\t0\t30\t.\nN3\t.\t.\t30\t+30\t.\nR\t.\t.\t0+00:01:00\t90\t.\n",
        "class\tstart\tstop\nW\t0\t30\narousal\t3\t9\nNREM4\t30\t60\nREM\t60\t90\n",
        "epoch,onset_s,stage,p_wake,quality,status\n0,0,W,1,1,final\n1,30,N3,1,1,final\n2,60,R,1,1,final\n3,90,W,1,1,settled\n",
        "<CMPStudyConfig><SleepStages><SleepStage>0</SleepStage><SleepStage>4</SleepStage><SleepStage>5</SleepStage></SleepStages></CMPStudyConfig>",
    ] {
        let scoring = read_text(text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
        assert_eq!(scoring.epochs(), wake_n3_rem, "{text}");
    }
}

#[test]
fn epochs_of_other_lengths_go_by_most_of_the_time() {
    // Of 20 s each: the second epoch has 10 s of N1 and 20 s of N2.
    let text = "Start,Stop,StageName,StageNumber\n0,20,Wake,0\n20,40,N1,1\n40,60,N2,2\n";
    let scoring = read_text(text).expect("read");
    assert!(!scoring.is_on_grid());
    assert_eq!(scoring.epochs(), [Some(SleepStage::Wake), Some(SleepStage::N2)]);
    // 15 s each: the lighter stage; 10 s of 30: not scored.
    let text = "Start,Stop,StageName,StageNumber\n0,15,N2,2\n15,30,N1,1\n30,40,REM,4\n";
    assert_eq!(read_text(text).expect("read").epochs(), [Some(SleepStage::N1), None]);
    // What lies before the recording is not part of it.
    let text = "0,30,W\n-60,60,N1\n30,30,R\n";
    let stages = [Some(SleepStage::Wake), Some(SleepStage::Rem)];
    assert_eq!(read_text(text).expect("read").epochs(), stages);
}

#[test]
fn refusals_name_the_line() {
    for (text, reason) in [
        ("Start,Stop,StageName,StageNumber\n0,30,Wake,0\n30,60,Stage 7,7\n", "line 3: 'Stage 7'"),
        ("onset\tduration\ttrial_type\n0\t30\tSleep stage X\n", "line 2: 'Sleep stage X'"),
        ("class\tstart\tstop\nW\t0\t30\nN5\t30\t60\n", "line 3: 'N5'"),
        ("class\tstart\tstop\nW\t22:00:00\t22:00:30\n", "line 2: '22:00:00' is a time of day"),
        ("W\nN1\n5\n", "line 3: 5"),
        ("0,30,W\nnan,30,W\n", "line 2: NaN s is beyond a week"),
        ("0,30,W\n0,1e9,W\n", "line 2: 1000000000 s is beyond a week"),
        ("0,30,W\n15,30,N1\n", "overlaps"),
        ("Start,Stop,StageName,StageNumber\n0,30,Unknown,-1\n", "holds no sleep stages"),
        ("a,b\n1,2\n", "no hypnogram of a known format"),
        ("", "is empty"),
        ("<PSGAnnotation>\n<ScoredEvents>", "ends within an element"),
        ("<html></html>", "neither PSGAnnotation nor CMPStudyConfig"),
        (
            "<PSGAnnotation>\n<ScoredEvent><EventType>Stages|Stages</EventType>\n\
             <EventConcept>Stage 8 sleep|8</EventConcept><Start>0</Start><Duration>30</Duration>\n\
             </ScoredEvent></PSGAnnotation>",
            "line 3: 'Stage 8 sleep|8' is no sleep stage",
        ),
        (
            "<CMPStudyConfig>\n<SleepStages><SleepStage>0</SleepStage>\n<SleepStage>7</SleepStage>\
             </SleepStages></CMPStudyConfig>",
            "line 3: '7'",
        ),
    ] {
        let error = read_text(text).expect_err(text);
        assert!(error.contains(reason), "{error} for\n{text}");
    }
    assert!(recognized(b"\xff\xfe\x00").expect_err("binary").contains("neither EDF"));
    assert!(recognized(b"\x93NUMPY\x01\x00\xff\xff").expect_err("cut").contains("damaged NumPy"));
}

#[test]
fn damage_is_refused_and_no_more() {
    let night = night();
    let npy = usleep::npy(&night).expect("an array");
    let nsrr = nsrr::text(&night, None).into_bytes();
    for bytes in [npy, nsrr, luna::text(&night).into_bytes()] {
        for end in 0..bytes.len() {
            let _ = recognized(&bytes[..end]);
        }
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x15;
            let _ = recognized(&damaged);
        }
    }
}

#[test]
fn an_edf_file_is_known_by_its_first_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("scored.txt");
    let mut writer = crate::edf::HypnogramWriter::create(&path, None).expect("created");
    night().into_iter().for_each(|stage| writer.append(stage).expect("written"));
    writer.finish().expect("closed");
    assert_eq!(read(&path).expect("read").epochs(), night());
    let missing = read(&dir.path().join("none")).expect_err("refused").to_string();
    assert!(missing.contains("none: cannot be read"), "{missing}");
}

/// Both were found by the fuzzer.
#[test]
fn damaged_numpy_headers_are_refused_at_once_and_in_a_line() {
    let npy = |header: &str| {
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\0", &length[..], header.as_bytes()].concat()
    };
    let reason = recognized(&npy("{'descr': '<i8', (shape': (12, 1, ), }\n")).expect_err("damaged");
    assert!(reason.starts_with("is a damaged NumPy file") && !reason.contains('\n'), "{reason:?}");
    let nested = npy(&format!("{{'shape': {}11,\n", "[".repeat(60)));
    assert!(recognized(&nested).expect_err("damaged").contains("none of an array of stages"));
}
