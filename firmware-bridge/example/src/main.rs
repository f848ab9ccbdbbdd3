//! Firmware of a sensor with two EEG channels and an oximeter, for the Arm MPS2 board with a
//! Cortex-M4, which QEMU has too: `cargo run --release` prints its frames. The converter is
//! simulated; clock, serial port and memory are the board's. All buffers are static.
//!
//! Linking fails if a panic can be reached: see `panic`.
#![no_std]
#![no_main]

mod board;
mod sensor;

use sensor::{CHANNELS, Sensor, WIRING};
use sfm_firmware_bridge::{Decoder, FromHost, MAX_FRAME_BYTES};

/// The longest frame of a host is 18 bytes.
const HOST_FRAME_BYTES: usize = 32;

/// All memory of the program but for its stack.
struct Memory {
    sensor: Sensor,
    received: [u8; HOST_FRAME_BYTES],
    frame: [u8; MAX_FRAME_BYTES],
}

static mut MEMORY: Memory = Memory { sensor: Sensor::new(0), received: [0; _], frame: [0; _] };

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let memory = &raw mut MEMORY;
    // SAFETY: the reset code calls this function once, and no interrupt uses MEMORY.
    let Memory { sensor, received, frame } = unsafe { &mut *memory };
    let mut board = board::start();
    let mut decoder = Decoder::new(received);
    let mut next_sample = [0; CHANNELS];
    sensor.boot(board.random());
    // A zero byte first: what the line carried before ends there.
    board.write(0);
    loop {
        let now = board.ticks();
        for (channel, due) in next_sample.iter_mut().enumerate() {
            if now >= *due {
                sensor.sample(channel, board.convert(channel), now);
                *due += WIRING.get(channel).map_or(1, |wiring| wiring.ticks);
            }
        }
        if board.button_pressed() {
            sensor.press(now);
        }
        while let Some(byte) = board.read() {
            let byte = [byte];
            let mut piece = byte.as_slice();
            while let Some(message) = decoder.push::<FromHost>(&mut piece) {
                if let Ok(message) = message {
                    sensor.host_says(message, board.ticks());
                }
            }
        }
        if let Some(Ok(frame)) = sensor.next_frame(board.ticks(), frame) {
            frame.iter().for_each(|&byte| board.write(byte));
        }
    }
}

/// There is nobody to tell, so there must be no panic: this function is not defined anywhere, and
/// a program that can panic does not link.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    unsafe extern "C" {
        fn this_program_can_panic() -> !;
    }
    // SAFETY: never runs.
    unsafe { this_program_can_panic() }
}
