//! Freed memory stays with the process: a training step frees and wants the same gigabytes again
//! and again, and glibc would return each tensor to the kernel, whose page faults then take a
//! third of the step.

/// Call once, before the first tensor. Does nothing where the C library is not glibc.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: two integers by value; glibc takes its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}
