//! Every format gives back what was written into it, and refuses what is none.

use super::*;

const LETTERS: &str = "WW?W1122233332RRRR??W";

fn night() -> Vec<Option<SleepStage>> {
    stages(LETTERS)
}

/// A hypnogram of letters; what is no stage is not scored.
pub(crate) fn stages(letters: &str) -> Vec<Option<SleepStage>> {
    letters
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
    recognized(text.as_bytes(), &ReadOptions::default())
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
        let scoring =
            recognized(&bytes, &ReadOptions::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
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
        ("class\tstart\tstop\nW\t22:00:00\tx\n", "line 2: 'x' is no time"),
        ("W\nN1\n5\n", "line 3: 5"),
        ("0,30,W\n30,30,W\nx,30,W\n", "line 3: 'x' is no time"),
        ("0,30,W\n30,30,W\n60,1e9,W\n", "line 3: 1000000000 s is beyond a week"),
        ("0,30,W\n15,30,N1\n", "overlaps"),
        ("onset\tduration\ttrial_type\n0\t30\tarousal\n", "holds no sleep stages"),
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
            "line 3: 7 is no stage",
        ),
    ] {
        let error = read_text(text).expect_err(text);
        assert!(error.contains(reason), "{error} for\n{text}");
    }
    assert!(
        recognized(b"\xff\xfe\x00", &ReadOptions::default())
            .expect_err("binary")
            .contains("neither EDF")
    );
    assert!(
        recognized(b"\x93NUMPY\x01\x00\xff\xff", &ReadOptions::default())
            .expect_err("cut")
            .contains("damaged NumPy")
    );
}

#[test]
fn damage_is_refused_and_no_more() {
    let night = night();
    let npy = usleep::npy(&night).expect("an array");
    let nsrr = nsrr::text(&night, None).into_bytes();
    for bytes in [npy, nsrr, luna::text(&night).into_bytes()] {
        for end in 0..bytes.len() {
            let _ = recognized(&bytes[..end], &ReadOptions::default());
        }
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x15;
            let _ = recognized(&damaged, &ReadOptions::default());
        }
    }
}

#[test]
fn an_edf_file_is_known_by_its_first_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("scored.txt");
    let mut writer = crate::HypnogramWriter::create(&path, None).expect("created");
    night().into_iter().for_each(|stage| writer.append(stage).expect("written"));
    writer.finish().expect("closed");
    assert_eq!(read(&path, &ReadOptions::default()).expect("read").epochs(), night());
    let missing =
        read(&dir.path().join("none"), &ReadOptions::default()).expect_err("refused").to_string();
    assert!(missing.contains("none: cannot be read"), "{missing}");
}

/// Both were found by the fuzzer.
#[test]
fn damaged_numpy_headers_are_refused_at_once_and_in_a_line() {
    let npy = |header: &str| {
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\0", &length[..], header.as_bytes()].concat()
    };
    let reason =
        recognized(&npy("{'descr': '<i8', (shape': (12, 1, ), }\n"), &ReadOptions::default())
            .expect_err("damaged");
    assert!(reason.starts_with("is a damaged NumPy file") && !reason.contains('\n'), "{reason:?}");
    let nested = npy(&format!("{{'shape': {}11,\n", "[".repeat(60)));
    assert!(
        recognized(&nested, &ReadOptions::default())
            .expect_err("damaged")
            .contains("none of an array of stages")
    );
}

/// The same night in the words and columns of other recorders.
#[test]
fn siblings_of_known_formats() {
    let wake_n3_rem = [Some(SleepStage::Wake), Some(SleepStage::N3), Some(SleepStage::Rem)];
    for text in [
        // German, French, Spanish and Italian headers and words.
        "Epoche;Uhrzeit;Schlafstadium\r\n1;23:59:00;Wach\r\n2;23:59:30;N3\r\n3;00:00:00;REM\r\n",
        "Heure de d\u{e9}but;Dur\u{e9}e (s);Stade\n23:59:00;30,0;\u{c9}veil\n23:59:30;30,0;N3\n00:00:00;30,0;R\n",
        "Inicio\tFin\tFase\n0\t30\tVigilia\n30\t60\tFase 3\n60\t90\tREM\n",
        "Inizio,Durata,Stadio\n0,30,Veglia\n30,30,Stadio 3\n60,30,REM\n",
        // Twelve hours, over midnight; carriage returns alone; a delimiter at the end of each line.
        "Time,Stage\r11:59:00 PM,W\r11:59:30 PM,N3\r12:00:00 AM,R\r",
        "start,stop,stage,\n0,30,W,\n30,60,N3,\n60,90,R,\n",
        // Quotes, upper case, blank lines behind, a comment.
        "# scorer: X\n\"START\",\"DURATION\",\"STAGE\"\n\"0\",\"30\",\"WAKE\"\n\"30\",\"30\",\"NREM3\"\n\"60\",\"30\",\"REM\"\n\n\n",
        // Rows out of order; minutes; milliseconds; elapsed hours; time zones.
        "start,duration,stage\n60,30,R\n0,30,W\n30,30,N3\n",
        "start (min),duration (min),stage\n0,0.5,W\n0.5,0.5,N3\n1,0.5,R\n",
        "onset_ms,duration_ms,stage\n0,30000,W\n30000,30000,N3\n60000,30000,R\n",
        "Onset,Duration,Annotation\n00:00:00,00:00:30,Sleep stage W\n00:00:30,00:00:30,Sleep stage N3\n00:00:40,,Arousal\n00:01:00,00:00:30,Sleep stage R\n",
        "Time,Stage\n2024-10-27T02:59:00+02:00,W\n2024-10-27T02:59:30+02:00,N3\n2024-10-27T02:00:00+01:00,R\n",
        // Dates whose order the column decides; date and time in columns of their own.
        "Time,Stage\n02/28/2024 23:59:00,W\n02/28/2024 23:59:30,N3\n02/29/2024 00:00:00,R\n",
        "Date,Time,Stage\n28.02.2024,23:59:00,W\n28.02.2024,23:59:30,N3\n29.02.2024,00:00:00,R\n",
        // An index of a data frame; an unknown name of the one column of stages; blanks between.
        ",Stage\n0,W\n1,N3\n2,R\n",
        "start,stop,Dr. X\n0,30,W\n30,60,N3\n60,90,R\n",
        "W 0 30\nN3 30 30\nR 60 30\n",
        // Digits beside letters are non-REM sleep.
        "W\n3\nR\n",
        // Ends, lengths alone, epochs of 20 s by the clock.
        "*Duration_sec\t90\nWake\t30\nN3\t60\nREM\t90\n",
        "stage,duration\nW,30\nN3,30\nR,30\n",
        // Luna: ranges, lengths, other classes, clock times.
        "W\t.\t.\te:1\t.\t.\nspindle\t.\t.\t31\t32\t.\nN3\t.\t.\te:2\t.\t.\nR\t.\t.\te:3\t.\t.\n",
        "class\tinstance\tchannel\tstart\tstop\tmeta\nW\t.\t.\t0\t+30\t.\nN3\t.\t.\t30\t...\t.\nR\t.\t.\t60\t90\t.\n",
        // Start times of the file itself.
        "Start Time: 28.02.2024 23:59:00\nRate: 30 s\n\n23:59:00,000; Wach\n23:59:30,000; N3\n00:00:00,000; Rem\n",
        "EPOCH=30.0 SEC\nSTART=0.0 SEC\nWake\nN3\nREM\n",
        "<PatientStudy><Session><RecordingStart>2024-03-01T22:30:00</RecordingStart><Duration>90</Duration></Session><Stage Type=\"Wake\" Start=\"0\"/><Stage Type=\"NonREM3\" Start=\"30\"/><Stage Type=\"REM\" Start=\"60\"/></PatientStudy>",
    ] {
        let scoring = read_text(text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
        let epochs = scoring.epochs();
        assert_eq!(epochs, wake_n3_rem, "{scoring:?}\n{text}");
    }
}

#[test]
fn what_a_table_says_about_time_is_never_passed_over() {
    for (text, reason) in [
        // Times that contradict each other.
        (
            "start,stop,duration,stage\n0,30,30,W\n30,60,20,N1\n",
            "line 3: it ends at 60 s and at 50 s",
        ),
        (
            "clock,start,stage\n22:00:00,0,W\n22:00:30,30,N1\n22:05:00,60,N1\n",
            "line 4: its time of day is 240 s apart",
        ),
        (
            "Epoch,Time,Stage\n1,22:00:00,W\n2,22:00:30,W\n3,22:02:00,R\n",
            "line 4: its time of day is 60 s apart",
        ),
        (
            "start,stop,stage\n0,30,W\n20,50,N1\n",
            "line 3: the stage at 20 s overlaps the one at 0 s",
        ),
        ("Epoch,Stage\n0,W\n1,W\n1,N1\n", "line 4: the stage at 30 s overlaps"),
        ("start,stop,stage\n0,30,W\n60,30,N1\n", "line 3: it stops before it starts"),
        ("start,duration,stage\n0,30,W\n30,-30,N1\n", "line 3: its length is negative"),
        // Clocks.
        (
            "Time,Stage\n01:59:00,W\n01:59:30,N1\n03:00:00,N1\n03:00:30,N1\n",
            "line 4: an hour is missing",
        ),
        (
            "Time,Stage\n02:59:00,W\n02:59:30,N1\n02:00:00,N1\n",
            "line 4: the clock goes back by 59.5 min",
        ),
        (
            "Time,Stage\n22:00:00,W\n22:00:30,N1\n21:00:00,N1\n",
            "line 4: the clock goes back by 60.5 min",
        ),
        (
            "Time,Stage\n2024-03-01 22:00:00,W\n22:00:30,N1\n",
            "line 3: a date or time zone is in some rows only",
        ),
        (
            "Time,Stage\n31.02.2024 22:00:00,W\n31.02.2024 22:00:30,N1\n",
            "line 2: there is no such date",
        ),
        // Columns that hold times and are not understood.
        ("Stage,Midpoint time\nW,15\nN1,45\n", "line 2: column 'Midpoint time' holds times"),
        ("Stage,When\nW,22:00:00\nN1,22:00:30\n", "line 2: column 'When' holds times"),
        ("Stage,X\nW,0\nN1,30\nN1,60\n", "line 2: column 'X' holds times"),
        ("start_samples,stage\n0,W\n7680,N1\n", "line 2: column 'start_samples' holds times"),
        ("start,stage\n0,W\nx,N1\n", "line 3: 'x' is no time"),
        ("start,stage\n0,W\n,N1\n", "line 3: it has no start"),
        ("W,10,20\nN1,40,60\nN1,110,200\n", "line 1: what the numbers beside the stages mean"),
        (
            "start,end,stage\n0:00,0:30,W\n0:30,1:00,R\n",
            "line 2: '0:00' could be minutes and seconds",
        ),
        // Lists.
        ("W\nN1\n\nN2\n", "line 3: it is empty"),
        ("Epoch,Stage\n0,W\nx,N1\n", "line 3: 'x' is no number of an epoch"),
        // Two scorers.
        ("start,A,B\n0,W,W\n30,N1,N2\n", "stages in more than one column"),
        ("stage,sleep stage\nW,W\n", "more than one column like"),
        (
            "Sleep Stage\tTime [hh:mm:ss]\tEvent\tDuration[s]\nW\t22:00:00\tSLEEP-S2\t30\n",
            "line 2: it says W and N2",
        ),
        ("start,stage\n0,\"W\n30,N1\n", "a cell goes on in the next line"),
    ] {
        let error = read_text(text).expect_err(text);
        assert!(error.contains(reason), "{error} for\n{text}");
    }
}

#[test]
fn holes_and_starts_are_kept() {
    let text = "Time,Stage\n2024-03-01 22:00:10,W\n2024-03-01 22:00:40,W\n2024-03-01 22:10:40,N2\n2024-03-01 22:11:10,N2\n";
    let scoring = read_text(text).expect("read");
    let start = DateTime::new((2024, 3, 1), (22, 0, 10)).expect("a date");
    assert_eq!((scoring.start, scoring.timing), (Some(Start::Date(start)), Timing::Clock));
    let onsets: Vec<f64> = scoring.stretches.iter().map(|stretch| stretch.onset_s).collect();
    assert_eq!(onsets, [0.0, 30.0, 630.0, 660.0]);
    assert_eq!(scoring.at(59.0), Some(SleepStage::Wake));
    assert_eq!(scoring.at(61.0), None);
    // A file's own start, before its first row.
    let text = "Start Time: 01.03.2024 21:59:30\n22:00:00; Wach\n22:00:30; Wach\n22:01:00; N1\n";
    let scoring = read_text(text).expect("read");
    let start = DateTime::new((2024, 3, 1), (21, 59, 30)).expect("a date");
    assert_eq!((scoring.start, scoring.span_s()), (Some(Start::Date(start)), (30.0, 120.0)));
    // The clock is put back, and seconds say so.
    let text = "clock start time,start,end,stage\n02:59:30,0,30,W\n02:00:00,30,60,N1\n";
    let scoring = read_text(text);
    assert!(scoring.is_ok_and(|scoring| scoring.span_s() == (0.0, 60.0)));
    // UTC is no local time.
    let text = "Time,Stage\n2024-03-01T22:00:00Z,W\n2024-03-01T22:00:30Z,W\n";
    let scoring = read_text(text).expect("read");
    assert_eq!((scoring.start, scoring.timing), (None, Timing::Clock));
    // Twenty seconds by the clock.
    let text = "Epoch,Time,Stage\n4,22:01:00,W\n5,22:01:20,W\n6,22:01:40,R\n";
    let scoring = read_text(text).expect("read");
    assert_eq!((scoring.epoch.map(|epoch| epoch.s), scoring.span_s()), (Some(20.0), (60.0, 120.0)));
    assert_eq!(scoring.start, Some(Start::Clock(79_200.0)));
}

#[test]
fn characters_and_line_ends() {
    let text = "Start,Stop,StageName\n0,30,Wach\n30,60,\u{c9}veil\n";
    let utf16 = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<_>>();
    let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
    for bytes in [
        text.as_bytes().to_vec(),
        latin,
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        [vec![0xff, 0xfe], utf16(u16::to_le_bytes)].concat(),
        [vec![0xfe, 0xff], utf16(u16::to_be_bytes)].concat(),
        text.replace('\n', "\r").into_bytes(),
        text.replace('\n', "\r\n").into_bytes(),
    ] {
        let scoring = recognized(&bytes, &ReadOptions::default()).expect("read");
        assert_eq!(scoring.epochs(), [Some(SleepStage::Wake); 2], "{bytes:?}");
    }
}

mod written {
    use proptest::prelude::*;

    use super::*;

    fn stages() -> impl Strategy<Value = Vec<Option<SleepStage>>> {
        let stage = proptest::option::weighted(0.9, (0..5_usize).prop_map(|i| SleepStage::ALL[i]));
        proptest::collection::vec(stage, 1..60)
    }

    /// `stages` as a table of clock times, of seconds, or of numbers.
    fn tables(stages: &Stages, first: u32, start: DateTime) -> Vec<String> {
        let name = |stage: Option<SleepStage>| stage.map_or("?", SleepStage::as_str);
        let mut texts = vec![
            "start,stop,stage\n".to_owned(),
            "onset;duration;stage\n".to_owned(),
            "Epoch\tTime\tSleep stage\n".to_owned(),
            "class\tstart\tstop\n".to_owned(),
            format!("Start Time: {}\nTime,Duration,Stage\n", start.to_string().replace('T', " ")),
        ];
        for (epoch, stage) in stages.iter().enumerate() {
            let number = first as usize + epoch;
            let onset_s = number as f64 * EPOCH_S;
            let clock = start.plus_seconds(onset_s);
            let clock = clock.to_string().replace('T', " ");
            let name = name(*stage);
            let rows = [
                format!("{onset_s},{},{name}\n", onset_s + EPOCH_S),
                format!("{},0;30,0;{name}\n", onset_s as u64),
                format!("{}\t{clock}\t{name}\n", number + 1),
                format!("{name}\t{onset_s}\t+30\n"),
                format!("{clock},30,{name}\n"),
            ];
            texts.iter_mut().zip(rows).for_each(|(text, row)| text.push_str(&row));
        }
        texts
    }

    proptest! {
        /// Any night at any place in the recording comes back with its stages at their times.
        #[test]
        fn is_read_at_the_same_times(stages in stages(), first in 0_u32..900, day in 1_u8..28) {
            let start = DateTime::new((2024, 6, day), (21, 30, 0)).expect("a date");
            for text in tables(&stages, first, start) {
                let scoring = read_text(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
                let onset_s = f64::from(first) * EPOCH_S;
                for (epoch, stage) in stages.iter().enumerate() {
                    let s = onset_s + epoch as f64 * EPOCH_S;
                    prop_assert_eq!(scoring.at(s), *stage, "{} s of\n{}", s, text);
                    prop_assert_eq!(scoring.at(s + 29.9), *stage);
                }
                prop_assert_eq!(scoring.at(onset_s - 0.1), None);
                prop_assert_eq!(scoring.at(onset_s + stages.len() as f64 * EPOCH_S), None);
            }
        }

        /// What this program writes, it reads.
        #[test]
        fn by_this_program_is_read_again(stages in stages()) {
            let texts = [
                luna::text(&stages), nsrr::text(&stages, None), profusion::text(&stages),
                usleep::tsv(&stages), yasa::text(&stages), bids::tsv(&stages),
            ];
            for text in texts {
                let scoring = read_text(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
                prop_assert_eq!(scoring.epochs(), stages.clone(), "{}", text);
                prop_assert!(scoring.timing != Timing::RowNumber);
            }
        }
    }
}

/// The stages of a table as letters, `?` for what is not scored.
fn letters(text: &str) -> String {
    let scoring = read_text(text).unwrap_or_else(|e| panic!("{e} for\n{text}"));
    scoring.epochs().iter().map(|stage| stage.map_or("?", |stage| stage.as_str())).collect()
}

#[test]
fn the_first_rows_of_a_list_are_of_the_night() {
    assert_eq!(letters("?\n?\nW\nN1\n"), "??WN1");
    assert_eq!(letters("none\n-2\n0\n1\n"), "??WN1");
    assert_eq!(letters("EPOCH=30\nSTART=22:30:00\n?\nW\nN1\n"), "?WN1");
    assert_eq!(letters("Scored by two people\n\nW\nN1\n"), "WN1", "a title above an empty line");
    let refusal = read_text("L\nL\nW\nN1\n").expect_err("a word that is not known");
    assert!(refusal.contains("line 1: 'L' is no sleep stage"), "{refusal}");
    for text in ["Stage\nW\n\"\"\nN1\n", "Stage\nW\nN1\n\"\"\nN1\n", "Stage\n\"\"\nW\nN1\n"] {
        assert!(read_text(text).is_err_and(|e| e.contains("it is empty")), "{text}");
    }
    assert!(read_text("*\n*\nW\nN1\n").is_err_and(|e| e.contains("'*' is no sleep stage")));
    let refusal = read_text("Stage\nW\n\"\"\nN1\n").expect_err("an empty cell");
    assert!(refusal.contains("line 3: it is empty"), "{refusal}");
    assert_eq!(letters("stage,note\nW,\nN1,\n,\n,\n"), "WN1", "empty rows at the end");
}

#[test]
fn titles_are_neither_formats_nor_names() {
    let yasa = read_text("% hypnogram of a night\n0\n1\n2\n").expect("a list");
    assert!(yasa.code.is_some_and(|code| code.is_assumed && code.name == "yasa"));
    assert_eq!(letters("Sleep Stages\nEpoch,Stage\n1,W\n2,N1\n"), "WN1");
    assert_eq!(letters("Scoring:\tAASM\nEpoch\tStage\n1\tW\n2\tN1\n"), "WN1");
    assert_eq!(letters("Hypnogram\nW\nN1\n"), "WN1");
}

#[test]
fn starts_are_found_wherever_they_stand() {
    let start = |text: &str| {
        let scoring = read_text(text).unwrap_or_else(|e| panic!("{e} for\n{text}"));
        (scoring.start.map(|start| start.clock_s()), scoring.stretches[0].onset_s)
    };
    let table = "# MNE-Annotations\n# orig_time : 2024-03-01 23:40:00\n# onset, duration, description\n\
                 0.0,30.0,Sleep stage W\n30.0,30.0,Sleep stage 1\n";
    assert_eq!(start(table), (Some(85_200.0), 0.0));
    let since_1970 = "onset,duration,description\n1970-01-01 00:10:00,30,Sleep stage W\n\
                      1970-01-01 00:10:30,30,Sleep stage 1\n";
    assert_eq!(start(since_1970), (None, 600.0));
    let german = "Datum;Schlafstadium\n01.03.2024 23:40:00;W\n01.03.2024 23:40:30;N1\n";
    assert_eq!(start(german), (Some(85_200.0), 0.0));
    let elapsed = "Elapsed Time,Stage\n00:40:00,W\n00:40:30,N1\n";
    assert_eq!(start(elapsed), (None, 2_400.0));
    let named =
        "Sleep Stage\tTime [hh:mm:ss.xxx]\tEvent\tDuration[s]\nW\t22:00:00.000\tSLEEP-S0\t30\n";
    assert_eq!(start(named), (Some(79_200.0), 0.0));
    let two_nights = "Epoch,Date,Stage\n1,2024-03-01,W\n2,2024-03-02,N1\n";
    let refusal = read_text(two_nights).expect_err("two nights");
    assert!(refusal.contains("line 3: its date is not that of the first row"), "{refusal}");
    let points = "Orario,Stadio\n23.40.00,W\n23.40.30,N1\n";
    assert!(read_text(points).is_err_and(|e| e.contains("'Orario' holds times")));
    let gaps = "Moment,Stage\n,W\n30,N1\n60,N1\n90,N2\n";
    assert!(read_text(gaps).is_err_and(|e| e.contains("'Moment' holds times")));
}

#[test]
fn numbers_are_assumed_to_be_a_code_and_epochs_to_count() {
    let coded = read_text("Epoch,Stage Number\n1,0\n2,4\n").expect("a table");
    assert!(coded.code.is_some_and(|code| code.is_assumed));
    assert_eq!(letters("0.000000000000000000e+00\n1.000000000000000000e+00\n"), "WN1");
    for text in [",Stage\n10,N2\n11,N3\n", "Epoch,Stage,Confidence\n10,N2,0.9\n11,N3,0.8\n"] {
        let scoring = read_text(text).expect("a table");
        assert_eq!(scoring.stretches[0].onset_s, 300.0, "{text}");
        assert!(scoring.warnings[0].contains("number 10: counted from 0"), "{scoring:?}");
    }
    let refusal = read_text("EPOCH=0.25 SEC\nW\nN1\n").expect_err("too short");
    assert!(refusal.contains("line 1: epochs of 0.25 s"), "{refusal}");
}

#[test]
fn events_are_stages_or_stand_beside_them() {
    let remark = "Start,Stage,Text\n0,W,\n30,N1,\n60,N2,REM\n90,N2,\n";
    assert_eq!(letters(remark), "WN1N2N2", "one remark decides nothing");
    let apneas = "Start,Duration,Stage,Event\n10,12,N2,Hypopnea\n80,20,N2,Obstructive apnea\n";
    assert!(read_text(apneas).is_err_and(|e| e.contains("a list of events")));
    let apneas = "Start,Duration,Event,Stage\n0,25,Hypopnea,W\n210,25,Hypopnea,N2\n";
    assert!(read_text(apneas).is_err_and(|e| e.contains("a list of events")));
    assert_eq!(letters("Type,Event,Start,Duration\nStage,W,0,30\nStage,N1,30,30\n"), "WN1");
    assert_eq!(letters("L\t0\t30\nL\t30\t30\nL\t60\t30\nW\t90\t30\nN1\t120\t30\n"), "???WN1");
    let wearable =
        "onset,duration,description\n0,30,W\n30,30,Light\n60,30,Light\n90,30,Light\n120,30,REM\n";
    let refusal = read_text(wearable).expect_err("stages by other names");
    assert!(refusal.contains("3 events 'Light' of whole epochs"), "{refusal}");
    let apneas = "onset,duration,description\n0,30,W\n30,60,N2\n32,12,Apnea\n50,12,Apnea\n70,30,Snore\n90,30,R\n";
    let scoring = read_text(apneas).expect("events beside stages");
    assert!(scoring.notes.iter().any(|note| note.ends_with("passed over: 'Apnea' 2, 'Snore' 1")));
    assert_eq!(
        letters("onset,description\n0,Stage - W\n30,Stage - No Stage\n60,Stage - N1\n"),
        "W?N1"
    );
}

#[test]
fn rows_of_another_width_are_refused() {
    let comma = "Time,Stage\n0,0,WAKE\n30,0,N1\n";
    assert!(read_text(comma).is_err_and(|e| e.contains("line 2: it has 3 cells under 2 names")));
    let flat = "W,W,N1,N1,N2\n";
    assert!(read_text(flat).is_err_and(|e| e.contains("line 1: it has more than one stage")));
}

#[test]
fn changes_of_stage_last_until_the_next() {
    let changes = "onset,description\n0,W\n30,N1\n60,N2\n150,N2\n300,N3\n330,N2\n360,R\n450,W\n";
    let scoring = read_text(changes).expect("a table");
    assert_eq!(scoring.at(290.0), Some(SleepStage::N2), "{scoring:?}");
    assert_eq!(scoring.at(440.0), Some(SleepStage::Rem));
}
