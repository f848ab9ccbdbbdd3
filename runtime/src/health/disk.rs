//! How much room the output folder's file system has left, when that is too little, and for how many
//! hours of a recording it is. It reads and judges; the recorder finds out for itself when the disk
//! is full. Called on the service's threads: a network file system may take its time.

use std::path::Path;

/// Below this the night may not fit: fifteen channels of 256 Hz are 220 MB in 8 h, files of the
/// final pass included 0.5 GB.
pub const LOW_BYTES: u64 = 2 << 30;

/// Below this the end of writing is minutes away.
pub const FULL_BYTES: u64 = 64 << 20;

/// A night, hours: what there is to be room for.
pub const NIGHT_H: f64 = 12.0;

/// What a recording takes, and what it has set aside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecordingSpace {
    /// Bytes that a second of it takes.
    pub bytes_per_s: f64,
    /// What it is long, seconds.
    pub recorded_s: f64,
    /// Bytes that are set aside for what comes.
    pub reserved_bytes: u64,
}

impl RecordingSpace {
    /// Hours that it can go on where `free_bytes` are left beside what is set aside.
    pub fn hours_left(&self, free_bytes: u64) -> f64 {
        let bytes = self.reserved_bytes.saturating_add(free_bytes) as f64;
        bytes / self.bytes_per_s.max(1.0) / 3600.0
    }

    /// So many hours are less than what is left of a night.
    pub fn is_short(&self, hours_left: f64) -> bool {
        hours_left < NIGHT_H - self.recorded_s / 3600.0
    }
}

/// Whether there is room to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// For this night and the next.
    Enough,
    /// Less than [`LOW_BYTES`].
    Low,
    /// Less than [`FULL_BYTES`].
    Full,
}

impl Room {
    /// What `free_bytes` are.
    pub fn of(free_bytes: u64) -> Self {
        if free_bytes < FULL_BYTES {
            Room::Full
        } else if free_bytes < LOW_BYTES {
            Room::Low
        } else {
            Room::Enough
        }
    }
}

/// Bytes that an ordinary user may still write on the file system of `dir`, or of the folder that
/// it will be made in. `None` where nobody knows.
pub fn free_bytes(dir: &Path) -> Option<u64> {
    let absolute = std::path::absolute(dir).ok()?;
    let existing = absolute.ancestors().find(|folder| folder.exists())?;
    free_on(existing)
}

#[cfg(unix)]
fn free_on(folder: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(folder).ok()?;
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}

#[cfg(not(unix))]
fn free_on(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_judged_by_its_bytes() {
        assert_eq!(Room::of(0), Room::Full);
        assert_eq!(Room::of(FULL_BYTES - 1), Room::Full);
        assert_eq!(Room::of(FULL_BYTES), Room::Low);
        assert_eq!(Room::of(LOW_BYTES - 1), Room::Low);
        assert_eq!(Room::of(LOW_BYTES), Room::Enough);
    }

    #[test]
    fn hours_are_counted_from_what_is_free_and_what_is_set_aside() {
        let hour = 3600 * 10_000;
        let space = |recorded_h: f64, reserved_bytes| RecordingSpace {
            bytes_per_s: 10_000.0,
            recorded_s: recorded_h * 3600.0,
            reserved_bytes,
        };
        assert_eq!(space(0.0, 2 * hour).hours_left(3 * hour), 5.0);
        assert!(space(0.0, 2 * hour).is_short(5.0));
        assert!(!space(7.0, 2 * hour).is_short(5.0), "the rest of the night fits");
        assert!(!space(20.0, 0).is_short(0.1));
    }

    #[cfg(unix)]
    #[test]
    fn the_figure_is_that_of_df() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut df = std::process::Command::new("df");
        let Ok(output) = df.args(["--output=avail", "-B1"]).arg(dir.path()).output() else {
            println!("skipped: no df");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let df: u64 = text.lines().nth(1).and_then(|l| l.trim().parse().ok()).expect("a figure");
        let ours = free_bytes(&dir.path().join("not/made/yet")).expect("known");
        // Others write on it meanwhile.
        assert!(ours.abs_diff(df) < df / 10 + (1 << 28), "{ours} is not df's {df}");
    }
}
