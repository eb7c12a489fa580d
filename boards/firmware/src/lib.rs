//! What every palmtop board shares: one firmware that runs any model placed at a fixed address,
//! without a rebuild.
#![no_std]

pub mod counter;
pub mod host;
pub mod stack;

use core::panic::PanicInfo;

use counter::Counter;
use host::Console;
use stack::Paint;

/// What distinguishes one board from another.
pub struct Board {
    /// Short name, as `cargo xtask emulate` takes it.
    pub name: &'static str,
    /// Address at which the model file lies, a multiple of 16.
    pub model: usize,
    /// Bytes readable from there.
    pub window: usize,
    /// Clock of SysTick in MHz; 0 where another counter is used.
    pub mhz: u32,
}

/// Runs the firmware.
pub fn run(board: &Board, _arena: &'static mut [u8]) -> ! {
    let (top, floor) = stack::bounds();
    let counter = Counter::start(board.mhz);
    let mut out = Console::open();
    out.text("board ").text(board.name).end();
    let (expected, counted) = counter.check();
    out.text("counter").number(expected).number(counted).end();
    let paint = Paint::new(floor);
    out.text("stack").number(paint.peak(top) as u64).end();
    semihosting::process::exit(0)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let mut out = Console::open();
    out.text("panic");
    if let Some(place) = info.location() {
        out.text(" ")
            .text(place.file())
            .number(u64::from(place.line()));
    }
    out.end();
    semihosting::process::exit(101)
}

/// Reserves a 16-aligned arena that start-up neither zeroes nor copies, and hands it out.
///
/// Use it once, at the start of `main`.
#[macro_export]
macro_rules! arena {
    ($bytes:expr) => {{
        #[repr(C, align(16))]
        struct Arena([core::mem::MaybeUninit<u8>; $bytes]);
        #[unsafe(link_section = ".uninit.palmtop_arena")]
        static mut ARENA: Arena = Arena([const { core::mem::MaybeUninit::uninit() }; $bytes]);
        // SAFETY: `main` runs once, so this is the only reference; `init` writes every byte before
        // anything reads it.
        unsafe { $crate::init(&raw mut ARENA as *mut u8, $bytes) }
    }};
}

/// Fills raw memory with 0xA5 and hands it out as bytes. For [`arena!`].
///
/// # Safety
/// `start` must be valid for `bytes` bytes for the whole run, and nothing else may refer to them.
pub unsafe fn init(start: *mut u8, bytes: usize) -> &'static mut [u8] {
    // SAFETY: as the caller promises.
    unsafe {
        start.write_bytes(0xA5, bytes);
        core::slice::from_raw_parts_mut(start, bytes)
    }
}
