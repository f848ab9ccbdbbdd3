//! Scorings made after public reports of real files (`tests/data/scorings`): each gives the night of
//! `truth.csv`, or is refused with what to do.

use std::path::{Path, PathBuf};

use super::agreement::{Agreement, AlignedBy, Alignment, check_epoch_lengths};
use super::*;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/scorings").join(name)
}

fn scored(name: &str, options: &ReadOptions) -> Result<Agreement, String> {
    compared(name, "truth.csv", options)
}

fn compared(reference: &str, run: &str, options: &ReadOptions) -> Result<Agreement, String> {
    let reference = read(&file(reference), options).map_err(|e| e.to_string())?;
    let run = read(&file(run), options).map_err(|e| e.to_string())?;
    check_epoch_lengths(&reference, &run, ["reference", "run"])?;
    Agreement::of(&reference, &run, Alignment::of(&reference, &run, None))
}

fn codes(text: &str) -> ReadOptions {
    ReadOptions { codes: Some(text.parse().expect("a code")), ..ReadOptions::default() }
}

fn figures(agreement: &Agreement) -> (f64, u64) {
    (agreement.confusion.accuracy(), agreement.confusion.total())
}

#[test]
fn every_file_is_the_night_of_the_truth() {
    use AlignedBy::{Epoch, FirstRow, Row};
    for (name, by) in [
        ("s02.txt", Epoch),
        ("s03.txt", FirstRow),
        ("s04.txt", Row),
        ("s09.rml", Epoch),
        ("s12.txt", Epoch),
        ("s13.txt", Epoch),
        ("s14.txt", Epoch),
        ("s15.csv", Epoch),
        ("s16.csv", FirstRow),
        ("s17a.annot", Epoch),
        ("s17b.annot", Epoch),
        ("s17c.annot", FirstRow),
        ("s19.csv", Epoch),
        ("s24a.tsv", Epoch),
        ("s24b.tsv", Epoch),
        ("s25.txt", Epoch),
        ("s26.csv", Epoch),
        ("s29.txt", Epoch),
        ("s33a.csv", Epoch),
        ("s37.txt", Row),
    ] {
        let agreement =
            scored(name, &ReadOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(figures(&agreement), (1.0, 40), "{name}");
        assert_eq!(agreement.alignment, Alignment { by, offset_s: 0.0 }, "{name}");
        assert_eq!(agreement.warnings, [] as [&str; 0], "{name}");
        assert_eq!((agreement.only_reference(), agreement.only_run()), (0, 0), "{name}");
    }
}

#[test]
fn a_part_of_the_night_is_placed_by_its_numbers() {
    let agreement = scored("s32a.csv", &ReadOptions::default()).expect("placed");
    assert_eq!(figures(&agreement), (1.0, 30));
    assert_eq!(agreement.alignment.by, AlignedBy::Epoch);
    assert_eq!((agreement.only_reference(), agreement.only_run()), (0, 10));
    assert!(agreement.warnings[0].contains("900 s (30 epochs)"), "{:?}", agreement.warnings);
}

#[test]
fn files_that_begin_at_different_times_are_aligned_by_their_starts() {
    for (reference, run, offset_s, only) in
        [("s22b.edf", "s22a.edf", 300.0, (0, 10)), ("s22a.edf", "s22b.edf", -300.0, (10, 0))]
    {
        let agreement = compared(reference, run, &ReadOptions::default()).expect("aligned");
        assert_eq!(figures(&agreement), (1.0, 30), "{reference}");
        assert_eq!(agreement.alignment, Alignment { by: AlignedBy::Start, offset_s });
        assert_eq!((agreement.only_reference(), agreement.only_run()), only);
    }
}

#[test]
fn stages_without_a_length_last_until_the_next() {
    let reference = read(&file("s11.edf"), &ReadOptions::default()).expect("read");
    assert!(reference.warnings[0].contains("the last stage, at 1080 s, has no end"));
    let agreement = scored("s11.edf", &ReadOptions::default()).expect("compared");
    assert_eq!(figures(&agreement), (1.0, 36));
}

#[test]
fn numbers_need_a_code() {
    for (name, code) in [("s05.txt", "isruc"), ("s28.txt", "zmax")] {
        let refusal = scored(name, &ReadOptions::default()).expect_err("5 is not YASA's");
        for preset in ["rk (5=R)", "isruc (5=R)", "dreams (5=W)", "ucddb (5=N3)", "zmax (5=W)"] {
            assert!(refusal.contains(preset), "{refusal}");
        }
        assert!(refusal.contains("line "), "{refusal}");
        let agreement = scored(name, &codes(code)).expect("with the code");
        assert_eq!(figures(&agreement), (1.0, 40), "{name}");
    }
    let assumed = read(&file("s37.txt"), &ReadOptions::default()).expect("YASA's");
    assert_eq!(assumed.code, Some(CodeUsed { name: "yasa".into(), is_assumed: true }));
    let pairs = scored("s05.txt", &codes("0=W,1=N1,2=N2,3=N3,5=R")).expect("with pairs");
    assert_eq!(figures(&pairs), (1.0, 40));
}

#[test]
fn a_value_a_second_is_named_and_refused() {
    let refusal = scored("s31.txt", &ReadOptions::default()).expect_err("no epochs of 30 s");
    assert!(
        refusal.contains("a value per second") && refusal.contains("--epoch-s 1,"),
        "{refusal}"
    );
    let options = ReadOptions { epoch_s: Some(1.0), ..ReadOptions::default() };
    assert_eq!(figures(&scored("s31.txt", &options).expect("with the length")), (1.0, 40));
}

#[test]
fn a_clock_that_was_put_back_is_refused() {
    let refusal = scored("s23a.csv", &ReadOptions::default()).expect_err("ambiguous");
    assert!(refusal.contains("line 22: the clock goes back"), "{refusal}");
    assert!(refusal.contains("write seconds since the start"), "{refusal}");
}
