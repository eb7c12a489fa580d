//! temporary
#![allow(missing_docs)]
pub fn exp(x: f32) -> f32 {
    libm::expf(x)
}
pub fn tanh(x: f32) -> f32 {
    libm::tanhf(x)
}
pub fn erf(x: f32) -> f32 {
    libm::erff(x)
}
pub fn sqrt(x: f32) -> f32 {
    libm::sqrtf(x)
}
pub fn round_half_even(x: f32) -> f32 {
    (x + 12582912.0) - 12582912.0
}
