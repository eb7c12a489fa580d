//! The kernels of 64-bit Arm give the sums of the portable ones. `cargo xtask test` runs this in an
//! emulator, on processors with and without dot products.

#![cfg(all(target_arch = "aarch64", feature = "threads"))]

use palmtop::kernels::aarch64::dots;
use palmtop::kernels::host::{Level, level};
use palmtop::kernels::matmul::{Form, Rows, Weights, portable, rows_at_once};
use palmtop::kernels::{Layout, pool};
use palmtop::{Limits, Model, Session};

/// Pseudo-random bytes within ±127, extremes among them.
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> i8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        match self.0 >> 40 & 7 {
            0 => 127,
            1 => -127,
            2 => 0,
            _ => ((self.0 >> 48) as i8).max(-127),
        }
    }

    fn row(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| self.next()).collect()
    }
}

/// A matrix in a layout; what is missing of its last block is zero.
fn pack(values: &[i8], stride: usize, layout: Layout) -> Vec<i8> {
    let rows = (values.len() / stride).next_multiple_of(layout.block());
    let turn = if layout == Layout::Words16 {
        i8::MIN
    } else {
        0
    };
    let mut packed = vec![turn; rows * stride];
    for (row, values) in values.chunks(stride).enumerate() {
        for (col, value) in values.iter().enumerate() {
            packed[layout.index(row, col, stride)] = value ^ turn;
        }
    }
    packed
}

fn check(
    bytes: &mut Bytes,
    level: Level,
    layout: Layout,
    rows: usize,
    stride: usize,
    extreme: bool,
) {
    let matrix = match extreme {
        true => vec![-127; rows * stride],
        false => bytes.row(rows * stride),
    };
    let packed = pack(&matrix, stride, layout);
    let weights = Weights::new(&packed, stride, layout);
    for tokens in 1..=16 {
        let pitch = stride + bytes.next().unsigned_abs() as usize % 3 * 16;
        // Exactly as long as it must be, so that a read beyond it is one beyond the slice.
        let len = (tokens - 1) * pitch + stride;
        let values = match extreme {
            true => vec![if tokens % 2 == 0 { 127 } else { -127 }; len],
            false => bytes.row(len),
        };
        let x = Rows {
            bytes: &values,
            pitch,
            form: Form::Bytes,
        };
        let step = rows_at_once(tokens);
        for first in (0..rows).step_by(step) {
            let count = step.min(rows - first);
            let mut wanted = vec![0; count * tokens];
            portable(&weights, first, count, x, tokens, &mut wanted);
            // What lies behind stays.
            let mut got = vec![0x5A5A_5A5A; count * tokens + 4];
            assert!(dots(level, &weights, first, count, x, tokens, &mut got));
            assert!(got.ends_with(&[0x5A5A_5A5A; 4]));
            got.truncate(count * tokens);
            assert_eq!(
                got, wanted,
                "{level:?} {layout:?}: row {first} of {rows}, {stride} columns, {tokens} tokens"
            );
        }
    }
}

#[test]
fn every_level_gives_the_portable_sums() {
    assert!(level().is_available() && level() >= Level::Neon);
    let all = Level::ALL.into_iter().filter(|level| *level >= Level::Neon);
    for level in all.filter(|level| level.is_available()) {
        println!("{level:?}");
        let mut bytes = Bytes(0x9E37_79B9_7F4A_7C15);
        for layout in [Layout::Words16, Layout::Rows] {
            for rows in [1, 2, 3, 4, 5, 8, 15, 16, 17, 40] {
                for stride in [16, 32, 48, 80, 256] {
                    check(&mut bytes, level, layout, rows, stride, false);
                }
            }
            check(&mut bytes, level, layout, 16, 4096, true);
            check(&mut bytes, level, layout, 3, 65_536, true);
        }
    }
}

#[test]
fn what_does_not_fit_is_left_to_others() {
    let matrix = vec![1; 16 * 32];
    let weights = Weights::new(&matrix, 32, Layout::Words16);
    let values = vec![1; 64];
    let x = |form, pitch| Rows {
        bytes: &values,
        pitch,
        form,
    };
    let mut sums = [7; 64];
    let run = |weights, first, rows, x, tokens, sums: &mut [i32]| {
        let mut all = true;
        for level in Level::ALL {
            all &= !dots(level, weights, first, rows, x, tokens, sums);
        }
        all
    };
    let good = x(Form::Bytes, 32);
    assert!(run(&weights, 16, 16, good, 1, &mut sums), "rows beyond");
    assert!(run(&weights, usize::MAX - 15, 16, good, 1, &mut sums));
    assert!(run(&weights, 0, 16, good, 3, &mut sums), "tokens beyond");
    assert!(run(
        &weights,
        0,
        16,
        x(Form::Bytes, usize::MAX),
        2,
        &mut sums
    ));
    assert!(run(&weights, 0, 16, good, 17, &mut sums), "too many tokens");
    assert!(run(&weights, 0, 16, good, 0, &mut sums));
    assert!(run(&weights, 8, 8, good, 1, &mut sums), "not at a step");
    assert!(run(&weights, 0, 16, x(Form::Lanes, 32), 1, &mut sums));
    assert!(run(&weights, 0, 16, good, 1, &mut sums[..15]), "short sums");
    let short = Weights::new(&matrix[..511], 32, Layout::Words16);
    assert!(run(&short, 0, 1, good, 1, &mut sums), "a block cut short");
    let lanes = Weights::new(&matrix, 32, Layout::Lanes4);
    assert!(run(&lanes, 0, 4, good, 1, &mut sums));
    assert_eq!(sums, [7; 64], "nothing was written");
}

#[test]
fn whole_models_give_the_bits_of_their_golden_pairs() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny");
    let mut models = 0;
    pool::cut_finely();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let mut image = vec![0u128; bytes.len().div_ceil(16)];
        bytemuck::cast_slice_mut(&mut image)[..bytes.len()].copy_from_slice(&bytes);
        let image: &[u8] = &bytemuck::cast_slice(&image)[..bytes.len()];
        let Ok(model) = Model::parse(image) else {
            continue;
        };
        if model.palm().verify().is_err() {
            continue;
        }
        let golden = model.palm().section(model.palm().header().golden);
        let length = |at: usize| u32::from_le_bytes(golden[at..at + 4].try_into().unwrap());
        let limits = Limits {
            source: length(0),
            target: length(4),
            beams: 1,
        };
        for threads in [1, 2] {
            assert_eq!(pool::set_threads(threads), threads);
            let mut arena = vec![0u128; model.arena_bytes(limits).div_ceil(16)];
            let arena = bytemuck::cast_slice_mut(&mut arena);
            let mut session = Session::new(model, limits, arena).unwrap();
            let mut ids = vec![0; limits.source as usize];
            let same = session.self_test(&mut ids);
            assert_eq!(same, Ok(()), "{}, {threads} threads", path.display());
        }
        models += 1;
    }
    assert!(models >= 5, "{models} models");
}
