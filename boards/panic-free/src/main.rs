//! Links only if no panic path is left in the public functions of palmtop's core.
//!
//! The panic handler calls a symbol that nothing defines, so a panic path that survives
//! optimization is an unresolved symbol. The functions get opaque inputs, so nothing is decided at
//! compile time. `cargo xtask test` links this for three targets, and once more with the feature
//! `control`, which must fail. The program is never run.
//!
//! Not called: `Display` of the error types, since `core::fmt` is not free of panics; firmware that
//! must not panic matches on the variants. And `async` functions: the language puts a panic into
//! each, for who polls it after its end. A new public function of the core gets a call here,
//! as do the functions for C.
#![no_std]
#![no_main]

mod c;
mod format;
mod kernels;
/// Sizes of arenas that the compiler checks on this target, as it does on the host.
#[allow(dead_code)]
#[path = "../../../tests/common/known_plans.rs"]
mod known_plans;
mod mixture;
mod model;
mod storage;
mod text;

use core::panic::PanicInfo;
use core::{ptr, slice};

unsafe extern "C" {
    /// Defined nowhere. It takes the panic's place so that the place stays in the program, where
    /// `cargo xtask test` finds it when the check fails.
    fn palmtop_panic_path_left(place: *const u8) -> !;
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let place = info.location().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: a program in which this call is left does not link.
    unsafe { palmtop_panic_path_left(place.cast()) }
}

/// Memory and numbers of which the compiler knows nothing.
struct Opaque {
    bytes: &'static [u8],
    numbers: &'static [u32],
    halves: &'static [u16],
    signed: &'static mut [i8],
    shorts: &'static mut [i16],
    floats: &'static mut [f32],
    others: &'static mut [f32],
    arena: &'static mut [u8],
    ids: &'static mut [u32],
}

impl Opaque {
    /// One of the numbers, or 0.
    fn number(&self, index: usize) -> u32 {
        nth(self.numbers, index)
    }

    /// One of the numbers as a float.
    fn float(&self, index: usize) -> f32 {
        f32::from_bits(self.number(index))
    }
}

/// One of the numbers, or 0.
fn nth(numbers: &[u32], index: usize) -> u32 {
    numbers.get(index).copied().unwrap_or_default()
}

/// Everything, each in a function of its own, so that what one has checked is not known in another.
static CALLS: [fn(&mut Opaque); 28] = [
    format::parse,
    format::view,
    format::verify,
    format::parts,
    kernels::math,
    kernels::activation,
    kernels::float_rows,
    kernels::norms,
    kernels::integer_rows,
    kernels::products,
    kernels::softmax,
    model::sizes,
    model::arena,
    model::run,
    model::decoder_only,
    model::self_test,
    model::bounded_steps,
    model::traced,
    model::other_source,
    model::search,
    mixture::mixture,
    mixture::dispatch,
    storage::awaited,
    storage::paged,
    storage::adapters,
    text::tokenizer,
    c::calls,
    control,
];

/// A pointer and a count, as the caller gives them.
#[repr(C)]
pub struct Span {
    start: *mut u8,
    count: usize,
}

impl Span {
    /// # Safety
    /// The memory must hold `count` values of `T` and be used by nothing else.
    unsafe fn slice<T>(&self) -> &'static mut [T] {
        // SAFETY: as the caller promises.
        unsafe { slice::from_raw_parts_mut(self.start.cast(), self.count) }
    }
}

/// The entry point: calls one of the functions.
///
/// # Safety
/// `spans` must point to nine spans of memory that is valid for their types and does not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palmtop_panic_free(which: usize, spans: &[Span; 9]) {
    let [
        bytes,
        numbers,
        halves,
        signed,
        shorts,
        floats,
        others,
        arena,
        ids,
    ] = spans;
    // SAFETY: as the caller promises.
    let mut opaque = unsafe {
        Opaque {
            bytes: bytes.slice(),
            numbers: numbers.slice(),
            halves: halves.slice(),
            signed: signed.slice(),
            shorts: shorts.slice(),
            floats: floats.slice(),
            others: others.slice(),
            arena: arena.slice(),
            ids: ids.slice(),
        }
    };
    if let Some(call) = CALLS.get(which) {
        call(&mut opaque);
    }
}

/// With the feature `control`, one indexing that can panic.
fn control(opaque: &mut Opaque) {
    #[cfg(feature = "control")]
    core::hint::black_box(opaque.numbers[opaque.bytes.len()]);
    let _ = opaque;
}
