//! Links only if no panic path is left in the public functions of palmtop's core.
//!
//! The panic handler calls a symbol that nothing defines, so a panic path that survives
//! optimization is an unresolved symbol. The functions get opaque inputs, so nothing is decided at
//! compile time. `cargo xtask test` links this for three targets, and once more with the feature
//! `control`, which must fail. The program is never run.
#![no_std]
#![no_main]

mod format;

use core::panic::{Location, PanicInfo};
use core::{ptr, slice};

unsafe extern "C" {
    /// Defined nowhere. It takes the panic's place so that the place stays in the program, where
    /// `cargo xtask test` finds it when the check fails.
    fn palmtop_panic_path_left(place: *const Location<'static>) -> !;
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let place = info.location().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: a program in which this call is left does not link.
    unsafe { palmtop_panic_path_left(place.cast()) }
}

/// Whatever the caller says: numbers and memory of which the compiler knows nothing.
struct Opaque {
    bytes: &'static [u8],
    numbers: &'static [u32],
}

impl Opaque {
    /// One of the numbers, or 0.
    fn number(&self, index: usize) -> u32 {
        self.numbers.get(index).copied().unwrap_or_default()
    }
}

/// The entry point: calls everything.
///
/// # Safety
/// The pointers must be valid for their lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_panic_free(
    bytes: *const u8,
    bytes_len: usize,
    numbers: *const u32,
    numbers_len: usize,
) {
    // SAFETY: as the caller promises.
    let opaque = unsafe {
        Opaque {
            bytes: slice::from_raw_parts(bytes, bytes_len),
            numbers: slice::from_raw_parts(numbers, numbers_len),
        }
    };
    format::call(&opaque);
    #[cfg(feature = "control")]
    core::hint::black_box(control(&opaque));
}

/// One indexing that can panic.
#[cfg(feature = "control")]
fn control(opaque: &Opaque) -> u32 {
    opaque.numbers[opaque.bytes.len()]
}
