//! Any bytes from a link, in pieces of any length; any bytes in intact frames, where a checksum
//! would keep a fuzzer out; any bytes as packed samples. Nothing may panic, what is decoded is
//! encoded and decoded again to the same, and a frame behind anything arrives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::ser::{Serialize, SerializeTuple, Serializer};
use sfm_firmware_bridge::{
    Decoder, FrameError, FromDevice, FromHost, MAX_DELTA_SAMPLES, MAX_FRAME_BYTES, SampleFormat,
    SampleValues, encode, pack,
};

/// The body of a frame, as it is.
struct Body<'b>(&'b [u8]);

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&split, rest)) = bytes.split_first() else { return };
    from_a_link(rest, usize::from(split) + 1);

    let mut out = [0; MAX_FRAME_BYTES];
    if let Ok(frame) = encode(&Body(rest), &mut out) {
        assert!(frame.iter().position(|&byte| byte == 0) == Some(frame.len() - 1));
        let intact = |result| !matches!(result, Err(FrameError::Cobs | FrameError::Checksum));
        let mut buffer = [0; MAX_FRAME_BYTES];
        let mut input = frame;
        let mut decoder = Decoder::new(&mut buffer);
        let from_device = decoder.push::<FromDevice>(&mut input);
        assert!(from_device.is_some_and(|result| intact(check_device(result))));
        let mut input = frame;
        let from_host = Decoder::new(&mut buffer).push::<FromHost>(&mut input);
        assert!(from_host.is_some_and(|result| intact(check_host(result).map(drop))));
    }

    let formats = [SampleFormat::I16, SampleFormat::I24, SampleFormat::I32, SampleFormat::Delta];
    check_values(formats[usize::from(split % 4)], rest);
});

/// In pieces and as a whole the same arrives, and behind it a frame.
fn from_a_link(bytes: &[u8], piece_bytes: usize) {
    let last = FromHost::Acknowledge { channel: 255, counter: u64::MAX };
    let mut out = [0; MAX_FRAME_BYTES];
    let stream = [bytes, &[0], encode(&last, &mut out).expect("it has room")].concat();

    let mut buffer = [0; MAX_FRAME_BYTES];
    let mut whole = Vec::new();
    let mut decoder = Decoder::new(&mut buffer);
    let mut input = stream.as_slice();
    while let Some(result) = decoder.push::<FromHost>(&mut input) {
        whole.push(check_host(result));
    }
    assert_eq!(whole.last(), Some(&Ok(last)));

    let mut in_pieces = whole.iter();
    let mut decoder = Decoder::new(&mut buffer);
    for mut piece in stream.chunks(piece_bytes) {
        while let Some(result) = decoder.push::<FromHost>(&mut piece) {
            assert_eq!(in_pieces.next(), Some(&result));
        }
    }
    assert_eq!(in_pieces.next(), None);

    // A short buffer and the other direction: only that nothing breaks.
    let mut short = [0; 100];
    let mut decoder = Decoder::new(&mut short);
    let mut input = stream.as_slice();
    while let Some(result) = decoder.push::<FromDevice>(&mut input) {
        let _ = check_device(result);
    }
}

fn check_host(result: Result<FromHost, FrameError>) -> Result<FromHost, FrameError> {
    if let Ok(message) = result {
        let mut out = [0; MAX_FRAME_BYTES];
        let mut again = encode(&message, &mut out).expect("no longer than what arrived");
        let mut buffer = [0; MAX_FRAME_BYTES];
        assert_eq!(Decoder::new(&mut buffer).push(&mut again), Some(Ok(message)));
    }
    result
}

fn check_device(result: Result<FromDevice, FrameError>) -> Result<(), FrameError> {
    let message = result?;
    if let FromDevice::Samples(block) = &message {
        check_values(block.format, block.payload);
    }
    let mut out = [0; MAX_FRAME_BYTES];
    let frame = encode(&message, &mut out).expect("no longer than what arrived").to_vec();
    let mut buffer = [0; MAX_FRAME_BYTES];
    let mut again = frame.as_slice();
    let mut decoder = Decoder::new(&mut buffer);
    let decoded: FromDevice = decoder.push(&mut again).expect("a frame").expect("intact");
    // By their bytes: a physical limit may be no number, which equals nothing.
    let mut out = [0; MAX_FRAME_BYTES];
    assert_eq!(encode(&decoded, &mut out), Ok(frame.as_slice()));
    Ok(())
}

fn check_values(format: SampleFormat, payload: &[u8]) {
    let Ok(unpacked) = SampleValues::new(format, payload) else { return };
    let values: Vec<i32> = unpacked.clone().collect();
    assert_eq!(values.len(), unpacked.len());
    assert!(format != SampleFormat::Delta || values.len() <= MAX_DELTA_SAMPLES);
    assert!(values.iter().all(|&value| format.holds(value)));
    let mut out = vec![0; 5 * values.len() + 8];
    let packed = pack(format, &values, &mut out).expect("it has room");
    assert!(packed.len() <= payload.len(), "packing is never longer than what arrived");
    assert!(SampleValues::new(format, packed).is_ok_and(|again| again.eq(unpacked)));
}
