//! No number that a header claims is allocated: the largest request to the allocator while
//! impossible headers are read stays at what the file itself justifies.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Cursor;

use sfm_runtime::source::edf::EdfSource;

use crate::files::{RECORD_COUNT, RECORD_DURATION, SAMPLES_PER_RECORD, SIGNAL_COUNT};
use crate::files::{night, set, set_bytes};

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, noting each thread's largest request.
struct Noting;

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Noting = Noting;

#[test]
fn claims_allocate_nothing() {
    for (place, claim) in [
        (SAMPLES_PER_RECORD, "99999999"),
        (SAMPLES_PER_RECORD, "33554432"),
        (RECORD_COUNT, "99999999"),
        (RECORD_DURATION, "1000000"),
        (SIGNAL_COUNT, "4096"),
        (SIGNAL_COUNT, "9999"),
    ] {
        let mut bytes = night();
        set(&mut bytes, RECORD_DURATION, "1000000");
        if place == SIGNAL_COUNT {
            set_bytes(&mut bytes, place, claim.as_bytes());
        } else {
            set(&mut bytes, place, claim);
        }
        LARGEST.set(0);
        let _ = EdfSource::new(Cursor::new(bytes), "night.edf");
        let largest = LARGEST.get();
        assert!(largest < 4096, "{claim}: {largest} bytes at once");
    }
}
