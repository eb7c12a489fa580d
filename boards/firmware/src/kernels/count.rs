//! Counts the instructions of int8 layers.

use palmtop::bench::{Int8, Quantized, int8_layer};
use palmtop::kernels::Layout;
use palmtop::kernels::matmul::{self, Form, Rows, Weights};

use super::Bench;
use super::floats::floats;
use super::products::signed;
use super::random::Random;
use crate::counter::Counter;
use crate::host::Console;

/// Rows and columns.
const SHAPES: [(usize, usize); 3] = [(64, 64), (128, 512), (512, 512)];

/// Rows and columns of the largest shape.
const MOST: usize = 512;

/// Counts every shape, with one token and with sixteen, in the target's layout and in rows.
pub fn all(bench: &mut Bench<'_>, counter: &Counter, out: &mut Console) {
    let own = palmtop::kernels::matmul::native();
    for layout in [own, Layout::Rows] {
        for (rows, cols) in SHAPES {
            for tokens in [1, 16] {
                let [prepare, dots, layer] = one(bench, counter, layout, (rows, cols), tokens);
                out.text("kernel ").text(layout.name());
                out.number(rows as u64)
                    .number(cols as u64)
                    .number(tokens as u64);
                out.number(prepare).number(dots).number(layer).end();
            }
        }
        if own == Layout::Rows {
            break;
        }
    }
}

/// Instructions that prepare the activations, that give the sums, and that give the layer's outputs
/// (the sums included).
fn one(
    bench: &mut Bench<'_>,
    counter: &Counter,
    layout: Layout,
    (rows, cols): (usize, usize),
    tokens: usize,
) -> [u64; 3] {
    // SAFETY: `i8` takes any byte.
    let file =
        unsafe { core::slice::from_raw_parts(bench.file.as_ptr().cast::<i8>(), rows * cols) };
    let weights = Weights::new(file, cols, layout);
    let form = Form::of(layout);
    let (x, rest) = bench.memory.split_at_mut(2 * MOST * 16);
    let pitch = form.bytes(cols);
    let x = &mut signed(x)[..pitch * tokens];
    let mut random = Random::new(1);
    random.bytes(0, x);
    let (out, rest) = floats(rest).split_at_mut(MOST * 16);
    let (scales, bias) = rest.split_at_mut(MOST);
    let (scales, bias) = (&mut scales[..rows], &mut bias[..rows]);
    for (index, (scale, bias)) in scales.iter_mut().zip(bias.iter_mut()).enumerate() {
        *scale = 0.001 + 0.000_01 * index as f32;
        *bias = 0.01 * index as f32 - 1.0;
    }
    static ROW_SUMS: [i32; MOST] = [1234; MOST];
    let (x_scales, zeros) = ([0.02; 16], [-11; 16]);
    let count = |work: &mut dyn FnMut()| {
        let start = counter.now();
        work();
        let all = counter.since(start);
        let start = counter.now();
        let empty = counter.since(start);
        all.saturating_sub(empty)
    };
    let prepare = count(&mut || {
        for row in x.chunks_exact_mut(pitch) {
            form.prepare(row);
        }
    });
    let x = Rows {
        bytes: x,
        pitch,
        form,
    };
    let mut sums = [0; matmul::SUMS];
    let dots = count(&mut || {
        let step = matmul::rows_at_once(tokens);
        let mut first = 0;
        while first < rows {
            let count = step.min(rows - first);
            matmul::dots(&weights, first, count, x, tokens, &mut sums);
            first += step;
        }
    });
    let layer = Int8 {
        weights,
        rows,
        scales,
        sums: &ROW_SUMS,
        bias,
    };
    let quantized = Quantized {
        rows: x,
        scales: &x_scales,
        zeros: &zeros,
    };
    let layer = count(&mut || int8_layer(&layer, quantized, tokens, 0, &mut *out));
    [prepare, dots, layer]
}
