//! Frames through bad links: any split of the stream, noise, flipped and lost bytes, and buffers
//! that are too short. Whatever arrives, a message that comes out was sent.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use sfm_firmware_bridge::{
    ByeReason, Channel, Contact, Decoder, EncodeError, FrameError, FromDevice, FromHost, Hello,
    MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES, Mark, MarkKind, SampleFormat, SampleRate, Samples, Status,
    TimeReply, encode,
};

/// Miri takes a sample of what is tried one by one.
const MIRI_STEP: usize = if cfg!(miri) { 51 } else { 1 };

const FORMATS: [SampleFormat; 4] =
    [SampleFormat::I16, SampleFormat::I24, SampleFormat::I32, SampleFormat::Delta];

/// A message with its text and payload outside, so that it can be made by a strategy.
#[derive(Debug, Clone)]
struct Sent {
    numbers: [u64; 3],
    kind: usize,
    text: String,
    payload: Vec<u8>,
}

impl Sent {
    fn message(&self) -> FromDevice<'_> {
        let [a, b, c] = self.numbers;
        let format = FORMATS[c as usize % FORMATS.len()];
        let kind = [MarkKind::Button, MarkKind::LightsOff, MarkKind::LightsOn][c as usize % 3];
        let reason = [ByeReason::Stopped, ByeReason::Battery, ByeReason::Fault][c as usize % 3];
        match self.kind {
            0 => FromDevice::Hello(Hello {
                protocol: c as u16,
                schema: a.to_le_bytes(),
                device: a,
                session: b,
                tick_hz: c as u32,
                channels: c as u8,
                model: &self.text,
            }),
            1 => FromDevice::Channel(Channel {
                channel: a as u8,
                label: &self.text,
                unit: &self.text,
                rate: SampleRate { samples: a as u32, seconds: b as u32 },
                digital_min: a as i32,
                digital_max: b as i32,
                physical_min: a as f32,
                physical_max: -(b as f32),
                bits: c as u8,
            }),
            2 => FromDevice::Samples(Samples {
                channel: c as u8,
                counter: a,
                tick: b,
                format,
                payload: &self.payload,
            }),
            3 => FromDevice::Mark(Mark { number: a as u32, tick: b, kind }),
            4 => FromDevice::Status(Status {
                tick: a,
                battery_percent: (b % 2 == 0).then_some(b as u8),
                temperature_decicelsius: (c % 2 == 0).then_some(c as i16),
                dropped_blocks: c as u32,
            }),
            5 => FromDevice::Contact(Contact {
                channel: a as u8,
                tick: b,
                lead_off: c % 2 == 0,
                impedance_ohm: (a % 2 == 0).then_some(c as u32),
            }),
            6 => FromDevice::TimeReply(TimeReply {
                request: a as u32,
                received_tick: b,
                sent_tick: c,
            }),
            _ => FromDevice::Bye(reason),
        }
    }

    fn frame(&self) -> Vec<u8> {
        let mut out = [0; MAX_FRAME_BYTES];
        encode(&self.message(), &mut out).expect("short enough").to_vec()
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let number = prop_oneof![any::<u64>(), 0..300_u64, Just(u64::MAX)];
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..600),
        prop::collection::vec(1..=255_u8, 230..270),
        (0..600_usize).prop_map(|length| vec![0; length]),
    ];
    (prop::array::uniform3(number), 0..8_usize, "\\PC{0,60}", payload)
        .prop_map(|(numbers, kind, text, payload)| Sent { numbers, kind, text, payload })
}

/// What comes out of a stream that arrives in pieces of these lengths, in words.
fn received(stream: &[u8], pieces: &[usize]) -> Vec<Result<String, FrameError>> {
    let mut buffer = [0; MAX_FRAME_BYTES];
    let mut decoder = Decoder::new(&mut buffer);
    let mut results = Vec::new();
    let mut rest = stream;
    let mut lengths = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let length = lengths.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let (mut piece, behind) = rest.split_at(length);
        rest = behind;
        while let Some(result) = decoder.push::<FromDevice>(&mut piece) {
            results.push(result.map(|message| format!("{message:?}")));
        }
        assert!(piece.is_empty());
    }
    results
}

fn words(sent: &Sent) -> Result<String, FrameError> {
    Ok(format!("{:?}", sent.message()))
}

/// `part` is a part of `whole` in the same order.
fn is_in_order(part: &[String], whole: &[String]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|item| whole.any(|other| other == item))
}

proptest! {
    #[test]
    fn what_is_sent_arrives_however_it_is_cut(
        messages in prop::collection::vec(sent(), 1..8),
        pieces in prop::collection::vec(1..700_usize, 1..8),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(Sent::frame).collect();
        let expected: Vec<_> = messages.iter().map(words).collect();
        prop_assert_eq!(received(&stream, &pieces), expected);
    }

    #[test]
    fn noise_between_frames_costs_no_frame(
        messages in prop::collection::vec((sent(), prop::collection::vec(any::<u8>(), 0..1500)), 1..6),
        pieces in prop::collection::vec(1..700_usize, 1..4),
    ) {
        let mut stream = Vec::new();
        for (message, noise) in &messages {
            stream.extend_from_slice(noise);
            stream.push(0);
            stream.extend(message.frame());
        }
        let arrived: Vec<_> = received(&stream, &pieces).into_iter().filter(Result::is_ok).collect();
        let expected: Vec<_> = messages.iter().map(|(message, _)| words(message)).collect();
        prop_assert_eq!(arrived, expected);
    }

    #[test]
    fn damage_never_makes_a_message(
        messages in prop::collection::vec(sent(), 1..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..6),
    ) {
        let mut stream: Vec<u8> = messages.iter().flat_map(Sent::frame).collect();
        for (at, kind, byte) in damage {
            let at = at.index(stream.len());
            match kind {
                0 => stream[at] ^= 1 << (byte % 8),
                1 => stream[at] = byte,
                2 => stream.insert(at, byte),
                _ if stream.len() > 1 => { stream.remove(at); }
                _ => {}
            }
        }
        let arrived: Vec<_> = received(&stream, &[]).into_iter().flatten().collect();
        let expected: Vec<_> = messages.iter().filter_map(|message| words(message).ok()).collect();
        prop_assert!(is_in_order(&arrived, &expected), "{arrived:?}\nof\n{expected:?}");
    }

    #[test]
    fn a_frame_after_anything_arrives(garbage in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut stream = garbage;
        stream.push(0);
        let bye = Sent { numbers: [0; 3], kind: 7, text: String::new(), payload: Vec::new() };
        stream.extend(bye.frame());
        prop_assert_eq!(received(&stream, &[]).pop(), Some(words(&bye)));
    }

    #[test]
    fn a_short_buffer_refuses_long_frames_only(
        messages in prop::collection::vec(sent(), 1..8),
        room in 0..300_usize,
    ) {
        let mut buffer = vec![0; room];
        let mut decoder = Decoder::new(&mut buffer);
        for message in &messages {
            let frame = message.frame();
            let mut input = frame.as_slice();
            let result = decoder.push::<FromDevice>(&mut input);
            let expected = if frame.len() - 1 <= room {
                Ok(message.message())
            } else {
                Err(FrameError::TooLong)
            };
            prop_assert_eq!(result, Some(expected));
        }
    }

    #[test]
    fn encoding_needs_the_frames_length_and_no_more(message in sent()) {
        let length = message.frame().len();
        let mut out = vec![0; length];
        prop_assert!(encode(&message.message(), &mut out).is_ok());
        for room in (0..length).step_by(MIRI_STEP) {
            let refused = encode(&message.message(), &mut out[..room]);
            prop_assert_eq!(refused, Err(EncodeError::NoRoom));
        }
    }
}

#[test]
fn each_refusal_says_why() {
    let mut sealed = [0; 64];
    let frame = encode(&FromHost::TimeRequest { request: 7 }, &mut sealed).unwrap();
    let wrong_direction = received(frame, &[]);
    assert_eq!(wrong_direction, [Err(FrameError::Message)], "a channel without its fields");

    assert_eq!(received(&[9, 1, 2, 0], &[]), [Err(FrameError::Cobs)]);
    assert_eq!(received(&[4, 1, 2, 3, 0], &[]), [Err(FrameError::Checksum)]);
    assert_eq!(received(&[8, 1, 2, 3, 4, 5, 6, 7, 0], &[]), [Err(FrameError::Checksum)]);
    assert_eq!(received(&[0, 0, 0], &[]), []);
    let long = [[7; MAX_FRAME_BYTES + 1].as_slice(), &[0]].concat();
    assert_eq!(received(&long, &[100]), [Err(FrameError::TooLong)]);
}

#[test]
fn a_message_with_bytes_left_over_is_refused() {
    let mut out = [0; 64];
    let frame = encode(&(FromHost::Stop, 0xAA_u8), &mut out).unwrap();
    let mut buffer = [0; 64];
    let mut input = frame;
    let result = Decoder::new(&mut buffer).push::<FromHost>(&mut input);
    assert_eq!(result, Some(Err(FrameError::Message)));
}

fn fits(payload: &[u8]) -> bool {
    let samples = Samples {
        channel: u8::MAX,
        counter: u64::MAX,
        tick: u64::MAX,
        format: SampleFormat::I16,
        payload,
    };
    encode(&FromDevice::Samples(samples), &mut [0; 2 * MAX_FRAME_BYTES]).is_ok()
}

#[test]
fn no_frame_is_longer_than_the_protocol_allows() {
    for byte in (0..=u8::MAX).step_by(MIRI_STEP) {
        assert!(fits(&[byte; MAX_PAYLOAD_BYTES]));
    }
    // 1,024 bytes: 25 before the payload, 4 of the CRC, 5 of COBS less a zero it replaced, and
    // the zero byte.
    assert!(fits(&[1; 990]));
    assert!(!fits(&[1; 991]));
}
