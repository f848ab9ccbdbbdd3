//! The peer in Python, written from PROTOCOL.md alone, as sender and as receiver.

// Miri starts no programs.
#![cfg(not(miri))]
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sfm_firmware_bridge::{Decoder, FromDevice, FromHost, MAX_FRAME_BYTES, encode};

/// `python3 wire_protocol.py`, or `None` where there is no Python.
fn peer() -> Option<Command> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script: PathBuf = here.join("../tests/foreign/wire_protocol.py");
    assert!(script.exists());
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3");
        return None;
    }
    let mut peer = Command::new("python3");
    peer.arg(script);
    Some(peer)
}

#[test]
fn the_golden_vectors_are_those_of_the_page() {
    let Some(mut peer) = peer() else { return };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden.json");
    let output = peer.arg("check").arg(golden).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// As `sample_value` in the script.
fn sample_value(channel: u8, index: i64) -> i64 {
    match channel {
        0 => (index * 40_503) % 16_000_000 - 8_000_000,
        _ => (index * 7) % 2_000 - 1_000,
    }
}

#[test]
fn a_sender_in_python_is_understood() {
    let Some(mut peer) = peer() else { return };
    let stream = peer.arg("send").output().unwrap().stdout;
    let mut buffer = [0; MAX_FRAME_BYTES];
    let mut decoder = Decoder::new(&mut buffer);
    let (mut samples, mut channels, mut noise, mut byes) = ([0, 0], 0, 0, 0);
    let mut input = stream.as_slice();
    while let Some(result) = decoder.push::<FromDevice>(&mut input) {
        match result {
            Err(_) => noise += 1,
            Ok(FromDevice::Hello(hello)) => {
                assert!(hello.is_compatible());
                assert_eq!((hello.device, hello.session), (0x5F3, 1 << 63));
            }
            Ok(FromDevice::Channel(channel)) => {
                channels += 1;
                assert_eq!(channel.label, ["EEG C4-M1", "SpO2"][usize::from(channel.channel)]);
                assert_eq!(channel.physical_min, -3276.8);
            }
            Ok(FromDevice::Samples(block)) => {
                let seen = &mut samples[usize::from(block.channel)];
                assert_eq!(block.counter as i64, *seen);
                assert_eq!(block.tick, 128 * block.counter);
                for value in block.values().unwrap() {
                    assert_eq!(i64::from(value), sample_value(block.channel, *seen));
                    *seen += 1;
                }
            }
            Ok(FromDevice::Bye(_)) => byes += 1,
            Ok(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((samples, channels, noise, byes), ([6_400, 6_400], 2, 9, 1));
}

#[test]
fn a_receiver_in_python_understands() {
    let Some(mut peer) = peer() else { return };
    let sent = [
        FromHost::Start,
        FromHost::TimeRequest { request: u32::MAX },
        FromHost::Acknowledge { channel: 3, counter: u64::MAX },
        FromHost::Stop,
    ];
    let mut stream = vec![0, 3, 7, 7, 0];
    for message in &sent {
        stream.extend_from_slice(encode(message, &mut [0; 64]).unwrap());
    }
    let mut child = peer
        .arg("receive")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 was there before");
    child.stdin.take().unwrap().write_all(&stream).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "{\"refused\": \"CRC\"}\n\
         {\"type\": \"Start\"}\n\
         {\"type\": \"TimeRequest\", \"request\": 4294967295}\n\
         {\"type\": \"Acknowledge\", \"channel\": 3, \"counter\": 18446744073709551615}\n\
         {\"type\": \"Stop\"}\n"
    );
}
