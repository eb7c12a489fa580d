//! Softmax, in floats and in the form that integer attention needs.

use super::float;
use super::math::{exp, round_half_even};

/// Replaces scores by exp(sᵢ − max s) and gives their sum (eight lanes).
pub fn exponentials(scores: &mut [f32]) -> f32 {
    let mut greatest = f32::NEG_INFINITY;
    for &s in scores.iter() {
        if s > greatest {
            greatest = s;
        }
    }
    for s in scores.iter_mut() {
        *s = exp(*s - greatest);
    }
    float::sum(scores)
}

/// Softmax in place: exp(sᵢ − max s) / Σ.
pub fn softmax(scores: &mut [f32]) {
    let sum = exponentials(scores);
    for s in scores.iter_mut() {
        *s /= sum;
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
    let mut greatest = 0.0f32;
    for (e, scale) in exponentials.iter_mut().zip(scales) {
        *e *= scale;
        if *e > greatest {
            greatest = *e;
        }
    }
    if !(super::integer::TINY..=f32::MAX).contains(&greatest) {
        p.fill(0);
        return 0.0;
    }
    let inverse = 32767.0 / greatest;
    for (p, &w) in p.iter_mut().zip(exponentials.iter()) {
        let w = w * inverse;
        *p = round_half_even(if w > 32767.0 { 32767.0 } else { w }) as i32 as i16;
    }
    greatest / (32767.0 * sum)
}
