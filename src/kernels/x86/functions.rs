//! Elementary functions and activations of sixteen values: the operations of [`math`] and
//! [`activation`](super::super::activation), in their order, with choices in place of branches.

use super::super::{activation, math};
use super::isa::Isa;

/// The parts of [`math::exp`], of each vector: k, in the low bits of a float, and s. Vectors take turns
/// at every operation, because the machine looks no further ahead than a few of them.
#[inline(always)]
unsafe fn exp_parts<I: Isa, const N: usize>(x: [I::F; N]) -> ([I::F; N], [I::F; N]) {
    // SAFETY: the caller enabled the features.
    unsafe {
        let c = math::EXP;
        let magic = I::splat(math::ROUND_MAGIC);
        let mut shifted = x;
        for shifted in &mut shifted {
            *shifted = I::add(I::mul(*shifted, I::splat(math::LOG2_E)), magic);
        }
        let mut r = x;
        for (r, shifted) in r.iter_mut().zip(shifted) {
            let k = I::sub(shifted, magic);
            let high = I::sub_exact(*r, k, I::splat(math::LN2_HI));
            *r = I::sub(high, I::mul(k, I::splat(math::LN2_LO)));
        }
        let mut p = [I::splat(c[4]); N];
        for c in c.into_iter().rev().skip(1) {
            for (p, r) in p.iter_mut().zip(r) {
                *p = I::add(I::mul(*p, r), I::splat(c));
            }
        }
        for (p, r) in p.iter_mut().zip(r) {
            *p = I::add(r, I::mul(I::mul(r, r), *p));
        }
        (shifted, p)
    }
}

/// [`math::exp`] of vectors of values that are not above 0, or NaN.
#[inline(always)]
pub(super) unsafe fn exp_below<I: Isa, const N: usize>(x: [I::F; N]) -> [I::F; N] {
    // SAFETY: as above.
    unsafe {
        let (k, mut y) = exp_parts::<I, N>(x);
        for ((y, k), x) in y.iter_mut().zip(k).zip(x) {
            let s = I::add(I::splat(1.0), *y);
            *y = I::scale_from(s, k, x, I::splat(-math::EXP_LOWEST));
        }
        y
    }
}

/// [`math::exp`].
#[inline(always)]
pub(super) unsafe fn exp<I: Isa>(x: I::F) -> I::F {
    // SAFETY: as above.
    unsafe {
        let [y] = exp_below::<I, 1>([x]);
        let highest = I::splat(math::EXP_HIGHEST);
        I::select(I::gt(x, highest), I::splat(f32::INFINITY), y)
    }
}

/// [`math::tanh`].
#[inline(always)]
unsafe fn tanh<I: Isa>(x: I::F) -> I::F {
    // SAFETY: as above.
    unsafe {
        let c = math::TANH;
        let one = I::splat(1.0);
        let bits = I::bits(x);
        let sign = I::and(bits, I::splat_i32(i32::MIN));
        let a = I::float(I::and(bits, I::splat_i32(i32::MAX)));
        // Below the split.
        let z = I::mul(x, x);
        let p = I::add(I::mul(I::splat(c[4]), z), I::splat(c[3]));
        let p = I::add(I::mul(p, z), I::splat(c[2]));
        let p = I::add(I::mul(p, z), I::splat(c[1]));
        let p = I::add(I::mul(p, z), I::splat(c[0]));
        let near = I::add(x, I::mul(x, I::mul(z, p)));
        let near = I::select(I::gt(I::splat(math::TANH_TINY), a), x, near);
        // From the split on.
        let ([k], [s]) = exp_parts::<I, 1>([I::add(a, a)]);
        let scale = I::float(I::add_i32(I::bits(one), I::shift23(I::bits(k))));
        let denominator = I::add(I::add(scale, one), I::mul(scale, s));
        let far = I::sub(one, I::div(I::splat(2.0), denominator));
        let far = I::select(I::gt(I::splat(math::TANH_SATURATED), a), far, one);
        let far = I::float(I::or(I::bits(far), sign));
        let y = I::select(I::gt(I::splat(math::TANH_SPLIT), a), near, far);
        I::select(I::nan(x), x, y)
    }
}

/// `gelu_tanh` of [`activation`].
#[inline(always)]
pub(super) unsafe fn gelu_tanh<I: Isa>(x: I::F) -> I::F {
    // SAFETY: as above.
    unsafe {
        let cube = I::mul(I::mul(x, x), x);
        let cubic = I::mul(I::splat(activation::GELU_CUBIC), cube);
        let inner = I::mul(I::splat(activation::SQRT_2_OVER_PI), I::add(x, cubic));
        let half = I::mul(I::splat(0.5), x);
        I::mul(half, I::add(I::splat(1.0), tanh::<I>(inner)))
    }
}

/// `silu` of [`activation`].
#[inline(always)]
pub(super) unsafe fn silu<I: Isa>(x: I::F) -> I::F {
    // SAFETY: as above.
    unsafe {
        let turned = I::float(I::add_i32(I::bits(x), I::splat_i32(i32::MIN)));
        I::div(x, I::add(I::splat(1.0), exp::<I>(turned)))
    }
}

/// `gelu` of [`activation`].
#[inline(always)]
pub(super) unsafe fn gelu<I: Isa>(x: I::F) -> I::F {
    // SAFETY: as above.
    unsafe {
        let e = erf::<I>(I::mul(x, I::splat(activation::SQRT_HALF)));
        I::mul(I::mul(I::splat(0.5), x), I::add(I::splat(1.0), e))
    }
}

/// [`math::erf`].
#[inline(always)]
unsafe fn erf<I: Isa>(x: I::F) -> I::F {
    // SAFETY: as above.
    unsafe {
        let (c, d) = (math::ERF_NEAR, math::ERF_FAR);
        let one = I::splat(1.0);
        let bits = I::bits(x);
        let sign = I::and(bits, I::splat_i32(i32::MIN));
        let a = I::float(I::and(bits, I::splat_i32(i32::MAX)));
        // Below the split.
        let z = I::mul(x, x);
        let p = I::add(I::mul(I::splat(c[5]), z), I::splat(c[4]));
        let p = I::add(I::mul(p, z), I::splat(c[3]));
        let p = I::add(I::mul(p, z), I::splat(c[2]));
        let p = I::add(I::mul(p, z), I::splat(c[1]));
        let p = I::add(I::mul(p, z), I::splat(c[0]));
        let near = I::add(x, I::mul(x, p));
        // From the split on.
        let q = I::add(I::mul(I::splat(d[5]), a), I::splat(d[4]));
        let q = I::add(I::mul(q, a), I::splat(d[3]));
        let q = I::add(I::mul(q, a), I::splat(d[2]));
        let q = I::add(I::mul(q, a), I::splat(d[1]));
        let q = I::add(I::mul(q, a), I::splat(d[0]));
        let ([k], [s]) = exp_parts::<I, 1>([I::mul(q, a)]);
        let scale = I::float(I::add_i32(I::bits(one), I::shift23(I::bits(k))));
        let far = I::sub(I::sub(one, scale), I::mul(scale, s));
        let far = I::select(I::gt(I::splat(math::ERF_SATURATED), a), far, one);
        let far = I::float(I::or(I::bits(far), sign));
        let y = I::select(I::gt(I::splat(math::ERF_SPLIT), a), near, far);
        let y = I::select(I::nan(x), x, y);
        // Tiny values have a path of their own, without subnormal intermediates.
        let zero = I::splat(0.0);
        let tiny = I::select(I::gt(I::splat(math::ERF_TINY), a), one, zero);
        let tiny = I::select(I::gt(a, zero), tiny, zero);
        if super::rows::greatest::<I>(tiny, 0.0) == 0.0 {
            return y;
        }
        let (mut values, mut of) = ([0.0f32; 16], [0.0f32; 16]);
        I::store(values.as_mut_ptr(), y);
        I::store(of.as_mut_ptr(), x);
        for (y, x) in values.iter_mut().zip(of) {
            if x.abs() < math::ERF_TINY {
                *y = math::erf(x);
            }
        }
        I::load(values.as_ptr())
    }
}
