//! hi
#![no_std]
#![no_main]
use core::panic::PanicInfo;
unsafe extern "C" { fn palmtop_panic_path_left() -> !; }
#[panic_handler]
fn panic(_: &PanicInfo) -> ! { unsafe { palmtop_panic_path_left() } }
#[cfg(feature="control")]
#[unsafe(no_mangle)]
extern "C" fn control(i: usize) -> u8 { let v = core::hint::black_box(&[1u8,2,3][..]); v[i] }
