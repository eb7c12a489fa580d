//! Every public function of `palmtop::kernels`.

use core::hint::black_box;

use palmtop::kernels::{Activation, float, int4, integer, math, softmax as soft};

use crate::Opaque;

/// Elementary functions.
pub fn math(opaque: &mut Opaque) {
    let x = opaque.float(0);
    black_box(math::exp(x));
    black_box(math::tanh(x));
    black_box(math::erf(x));
    black_box(math::sqrt(x));
    black_box(math::round_half_even(x));
    black_box(float::widen(opaque.number(1) as u16));
}

/// Activations.
pub fn activation(opaque: &mut Opaque) {
    let Some(activation) = Activation::from_code(opaque.number(0) as u8) else {
        return;
    };
    black_box(activation.code());
    black_box(activation.apply(opaque.float(1)));
    activation.apply_slice(opaque.floats);
}

/// Sums of floats.
pub fn float_rows(opaque: &mut Opaque) {
    black_box(float::dot(opaque.floats, opaque.others));
    black_box(float::dot_f16(opaque.floats, opaque.halves));
    black_box(float::sum(opaque.floats));
    let stride = opaque.number(0) as usize;
    float::dot_rows(opaque.others, stride, opaque.floats, &mut [0.0; 16]);
    float::dot_rows_f16(opaque.floats, stride, opaque.halves, opaque.others);
}

/// Norms.
pub fn norms(opaque: &mut Opaque) {
    let eps = opaque.float(0);
    let (gain, bias) = opaque.others.split_at(opaque.others.len() / 2);
    float::rms_norm(opaque.floats, gain, eps);
    float::layer_norm(opaque.floats, gain, bias, eps);
}

/// Integers.
pub fn integer_rows(opaque: &mut Opaque) {
    black_box(integer::quantize(opaque.floats, opaque.signed));
    black_box(integer::quantize_symmetric(opaque.floats, opaque.signed));
    let (a, b) = opaque.signed.split_at(opaque.signed.len() / 2);
    black_box(integer::dot(a, b));
    let stride = opaque.number(0) as usize;
    integer::dot_rows(a, stride, b, &mut [0; 16]);
    if let Some(group) = opaque.bytes.first_chunk() {
        black_box(int4::unpack(group));
    }
    let zeros = [0; 16];
    int4::dot_rows(
        a,
        stride,
        &zeros,
        opaque.bytes,
        opaque.halves,
        opaque.others,
    );
}

/// Softmax, in floats and in 15 bits.
pub fn softmax(opaque: &mut Opaque) {
    soft::softmax(opaque.floats);
    let sum = black_box(soft::exponentials(opaque.floats));
    let scales = opaque.others.iter().copied();
    black_box(soft::weights(opaque.floats, scales, sum, opaque.shorts));
}
