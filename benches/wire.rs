//! Decoding of sample frames: bytes of a link in, digital values out, as the runtime does for
//! every sensor. Asked for: 20 million samples a second; measured, by one core's time on a busy server,
//! in millions: i16 210, i24 93, i32 64, delta 223.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sfm_firmware_bridge::{
    Decoder, FromDevice, MAX_FRAME_BYTES, SampleFormat, Samples, encode, pack,
};

const FRAMES: usize = 256;
/// A quarter of a second of a 256-Hz channel: what a sensor sends when it wants to be live.
const BLOCK_SAMPLES: usize = 64;
/// Bytes that a read from a socket or a serial line brings.
const READ_BYTES: usize = 4096;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire/decode");
    let samples = FRAMES * BLOCK_SAMPLES;
    group.throughput(Throughput::Elements(samples as u64));
    for (name, format) in [
        ("i16", SampleFormat::I16),
        ("i24", SampleFormat::I24),
        ("i32", SampleFormat::I32),
        ("delta", SampleFormat::Delta),
    ] {
        let stream = frames(format);
        group.bench_function(name, |bencher| {
            let mut buffer = [0; MAX_FRAME_BYTES];
            let mut values = Vec::with_capacity(samples);
            bencher.iter(|| {
                values.clear();
                let mut decoder = Decoder::new(&mut buffer);
                for mut piece in stream.chunks(READ_BYTES) {
                    while let Some(Ok(FromDevice::Samples(block))) = decoder.push(&mut piece) {
                        block.values().into_iter().flatten().for_each(|v| values.push(v));
                    }
                }
                assert_eq!(black_box(&values).len(), samples);
            });
        });
    }
    group.finish();
}

fn pack_delta(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire/pack");
    group.throughput(Throughput::Elements(BLOCK_SAMPLES as u64));
    let values: Vec<i32> = (0..BLOCK_SAMPLES).map(signal).collect();
    let mut out = [0; MAX_FRAME_BYTES];
    group.bench_function("delta", |bencher| {
        bencher.iter(|| pack(SampleFormat::Delta, black_box(&values), &mut out).map(<[u8]>::len));
    });
    group.finish();
}

/// Like 16-bit EEG: a slow wave with noise, differences of 11 bits.
fn signal(index: usize) -> i32 {
    let noise = (index as u32).wrapping_mul(2_654_435_761).cast_signed() >> 23;
    (8_000.0 * (index as f64 / 40.0).sin()) as i32 + noise
}

fn frames(format: SampleFormat) -> Vec<u8> {
    let mut stream = Vec::new();
    let (mut payload, mut out) = ([0; MAX_FRAME_BYTES], [0; MAX_FRAME_BYTES]);
    for frame in 0..FRAMES {
        let counter = frame * BLOCK_SAMPLES;
        let values: Vec<i32> = (counter..counter + BLOCK_SAMPLES).map(signal).collect();
        let message = FromDevice::Samples(Samples {
            channel: frame as u8 % 18,
            counter: counter as u64,
            tick: 128 * counter as u64,
            format,
            payload: pack(format, &values, &mut payload).expect("24 bits and short"),
        });
        stream.extend_from_slice(encode(&message, &mut out).expect("it has room"));
    }
    stream
}

criterion_group!(benches, decode, pack_delta);
criterion_main!(benches);
