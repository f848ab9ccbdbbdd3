//! Rate limits of lines by kind: so many a minute; the rest is counted and reported once the minute is
//! over. The caller provides the time. Memory grows with the number of kinds, which is fixed.

use std::collections::HashMap;
use std::hash::Hash;

/// The period of a limit, seconds.
const MINUTE_S: f64 = 60.0;

/// Lines by kind.
#[derive(Debug)]
pub(crate) struct RateLimit<K> {
    kinds: HashMap<K, Minute>,
    /// Some kind has lines that were left out.
    has_left_out: bool,
}

/// The current minute of a kind, which its first line began.
#[derive(Debug)]
struct Minute {
    since_s: f64,
    lines: u32,
    left_out: u64,
    last: String,
}

/// Lines of a minute that were left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOut<K> {
    /// Of this kind.
    pub kind: K,
    /// How many.
    pub lines: u64,
    /// The last of them.
    pub last: String,
}

impl<K> Default for RateLimit<K> {
    fn default() -> Self {
        Self { kinds: HashMap::new(), has_left_out: false }
    }
}

impl<K: Eq + Hash + Clone> RateLimit<K> {
    /// Whether a line of `kind` is among the first `per_minute` of its minute; otherwise it is counted.
    /// Call [`over`](Self::over) first.
    pub fn admits(&mut self, kind: &K, per_minute: u32, now_s: f64, line: &str) -> bool {
        let begin = || Minute { since_s: now_s, lines: 0, left_out: 0, last: String::new() };
        let minute = self.kinds.entry(kind.clone()).or_insert_with(begin);
        if minute.is_over(now_s) && minute.left_out == 0 {
            *minute = begin();
        }
        if minute.lines < per_minute {
            minute.lines += 1;
            return true;
        }
        minute.left_out += 1;
        line.clone_into(&mut minute.last);
        self.has_left_out = true;
        false
    }

    /// Takes what was left out in minutes that are over.
    pub fn over(&mut self, now_s: f64) -> Vec<LeftOut<K>> {
        self.take(|minute| minute.is_over(now_s))
    }

    /// Takes everything that was left out.
    pub fn rest(&mut self) -> Vec<LeftOut<K>> {
        self.take(|_| true)
    }

    fn take(&mut self, is_due: impl Fn(&Minute) -> bool) -> Vec<LeftOut<K>> {
        if !self.has_left_out {
            return Vec::new();
        }
        let due: Vec<LeftOut<K>> = self
            .kinds
            .iter()
            .filter(|(_, minute)| minute.left_out > 0 && is_due(minute))
            .map(|(kind, minute)| LeftOut {
                kind: kind.clone(),
                lines: minute.left_out,
                last: minute.last.clone(),
            })
            .collect();
        due.iter().for_each(|left_out| drop(self.kinds.remove(&left_out.kind)));
        self.has_left_out = self.kinds.values().any(|minute| minute.left_out > 0);
        due
    }
}

impl Minute {
    /// A clock that went back begins another minute too.
    fn is_over(&self, now_s: f64) -> bool {
        !(self.since_s..self.since_s + MINUTE_S).contains(&now_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_a_few_lines_and_a_count() {
        let mut limit = RateLimit::default();
        let shown = (0..5000).filter(|n| limit.admits(&"down", 60, 0.001 * f64::from(*n), "x"));
        assert_eq!(shown.count(), 60);
        assert!(limit.admits(&"up", 60, 5.0, "another kind"));
        assert!(!limit.admits(&"down", 60, 59.9, "the last"));
        assert_eq!(limit.over(59.9), []);
        let left_out = LeftOut { kind: "down", lines: 4941, last: "the last".to_owned() };
        assert_eq!(limit.over(60.0), [left_out]);
        assert_eq!(limit.over(60.0), []);
        assert!(limit.admits(&"down", 60, 60.0, "x"), "another minute");
    }

    #[test]
    fn what_is_rare_is_never_left_out() {
        let mut limit = RateLimit::default();
        for second in 0..36_000 {
            assert!(limit.admits(&"once a second", 60, f64::from(second), "x"), "{second}");
        }
        assert_eq!(limit.rest(), []);
        assert!(!limit.admits(&"never", 0, 0.0, "x"));
        assert_eq!(limit.rest().len(), 1);
    }
}
