//! Softmax, in floats and in the form that integer attention needs.

use super::float;
use super::integer::{TINY, round_to_steps};
use super::math::exp;
use super::single::Single;

/// Replaces scores by exp(sᵢ − max s) and gives their sum (eight lanes).
pub fn exponentials(scores: &mut [f32]) -> f32 {
    let mut greatest = Single(f32::NEG_INFINITY);
    for &s in scores.iter() {
        if Single(s) > greatest {
            greatest = Single(s);
        }
    }
    for s in scores.iter_mut() {
        *s = exp((Single(*s) - greatest).0);
    }
    float::sum(scores)
}

/// Softmax in place: exp(sᵢ − max s) / Σ.
pub fn softmax(scores: &mut [f32]) {
    let sum = Single(exponentials(scores));
    for s in scores.iter_mut() {
        *s = (Single(*s) / sum).0;
    }
}

/// Weights of 15 bits for integer P·V: wᵢ = eᵢ·scaleᵢ, pᵢ = rne(wᵢ · (32767 / max w)).
///
/// `scales` yields the scale of each value vector. Gives max w / (32767 · `sum`), the factor of
/// the integer sum Σ pᵢ·vᵢ; all pᵢ are 0 and the factor is 0 if max w is below 1e−30.
pub fn weights(
    exponentials: &mut [f32],
    scales: impl Iterator<Item = f32>,
    sum: f32,
    p: &mut [i16],
) -> f32 {
    const STEPS: Single = Single(32767.0);
    let mut greatest = 0;
    for (e, scale) in exponentials.iter_mut().zip(scales) {
        *e = Single(*e).times(Single(scale)).0;
        // Neither is negative, so that their bits are in order; NaN comes last, and is no greatest.
        let bits = e.to_bits();
        if bits > greatest && bits <= f32::INFINITY.to_bits() {
            greatest = bits;
        }
    }
    let greatest = f32::from_bits(greatest);
    if !(TINY..=f32::MAX).contains(&greatest) {
        p.fill(0);
        return 0.0;
    }
    let inverse = STEPS / Single(greatest);
    round_to_steps::<16, _>(exponentials, inverse.0, p, |steps| steps as i16);
    (Single(greatest) / (STEPS * Single(sum))).0
}
