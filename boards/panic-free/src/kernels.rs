//! Every public function of `palmtop::kernels`.

use core::hint::black_box;

use palmtop::bench::{Int8, Outputs, Quantized, int8_layer};
use palmtop::kernels::matmul::{self, Form, Rows, Weights};
use palmtop::kernels::{Activation, Layout, float, int4, integer, lanes, math, softmax as soft};

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
    black_box(integer::portable_dot(a, b));
    if let Some(group) = opaque.bytes.first_chunk() {
        black_box(int4::unpack(group));
    }
    let x = Rows {
        bytes: a,
        pitch: opaque.number(0) as usize,
        form: Form::Bytes,
    };
    let zeros = [0; 16];
    int4::dot_rows(x, &zeros, opaque.bytes, opaque.halves, opaque.others);
}

/// Products of int8 matrices in any layout.
pub fn products(opaque: &mut Opaque) {
    let Some(layout) = Layout::from_code(opaque.number(0) as u8) else {
        return;
    };
    let [stride, pitch, first, rows, tokens] = [1, 2, 3, 4, 5].map(|at| opaque.number(at) as usize);
    let form = Form::of(layout);
    form.prepare(opaque.signed);
    lanes::portable(opaque.signed);
    black_box((form.bytes(stride), matmul::native()));
    let (a, b) = opaque.signed.split_at(opaque.signed.len() / 2);
    let weights = Weights::new(a, stride, layout);
    let x = Rows {
        bytes: b,
        pitch,
        form,
    };
    let mut sums = [0; matmul::SUMS];
    matmul::dots(&weights, first, rows, x, tokens, &mut sums);
    matmul::portable(&weights, first, rows, x.skip(first), tokens, &mut sums);
    black_box(sums);
    let layer = Int8 {
        weights,
        rows,
        scales: opaque.others,
        sums: &[],
        bias: opaque.others,
    };
    let x = Quantized {
        rows: x,
        scales: opaque.others,
        zeros: &[],
    };
    let outputs = Outputs {
        op: rows,
        factor: opaque.others.first().copied(),
        gates: opaque.others,
        rows: &[],
    };
    int8_layer(&layer, x, tokens, outputs, opaque.floats);
}

/// Softmax, in floats and in 15 bits.
pub fn softmax(opaque: &mut Opaque) {
    soft::softmax(opaque.floats);
    let sum = black_box(soft::exponentials(opaque.floats));
    let scales = opaque.others.iter().copied();
    black_box(soft::weights(opaque.floats, scales, sum, opaque.shorts));
}
