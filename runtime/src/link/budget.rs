//! Token buckets for what strangers may cost, and addresses that are not heard for a while. Every
//! operation takes constant time, every map has a bound: who floods a port fills neither the
//! memory nor the thread.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses that have a bucket of their own; all others share one.
const MAX_ADDRESSES: usize = 4096;
/// Full buckets are looked for this often, at most.
const SWEEP: Duration = Duration::from_secs(1);

/// What a bucket gives.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// In the long run.
    pub per_s: f64,
    /// At once.
    pub burst: f64,
}

/// A token bucket.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: &Rate, now: Instant) -> Self {
        Self { tokens: rate.burst, filled: now }
    }

    /// Takes one token, if there is one.
    pub fn take(&mut self, rate: &Rate, now: Instant) -> bool {
        let passed_s = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed_s * rate.per_s).min(rate.burst);
        self.filled = now;
        let is_there = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(is_there));
        is_there
    }

    fn is_full(&self, rate: &Rate, now: Instant) -> bool {
        let passed_s = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens + passed_s * rate.per_s >= rate.burst
    }
}

/// A bucket for each address and one for all of them: no single address uses up what there is.
#[derive(Debug)]
pub struct Budgets {
    each: Rate,
    all: Rate,
    total: Bucket,
    /// Of all addresses beyond [`MAX_ADDRESSES`].
    others: Bucket,
    buckets: HashMap<IpAddr, Bucket>,
    swept: Instant,
}

impl Budgets {
    /// Full ones.
    pub fn new(each: Rate, all: Rate, now: Instant) -> Self {
        Self {
            each,
            all,
            total: Bucket::new(&all, now),
            others: Bucket::new(&each, now),
            buckets: HashMap::new(),
            swept: now,
        }
    }

    /// Takes a token for something that comes from `address`.
    pub fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        let network = network(address);
        if self.buckets.len() >= MAX_ADDRESSES && !self.buckets.contains_key(&network) {
            self.sweep(now);
        }
        let bucket = if self.buckets.len() < MAX_ADDRESSES || self.buckets.contains_key(&network) {
            self.buckets.entry(network).or_insert_with(|| Bucket::new(&self.each, now))
        } else {
            &mut self.others
        };
        bucket.take(&self.each, now) && self.total.take(&self.all, now)
    }

    /// A full bucket is as good as none.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) >= SWEEP {
            self.swept = now;
            let each = self.each;
            self.buckets.retain(|_, bucket| !bucket.is_full(&each, now));
        }
    }
}

/// Of an IPv6 address the half that its user does not choose.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

/// Keys that are barred for a while, the newest of them.
#[derive(Debug)]
pub struct Barred<K> {
    until: HashMap<K, Instant>,
    in_order: VecDeque<(K, Instant)>,
    duration: Duration,
    most: usize,
}

impl<K: Eq + Hash + Copy> Barred<K> {
    /// Each is barred for `duration`, `most` at a time.
    pub fn new(duration: Duration, most: usize) -> Self {
        Self { until: HashMap::new(), in_order: VecDeque::new(), duration, most }
    }

    /// Bars `key`; what has expired, and the oldest where there are too many, is forgotten.
    pub fn insert(&mut self, key: K, now: Instant) {
        while self.in_order.len() >= self.most
            || self.in_order.front().is_some_and(|(_, until)| *until <= now)
        {
            let Some((old, until)) = self.in_order.pop_front() else { break };
            if self.until.get(&old) == Some(&until) {
                self.until.remove(&old);
            }
        }
        let until = now + self.duration;
        self.until.insert(key, until);
        self.in_order.push_back((key, until));
    }

    /// Whether `key` is barred.
    pub fn holds(&self, key: &K, now: Instant) -> bool {
        self.until.get(key).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_s: 10.0, burst: 5.0 };

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(&RATE, begin);
        assert_eq!((0..100).filter(|_| bucket.take(&RATE, begin)).count(), 5);
        let taken =
            (1..=1000).filter(|ms| bucket.take(&RATE, begin + Duration::from_millis(*ms))).count();
        assert!((9..=10).contains(&taken), "{taken}");
    }

    #[test]
    fn one_address_does_not_use_up_what_others_have() {
        let begin = Instant::now();
        let mut budgets = Budgets::new(RATE, Rate { per_s: 100.0, burst: 50.0 }, begin);
        let taken = |budgets: &mut Budgets, address: &str, count: usize| {
            let address = address.parse().expect("an address");
            (0..count).filter(|_| budgets.take(address, begin)).count()
        };
        assert_eq!(taken(&mut budgets, "192.0.2.1", 10_000), 5);
        assert_eq!(taken(&mut budgets, "192.0.2.2", 3), 3);
        // One network, many addresses.
        assert_eq!(taken(&mut budgets, "2001:db8::1", 4), 4);
        assert_eq!(taken(&mut budgets, "2001:db8::2", 4), 1);
        assert_eq!(taken(&mut budgets, "::ffff:192.0.2.1", 4), 0, "the same machine");
    }

    #[test]
    fn addresses_without_end_take_no_room() {
        let begin = Instant::now();
        let all = Rate { per_s: 1e9, burst: 1e9 };
        let mut budgets = Budgets::new(RATE, all, begin);
        for number in 0..20_000_u32 {
            budgets.take(IpAddr::V4(number.into()), begin);
        }
        assert_eq!(budgets.buckets.len(), MAX_ADDRESSES);
        // Later they are forgotten.
        let later = begin + Duration::from_secs(10);
        assert!(budgets.take(IpAddr::V4(30_000.into()), later));
        assert_eq!(budgets.buckets.len(), 1);
    }

    #[test]
    fn the_barred_are_few_and_forgotten_in_time() {
        let begin = Instant::now();
        let mut barred = Barred::new(Duration::from_secs(60), 100);
        for key in 0..1000 {
            barred.insert(key, begin);
        }
        assert_eq!((barred.until.len(), barred.in_order.len()), (100, 100));
        assert!(barred.holds(&999, begin) && !barred.holds(&0, begin));
        let later = begin + Duration::from_secs(30);
        barred.insert(999, later);
        let last = begin + Duration::from_secs(61);
        assert!(barred.holds(&999, last) && !barred.holds(&998, last));
        barred.insert(1, last);
        assert_eq!((barred.until.len(), barred.in_order.len()), (2, 2));
    }
}
