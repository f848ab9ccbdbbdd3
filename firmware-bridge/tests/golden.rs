//! The golden vectors in both directions, and the schema hash. The vectors were written by
//! tests/foreign/wire_protocol.py, which knows PROTOCOL.md and nothing of this crate.

#![allow(clippy::unwrap_used)]

use postcard_schema::{Schema, key::hash::fnv1a64};
use serde_json::Value;
use sfm_firmware_bridge::{
    ByeReason, Channel, Contact, Decoder, FromDevice, FromHost, Hello, MAX_FRAME_BYTES, Mark,
    MarkKind, PROTOCOL_VERSION, SCHEMA_HASH, SampleFormat, SampleRate, Samples, Status, TimeReply,
    encode, pack,
};

const GOLDEN: &str = include_str!("golden.json");
const PROTOCOL_MD: &str = include_str!("../PROTOCOL.md");

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    digits.map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

/// The fields of a vector's message.
struct Fields<'v>(&'v Value);

impl<'v> Fields<'v> {
    fn number<T: TryFrom<i128, Error: std::fmt::Debug>>(&self, name: &str) -> T {
        self.optional(name).unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    fn optional<T: TryFrom<i128, Error: std::fmt::Debug>>(&self, name: &str) -> Option<T> {
        let number = self.0[name].as_number()?;
        Some(T::try_from(number.as_i128().unwrap()).unwrap())
    }

    fn text(&self, name: &str) -> &'v str {
        self.0[name].as_str().unwrap()
    }
}

fn from_device<'v>(fields: &Fields<'v>, payload: &'v [u8]) -> FromDevice<'v> {
    let f = fields;
    match f.text("type") {
        "Hello" => FromDevice::Hello(Hello {
            protocol: f.number("protocol"),
            schema: bytes(f.text("schema")).try_into().unwrap(),
            device: f.number("device"),
            session: f.number("session"),
            tick_hz: f.number("tick_hz"),
            channels: f.number("channels"),
            model: f.text("model"),
        }),
        "Channel" => FromDevice::Channel(Channel {
            channel: f.number("channel"),
            label: f.text("label"),
            unit: f.text("unit"),
            rate: SampleRate { samples: f.number("samples"), seconds: f.number("seconds") },
            digital_min: f.number("digital_min"),
            digital_max: f.number("digital_max"),
            physical_min: f.0["physical_min"].as_f64().unwrap() as f32,
            physical_max: f.0["physical_max"].as_f64().unwrap() as f32,
            bits: f.number("bits"),
        }),
        "Samples" => FromDevice::Samples(Samples {
            channel: f.number("channel"),
            counter: f.number("counter"),
            tick: f.number("tick"),
            format: match f.text("format") {
                "I16" => SampleFormat::I16,
                "I24" => SampleFormat::I24,
                "I32" => SampleFormat::I32,
                _ => SampleFormat::Delta,
            },
            payload,
        }),
        "Mark" => FromDevice::Mark(Mark {
            number: f.number("number"),
            tick: f.number("tick"),
            kind: match f.text("kind") {
                "Button" => MarkKind::Button,
                "LightsOff" => MarkKind::LightsOff,
                _ => MarkKind::LightsOn,
            },
        }),
        "Status" => FromDevice::Status(Status {
            tick: f.number("tick"),
            battery_percent: f.optional("battery_percent"),
            temperature_decicelsius: f.optional("temperature_decicelsius"),
            dropped_blocks: f.number("dropped_blocks"),
        }),
        "Contact" => FromDevice::Contact(Contact {
            channel: f.number("channel"),
            tick: f.number("tick"),
            lead_off: f.0["lead_off"].as_bool().unwrap(),
            impedance_ohm: f.optional("impedance_ohm"),
        }),
        "TimeReply" => FromDevice::TimeReply(TimeReply {
            request: f.number("request"),
            received_tick: f.number("received_tick"),
            sent_tick: f.number("sent_tick"),
        }),
        "Bye" => FromDevice::Bye(match f.text("reason") {
            "Stopped" => ByeReason::Stopped,
            "Battery" => ByeReason::Battery,
            _ => ByeReason::Fault,
        }),
        other => panic!("no message {other}"),
    }
}

fn from_host(fields: &Fields) -> FromHost {
    match fields.text("type") {
        "Start" => FromHost::Start,
        "Stop" => FromHost::Stop,
        "TimeRequest" => FromHost::TimeRequest { request: fields.number("request") },
        "Acknowledge" => FromHost::Acknowledge {
            channel: fields.number("channel"),
            counter: fields.number("counter"),
        },
        other => panic!("no message {other}"),
    }
}

/// The payload is packed and unpacked as the vector has it, or refused.
fn check_values(samples: Samples, vector: &Value) {
    let unpacked = samples.values().map(Iterator::collect::<Vec<_>>);
    if vector["refused"].is_string() {
        assert!(unpacked.is_err(), "{samples:?}");
    } else if let Some(values) = vector["values"].as_array() {
        let values: Vec<_> = values.iter().map(|v| v.as_i64().unwrap() as i32).collect();
        assert_eq!(unpacked.as_ref(), Ok(&values));
        let mut out = [0; MAX_FRAME_BYTES];
        assert_eq!(pack(samples.format, &values, &mut out), Ok(samples.payload));
    }
}

#[test]
fn golden_vectors() {
    let vectors: Vec<Value> = serde_json::from_str(GOLDEN).unwrap();
    assert!(vectors.len() >= 40);
    for vector in &vectors {
        let frame = bytes(vector["frame"].as_str().unwrap());
        let fields = Fields(&vector["message"]);
        let payload = vector["message"]["payload"].as_str().map(bytes).unwrap_or_default();
        let mut out = [0; MAX_FRAME_BYTES];
        let mut buffer = [0; MAX_FRAME_BYTES];
        let mut decoder = Decoder::new(&mut buffer);
        let mut input = frame.as_slice();
        if vector["from"] == "device" {
            let message = from_device(&fields, &payload);
            assert_eq!(encode(&message, &mut out), Ok(frame.as_slice()), "{message:?}");
            assert_eq!(decoder.push(&mut input), Some(Ok(message)));
            if let FromDevice::Samples(samples) = message {
                check_values(samples, vector);
            }
        } else {
            let message = from_host(&fields);
            assert_eq!(encode(&message, &mut out), Ok(frame.as_slice()), "{message:?}");
            assert_eq!(decoder.push(&mut input), Some(Ok(message)));
        }
        assert!(input.is_empty());
    }
}

#[test]
fn the_schema_is_that_of_protocol_version_1() {
    let written: Vec<String> = SCHEMA_HASH.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        (PROTOCOL_VERSION, written.concat().as_str()),
        (1, "f794d790cd24926f"),
        "a message has changed: raise PROTOCOL_VERSION, write the new layout and hash into \
         PROTOCOL.md, tests/foreign/wire_protocol.py and here"
    );
    assert!(PROTOCOL_MD.contains(&format!("`{}`", written.join(" "))), "PROTOCOL.md has another");
}

#[test]
fn a_changed_message_changes_the_hash() {
    #[derive(Schema)]
    struct Renamed {
        _request: u32,
        _received_tick: u64,
        _left_tick: u64,
    }
    #[derive(Schema)]
    struct Retyped {
        _request: u32,
        _received_tick: u64,
        _sent_tick: u32,
    }
    #[derive(Schema)]
    struct Reordered {
        _request: u32,
        _sent_tick: u64,
        _received_tick: u64,
    }
    #[derive(Schema)]
    struct Same {
        _request: u32,
        _received_tick: u64,
        _sent_tick: u64,
    }
    let hashes = [
        fnv1a64::hash_ty_path::<Same>(""),
        fnv1a64::hash_ty_path::<Renamed>(""),
        fnv1a64::hash_ty_path::<Retyped>(""),
        fnv1a64::hash_ty_path::<Reordered>(""),
        fnv1a64::hash_ty_path::<(Same, MarkKind)>(""),
        fnv1a64::hash_ty_path::<(Same, ByeReason)>(""),
    ];
    for (i, hash) in hashes.iter().enumerate() {
        assert!(!hashes[i + 1..].contains(hash), "two of the schemas share a hash");
    }
}

#[test]
fn compatible_means_the_same_version_and_schema() {
    let ours = Hello {
        protocol: PROTOCOL_VERSION,
        schema: SCHEMA_HASH,
        device: 1,
        session: 2,
        tick_hz: 32_768,
        channels: 0,
        model: "",
    };
    assert!(ours.is_compatible());
    assert!(!Hello { protocol: 2, ..ours }.is_compatible());
    assert!(!Hello { schema: [0; 8], ..ours }.is_compatible());
}
