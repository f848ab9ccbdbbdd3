//! What arrives of a session: how long ago each channel of each device got a sample in its place, by
//! the session's clock. Counted on the links' thread and carried with the session's totals; what it
//! means for the session's health is decided in [`crate::health`].

/// What arrives of a session, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrivals {
    /// Seconds of the session in a real one.
    pub speed: f64,
    /// Until the recording has begun: for how many seconds it could have, since devices send and it has
    /// waited for the others.
    pub overdue_s: Option<f64>,
    /// Devices that the session began without, though it was to wait for them.
    pub absent: usize,
    /// Its devices; of one that goes on also those that have not come back.
    pub devices: Vec<DeviceArrivals>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { speed: 1.0, overdue_s: None, absent: 0, devices: Vec::new() }
    }
}

/// What arrives of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceArrivals {
    /// The device.
    pub device: u64,
    /// It has said hello since this program began.
    pub has_come: bool,
    /// It has said that its session is over: nothing more is expected of it.
    pub has_ended: bool,
    /// Seconds since anything of it got its place; before the recording's start, since anything came.
    pub age_s: f64,
    /// Its channels that are recorded.
    pub channels: Vec<ChannelArrivals>,
}

/// What arrives of a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelArrivals {
    /// The device's label.
    pub label: String,
    /// Seconds since a sample got its place.
    pub age_s: f64,
    /// The longest block of samples so far, seconds: nothing comes more often than that.
    pub block_s: f64,
}
