//! Receives LSL streams as devices of the wire protocol and prints what they say, a line each, for
//! `tests/foreign/lsl.py`: `lsl_dump QUERY SECONDS`.
//!
//! Exit code 3: there is no stream or no library.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sfm_firmware_bridge::{Decoder, FromDevice, FromHost, MAX_FRAME_BYTES, encode};
use sfm_runtime::link::lsl::{self, LslDevice};
use tokio::sync::mpsc::error::TryRecvError;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [query, seconds] = arguments.as_slice() else {
        eprintln!("usage: lsl_dump QUERY SECONDS");
        return ExitCode::from(2);
    };
    let Ok(seconds) = seconds.parse().map(Duration::from_secs) else {
        eprintln!("SECONDS is a whole number");
        return ExitCode::from(2);
    };
    match lsl::open(query, Duration::from_secs(10)) {
        Ok(devices) => dump(devices, Instant::now() + seconds),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(3);
        }
    }
    ExitCode::SUCCESS
}

fn dump(mut devices: Vec<LslDevice>, until: Instant) {
    let mut requests = 0;
    for device in &devices {
        say(device, &FromHost::Start);
    }
    let mut next_request = Instant::now();
    while Instant::now() < until {
        if Instant::now() >= next_request {
            next_request += Duration::from_millis(500);
            requests += 1;
            devices
                .iter()
                .for_each(|device| say(device, &FromHost::TimeRequest { request: requests }));
        }
        for (index, device) in devices.iter_mut().enumerate() {
            match device.frames.try_recv() {
                Ok(bytes) => print(index, &bytes),
                Err(TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(1)),
                Err(TryRecvError::Disconnected) => return println!("{index} ended"),
            }
        }
    }
}

fn say(device: &LslDevice, message: &FromHost) {
    if let Ok(frame) = encode(message, &mut [0; MAX_FRAME_BYTES]) {
        // A device that has ended says so on its other pipe.
        let _ = device.host.send(frame.to_vec());
    }
}

fn print(device: usize, mut bytes: &[u8]) {
    let mut buffer = [0; MAX_FRAME_BYTES];
    let mut decoder = Decoder::new(&mut buffer);
    while let Some(message) = decoder.push::<FromDevice>(&mut bytes) {
        match message {
            Ok(FromDevice::Samples(block)) => {
                let values: Vec<i32> = block.values().into_iter().flatten().collect();
                let (channel, counter, tick) = (block.channel, block.counter, block.tick);
                println!("{device} samples {channel} {counter} {tick} {values:?}");
            }
            Ok(FromDevice::Hello(hello)) => {
                println!("{device} hello {} {} {}", hello.device, hello.session, hello.model);
            }
            Ok(FromDevice::Channel(channel)) => println!(
                "{device} channel {}|{}|{}|{}/{}|{}..{}|{}..{}|{}",
                channel.channel,
                channel.label,
                channel.unit,
                channel.rate.samples,
                channel.rate.seconds,
                channel.digital_min,
                channel.digital_max,
                channel.physical_min,
                channel.physical_max,
                channel.bits
            ),
            Ok(FromDevice::TimeReply(reply)) => {
                println!(
                    "{device} time {} {} {}",
                    reply.request, reply.received_tick, reply.sent_tick
                );
            }
            other => println!("{device} {other:?}"),
        }
    }
}
