use super::*;

#[test]
fn a_cut_line_is_taken_away_before_the_log_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(LOG);
    let ended = |reason: &str| LogLine {
        session_s: 1.0,
        utc: "2026-01-02T22:00:00Z".to_owned(),
        event: SessionEvent::Ended { reason: reason.to_owned() },
    };
    for (before, lines) in [("", 1), ("{}\n", 2), ("{}\n{\"half", 2), ("{\"half", 1)] {
        std::fs::write(&path, before).expect("written");
        let mut log = SessionLog::open(dir.path()).expect("opens");
        assert_eq!(log.write(&ended("end of the night")), None);
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text.lines().count(), lines, "{text}");
        assert!(text.ends_with('\n') && !text.contains("half"), "{text}");
    }
}

fn line(session_s: f64, event: SessionEvent) -> LogLine {
    LogLine { session_s, utc: "2026-01-02T22:00:00Z".to_owned(), event }
}

fn connected(session_s: f64) -> LogLine {
    line(session_s, SessionEvent::LinkUp { link: "tcp 127.0.0.1:1".to_owned() })
}

fn mark(session_s: f64) -> LogLine {
    let event = SessionEvent::Mark { device: String::new(), onset_s: 1.0, mark: "Lights off" };
    line(session_s, event)
}

fn kinds(dir: &Path) -> Vec<(String, u64)> {
    let text = std::fs::read_to_string(dir.join(LOG)).expect("read");
    let lines = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let kind = line["event"].as_str().expect("a kind").to_owned();
        (kind, line["lines"].as_u64().unwrap_or_default())
    });
    lines.collect()
}

#[test]
fn who_connects_without_end_does_not_fill_the_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = SessionLog::open(dir.path()).expect("opens");
    for n in 0..100_000 {
        assert_eq!(log.write(&connected(1e-3 * f64::from(n))), None);
        if n % 1000 == 0 {
            log.write(&mark(1e-3 * f64::from(n)));
        }
    }
    log.write(&line(100.0, SessionEvent::Ended { reason: "end of the night".to_owned() }));
    let kinds = kinds(dir.path());
    let count = |of: &str| kinds.iter().filter(|(kind, _)| kind == of).count();
    assert_eq!((count("link_up"), count("mark"), count("ended")), (120, 100, 1));
    let left_out: u64 = kinds.iter().map(|(_, lines)| lines).sum();
    assert_eq!((count("left_out_lines"), left_out), (2, 100_000 - 120));
}

#[test]
fn a_full_log_has_what_is_essential() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = SessionLog::open_within(dir.path(), 1000).expect("opens");
    for minute in 0..100 {
        log.write(&connected(60.0 * f64::from(minute)));
        log.write(&mark(60.0 * f64::from(minute)));
    }
    let kinds = kinds(dir.path());
    let count = |of: &str| kinds.iter().filter(|(kind, _)| kind == of).count();
    assert_eq!((count("mark"), count("full")), (100, 1));
    let full = kinds.iter().position(|(kind, _)| kind == "full").expect("told");
    assert!((3..20).contains(&full), "{full}");
    assert!(kinds.iter().skip(full + 1).all(|(kind, _)| kind == "mark"));
}

#[cfg(unix)]
#[test]
fn a_log_whose_folder_is_gone_goes_on_with_all_its_lines() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("night");
    std::fs::create_dir(&out).expect("a folder");
    let mut log = SessionLog::open(&out).expect("opens");
    assert_eq!(log.write(&mark(1.0)), None);
    log.move_to(&out).expect("it is there");
    std::fs::remove_dir_all(&out).expect("removed");
    std::fs::create_dir(&out).expect("a folder");
    log.move_to(&out).expect("moved");
    assert_eq!(log.write(&mark(2.0)), None);
    assert_eq!(kinds(&out).len(), 2);
}

#[test]
fn a_kind_is_the_name_that_the_file_has() {
    let events = [
        SessionEvent::LinkUp { link: String::new() },
        SessionEvent::UtcStep { seconds: 1.0 },
        SessionEvent::Full { bytes: 1 },
    ];
    for event in events {
        assert_eq!(serde_json::to_value(&event).expect("JSON")["event"], event.kind());
    }
}

#[test]
fn what_a_full_disk_does_not_take_waits_and_is_counted_beyond_its_room() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = SessionLog::open(dir.path()).expect("opens");
    let writable = std::mem::replace(
        &mut log.file,
        File::open(dir.path().join(LOG)).expect("for reading only"),
    );
    let failed = (0..20_000).filter(|_| log.write(&mark(1.0)).is_some()).count();
    assert_eq!(failed, 1, "it is told once");
    assert!(log.waiting.len() <= MAX_WAITING && log.missing > 0);
    let missing = log.missing;
    log.file = writable;
    assert_eq!(log.write(&mark(2.0)), None);
    let kinds = kinds(dir.path());
    assert_eq!(kinds.last(), Some(&("missing_lines".to_owned(), missing + 1)));
    assert_eq!(kinds.len() as u64 - 1 + missing + 1, 20_001);
}
