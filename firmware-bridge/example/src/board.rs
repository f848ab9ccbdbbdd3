//! The board: vectors and reset, SysTick as the clock, UART 0, and a converter that is simulated.
//! The only module with unsafe code besides the one line that lends out the static memory.

use core::arch::naked_asm;
use core::ptr::{read_volatile, write_volatile};
use core::sync::atomic::{AtomicU32, Ordering};

use crate::sensor::TICK_HZ;

const CORE_HZ: u32 = 25_000_000;
const BAUD: u32 = 460_800;

const SYSTICK_CONTROL: usize = 0xE000_E010;
const SYSTICK_RELOAD: usize = 0xE000_E014;
const SYSTICK_VALUE: usize = 0xE000_E018;
const UART_DATA: usize = 0x4000_4000;
const UART_STATE: usize = 0x4000_4004;
const UART_CONTROL: usize = 0x4000_4008;
const UART_BAUD_DIVIDER: usize = 0x4000_4010;
const BUTTONS: usize = 0x4002_8008;

const SENDER_FULL: u32 = 1;
const RECEIVER_FULL: u32 = 2;

unsafe extern "C" {
    fn stack_top();
}

#[repr(C)]
union Vector {
    handler: unsafe extern "C" fn(),
    reserved: usize,
}

#[used]
#[unsafe(link_section = ".vectors")]
static VECTORS: [Vector; 16] = {
    const RESERVED: Vector = Vector { reserved: 0 };
    const FAULT: Vector = Vector { handler: fault };
    let mut vectors = [RESERVED; 16];
    vectors[0] = Vector { handler: stack_top };
    vectors[1] = Vector { handler: reset };
    vectors[2] = FAULT;
    vectors[3] = FAULT;
    vectors[4] = FAULT;
    vectors[5] = FAULT;
    vectors[6] = FAULT;
    vectors[11] = FAULT;
    vectors[14] = FAULT;
    vectors[15] = Vector { handler: tick };
    vectors
};

/// Switches the floating point unit on, fills the static memory and calls `main`.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn reset() {
    naked_asm!(
        "ldr r0, =0xE000ED88", // CPACR
        "mov r1, #0xF00000",
        "str r1, [r0]",
        "dsb",
        "isb",
        "ldr r0, =data_start",
        "ldr r1, =data_end",
        "ldr r2, =data_image",
        "b 2f",
        "1: ldr r3, [r2], #4",
        "str r3, [r0], #4",
        "2: cmp r0, r1",
        "blo 1b",
        "ldr r0, =bss_start",
        "ldr r1, =bss_end",
        "mov r2, #0",
        "b 4f",
        "3: str r2, [r0], #4",
        "4: cmp r0, r1",
        "blo 3b",
        "bl main",
        "udf #0",
    )
}

/// Stops where a debugger finds it.
unsafe extern "C" fn fault() {
    loop {
        core::hint::spin_loop();
    }
}

/// SysTick's interrupts.
static TICKS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn tick() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

fn read_register(address: usize) -> u32 {
    // SAFETY: every address here is a register of the board that may be read at any time.
    unsafe { read_volatile(address as *const u32) }
}

fn write_register(address: usize, value: u32) {
    // SAFETY: every address here is a register of the board, and none of those that are written
    // reaches memory.
    unsafe { write_volatile(address as *mut u32, value) }
}

/// Clock, serial port and converter.
pub struct Board {
    ticks: u64,
    seen: u32,
    phase: u32,
    noise: u32,
    button: bool,
}

/// Sets the clock and the serial port going.
pub fn start() -> Board {
    write_register(SYSTICK_RELOAD, CORE_HZ / TICK_HZ - 1);
    write_register(SYSTICK_VALUE, 0);
    write_register(SYSTICK_CONTROL, 0b111);
    write_register(UART_BAUD_DIVIDER, CORE_HZ / BAUD);
    write_register(UART_CONTROL, 0b11);
    Board { ticks: 0, seen: 0, phase: 0, noise: 0x9E37_79B9, button: false }
}

impl Board {
    /// Ticks since the boot. Has to be asked at least once in the 49 days in which the
    /// interrupt's counter goes round.
    pub fn ticks(&mut self) -> u64 {
        let seen = TICKS.load(Ordering::Relaxed);
        self.ticks += u64::from(seen.wrapping_sub(self.seen));
        self.seen = seen;
        self.ticks
    }

    /// A number for the session. A product takes it from a noise source.
    pub fn random(&mut self) -> u64 {
        u64::from(read_register(SYSTICK_VALUE)) << 32 | u64::from(self.xorshift())
    }

    fn xorshift(&mut self) -> u32 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 17;
        self.noise ^= self.noise << 5;
        self.noise
    }

    /// A sample of the simulated converter: a slow triangle with noise, or a saturation.
    pub fn convert(&mut self, channel: usize) -> i32 {
        let noise = (self.xorshift() >> 24).cast_signed();
        if channel == 2 {
            return 960 + (noise >> 5);
        }
        self.phase = self.phase.wrapping_add(1 << 25);
        (self.phase.cast_signed().saturating_abs() >> 18) - 4096 + noise
    }

    /// The event button went down since the last call.
    pub fn button_pressed(&mut self) -> bool {
        let before = self.button;
        self.button = read_register(BUTTONS) & 1 != 0;
        self.button && !before
    }

    /// A byte of the host, if there is one.
    pub fn read(&mut self) -> Option<u8> {
        let ready = read_register(UART_STATE) & RECEIVER_FULL != 0;
        ready.then(|| read_register(UART_DATA) as u8)
    }

    /// Sends a byte. A product would hand a whole frame to DMA instead of waiting for each.
    pub fn write(&mut self, byte: u8) {
        while read_register(UART_STATE) & SENDER_FULL != 0 {}
        write_register(UART_DATA, u32::from(byte));
    }
}
