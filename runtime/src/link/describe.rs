//! What devices say of themselves, checked: refuses what no sensor says.

use sfm_firmware_bridge::{Channel, MarkKind};

use super::types::Violation;
use crate::signal::SignalInfo;

/// Fastest channel, Hz: sound is slower than this.
const MAX_RATE_HZ: f64 = 50_000.0;

/// A channel as its device describes it, checked.
pub(super) fn signal(channel: &Channel<'_>) -> Result<SignalInfo, Violation> {
    let label: String = channel.label.chars().take(80).collect();
    let refuse =
        |what: String| Err(Violation(format!("says of its channel {}: {what}", channel.channel)));
    let Some(rate_hz) = channel.rate.hz().filter(|&hz| hz <= MAX_RATE_HZ) else {
        let rate = channel.rate;
        return refuse(format!("{} samples in {} s", rate.samples, rate.seconds));
    };
    if channel.digital_min >= channel.digital_max {
        return refuse(format!("digital {} to {}", channel.digital_min, channel.digital_max));
    }
    let signal = SignalInfo {
        label,
        rate_hz,
        unit: channel.unit.chars().take(16).collect(),
        physical_min: f64::from(channel.physical_min),
        physical_max: f64::from(channel.physical_max),
        digital_min: channel.digital_min,
        digital_max: channel.digital_max,
    };
    if signal.scale().is_none() {
        return refuse(format!("physical {} to {}", signal.physical_min, signal.physical_max));
    }
    Ok(signal)
}

/// As `annotations.edf` has it.
pub fn mark_text(kind: MarkKind) -> &'static str {
    match kind {
        MarkKind::Button => "Event button",
        MarkKind::LightsOff => "Lights off",
        MarkKind::LightsOn => "Lights on",
    }
}
