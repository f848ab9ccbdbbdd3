//! Any bytes as a hypnogram of another program. Nothing may panic or hang; a refusal is one line; what is
//! accepted is in order, of bounded length, and comes back from every format that is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfm_hypnogram::agreement::{Agreement, Alignment, check_epoch_lengths};
use sfm_hypnogram::{ReadOptions, Scoring, Stages, bids, luna, nsrr, profusion, usleep, yasa};

/// By the first byte what the user says about the file: nothing, a code, the length of epochs.
fn options(first: u8) -> ReadOptions {
    let codes = [None, Some("isruc"), Some("dreams"), Some("0=W,1=N1,2=N2,3=N3,5=R,x=?")];
    let codes = codes[usize::from(first) % codes.len()].map(|text| text.parse().expect("a code"));
    let epoch_s = [None, Some(1.0), Some(20.0)][usize::from(first / 4) % 3];
    ReadOptions { codes, epoch_s }
}

fn recognized(bytes: &[u8]) -> Result<Scoring, String> {
    sfm_hypnogram::recognized(bytes, &ReadOptions::default())
}

/// A week.
const MAX_EPOCHS: usize = 7 * 2_880;

fuzz_target!(|bytes: &[u8]| {
    checked(recognized(bytes));
    // The same bytes with what the user says.
    checked(sfm_hypnogram::recognized(bytes, &options(bytes.len() as u8)));
});

fn checked(read: Result<Scoring, String>) {
    match read {
        Err(reason) => assert!(!reason.contains(char::is_control), "{reason:?}"),
        Ok(scoring) => {
            assert!(
                scoring.stretches.iter().all(|s| s.onset_s.is_finite() && s.duration_s.is_finite())
            );
            assert!(scoring.stretches.is_sorted_by(|a, b| a.onset_s <= b.onset_s));
            let epochs = scoring.epochs();
            assert!(epochs.len() <= MAX_EPOCHS, "{} epochs", epochs.len());
            compared(&scoring);
            if epochs.iter().any(Option::is_some) {
                written(&epochs);
            }
        }
    }
}

/// A scoring agrees with itself in every epoch, and beside another night nothing breaks.
fn compared(scoring: &Scoring) {
    let alignment = Alignment::of(scoring, scoring, None);
    let same = Agreement::of(scoring, scoring, alignment).expect("no offset");
    assert_eq!((same.only_reference(), same.only_run()), (0, 0));
    assert!(same.confusion.total() == 0 || same.confusion.accuracy() == 1.0);
    let other = recognized(b"Time,Stage\n22:00:00,W\n22:00:30,N1\n22:01:00,R\n").expect("a night");
    let _ = check_epoch_lengths(scoring, &other, ["a", "b"]);
    let _ = Agreement::of(scoring, &other, Alignment::of(scoring, &other, None));
}

fn written(epochs: &Stages) {
    let texts = [
        luna::text(epochs),
        nsrr::text(epochs, None),
        profusion::text(epochs),
        usleep::tsv(epochs),
        yasa::text(epochs),
        bids::tsv(epochs),
    ];
    let npy = usleep::npy(epochs).expect("memory takes it");
    for bytes in texts.iter().map(String::as_bytes).chain([npy.as_slice()]) {
        let again = recognized(bytes).expect("our own file").epochs();
        assert_eq!(again, epochs, "{}", String::from_utf8_lossy(bytes));
    }
}
