//! What the machine can do at most, for measurements: products in registers, and reading.

use super::isa::Isa;

/// Sums in registers, enough of them that each instruction can begin before the last one is done.
const SUMS: usize = 12;

/// Adds up products in registers; `count` becomes their number.
///
/// # Safety
/// The features of `I` are enabled.
#[inline(always)]
unsafe fn multiply_by<I: Isa>(rounds: usize, count: &mut u64) {
    let bytes = core::hint::black_box([3i8; 64]);
    // SAFETY: the caller's; a vector has at most 64 bytes.
    unsafe {
        let x = I::splat4(bytes.as_ptr());
        let mut sums = [I::zeros(); SUMS];
        for _ in 0..rounds {
            // A load, so that the products are not taken out of the loop.
            let w = I::lanes(core::hint::black_box(bytes.as_ptr()).cast());
            for sum in &mut sums {
                *sum = I::dot4(*sum, w, x);
            }
        }
        core::hint::black_box(sums);
    }
    *count = (rounds * SUMS * I::LANES * 4) as u64;
}

levels! {
    /// [`multiply_by`] for a level that the machine has.
    pub(super) unsafe fn multiply(rounds: usize, count: &mut u64) = multiply_by
}

/// Reads bytes; `count` becomes their number.
///
/// # Safety
/// The features of `I` are enabled.
#[inline(always)]
unsafe fn read_by<I: Isa>(bytes: &[u8], count: &mut u64) {
    /// Vectors that are read in turn, each added to a sum of its own.
    const AT_ONCE: usize = 8;
    let unit = AT_ONCE * 4 * I::LANES;
    // SAFETY: the caller's; only whole units are read.
    unsafe {
        let mut sums = [I::splat_i32(0); AT_ONCE];
        let units = bytes.len() / unit;
        for index in 0..units {
            let from = bytes.as_ptr().add(index * unit);
            for (part, sum) in sums.iter_mut().enumerate() {
                *sum = I::add_i32(*sum, I::load_i32(from.add(part * 4 * I::LANES).cast()));
            }
        }
        core::hint::black_box(sums);
        *count = (units * unit) as u64;
    }
}

levels! {
    /// [`read_by`] for a level that the machine has.
    pub(super) unsafe fn read(bytes: &[u8], count: &mut u64) = read_by
}
