//! `cargo bench -p palmtop-bench`: single kernels on this machine, each at every level of
//! vector instructions that it has, beside the machine's limits measured in the same run.
//!
//! At the end comes a table of the best rounds: of products of matrices with one token (GEMV) the
//! bytes of weights a second, as a share of what reading alone reaches in memory of the same size; of
//! those with more tokens (GEMM) the products a second, as a share of what is reached in registers.
//! `-- gemv` and the like measure a part; the limits are always measured.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use palmtop::kernels::host::{self, Level};
use palmtop::kernels::matmul::{Form, Rows, Weights};
use palmtop::kernels::measure::{self, Heads, Linear};
use palmtop::kernels::{Activation, Layout, float, integer, softmax};

/// What a kernel is set beside.
#[derive(Clone, Copy)]
enum Limit {
    /// Reading so many bytes.
    Bytes(usize),
    /// So many products.
    Products(usize),
    /// None: so many values are computed.
    Values(usize),
}

/// Every measurement of this run, for the table.
struct Bench {
    criterion: Criterion,
    done: Vec<(String, Level, Limit)>,
}

impl Bench {
    /// Measures `work` at every level that the machine has and that `counts` for this kernel.
    fn levels(
        &mut self,
        name: &str,
        limit: Limit,
        counts: impl Fn(Level) -> bool,
        mut work: impl FnMut(),
    ) {
        let mut group = self.criterion.benchmark_group(name);
        group.throughput(match limit {
            Limit::Bytes(bytes) => Throughput::Bytes(bytes as u64),
            Limit::Products(count) | Limit::Values(count) => Throughput::Elements(count as u64),
        });
        let levels = Level::ALL.into_iter().filter(|level| counts(*level));
        for level in levels.filter(|level| level.is_available()) {
            host::force(level);
            group.bench_function(BenchmarkId::from_parameter(level.name()), |b| {
                b.iter(&mut work);
            });
            self.done.push((name.to_owned(), level, limit));
        }
        group.finish();
    }
}

/// Pseudo-random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn byte(&mut self) -> i8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 40) as i8).max(-127)
    }

    fn bytes(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| self.byte()).collect()
    }

    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| f32::from(self.byte()) / 50.0).collect()
    }
}

fn products(bench: &mut Bench) {
    // Query, feed-forward in, feed-forward out of T5-small; its head has 32128 rows.
    let shapes = [(512, 512), (2048, 512), (512, 2048), (32_128, 512)];
    for layout in Layout::ALL {
        for (rows, cols) in shapes {
            let is_fast = matches!(layout, Layout::Words16 | Layout::Rows);
            if !is_fast && (rows, cols) != shapes[0] {
                continue;
            }
            for tokens in [1, 32, 512] {
                if tokens > 1 && (rows > 2048 || !is_fast) {
                    continue;
                }
                product(bench, layout, (rows, cols), tokens);
            }
        }
    }
}

fn product(bench: &mut Bench, layout: Layout, (rows, cols): (usize, usize), tokens: usize) {
    let mut random = Random(1);
    // As a file lays them: at a multiple of 64.
    let bytes = random.bytes(rows * cols + 64);
    let start = bytes.as_ptr().align_offset(64);
    let weights = Weights::new(&bytes[start..start + rows * cols], cols, layout);
    let x = random.bytes(tokens * cols);
    let (scales, x_scales) = (vec![0.01; rows], vec![0.02; tokens]);
    let (sums, zeros) = (vec![17; rows], vec![-3; tokens]);
    let linear = Linear {
        weights,
        scales: &scales,
        sums: &sums,
        x: Rows {
            bytes: &x,
            pitch: cols,
            form: Form::Bytes,
        },
        x_scales: &x_scales,
        zeros: &zeros,
    };
    let mut out = vec![0.0; rows * tokens];
    let (kind, limit) = match tokens {
        1 => ("gemv".to_owned(), Limit::Bytes(rows * cols)),
        tokens => (
            format!("gemm{tokens}"),
            Limit::Products(rows * cols * tokens),
        ),
    };
    let name = format!("{kind} {rows}x{cols} {}", layout.name());
    // Other targets' layouts are read by the portable kernel alone.
    let has = |level| level == Level::Portable || matches!(layout, Layout::Words16 | Layout::Rows);
    bench.levels(&name, limit, has, || {
        linear.run(black_box(&mut out));
    });
}

fn attention(bench: &mut Bench) {
    for (count, keys) in [(1, 64), (1, 512), (128, 128), (512, 512)] {
        let (heads, d_kv) = (8, 64);
        let mut random = Random(2);
        let (k, v) = (
            random.bytes(keys * heads * d_kv),
            random.bytes(keys * heads * d_kv),
        );
        let scales = vec![0.01; keys * heads];
        let queries = random.floats(count * heads * d_kv);
        let attention = Heads {
            heads,
            d_kv,
            count,
            k: &k,
            v: &v,
            scales: &scales,
        };
        let mut out = queries.clone();
        let name = format!("attention {count}x{keys}, 8 heads of 64");
        let limit = match count {
            1 => Limit::Bytes(2 * keys * heads * d_kv),
            _ => Limit::Products(2 * count * keys * heads * d_kv),
        };
        let has = |level| level != Level::Portable;
        bench.levels(&name, limit, has, || {
            out.copy_from_slice(black_box(&queries));
            attention.run(&mut out);
        });
    }
}

fn rows(bench: &mut Bench) {
    for len in [512, 2048] {
        let x = Random(3).floats(len);
        let mut q = vec![0; len];
        bench.levels(
            &format!("quantize {len}"),
            Limit::Values(len),
            |_| true,
            || {
                black_box(integer::quantize(black_box(&x), &mut q));
            },
        );
    }
    let (x, gain) = (Random(4).floats(512), Random(5).floats(512));
    let mut y = x.clone();
    bench.levels(
        "rms norm 512",
        Limit::Values(512),
        |_| true,
        || {
            y.copy_from_slice(black_box(&x));
            float::rms_norm(&mut y, &gain, 1e-6);
        },
    );
    bench.levels(
        "layer norm 512",
        Limit::Values(512),
        |_| true,
        || {
            y.copy_from_slice(black_box(&x));
            float::layer_norm(&mut y, &gain, &gain, 1e-5);
        },
    );
    bench.levels(
        "softmax 512",
        Limit::Values(512),
        |_| true,
        || {
            y.copy_from_slice(black_box(&x));
            softmax::softmax(&mut y);
        },
    );
    let x = Random(6).floats(2048);
    let mut y = x.clone();
    for activation in [Activation::Relu, Activation::Gelu, Activation::GeluTanh] {
        let name = format!("{activation:?} 2048").to_lowercase();
        bench.levels(
            &name,
            Limit::Values(2048),
            |_| true,
            || {
                y.copy_from_slice(black_box(&x));
                activation.apply_slice(&mut y);
            },
        );
    }
}

/// The best rate of a second, of several rounds.
fn best(mut round: impl FnMut() -> u64) -> f64 {
    let start = Instant::now();
    let mut best = 0.0f64;
    while start.elapsed() < Duration::from_millis(400) {
        let start = Instant::now();
        let count = round() as f64;
        best = best.max(count / start.elapsed().as_secs_f64());
    }
    best
}

/// Bytes a second that reading alone reaches with so many bytes at a time.
fn reading(level: Level, bytes: usize) -> f64 {
    let memory = vec![1; bytes];
    // Small pieces several times, so that the clock is no part of it.
    let times = ((1 << 20) / bytes).max(1);
    best(|| (0..times).map(|_| measure::read(level, &memory)).sum())
}

/// Seconds of the best round of a measurement, from what criterion wrote of it.
fn fastest(folder: &Path, name: &str, level: Level) -> Option<f64> {
    let file = name.replace([' ', ','], "_");
    let names = [name.to_owned(), file];
    let text = names.iter().find_map(|name| {
        let path = folder.join(name).join(level.name()).join("new/sample.json");
        std::fs::read_to_string(path).ok()
    })?;
    let sample: serde_json::Value = serde_json::from_str(&text).ok()?;
    let list = |key: &str| -> Vec<f64> {
        let values = sample[key].as_array().cloned().unwrap_or_default();
        values
            .iter()
            .filter_map(serde_json::Value::as_f64)
            .collect()
    };
    let each = list("times").into_iter().zip(list("iters"));
    let best = each.map(|(time, iters)| time / iters).reduce(f64::min)?;
    Some(best / 1e9)
}

/// The table of all that was measured.
fn table(bench: &Bench, folder: &Path) -> String {
    let fastest_level = Level::ALL.into_iter().rfind(|level| level.is_available());
    let limit_level = fastest_level.unwrap_or(Level::Portable);
    let mut text = String::new();
    let mut sizes: Vec<(usize, f64)> = Vec::new();
    let peak = |level| best(|| measure::multiply(level, 20_000));
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        let _ = writeln!(
            text,
            "limit: {} makes {:.0} G products of bytes a second in registers",
            level.name(),
            peak(level) / 1e9
        );
    }
    let products = peak(limit_level) / 1e9;
    let _ = writeln!(
        text,
        "shares are of reading, or of {products:.0} G products a second, at {}\n",
        limit_level.name()
    );
    let _ = writeln!(
        text,
        "{:<36} {:<12} {:>10} {:>22} {:>7}",
        "kernel", "level", "best", "rate", "share"
    );
    for (name, level, limit) in &bench.done {
        let Some(seconds) = fastest(folder, name, *level) else {
            continue;
        };
        let (rate, share) = match *limit {
            Limit::Bytes(bytes) => {
                let known = sizes.iter().find(|(size, _)| *size == bytes);
                let limit = known.map_or_else(|| reading(limit_level, bytes), |(_, rate)| *rate);
                if known.is_none() {
                    sizes.push((bytes, limit));
                }
                let rate = bytes as f64 / seconds;
                let of = format!("{:.1} of {:.1} GB/s", rate / 1e9, limit / 1e9);
                (of, Some(rate / limit))
            }
            Limit::Products(count) => {
                let rate = count as f64 / seconds / 1e9;
                (format!("{rate:.1} G/s"), Some(rate / products))
            }
            Limit::Values(count) => {
                let each = seconds * 1e9 / count as f64;
                (format!("{each:.3} ns a value"), None)
            }
        };
        let share = share.filter(|share| share.is_finite());
        let _ = writeln!(
            text,
            "{name:<36} {:<12} {:>7.2} µs {rate:>22} {:>7}",
            level.name(),
            seconds * 1e6,
            share.map_or("–".into(), |share| format!("{:.0} %", share * 100.0))
        );
    }
    text
}

/// Where criterion writes.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::env::var_os("CRITERION_HOME")
        .map_or_else(|| target.unwrap_or(here).join("criterion"), PathBuf::from)
}

fn main() {
    let folder = folder();
    // What an earlier run left would be told again.
    let _ = std::fs::remove_dir_all(&folder);
    let criterion = Criterion::default()
        .output_directory(&folder)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(250))
        .configure_from_args();
    let mut bench = Bench {
        criterion,
        done: Vec::new(),
    };
    products(&mut bench);
    attention(&mut bench);
    rows(&mut bench);
    bench.criterion.final_summary();
    println!("\n{}", table(&bench, &folder));
}
