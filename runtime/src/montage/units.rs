//! What the unit and the rate of a channel say of it, whatever its label: a channel in ohms is an
//! impedance, one of 1 Hz no ECG. Units are written in many ways, and an unknown or empty one says
//! nothing.

use serde::Deserialize;
use sfm_models::Modality;

use crate::signal::SignalInfo;

/// EEG, EOG and ECG that are slower say nothing of what the network looks for, Hz: spindles reach 16 Hz,
/// and a QRS complex is over in 0.1 s.
const MIN_WAVE_RATE_HZ: f64 = 30.0;
/// No electrode gives so much without falling below zero, volts: a supply, or an input for other devices.
const SUPPLY_V: f64 = 1.0;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Quantity {
    Voltage,
    Resistance,
    Current,
    Conductance,
    Inductance,
    Percent,
    Angle,
    Temperature,
    Illuminance,
    Pressure,
    Flow,
    Volume,
    PerMinute,
    Acceleration,
    Level,
    Frequency,
    Time,
}

/// Spellings, lower case and without spaces, dots and `^`.
const SPELLINGS: [(Quantity, &[&str]); 17] = [
    (
        Quantity::Voltage,
        &[
            "v",
            "uv",
            "mv",
            "nv",
            "kv",
            "?v",
            "uvolt",
            "volt",
            "volts",
            "microvolt",
            "microvolts",
            "millivolt",
            "millivolts",
            "uvrms",
            "mvrms",
            "v/s",
            "uv2",
            "uvpp",
        ],
    ),
    (
        Quantity::Resistance,
        &[
            "ohm", "ohms", "kohm", "kohms", "mohm", "mohms", "Ω", "kΩ", "mΩ", "ω", "kω", "mω",
            "kiloohm", "kiloohms", "kilohm", "kilohms", "megohm", "ohmios", "ohmio", "koh",
        ],
    ),
    (Quantity::Current, &["a", "ma", "ua", "na"]),
    (Quantity::Conductance, &["us", "usiemens", "siemens", "umho", "msiemens"]),
    (Quantity::Inductance, &["h", "mh", "uh", "nh", "henry"]),
    (Quantity::Percent, &["%", "percent", "prozent", "pct", "perc", "%spo2", "%sao2", "%sat"]),
    (
        Quantity::Angle,
        &["°", "º", "deg", "degs", "degree", "degrees", "grad", "rad", "radians", "°/s", "deg/s"],
    ),
    (
        Quantity::Temperature,
        &[
            "°c", "ºc", "oc", "'c", "degc", "c", "celsius", "degreec", "°f", "ºf", "degf", "f",
            "kelvin", "degreesc",
        ],
    ),
    (Quantity::Illuminance, &["lx", "lux", "klx", "lumen", "lm"]),
    (
        Quantity::Pressure,
        &[
            "cmh2o", "cmh20", "mmh2o", "mbar", "bar", "hpa", "pa", "kpa", "upa", "mmhg", "psi",
            "torr",
        ],
    ),
    (
        Quantity::Flow,
        &["l/s", "l/sec", "l/min", "l/m", "lpm", "ml/s", "ml/min", "slpm", "cm3/s", "ls", "lmin"],
    ),
    (Quantity::Volume, &["l", "ml", "cc", "cm3", "liter", "litre"]),
    (
        Quantity::PerMinute,
        &["bpm", "rpm", "brpm", "brmin", "/min", "1/min", "min-1", "cpm", "bts/min", "ppm"],
    ),
    (Quantity::Acceleration, &["g", "mg", "m/s2", "m/s²", "m/ss", "g/s", "mg/s"]),
    (Quantity::Level, &["db", "dba", "dbm", "dbfs"]),
    (Quantity::Frequency, &["hz", "khz", "mhz"]),
    (Quantity::Time, &["s", "sec", "ms", "msec", "min", "seconds", "hours"]),
];

/// What a unit measures; `None` where it says nothing.
pub(super) fn quantity(unit: &str) -> Option<Quantity> {
    let written: String = unit
        .chars()
        .filter(|c| !c.is_whitespace() && !".^\0[]()".contains(*c))
        // Micro signs, also those that a wrong code page made of them.
        .map(|c| if "µμæ\u{fffd}".contains(c) { 'u' } else { c })
        // Ohm and degree of DOS code pages, read as Latin-1.
        .map(|c| match c {
            'ê' => 'ω',
            'ø' => '°',
            c => c,
        })
        .flat_map(char::to_lowercase)
        .collect();
    if written.contains("ohm") {
        return Some(Quantity::Resistance);
    }
    let known = SPELLINGS.iter().find(|(_, spellings)| spellings.contains(&written.as_str()));
    known.map(|(quantity, _)| *quantity).or_else(|| {
        // 'tr/min', 'beats/min'.
        written.ends_with("/min").then_some(Quantity::PerMinute)
    })
}

/// Why a channel cannot be of `modality`; `None` if it can. `also` are quantities that the rule which
/// claims it allows beyond those of the modality.
pub(super) fn refused(
    signal: &SignalInfo,
    modality: Modality,
    also: &[Quantity],
) -> Option<String> {
    let measured = quantity(&signal.unit);
    let is_impossible = |&quantity: &Quantity| !is_possible(quantity, modality, also);
    if let Some(quantity) = measured.filter(is_impossible) {
        let unit = signal.unit.trim();
        return Some(match quantity {
            Quantity::Resistance => format!("in '{unit}', an impedance and not a signal"),
            _ => format!("in '{unit}', which is no unit of {modality}"),
        });
    }
    let is_wave = matches!(modality, Modality::Bas | Modality::Ekg);
    if is_wave && signal.rate_hz < MIN_WAVE_RATE_HZ {
        let rate_hz = signal.rate_hz;
        return Some(format!(
            "sampled at {rate_hz} Hz, too slow for {modality}, which takes at least {MIN_WAVE_RATE_HZ} Hz"
        ));
    }
    let volts = |limit: f64| in_volts(signal).map(|volt| limit * volt);
    let (low, high) = (volts(signal.physical_min)?, volts(signal.physical_max)?);
    let is_supply = modality != Modality::Resp && low.min(high) >= 0.0 && low.max(high) > SUPPLY_V;
    is_supply.then(|| {
        format!("from {low} to {high} V, the range of a supply or an input and not of an electrode")
    })
}

/// Volts of one unit of the channel, if it is in volts.
pub(super) fn in_volts(signal: &SignalInfo) -> Option<f64> {
    unit_uv(&signal.unit).map(|uv| f64::from(uv) * 1e-6)
}

/// Microvolts of a unit of voltage.
pub(crate) fn unit_uv(unit: &str) -> Option<f32> {
    match unit.trim() {
        "uV" | "µV" | "μV" | "UV" | "uv" => Some(1.0),
        "mV" | "mv" => Some(1e3),
        "V" => Some(1e6),
        "nV" => Some(1e-3),
        _ => None,
    }
}

/// Whether channels of `modality` can measure this; `also` as for [`refused`].
pub(super) fn is_possible(quantity: Quantity, modality: Modality, also: &[Quantity]) -> bool {
    also.contains(&quantity) || is_of(quantity, modality)
}

fn is_of(quantity: Quantity, modality: Modality) -> bool {
    match modality {
        Modality::Bas | Modality::Ekg | Modality::Emg => quantity == Quantity::Voltage,
        Modality::Resp => matches!(
            quantity,
            Quantity::Voltage
                | Quantity::Percent
                | Quantity::Pressure
                | Quantity::Flow
                | Quantity::Volume
                | Quantity::PerMinute
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_known_in_any_spelling() {
        use Quantity::*;
        for (unit, expected) in [
            ("uV", Some(Voltage)),
            ("µV", Some(Voltage)),
            ("μV ", Some(Voltage)),
            ("mV", Some(Voltage)),
            ("V", Some(Voltage)),
            ("Microvolts", Some(Voltage)),
            ("Ohm", Some(Resistance)),
            ("kOhm", Some(Resistance)),
            ("kΩ", Some(Resistance)),
            ("\u{2126}", Some(Resistance)),
            ("OHMS", Some(Resistance)),
            ("%", Some(Percent)),
            ("°", Some(Angle)),
            ("deg", Some(Angle)),
            ("°C", Some(Temperature)),
            ("DegC", Some(Temperature)),
            ("lx", Some(Illuminance)),
            ("Lux", Some(Illuminance)),
            ("cmH2O", Some(Pressure)),
            ("cm H2O", Some(Pressure)),
            ("L/min", Some(Flow)),
            ("bpm", Some(PerMinute)),
            ("tr/min", Some(PerMinute)),
            ("g", Some(Acceleration)),
            ("m/s^2", Some(Acceleration)),
            ("dB", Some(Level)),
            ("H", Some(Inductance)),
            ("s", Some(Time)),
            ("", None),
            ("none", None),
            ("AU", None),
            ("raw", None),
        ] {
            assert_eq!(quantity(unit), expected, "'{unit}'");
        }
    }

    #[test]
    fn unit_rate_and_range_decide_what_a_channel_can_be() {
        let signal = |unit: &str, rate_hz, limits: (f64, f64)| SignalInfo {
            label: "X".to_owned(),
            rate_hz,
            unit: unit.to_owned(),
            physical_min: limits.0,
            physical_max: limits.1,
            digital_min: -100,
            digital_max: 100,
        };
        let reason = |signal: SignalInfo, modality| refused(&signal, modality, &[]);
        let usual = (-200.0, 200.0);
        assert_eq!(reason(signal("uV", 256.0, usual), Modality::Ekg), None);
        assert_eq!(reason(signal("", 256.0, usual), Modality::Bas), None);
        assert_eq!(reason(signal("%", 1.0, (0.0, 100.0)), Modality::Resp), None);
        for (signal, modality, part) in [
            (signal("Ohm", 10.0, usual), Modality::Ekg, "an impedance and not a signal"),
            (signal("kOhm", 256.0, usual), Modality::Resp, "an impedance and not a signal"),
            (signal("%", 256.0, usual), Modality::Bas, "'%', which is no unit of BAS"),
            (signal("lx", 10.0, usual), Modality::Resp, "no unit of RESP"),
            (signal("mV", 1.0, usual), Modality::Ekg, "sampled at 1 Hz, too slow for EKG"),
            (signal("V", 256.0, (0.0, 5.0)), Modality::Bas, "from 0 to 5 V"),
            (signal("mV", 256.0, (0.0, 5000.0)), Modality::Emg, "from 0 to 5 V"),
        ] {
            let found = reason(signal, modality).expect(part);
            assert!(found.contains(part), "{found}");
        }
        // An envelope of a muscle, as in Sleep-EDF.
        assert_eq!(reason(signal("uV", 1.0, usual), Modality::Emg), None);
        assert_eq!(
            refused(&signal("°C", 32.0, usual), Modality::Resp, &[Quantity::Temperature]),
            None
        );
    }
}
