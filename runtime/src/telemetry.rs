//! Every metric the program has: name, kind, unit and meaning, and what writes them. A meter holds
//! handles to its series; without an installed recorder they are empty and an update is one
//! comparison. Called from any thread. Labels are bed, device, a channel's label and fixed words,
//! never a person's data; it refuses to make more series than [`MAX_LABELS`] beds or devices and
//! [`MAX_CHANNELS`] channels: the rest are `other`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use metrics::{Counter, Gauge, Histogram, Label, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::text::escaped;
use crate::timing::{Step, StepMeter};

/// Beds, and devices, that have series of their own. A hostile sensor that makes up device ids
/// must not fill the memory.
pub const MAX_LABELS: usize = 256;

/// Channels of all devices that have series of their own.
pub const MAX_CHANNELS: usize = 4096;

/// Stands for every bed or device beyond [`MAX_LABELS`], and channel beyond [`MAX_CHANNELS`].
const OTHER: &str = "other";

/// Longest label of a channel, characters.
const MAX_LABEL: usize = 64;

/// Upper bounds of the histograms' buckets, seconds.
const BUCKETS_S: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its rate is of interest.
    Counter,
    /// The value of the moment.
    Gauge,
    /// Counts by bucket, their sum and number.
    Histogram,
}

/// A metric as `/metrics` shows it.
#[derive(Debug)]
pub struct Metric {
    /// Its name, in Prometheus' conventions: base units, `_total` for counters.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// What it says, for its HELP line.
    pub help: &'static str,
}

macro_rules! metrics_table {
    ($($constant:ident: $kind:ident, $unit:ident, $name:literal, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric =
                Metric { name: $name, kind: Kind::$kind, unit: Unit::$unit, help: $help };
        )*
        /// All metrics.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics_table! {
    RECEIVED: Counter, Count, "sfm_samples_received_total",
        "Samples that arrived in intact frames, repeated ones included.";
    PLACED: Counter, Count, "sfm_samples_placed_total",
        "Samples that got their place on the session's time axis.";
    LEDGER: Counter, Count, "sfm_ledger_total",
        "Samples by what befell them: lost, late, duplicate, reordered, resent; of kind rejected are frames, whose samples nobody can count.";
    LINK_UP: Gauge, Count, "sfm_link_up",
        "1 while the device is connected, else 0.";
    RECONNECTS: Counter, Count, "sfm_link_reconnects_total",
        "Connections of a device after its first.";
    CLOCK_OFFSET: Gauge, Seconds, "sfm_clock_offset_seconds",
        "Fitted time of the host's clock at which the device's clock was at zero, since the session's start.";
    CLOCK_DRIFT: Gauge, Count, "sfm_clock_drift_ratio",
        "By how much the device's clock is fast, 1e-6 is 1 ppm; negative is slow.";
    ROUND_TRIP: Gauge, Seconds, "sfm_clock_round_trip_seconds",
        "Median round trip of the time exchanges with the device.";
    RATE: Gauge, Count, "sfm_sample_rate_ratio",
        "Measured over nominal sampling rate of the device.";
    SAMPLE_AGE: Gauge, Seconds, "sfm_sample_age_seconds",
        "Time since a sample of the channel got its place, by the session's clock; NaN once its device has ended its session.";
    BED_SAMPLE_AGE: Gauge, Seconds, "sfm_bed_sample_age_seconds",
        "Time since a sample of any of the bed's devices got its place, by the session's clock; NaN while none is expected.";
    SESSION_ON: Gauge, Count, "sfm_session_on",
        "1 while the bed has a session, else 0.";
    RING_FILL: Gauge, Count, "sfm_ring_fill_ratio",
        "Fill of the bed's fullest ring between link and pipeline, 0 to 1.";
    RING_OVERFLOW: Counter, Count, "sfm_ring_overflow_samples_total",
        "Samples that a full ring refused; they are in the recording.";
    EPOCH_DELAY: Histogram, Seconds, "sfm_epoch_delay_seconds",
        "From an epoch's last sample to its provisional stage.";
    SETTLED: Counter, Count, "sfm_epochs_settled_total",
        "Epochs whose window closed.";
    SKIPPED: Counter, Count, "sfm_provisional_epochs_skipped_total",
        "Epochs without a provisional stage because inference was behind.";
    EVENTS_DROPPED: Counter, Count, "sfm_events_dropped_total",
        "Events that the output files could not take.";
    CONSOLE_DROPPED: Counter, Count, "sfm_console_dropped_total",
        "Lines that standard error or standard output (stream) did not take.";
    HEARTBEAT_AGE: Gauge, Seconds, "sfm_pipeline_heartbeat_age_seconds",
        "Time since the bed's pipeline last showed that it runs.";
    HEALTH: Gauge, Count, "sfm_health",
        "The bed's state in /healthz: 0 ok, 1 degraded, 2 failing.";
    PROCESS_HEALTH: Gauge, Count, "sfm_process_health",
        "The process' state in /healthz, that of its worst bed or its own: 0 ok, 1 degraded, 2 failing.";
    RECORDER_ON: Gauge, Count, "sfm_recorder_on",
        "1 while the bed's recording is written, else 0.";
    RECORDED: Counter, Bytes, "sfm_recorder_written_bytes_total",
        "Bytes of the recording that were written.";
    DISK_FREE: Gauge, Bytes, "sfm_disk_free_bytes",
        "Free space of the file system with the bed's output folder.";
    INFERENCE: Histogram, Seconds, "sfm_inference_seconds",
        "Duration of one run of a part of the network (step).";
    REFUSED: Counter, Count, "sfm_refused_total",
        "What the links to sensors refused, by kind: connections, datagrams, devices.";
    START_TIME: Gauge, Seconds, "process_start_time_seconds",
        "Start of the process since the Unix epoch.";
    BUILD: Gauge, Count, "sfm_build_info",
        "1; the label says which version runs.";
}

/// Installs the recorder that `/metrics` reads, for the whole process and once. Meters made before
/// stay empty.
///
/// # Errors
/// One sentence, when there already is a recorder.
pub fn install() -> Result<PrometheusHandle, String> {
    let refuse = |e: &dyn std::fmt::Display| format!("metrics cannot be collected: {e}");
    let recorder = builder().map_err(|e| refuse(&e))?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|e| refuse(&e))?;
    describe();
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    metrics::gauge!(START_TIME.name).set(since_1970.unwrap_or_default().as_secs_f64());
    metrics::gauge!(BUILD.name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, metrics_exporter_prometheus::BuildError> {
    ALL.iter()
        .filter(|metric| metric.kind == Kind::Histogram)
        .map(|metric| Matcher::Full(metric.name.to_owned()))
        .try_fold(PrometheusBuilder::new(), |builder, metric| {
            builder.set_buckets_for_metric(metric, &BUCKETS_S)
        })
}

/// Tells the installed recorder what each metric means.
fn describe() {
    for &Metric { name, kind, unit, help } in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, unit, help),
            Kind::Gauge => metrics::describe_gauge!(name, unit, help),
            Kind::Histogram => metrics::describe_histogram!(name, unit, help),
        }
    }
}

/// A line that `stream` had no room for.
pub fn console_dropped(stream: &'static str) {
    metrics::counter!(CONSOLE_DROPPED.name, "stream" => stream).increment(1);
}

/// What befell a device's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Befell {
    /// Never came.
    Lost,
    /// Came when their place was given up.
    Late,
    /// Came again.
    Duplicate,
    /// Came behind later ones, and got their place.
    Reordered,
    /// Came at the second sending, and got their place.
    Resent,
    /// A frame with a wrong checksum or nonsense inside: counted in frames.
    Rejected,
}

impl Befell {
    /// All of them.
    pub const ALL: [Befell; 6] = [
        Befell::Lost,
        Befell::Late,
        Befell::Duplicate,
        Befell::Reordered,
        Befell::Resent,
        Befell::Rejected,
    ];

    /// Its label.
    pub fn as_str(self) -> &'static str {
        match self {
            Befell::Lost => "lost",
            Befell::Late => "late",
            Befell::Duplicate => "duplicate",
            Befell::Reordered => "reordered",
            Befell::Resent => "resent",
            Befell::Rejected => "rejected",
        }
    }
}

/// The fit of a device's clock to the host's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClockFit {
    /// Host time, seconds since the session's start, at the device's tick 0.
    pub offset_s: f64,
    /// Parts per million by which the device's clock is fast.
    pub drift_ppm: f64,
    /// Median round trip of the time exchanges.
    pub round_trip: Duration,
}

/// The series of one device at one bed. When it is dropped the link counts as down.
pub struct DeviceMeter {
    received: Counter,
    placed: Counter,
    ledger: [Counter; Befell::ALL.len()],
    link_up: Gauge,
    reconnects: Counter,
    clock_offset: Gauge,
    clock_drift: Gauge,
    round_trip: Gauge,
    rate: Gauge,
}

impl DeviceMeter {
    /// Handles for `device` (its id on the wire) at `bed`.
    pub fn new(bed: &str, device: u64) -> Self {
        let device = format!("{device:016x}");
        let labels = vec![
            Label::new("bed", known(&BEDS, bed)),
            Label::new("device", known(&DEVICES, &device)),
        ];
        let ledger = Befell::ALL.map(|kind| {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts("kind", kind.as_str()));
            metrics::counter!(LEDGER.name, labels)
        });
        Self {
            received: metrics::counter!(RECEIVED.name, labels.clone()),
            placed: metrics::counter!(PLACED.name, labels.clone()),
            ledger,
            link_up: metrics::gauge!(LINK_UP.name, labels.clone()),
            reconnects: metrics::counter!(RECONNECTS.name, labels.clone()),
            clock_offset: metrics::gauge!(CLOCK_OFFSET.name, labels.clone()),
            clock_drift: metrics::gauge!(CLOCK_DRIFT.name, labels.clone()),
            round_trip: metrics::gauge!(ROUND_TRIP.name, labels.clone()),
            rate: metrics::gauge!(RATE.name, labels),
        }
    }

    /// So many samples more arrived in intact frames.
    pub fn received(&self, samples: u64) {
        self.received.increment(samples);
    }

    /// So many samples more got their place.
    pub fn placed(&self, samples: u64) {
        self.placed.increment(samples);
    }

    /// This befell so many samples more (frames, for [`Befell::Rejected`]).
    pub fn befell(&self, kind: Befell, samples: u64) {
        self.ledger[kind as usize].increment(samples);
    }

    /// The device is connected, or not.
    pub fn link(&self, up: bool) {
        self.link_up.set(f64::from(u8::from(up)));
    }

    /// The device is back after its link was down.
    pub fn reconnected(&self) {
        self.reconnects.increment(1);
    }

    /// A new fit of its clock.
    pub fn clock(&self, fit: ClockFit) {
        self.clock_offset.set(fit.offset_s);
        self.clock_drift.set(fit.drift_ppm * 1e-6);
        self.round_trip.set(fit.round_trip.as_secs_f64());
    }

    /// Measured and nominal sampling rate, Hz.
    pub fn rate(&self, measured_hz: f64, nominal_hz: f64) {
        self.rate.set(measured_hz / nominal_hz);
    }
}

impl Drop for DeviceMeter {
    fn drop(&mut self) {
        self.link(false);
    }
}

/// The series of one bed. When it is dropped the session counts as over.
pub struct BedMeter {
    session_on: Gauge,
    ring_fill: Gauge,
    ring_overflow: Counter,
    epoch_delay: Histogram,
    settled: Counter,
    skipped: Counter,
    events_dropped: Counter,
    heartbeat_age: Gauge,
    health: Gauge,
    recorder_on: Gauge,
    recorded: Counter,
    disk_free: Gauge,
}

impl BedMeter {
    /// Handles for `bed`, whose session begins.
    pub fn new(bed: &str) -> Self {
        let labels = vec![Label::new("bed", known(&BEDS, bed))];
        let meter = Self {
            session_on: metrics::gauge!(SESSION_ON.name, labels.clone()),
            ring_fill: metrics::gauge!(RING_FILL.name, labels.clone()),
            ring_overflow: metrics::counter!(RING_OVERFLOW.name, labels.clone()),
            epoch_delay: metrics::histogram!(EPOCH_DELAY.name, labels.clone()),
            settled: metrics::counter!(SETTLED.name, labels.clone()),
            skipped: metrics::counter!(SKIPPED.name, labels.clone()),
            events_dropped: metrics::counter!(EVENTS_DROPPED.name, labels.clone()),
            heartbeat_age: metrics::gauge!(HEARTBEAT_AGE.name, labels.clone()),
            health: metrics::gauge!(HEALTH.name, labels.clone()),
            recorder_on: metrics::gauge!(RECORDER_ON.name, labels.clone()),
            recorded: metrics::counter!(RECORDED.name, labels.clone()),
            disk_free: metrics::gauge!(DISK_FREE.name, labels),
        };
        meter.session_on.set(1.0);
        meter
    }

    /// Fill of the fullest ring, 0 to 1.
    pub fn ring_fill(&self, part: f64) {
        self.ring_fill.set(part);
    }

    /// A full ring refused so many samples more.
    pub fn ring_overflow(&self, samples: u64) {
        self.ring_overflow.increment(samples);
    }

    /// The time from an epoch's last sample to its event.
    pub fn epoch_delay(&self, delay: Duration) {
        self.epoch_delay.record(delay);
    }

    /// So many epochs more are settled.
    pub fn settled(&self, epochs: u64) {
        self.settled.increment(epochs);
    }

    /// So many epochs more got no provisional stage.
    pub fn skipped(&self, epochs: u64) {
        self.skipped.increment(epochs);
    }

    /// The output files could not take so many events more.
    pub fn events_dropped(&self, events: u64) {
        self.events_dropped.increment(events);
    }

    /// Time since the pipeline last showed that it runs.
    pub fn heartbeat_age(&self, age: Duration) {
        self.heartbeat_age.set(age.as_secs_f64());
    }

    /// 0 ok, 1 degraded, 2 failing.
    pub fn health(&self, level: u8) {
        self.health.set(f64::from(level));
    }

    /// The recording is written, or not.
    pub fn recorder(&self, on: bool) {
        self.recorder_on.set(f64::from(u8::from(on)));
    }

    /// So many bytes more of the recording were written.
    pub fn recorded(&self, bytes: u64) {
        self.recorded.increment(bytes);
    }

    /// Free space behind the output folder, bytes.
    pub fn disk_free(&self, bytes: u64) {
        self.disk_free.set(bytes as f64);
    }
}

impl Drop for BedMeter {
    fn drop(&mut self) {
        self.session_on.set(0.0);
        self.recorder_on.set(0.0);
        self.ring_fill.set(0.0);
        self.heartbeat_age.set(0.0);
        self.health.set(0.0);
    }
}

/// How old the newest samples of a bed are, one series a channel and one for the bed.
pub struct SampleAges {
    bed: String,
    newest: Gauge,
    channels: BTreeMap<(String, String), Gauge>,
}

impl SampleAges {
    /// Handles for `bed`, of which nothing is expected yet.
    pub fn new(bed: &str) -> Self {
        let bed = known(&BEDS, bed);
        let newest = metrics::gauge!(BED_SAMPLE_AGE.name, vec![Label::new("bed", bed.clone())]);
        newest.set(f64::NAN);
        Self { bed, newest, channels: BTreeMap::new() }
    }

    /// Ages in seconds: of the bed, and by device and channel's label; `None` where nothing is
    /// expected. A channel that is not named any more has none.
    pub fn set<'a>(
        &mut self,
        newest_s: Option<f64>,
        channels: impl IntoIterator<Item = (u64, &'a str, Option<f64>)>,
    ) {
        self.newest.set(newest_s.unwrap_or(f64::NAN));
        let mut ages = BTreeMap::new();
        for (device, label, age_s) in channels {
            let series = self.series(device, label);
            let age = ages.entry(series).or_insert(f64::NAN);
            // Those that share a series show the oldest; a NaN is passed over.
            *age = age_s.unwrap_or(f64::NAN).max(*age);
        }
        for series in ages.keys() {
            if self.channels.contains_key(series) {
                continue;
            }
            let labels = vec![
                Label::new("bed", self.bed.clone()),
                Label::new("device", series.0.clone()),
                Label::new("channel", series.1.clone()),
            ];
            let gauge = metrics::gauge!(SAMPLE_AGE.name, labels);
            self.channels.insert(series.clone(), gauge);
        }
        for (series, gauge) in &self.channels {
            gauge.set(ages.get(series).copied().unwrap_or(f64::NAN));
        }
    }

    /// The labels of a channel.
    fn series(&self, device: u64, label: &str) -> (String, String) {
        let device = known(&DEVICES, &format!("{device:016x}"));
        let channel: String = escaped(label).chars().take(MAX_LABEL).collect();
        let whole = format!("{} {device} {channel}", self.bed);
        let is_known = among(&CHANNELS, &whole, MAX_CHANNELS);
        (device, if is_known { channel } else { OTHER.to_owned() })
    }
}

impl Drop for SampleAges {
    fn drop(&mut self) {
        self.set(None, []);
    }
}

/// The process' state in /healthz: 0 ok, 1 degraded, 2 failing.
pub fn process_health(level: u8) {
    metrics::gauge!(PROCESS_HEALTH.name).set(f64::from(level));
}

/// What the process' links refuse, a series a kind.
pub struct RefusalMeter(Vec<Counter>);

impl RefusalMeter {
    /// The series of these kinds.
    pub fn new(kinds: &[&'static str]) -> Self {
        let counter = |kind: &&'static str| metrics::counter!(REFUSED.name, "kind" => *kind);
        Self(kinds.iter().map(counter).collect())
    }

    /// So many more of a kind, by its place in the list.
    pub fn refused(&self, kind: usize, number: u64) {
        if let Some(counter) = self.0.get(kind) {
            counter.increment(number);
        }
    }
}

/// How long the parts of the network take, one histogram a part; for all beds together, whose
/// windows share runs.
pub struct InferenceMeter {
    steps: [Option<Histogram>; Step::ALL.len()],
}

impl Default for InferenceMeter {
    fn default() -> Self {
        let handle = |step: Step| {
            let label = inference_label(step)?;
            Some(metrics::histogram!(INFERENCE.name, "step" => label))
        };
        Self { steps: Step::ALL.map(handle) }
    }
}

impl StepMeter for InferenceMeter {
    /// Steps without a network are left out.
    fn record(&self, step: Step, duration: Duration) {
        if let Some(histogram) = &self.steps[step as usize] {
            histogram.record(duration);
        }
    }
}

fn inference_label(step: Step) -> Option<&'static str> {
    match step {
        Step::Source | Step::Condition => None,
        Step::Tokenizer => Some("tokenizer"),
        Step::Pool => Some("pool"),
        Step::Encoder => Some("encoder"),
        Step::Staging => Some("staging"),
        Step::Risk => Some("risk"),
        Step::Apnea => Some("apnea"),
    }
}

static BEDS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static DEVICES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static CHANNELS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// `label`, or `other` if there are too many different ones already.
fn known(labels: &Mutex<BTreeSet<String>>, label: &str) -> String {
    if among(labels, label, MAX_LABELS) { label.to_owned() } else { OTHER.to_owned() }
}

/// Whether `label` is one of the first `most`.
fn among(labels: &Mutex<BTreeSet<String>>, label: &str, most: usize) -> bool {
    let mut labels = labels.lock().unwrap_or_else(PoisonError::into_inner);
    if labels.contains(label) {
        return true;
    }
    let is_room = labels.len() < most;
    if is_room {
        labels.insert(label.to_owned());
    }
    is_room
}

#[cfg(test)]
#[path = "telemetry_tests.rs"]
mod tests;
