//! What every palmtop board shares: one firmware that runs any model placed at a fixed address,
//! without a rebuild.
#![no_std]

pub mod counter;
pub mod errors;
pub mod experts;
mod fault;
pub mod host;
#[cfg(feature = "kernels")]
mod kernels;
pub mod mark;
pub mod request;
pub mod runner;
pub mod stack;
#[cfg(feature = "units")]
mod units;

use core::panic::PanicInfo;

use counter::Counter;
use host::Console;
#[cfg(not(feature = "kernels"))]
use palmtop::Model;
use runner::Stop;
#[cfg(not(feature = "kernels"))]
use runner::{Buffers, Runner};
use stack::Paint;

/// What distinguishes one board from another.
pub struct Board {
    /// Short name, as `cargo xtask emulate` takes it.
    pub name: &'static str,
    /// Address at which the model file lies, a multiple of 16.
    pub model: usize,
    /// Bytes readable from there.
    pub window: usize,
    /// Address in flash of the resident part of a model whose experts are paged.
    pub flash: usize,
    /// Bytes readable from there.
    pub flash_window: usize,
    /// Clock of SysTick in MHz; 0 where another counter is used.
    pub mhz: u32,
}

/// Runs `request.txt` on the model at the board's address and reports on the host's console; ends
/// with exit code 0, or 1 after an `error` line.
pub fn run(board: &Board, arena: &'static mut [u8]) -> ! {
    let (top, floor) = stack::bounds();
    let paint = Paint::new(floor);
    let counter = Counter::start(board.mhz);
    let mut out = Console::open();
    out.text("board ").text(board.name).end();
    let (expected, counted) = counter.check();
    out.text("counter").number(expected).number(counted).end();
    let (address, length) = if cfg!(feature = "paged") {
        (board.flash, board.flash_window)
    } else {
        (board.model, board.window)
    };
    // SAFETY: the board promises memory of this length there; nothing ever writes to it.
    let window = unsafe { core::slice::from_raw_parts(address as *const u8, length) };
    #[cfg(feature = "kernels")]
    let result = kernels::run(window, arena, &counter, &mut out);
    #[cfg(not(feature = "kernels"))]
    let result = run_model(window, arena, &counter, &mut out);
    out.text("stack").number(paint.peak(top) as u64).end();
    match result {
        Ok(()) => out.text("done").end(),
        Err(Stop) => semihosting::process::exit(1),
    }
    semihosting::process::exit(0)
}

/// Runs requests through the model in `window`.
#[cfg(not(feature = "kernels"))]
fn run_model(
    window: &'static [u8],
    arena: &'static mut [u8],
    counter: &Counter,
    out: &mut Console,
) -> Result<(), Stop> {
    static mut MODEL: Option<Model<'static>> = None;
    let view = &raw mut MODEL;
    // SAFETY: this function runs once, so there is no second reference.
    let model = runner::load(window, unsafe { &mut *view }, out)?;
    Runner::new(model, arena, counter, out).run(buffers())
}

/// The one set of buffers; for [`run`], which runs once.
#[cfg(not(feature = "kernels"))]
fn buffers() -> &'static mut Buffers {
    static mut BUFFERS: Buffers = Buffers::new();
    let buffers = &raw mut BUFFERS;
    // SAFETY: `run` never returns and calls this once, so there is no second reference.
    unsafe { &mut *buffers }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let mut out = Console::open();
    out.text("panic");
    if let Some(place) = info.location() {
        out.text(" ").text(place.file()).n(place.line());
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
