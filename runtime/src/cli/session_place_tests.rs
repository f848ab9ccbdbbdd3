use super::*;
use crate::night::Sex;
use crate::signal::SignalInfo;

fn signal() -> SignalInfo {
    SignalInfo {
        label: "EEG".into(),
        rate_hz: 4.0,
        unit: "uV".into(),
        physical_min: -100.0,
        physical_max: 100.0,
        digital_min: -1000,
        digital_max: 1000,
    }
}

/// A session of device 7 that was cut; `change` makes it another one.
fn session(folder: &Path, change: impl FnOnce(&mut SavedSession)) {
    std::fs::create_dir_all(folder).expect("a folder");
    let start = DateTime::new((2026, 1, 2), (22, 0, 0)).expect("a time");
    let channel = SessionChannel { device: 7, label: "EEG".into(), signal: signal() };
    let mut saved = SavedSession::new((0, start.to_string()), &[channel]);
    (saved.age, saved.sex) = (Some(60.0), Some(Sex::M));
    change(&mut saved);
    saved.write(folder).expect("written");
    if recording_in(folder).is_none() {
        let recorder = Recorder::create(folder, &[signal()], start).expect("created");
        recorder.close().expect("closed");
    }
}

fn args(age: f64, id: Option<&str>) -> RunArgs {
    let session = id.map(|id| id.parse().expect("a name")).into_iter().collect();
    RunArgs { age: Some(age), sex: Some(Sex::M), session, ..RunArgs::default() }
}

/// The name of the folder, and whether a session may go on there.
fn found(out: &Path, args: &RunArgs) -> (String, bool) {
    let place = Place::find(out, args, None);
    let folder = place.likely();
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    (name, place.cut.is_some())
}

fn age_of_recording(folder: &Path, ago: Duration) {
    let path = recording_in(folder).expect("a recording");
    let file = File::options().write(true).open(path).expect("there");
    file.set_modified(SystemTime::now() - ago).expect("set");
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn only_the_same_session_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("night");
    let (same, on, next) = (args(60.0, None), ("night".into(), true), ("night-2".into(), false));
    assert_eq!(found(&out, &same), ("night".into(), false));
    session(&out, |_| ());
    assert_eq!(found(&out, &same), on);
    assert_eq!(found(&dir.path().join("night/"), &same), on);
    assert_eq!(found(&out, &args(61.0, None)), next);
    assert_eq!(found(&out, &RunArgs::default()), next);
    assert_eq!(found(&out, &args(60.0, Some("a"))), next);
    assert!(Place::find(&out, &same, Some(7)).cut.is_some());
    assert!(Place::find(&out, &same, Some(8)).cut.is_none());
    let held = lock(&out).expect("can be locked");
    assert_eq!(found(&out, &same), next);
    drop(held);
    age_of_recording(&out, 29 * MINUTE);
    assert_eq!(found(&out, &same), on);
    age_of_recording(&out, 31 * MINUTE);
    assert_eq!(found(&out, &same), next);
    age_of_recording(&out, MINUTE);
    session(&out, |saved| saved.closed = true);
    assert_eq!(found(&out, &same), next);
}

#[test]
fn a_name_decides_where_it_is_given() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("night");
    let named = |saved: &mut SavedSession| {
        (saved.session, saved.closed, saved.ended) = (Some("a".into()), true, true);
    };
    session(&out, named);
    age_of_recording(&out, 11 * 60 * MINUTE);
    assert_eq!(found(&out, &args(20.0, Some("a"))), ("night".into(), true));
    assert_eq!(found(&out, &args(60.0, Some("b"))), ("night-2".into(), false));
    assert_eq!(found(&out, &args(60.0, None)), ("night-2".into(), false));
    session(&dir.path().join("night-2"), |_| ());
    assert_eq!(found(&out, &args(60.0, Some("a"))), ("night".into(), true), "behind a newer one");
    assert_eq!(found(&out, &args(60.0, None)), ("night-2".into(), true));
    age_of_recording(&out, 13 * 60 * MINUTE);
    assert_eq!(found(&out, &args(60.0, Some("a"))), ("night-3".into(), false));
}

#[test]
fn only_the_newest_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("night");
    session(&out, |_| ());
    age_of_recording(&out, 5 * MINUTE);
    session(&dir.path().join("night-2"), |saved| saved.closed = true);
    assert_eq!(found(&out, &args(60.0, None)), ("night-3".into(), false));
}

#[test]
fn what_is_damaged_or_not_ours_is_left_as_it_is() {
    let ours = args(60.0, None);
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 6] = [
        ("session.json", |out| std::fs::write(out.join("session.json"), "").expect("written")),
        ("session.json", |out| {
            std::fs::write(out.join("session.json"), "{\"ver").expect("written")
        }),
        ("no session.json", |out| std::fs::remove_file(out.join("session.json")).expect("there")),
        ("recording", |out| {
            let path = out.join("recording.edf");
            let mut bytes = std::fs::read(&path).expect("there");
            bytes[..256].fill(0);
            std::fs::write(path, bytes).expect("written");
        }),
        ("recording", |out| std::fs::remove_file(out.join("recording.edf")).expect("there")),
        ("no session.json", |out| {
            std::fs::remove_dir_all(out).expect("there");
            std::fs::create_dir(out).expect("made");
            std::fs::write(out.join("recording.bdf"), "foreign").expect("written");
        }),
    ];
    for (said, damage) in damages {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("night");
        session(&out, |_| ());
        damage(&out);
        let place = Place::find(&out, &ours, None);
        assert!(place.cut.is_none(), "{said}");
        let line = place.line().expect("it is said");
        assert!(line.contains(said) && line.contains("goes to"), "{line}");
        assert!(line.ends_with("night-2"), "{line}");
    }
}

#[test]
fn a_name_without_room_for_a_number_is_refused_as_too_long() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("n".repeat(255));
    let args = args(60.0, None);
    assert!(Place::find(&out, &args, None).free(1).is_ok_and(|(_, folder)| folder == out));
    session(&out, |saved| saved.closed = true);
    let refusal = Place::find(&out, &args, None).free(1).map_err(|failure| failure.message);
    assert!(refusal.is_err_and(|text| text.contains("too long to get a number")));
}
