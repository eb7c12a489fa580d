//! Quantization of rows on cores with a float unit, four values at a time.
#![allow(unsafe_code)]

#[cfg(kernels = "dsp")]
core::arch::global_asm!(include_str!("quantize.S"), options(raw));
#[cfg(kernels = "mve")]
core::arch::global_asm!(
    ".cpu cortex-m55",
    include_str!("mve_quantize.S"),
    options(raw)
);

unsafe extern "C" {
    fn palmtop_quantize_bounds(x: *const f32, fours: usize, bounds: &mut [u32; 2]);
    fn palmtop_quantize_greatest(x: *const f32, fours: usize) -> u32;
    fn palmtop_quantize_steps(x: *const f32, q: *mut i8, fours: usize, inverse: &f32, zero: i32);
}

/// The greatest bits of floats: as signed numbers, at least those of 0, and as unsigned ones, at least
/// those of −0.
pub fn bounds(x: &[[f32; 4]]) -> (i32, u32) {
    let mut bounds = [0, 1 << 31];
    if !x.is_empty() {
        // SAFETY: reads all of `x`.
        unsafe { palmtop_quantize_bounds(x.as_ptr().cast(), x.len(), &mut bounds) };
    }
    let [positive, negative] = bounds;
    (positive as i32, negative)
}

/// The greatest bits of floats, without their signs and shifted up by one.
pub fn greatest(x: &[[f32; 4]]) -> u32 {
    if x.is_empty() {
        return 0;
    }
    // SAFETY: reads all of `x`.
    unsafe { palmtop_quantize_greatest(x.as_ptr().cast(), x.len()) }
}

/// `q` = rne(x · `inverse`) + `zero`, of which the last byte counts, as far as both have values.
pub fn steps(x: &[[f32; 4]], inverse: f32, zero: i32, q: &mut [[i8; 4]]) {
    let fours = x.len().min(q.len());
    if fours > 0 {
        let (x, q) = (x.as_ptr().cast(), q.as_mut_ptr().cast());
        // SAFETY: reads and writes `fours` times four values, which both have; words that are written
        // may begin anywhere on these cores.
        unsafe { palmtop_quantize_steps(x, q, fours, &inverse, zero) };
    }
}
