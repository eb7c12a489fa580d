//! int8 products: [`matmul::dots`] against [`matmul::portable`], in every layout.

use palmtop::bench::{Int8, Outputs, Quantized, int8_layer};
use palmtop::kernels::matmul::{self, Form, Rows, Weights};
use palmtop::kernels::{Layout, lanes};

use super::floats::floats;
use super::random::Random;
use super::{Bench, Wrong};

/// Cases of a layout.
const CASES: usize = 60;

/// Most tokens of a batch.
const BATCH: usize = 16;

/// Columns: near the ends of what a kernel unrolls, copies near, and adds up before it shifts.
const COLUMNS: [usize; 16] = [
    16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 240, 256, 496, 512, 528, 1056,
];

/// Rows and columns at random in every layout, with every number of tokens.
pub fn random(bench: &mut Bench<'_>, seed: u32) -> Result<u32, Wrong> {
    let mut random = Random::new(seed);
    let mut cases = 0;
    for layout in Layout::ALL {
        for case in 0..CASES {
            let tokens = case % BATCH + 1;
            let stride = random.of(&COLUMNS);
            let rows = 1 + random.below(18);
            let kinds = if case < BATCH {
                (0, 0)
            } else {
                (random.below(5), random.below(5))
            };
            let (packed, rest) = bench.memory.split_at_mut(32 * 1056);
            let packed = signed(packed);
            pack(packed, layout, rows, stride, kinds.0, &mut random);
            let len = rows.next_multiple_of(layout.block()) * stride;
            let weights = Weights::new(&packed[..len], stride, layout);
            compare(&weights, rows, tokens, kinds.1, rest, &mut random)?;
            cases += 1;
        }
    }
    Ok(cases)
}

/// The longest rows that a file may have, and some that are not much longer than an accumulator's.
pub fn long(bench: &mut Bench<'_>, seed: u32) -> Result<u32, Wrong> {
    let mut random = Random::new(seed);
    // SAFETY: `i8` takes any byte.
    let file =
        unsafe { core::slice::from_raw_parts(bench.file.as_ptr().cast::<i8>(), bench.file.len()) };
    let mut cases = 0;
    for layout in [Layout::Rows, Layout::Lanes4, Layout::Bytes8, Layout::Bytes4] {
        for (stride, tokens) in [(65536, 1), (32768, 1), (8192, 3), (2064, 5)] {
            // Twice for lanes, once more for the twin.
            if bench.memory.len() < stride * tokens * 3 + 4096 && stride > 8192 {
                continue;
            }
            let weights = Weights::new(&file[..8 * stride], stride, layout);
            for kind in [0, 2, 3] {
                compare(&weights, 8, tokens, kind, bench.memory, &mut random)?;
                cases += 1;
            }
        }
    }
    Ok(cases)
}

/// Whole layers, whose outputs may have kernels of their own: f32(dot − zero · sum) · (scale of the
/// token · scale of the row), then + bias, and those of experts · factor · gate.
pub fn layers(bench: &mut Bench<'_>, seed: u32) -> Result<u32, Wrong> {
    let mut random = Random::new(seed);
    let layout = matmul::native();
    let form = Form::of(layout);
    let mut cases = 0;
    for case in 0..160 {
        let (tokens, stride) = (case % 17 + 1, random.of(&[16, 48, 64]));
        let rows = 1 + random.below(70);
        let (packed, rest) = bench.memory.split_at_mut(80 * 64);
        let packed = signed(packed);
        pack(packed, layout, rows, stride, 0, &mut random);
        let len = rows.next_multiple_of(layout.block()) * stride;
        let weights = Weights::new(&packed[..len], stride, layout);
        let (plain, rest) = rest.split_at_mut(stride * tokens);
        let plain = signed(plain);
        random.bytes(0, plain);
        let (lanes, rest) = rest.split_at_mut(2 * 64 * 17);
        let pitch = form.bytes(stride);
        let lanes = &mut signed(lanes)[..pitch * tokens];
        for (row, to) in plain
            .chunks_exact(stride)
            .zip(lanes.chunks_exact_mut(pitch))
        {
            to[pitch - stride..].copy_from_slice(row);
            form.prepare(to);
        }
        let (wanted, rest) = floats(rest).split_at_mut(17 * 70);
        let (out, rest) = rest.split_at_mut(17 * 70);
        let (scales, bias) = rest.split_at_mut(70);
        let (mut zeros, mut x_scales, mut sums) = ([0; 17], [0.0; 17], [0; 70]);
        for value in scales[..rows].iter_mut().chain(&mut x_scales) {
            *value = f32::from_bits(random.float(case / 3 % 4).to_bits() & 0x7FFF_FFFF);
        }
        let bias = &mut bias[..if case % 5 == 0 { 0 } else { rows }];
        for value in bias.iter_mut() {
            *value = random.float(0);
        }
        for zero in &mut zeros {
            *zero = random.below(255) as i32 - 127;
        }
        for (row, sum) in sums[..rows].iter_mut().enumerate() {
            let mut values = [0; 64];
            weights.unpack(row, 0, &mut values[..stride]);
            *sum = values.iter().map(|value| i32::from(*value)).sum();
        }
        // The outputs of an expert's tokens go to other rows, here in opposite order, or have one gate.
        let mut gates = [0.0; 17];
        for gate in &mut gates {
            *gate = random.float(case / 7 % 2);
        }
        let targets: [u32; 17] =
            core::array::from_fn(|token| (tokens - 1).saturating_sub(token) as u32);
        let (is_gated, is_each) = (case % 4 > 1, case % 4 > 2);
        let factor = (case % 8 > 5).then(|| random.float(0));
        for value in &mut out[..rows * tokens] {
            *value = random.float(case / 11 % 2);
        }
        for token in 0..tokens {
            let target = if is_each { tokens - 1 - token } else { token };
            let x = Rows {
                bytes: &plain[token * stride..],
                pitch: stride,
                form: Form::Bytes,
            };
            for row in 0..rows {
                let mut dot = [0];
                matmul::portable(&weights, row, 1, x, 1, &mut dot);
                let exact = dot[0] - zeros[token] * sums[row];
                let y = exact as f32 * (x_scales[token] * scales[row]);
                let y = bias.get(row).map_or(y, |bias| y + bias);
                let y = factor.filter(|_| is_gated).map_or(y, |factor| y * factor);
                let gate = gates[if is_each { token } else { 0 }];
                let y = if is_gated { y * gate } else { y };
                let index = target * rows + row;
                wanted[index] = y;
                match case % 3 {
                    0 => {}
                    1 => wanted[index] = out[index] + y,
                    _ => wanted[index] = out[index] * y,
                }
            }
        }
        for zero in &mut zeros {
            *zero += form.offset();
        }
        let layer = Int8 {
            weights,
            rows,
            scales: &scales[..rows],
            sums: &sums[..rows],
            bias,
        };
        let x = Quantized {
            rows: Rows {
                bytes: lanes,
                pitch,
                form,
            },
            scales: &x_scales[..tokens],
            zeros: &zeros[..tokens],
        };
        let outputs = Outputs {
            op: case % 3,
            factor,
            gates: if is_gated { &gates } else { &[] },
            rows: if is_each { &targets } else { &[] },
        };
        int8_layer(&layer, x, tokens, outputs, out);
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
        if !out.iter().zip(&*wanted).take(rows * tokens).all(same) {
            return Err(Wrong {
                what: "a layer of rows, columns, tokens, case",
                shape: [rows, stride, tokens, case, 0, 0],
            });
        }
        cases += 1;
    }
    Ok(cases)
}

/// Lanes of activations.
pub fn activations(bench: &mut Bench<'_>, seed: u32) -> Result<u32, Wrong> {
    let mut random = Random::new(seed);
    let mut cases = 0;
    for count in (16..=528).step_by(16) {
        let (a, b) = bench.memory.split_at_mut(2048);
        let (a, b) = (&mut signed(a)[..2 * count], &mut signed(b)[..2 * count]);
        random.bytes(cases as usize % 5, &mut a[count..]);
        b.copy_from_slice(a);
        lanes::prepare(a);
        lanes::portable(b);
        if a != b {
            return Err(Wrong {
                what: "lanes::prepare of values",
                shape: [count, 0, 0, 0, 0, 0],
            });
        }
        cases += 1;
    }
    Ok(cases)
}

/// Random weights in a layout; whole blocks, those of missing rows 0.
fn pack(
    out: &mut [i8],
    layout: Layout,
    rows: usize,
    stride: usize,
    kind: usize,
    random: &mut Random,
) {
    for row in 0..rows.next_multiple_of(layout.block()) {
        for col in (0..stride).step_by(2) {
            let mut pair = [0; 2];
            if row < rows {
                random.bytes(kind, &mut pair);
            }
            match layout {
                Layout::Words16 | Layout::Bytes4 => pair = pair.map(|w| w ^ i8::MIN),
                Layout::Lanes4 if pair[0] < 0 => pair[1] -= 1,
                _ => {}
            }
            out[layout.index(row, col, stride)] = pair[0];
            out[layout.index(row, col + 1, stride)] = pair[1];
        }
    }
}

/// Runs both over all rows, as a linear layer does.
fn compare(
    weights: &Weights<'_>,
    rows: usize,
    tokens: usize,
    kind: usize,
    memory: &mut [u8],
    random: &mut Random,
) -> Result<(), Wrong> {
    let (stride, layout) = (weights.stride(), weights.layout());
    let form = Form::of(layout);
    let (bytes, rest) = memory.split_at_mut(stride * tokens);
    let (ones, rest) = rest.split_at_mut(if form.offset() != 0 { stride } else { 0 });
    let (bytes, ones) = (signed(bytes), signed(ones));
    ones.fill(1);
    let ones = Rows {
        bytes: ones,
        pitch: stride,
        form: Form::Bytes,
    };
    random.bytes(kind, bytes);
    let plain = Rows {
        bytes,
        pitch: stride,
        form: Form::Bytes,
    };
    // A pitch that is more than a row's bytes, as a row with padding behind it has.
    let pitch = form.bytes(stride) + 16 * random.below(2);
    let prepared = &mut signed(rest)[..pitch * tokens];
    for (row, to) in bytes
        .chunks_exact(stride)
        .zip(prepared.chunks_exact_mut(pitch))
    {
        let to = &mut to[..form.bytes(stride)];
        let values = to.len() - stride;
        to[values..].copy_from_slice(row);
        form.prepare(to);
    }
    let x = Rows {
        bytes: prepared,
        pitch,
        form,
    };
    let step = matmul::rows_at_once(tokens);
    for first in (0..rows).step_by(step) {
        let count = step.min(rows - first);
        let (mut got, mut wanted) = ([7; matmul::SUMS], [9; matmul::SUMS]);
        matmul::dots(weights, first, count, x, tokens, &mut got);
        matmul::portable(weights, first, count, plain, tokens, &mut wanted);
        if form.offset() != 0 {
            let mut row_sums = [0; matmul::SUMS];
            matmul::portable(weights, first, count, ones, 1, &mut row_sums);
            for (wanted, sum) in wanted.chunks_exact_mut(tokens).zip(row_sums) {
                for wanted in wanted {
                    *wanted += form.offset() * sum;
                }
            }
        }
        if got[..count * tokens] != wanted[..count * tokens] {
            return Err(Wrong {
                what: "matmul::dots of layout, columns, rows, tokens, first row, kind",
                shape: [layout as usize, stride, rows, tokens, first, kind],
            });
        }
        // Room for exactly these sums must do, too.
        let mut got = [7; matmul::SUMS];
        matmul::dots(weights, first, count, x, tokens, &mut got[..count * tokens]);
        if form != Form::Lanes && got[..count * tokens] != wanted[..count * tokens] {
            return Err(Wrong {
                what: "matmul::dots into few sums, of layout, columns, rows, tokens, first row, kind",
                shape: [layout as usize, stride, rows, tokens, first, kind],
            });
        }
    }
    Ok(())
}

/// Bytes as signed ones.
pub fn signed(bytes: &mut [u8]) -> &mut [i8] {
    // SAFETY: both are plain bytes.
    unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}
