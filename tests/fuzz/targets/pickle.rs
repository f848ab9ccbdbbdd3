//! Any bytes as the pickle of a checkpoint: what it would take to read is found out without panic
//! and without taking it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../trainer/src/checkpoint/pickle.rs"]
mod pickle;

fuzz_target!(|bytes: &[u8]| {
    let (pickle::Refusal::Damaged(reason) | pickle::Refusal::Excess(reason)) =
        (match pickle::check(bytes) {
            Ok(()) => return,
            Err(refusal) => refusal,
        });
    assert!(!reason.contains(char::is_control), "{reason:?}");
});
