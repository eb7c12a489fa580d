//! Every public function of `palmtop::kernels`.

use core::hint::black_box;

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
    if let Some(group) = opaque.bytes.first_chunk() {
        black_box(int4::unpack(group));
    }
    let rows = rows(a, opaque);
    let zeros = [0; 16];
    int4::dot_rows(rows, &zeros, opaque.bytes, opaque.halves, opaque.others);
}

/// Rows of any form.
fn rows<'a>(bytes: &'a [i8], opaque: &Opaque) -> Rows<'a> {
    Rows {
        bytes,
        pitch: opaque.number(0) as usize,
        form: match opaque.number(1) {
            0 => Form::Bytes,
            _ => Form::Lanes,
        },
    }
}

/// Products of int8 matrices in every layout.
pub fn products(opaque: &mut Opaque) {
    let Some(layout) = Layout::from_code(opaque.number(2) as u8) else {
        return;
    };
    black_box((layout.name(), layout.block(), layout.run()));
    black_box(layout.activation_bytes());
    let (row, col, first) = (opaque.number(3), opaque.number(4), opaque.number(5));
    let stride = opaque.number(6) as usize;
    black_box(layout.index(row as usize, col as usize, stride));
    lanes::prepare(opaque.signed);
    let (values, x) = opaque.signed.split_at(opaque.signed.len() / 2);
    let weights = black_box(Weights::new(values, stride, layout));
    black_box((weights.layout(), weights.stride(), weights.values()));
    black_box((weights.form(), Form::of(layout)));
    let x = black_box(rows(x, opaque)).skip(col as usize);
    black_box(x.from(row as usize));
    let tokens = opaque.number(7) as usize;
    black_box(matmul::rows_at_once(tokens));
    let mut sums = [0; 16];
    matmul::dots(
        &weights,
        first as usize,
        row as usize,
        x,
        tokens,
        black_box(&mut sums),
    );
    matmul::portable(
        &weights,
        first as usize,
        row as usize,
        x,
        tokens,
        black_box(&mut sums),
    );
    let mut out = [0; 8];
    weights.unpack(row as usize, col as usize, black_box(&mut out));
}

/// Softmax, in floats and in 15 bits.
pub fn softmax(opaque: &mut Opaque) {
    soft::softmax(opaque.floats);
    let sum = black_box(soft::exponentials(opaque.floats));
    let scales = opaque.others.iter().copied();
    black_box(soft::weights(opaque.floats, scales, sum, opaque.shorts));
}
