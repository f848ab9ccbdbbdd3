//! Who may take part in a session, and what becomes of those who may not: devices by their number,
//! beds by their count, and how much is said about it. Owned by the links' thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::{Barred, Bucket, Rate};
use super::event::SessionEvent;
use super::refusals::{RefusalWatch, Refusals};
use super::types::{Refused, Violation};
use crate::health::{Beds, Status};
use crate::service::bind::Devices;
use crate::text::hex;

/// Beds of one process, where nobody says otherwise.
pub const MAX_BEDS: usize = 256;
/// How long a device that was cut off is not taken again, and how many are remembered.
const BARRED: Duration = Duration::from_secs(60);
const MAX_BARRED: usize = 4096;
/// Lines of one sort about what is refused, and sorts that are told apart; those beyond are counted.
const LINES: Rate = Rate { per_s: 1.0 / 60.0, burst: 5.0 };
const MAX_SORTS: usize = 32;
/// A device that got no bed is remembered so long.
const NO_BED: Duration = Duration::from_secs(60);

/// Whether a device was here before.
pub type Acquainted = Box<dyn Fn(u64) -> bool + Send>;

/// Decides who takes part.
pub struct Admission {
    allowed: Devices,
    acquainted: Acquainted,
    max_beds: usize,
    /// Devices that were cut off.
    barred: Barred<u64>,
    refusals: Arc<Refusals>,
    watch: RefusalWatch,
    health: Option<Arc<Beds>>,
    /// By the first words of what is said, so that no sort hides another.
    lines: BTreeMap<String, Bucket>,
    /// When a device last got no bed.
    no_bed: Option<Instant>,
}

impl Admission {
    /// `allowed` devices take part; `health` is told what is refused.
    pub fn new(allowed: Devices, health: Option<Arc<Beds>>) -> Self {
        let refusals = Arc::<Refusals>::default();
        Self {
            allowed,
            acquainted: Box::new(|_| false),
            max_beds: MAX_BEDS,
            barred: Barred::new(BARRED, MAX_BARRED),
            watch: RefusalWatch::new(refusals.clone(), health.clone()),
            refusals,
            health,
            lines: BTreeMap::new(),
            no_bed: None,
        }
    }

    /// For beds: how many there may be, and which devices get one at their first word.
    #[must_use]
    pub fn with_beds(self, max_beds: usize, acquainted: Acquainted) -> Self {
        Self { max_beds, acquainted, ..self }
    }

    /// Where everything that is refused is counted.
    pub fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// Whether a device may say hello.
    ///
    /// # Errors
    /// [`Violation`]: its link is to be closed.
    pub(super) fn check(&self, device: u64) -> Result<(), Violation> {
        if !self.allowed.accept(device) {
            self.refusals.count(Refused::NotAllowed, 1);
            let device = hex(device);
            return Err(Violation(format!("{device} is none of the devices of --allow-device")));
        }
        if self.is_barred(device) {
            self.refusals.count(Refused::Barred, 1);
            return Err(Violation("was cut off less than a minute ago".to_owned()));
        }
        Ok(())
    }

    /// Whether a device gets a bed for its hello alone.
    pub(super) fn is_trusted(&self, device: u64) -> bool {
        !self.allowed.is_open() || (self.acquainted)(device)
    }

    /// Whether there may be one more bed than `beds`.
    pub(super) fn has_room(&self, beds: usize) -> bool {
        beds < self.max_beds
    }

    pub(super) fn is_barred(&self, device: u64) -> bool {
        self.barred.holds(&device, Instant::now())
    }

    /// A link is cut off; its device is not taken for a while. Whether a line should say so: one is
    /// enough for a device that comes again and again, and some are for all together.
    pub(super) fn cut_off(&mut self, device: Option<u64>, violation: &Violation) -> bool {
        let now = Instant::now();
        self.refusals.count(Refused::CutOff, 1);
        if let Some(device) = device {
            if self.barred.holds(&device, now) {
                return false;
            }
            self.barred.insert(device, now);
        }
        self.may_say(&violation.0)
    }

    /// Whether there is a line left for this sort of reason.
    fn may_say(&mut self, reason: &str) -> bool {
        let words = reason.split(' ').filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        let sort: String = words.take(3).flat_map(|word| word.chars().take(16)).collect();
        if self.lines.len() >= MAX_SORTS && !self.lines.contains_key(&sort) {
            return false;
        }
        let now = Instant::now();
        self.lines.entry(sort).or_insert_with(|| Bucket::new(&LINES, now)).take(&LINES, now)
    }

    /// A device got no bed: somebody's night is not recorded.
    pub(super) fn no_bed(&mut self, device: u64, reason: Option<&str>) {
        self.no_bed = Some(Instant::now());
        self.refusals.count(Refused::NoBed, 1);
        let (device, beds) = (hex(device), self.max_beds);
        let reason = match reason {
            Some(reason) => format!("a sensor waits: device {device} gets no bed: {reason}"),
            None => format!(
                "a sensor waits: device {device} gets no bed, all {beds} are taken (--max-beds)"
            ),
        };
        if self.may_say("no bed") {
            tracing::error!("{reason}");
        }
        self.set_no_bed(Some((Status::Failing, reason)));
    }

    /// Tells what is due: lines for the log.
    pub(super) fn look(&mut self, at_end: bool) -> Vec<SessionEvent> {
        let now = Instant::now();
        if self.no_bed.is_some_and(|at| now.saturating_duration_since(at) > NO_BED) {
            self.no_bed = None;
            self.set_no_bed(None);
        }
        self.watch.look(now, at_end)
    }

    fn set_no_bed(&self, condition: Option<(Status, String)>) {
        if let Some(health) = &self.health {
            health.condition("beds", condition);
        }
    }
}
