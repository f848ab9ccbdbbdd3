//! Events, times and demographics.

use std::path::PathBuf;

use sfm_runtime::night::Sex;
use sfm_trainer::data::labels::{Age, Outcome};
use sfm_trainer::data::{Demographics, Events};

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Files { dir: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn events(&self, is_event: &str, times: &str) -> Result<Events, String> {
        let (a, b) = (self.write("is_event.csv", is_event), self.write("times.csv", times));
        Events::read(&a, &b).map_err(|e| e.to_string())
    }

    fn demographics(&self, text: &str) -> Result<Demographics, String> {
        Demographics::read(&self.write("demographics.csv", text)).map_err(|e| e.to_string())
    }
}

#[test]
fn events_are_joined_by_id_and_empty_cells_masked() {
    let files = Files::new();
    let events = files
        .events("Study ID,0,1,2\nb,1,0,0\na,0.0,1,\n", "Study ID,0,1,2\na,3.5,0.25,2\nb,1,nan,4\n")
        .unwrap();
    assert_eq!(events.labels, ["0", "1", "2"]);
    assert_eq!(events.ids().collect::<Vec<_>>(), ["a", "b"]);
    let some = |event, years| Some(Outcome { event, years });
    assert_eq!(events.outcomes("a").unwrap(), [some(false, 3.5), some(true, 0.25), None]);
    assert_eq!(events.outcomes("b").unwrap(), [some(true, 1.0), None, some(false, 4.0)]);
    assert_eq!(events.outcomes("c"), None);
    // All censored is a matter of who is asked for.
    assert_eq!(events.events(["a", "b"]), [1, 1, 0]);
    assert_eq!(events.all_censored(["a", "b"]), [2]);
    assert_eq!(events.all_censored(["a"]), [0, 2]);
    assert_eq!(events.all_censored([]), [0, 1, 2]);
}

#[test]
fn events_that_are_none_are_refused_with_their_line() {
    let files = Files::new();
    let (flags, times) = ("Study ID,0\na,1\nb,0\n", "Study ID,0\na,1\nb,2\n");
    files.events(flags, times).unwrap();
    for (is_event, time, words) in [
        ("Study ID,0\na,1\nb,2\n", times, "is_event.csv: line 3: 2 is neither"),
        ("Study ID,0\na,1\nb,yes\n", times, "line 3: 'yes' is no number"),
        ("Study ID,0\na,1\na,0\n", times, "line 3: 'a' occurs twice"),
        ("Study ID,0\n,1\n", times, "no Study ID"),
        ("ID,0\na,1\n", times, "no column 'Study ID'"),
        ("Study ID\na\n", times, "0 labels"),
        ("Study ID,0\na,1\n", times, "no row for 'b'"),
        (flags, "Study ID,0\na,1\n", "no row for 'b'"),
        (flags, "Study ID,1\na,1\nb,2\n", "columns"),
        (flags, "Study ID,0\na,-1\nb,2\n", "times.csv: line 2: -1 is no time"),
        (flags, "Study ID,0\na,inf\nb,2\n", "'inf' is no number"),
    ] {
        let refusal = files.events(is_event, time).unwrap_err();
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
}

#[test]
fn demographics_of_both_formats() {
    let files = Files::new();
    let ours = files
        .demographics(
            "Study ID,subject,age_years,sex,ahi\na,s1,60,m,12.5\nb,s1,,F,\nc,,30,female,0\n",
        )
        .unwrap();
    let a = ours.person("a").unwrap();
    assert_eq!((a.subject.as_str(), a.age, a.sex), ("s1", Some(Age::Years(60.0)), Some(Sex::M)));
    assert_eq!((a.ahi, a.inputs((0.0, 100.0))), (Some(12.5), Some([0.6, 1.0])));
    assert_eq!(a.inputs((20.0, 100.0)), Some([0.5, 1.0]));
    let b = ours.person("b").unwrap();
    assert_eq!((b.subject.as_str(), b.ahi, b.inputs((0.0, 100.0))), ("s1", None, None));
    assert_eq!(ours.person("c").unwrap().subject, "c");

    // A row of the published demo.
    let theirs =
        files.demographics("Study ID,age,gender\ndemo_psg,0.030612244897959183,0").unwrap();
    let demo = theirs.person("demo_psg").unwrap();
    assert_eq!(demo.inputs((0.0, 100.0)), Some([0.030_612_245, 0.0]));
    assert_eq!(demo.subject, "demo_psg");
}

#[test]
fn demographics_that_are_none_are_refused_with_their_line() {
    let files = Files::new();
    for (text, words) in [
        ("Study ID,age_years,sex\na,200,m\n", "line 2: 200 is no age"),
        ("Study ID,age_years,sex\na,old,m\n", "'old' is no number"),
        ("Study ID,age_years,sex\na,60,x\n", "'x' is no sex"),
        ("Study ID,age,gender\na,60,1\n", "not scaled"),
        ("Study ID,age_years,sex,ahi\na,60,m,-3\n", "-3 is no apnea"),
        ("Study ID,age_years,sex\na,60,m\na,61,m\n", "line 3: 'a' occurs twice"),
        ("Study ID,sex\na,m\n", "no column 'age'"),
        ("Study ID,age_years\na,50\n", "no column 'gender'"),
    ] {
        let refusal = files.demographics(text).unwrap_err();
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
}
