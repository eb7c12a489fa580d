//! One model in a program that is not a board's: what it takes of the library in flash. `cargo xtask
//! size` links it with and without the library's features; `g2p-alone-emulated` runs the same.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use g2p_alone::{ARENA_BYTES, answer};
use palmtop::Arena;

static mut ARENA: Arena<ARENA_BYTES> = Arena::new();

/// Answers a text: `put` gets the answer piece by piece. Whether all went well.
///
/// # Safety
/// `text` must be valid for `length` bytes, and one call must end before another begins.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_answer(
    text: *const u8,
    length: usize,
    put: extern "C" fn(*const u8, usize),
) -> bool {
    // SAFETY: as the caller promises.
    let (text, arena) = unsafe {
        (
            core::slice::from_raw_parts(text, length),
            &mut *(&raw mut ARENA),
        )
    };
    let put = |piece: &[u8]| put(piece.as_ptr(), piece.len());
    answer(text, arena.as_mut_slice(), put).is_some()
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
