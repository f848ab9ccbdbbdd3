//! After warm-up, the way from a channel's samples to its tokens allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use sfm_models::manifest::Preprocessing;
use sfm_runtime::dsp::normalize::z_score_into;
use sfm_runtime::dsp::{Conditioner, PatchBuf, RunningStats};
use sfm_runtime::infer::tokenizer_kernel::TokenizerKernel;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards every call unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_after_warm_up() {
    let preprocessing =
        Preprocessing { rate_hz: 128, patch_samples: 640, lowpass_hz: 64.0, lowpass_order: 4 };
    let graph =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tokenizer/tokenizer.onnx");
    let graph = std::fs::read(graph).expect("the repository holds this graph");
    let kernel = TokenizerKernel::from_onnx(&graph).expect("a tokenizer");
    let mut scratch = kernel.scratch();
    let (mut raw, mut patch) = (vec![0.0; 640], vec![0.0; 640]);
    let mut token = vec![0.0; kernel.embed_dim()];

    for rate in [100_u64, 128, 200, 256, 512] {
        let mut conditioner = Conditioner::new(rate as f64, &preprocessing).expect("usual rate");
        let mut patches = PatchBuf::new(640);
        let mut stats = RunningStats::new();
        let block: Vec<f32> = (0..rate).map(|i| ((i * 7919) % 101) as f32).collect();
        let mut next_patch = 0;
        let mut tokens = 0;
        let mut minutes = |range: std::ops::Range<u64>| {
            for second in range {
                // Ten seconds of every minute are missing, and often a few samples.
                if second % 60 < 50 {
                    let lost = if second % 7 == 0 { rate as usize / 5 } else { 0 };
                    let start = second * rate + lost as u64;
                    conditioner.push(start, &block[lost..], &mut |y| patches.push(y));
                }
                while conditioner.ready_until() >= (next_patch + 1) * 640 {
                    let share = patches.take(next_patch, &mut raw);
                    next_patch += 1;
                    stats.add_patch(&raw);
                    if let (Some(_), Some(stats)) = (share, stats.stats()) {
                        patches.bridge(&mut raw);
                        z_score_into(&raw, &stats, &mut patch);
                        kernel.tokens_into(&mut scratch, &patch, &mut token);
                        tokens += 1;
                    }
                }
            }
        };
        minutes(0..180);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        minutes(180..900);
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "at {rate} Hz");
        assert!(tokens > 100, "{tokens} tokens at {rate} Hz");
    }
}
