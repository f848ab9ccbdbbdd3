//! Any bytes as somebody's hypnogram. Nothing may panic or hang; a refusal is one line; what is
//! accepted is in order, of bounded length, and comes back from every format that is written.
#![no_main]

use libfuzzer_sys::fuzz_target;

// As in `edf`: the modules themselves and not the crate.
#[allow(dead_code)]
#[path = "../../../runtime/src/confusion.rs"]
mod confusion;
#[allow(dead_code)]
#[path = "../../../runtime/src/edf/mod.rs"]
mod edf;
#[allow(dead_code)]
#[path = "../../../runtime/src/hypnogram/mod.rs"]
mod hypnogram;
#[allow(dead_code)]
#[path = "../../../runtime/src/signal.rs"]
mod signal;

/// What hypnograms take of the events.
mod event {
    #[derive(Clone, Copy)]
    pub enum EpochStatus {
        Settled,
        Final,
    }

    impl EpochStatus {
        pub fn as_str(self) -> &'static str {
            match self {
                EpochStatus::Settled => "settled",
                EpochStatus::Final => "final",
            }
        }
    }
}

mod staging {
    pub const EPOCH_S: f64 = 30.0;
}

use hypnogram::{Stages, bids, luna, nsrr, profusion, recognized, usleep, yasa};

/// A week.
const MAX_EPOCHS: usize = 7 * 2_880;

fuzz_target!(|bytes: &[u8]| match recognized(bytes) {
    Err(reason) => assert!(!reason.contains(char::is_control), "{reason:?}"),
    Ok(scoring) => {
        assert!(scoring.stretches.iter().all(|s| s.onset_s.is_finite() && s.duration_s.is_finite()));
        assert!(scoring.stretches.is_sorted_by(|a, b| a.onset_s <= b.onset_s));
        let epochs = scoring.epochs();
        assert!(epochs.len() <= MAX_EPOCHS, "{} epochs", epochs.len());
        if epochs.iter().any(Option::is_some) {
            written(&epochs);
        }
    }
});

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
