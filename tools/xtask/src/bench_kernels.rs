//! `cargo xtask bench kernels`: instructions per multiply-accumulate of int8 layers on every emulated
//! core, beside those of CMSIS-NN.
//!
//! Counted is what a layer needs from the quantized row to the f32 outputs: bringing the activations
//! into the kernel's form, the sums of products, the zero point's part, scales and bias. CMSIS-NN's
//! figures have its requantization to int8 in them.

use anyhow::{Result, bail};
use serde::Serialize;

use crate::boards::Board;
use crate::kernels::{self, Counted};
use crate::toolchain;

/// Options of `bench kernels`.
#[derive(clap::Args)]
pub struct Args {
    /// The boards to count on.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "m0,m3,m4f,m7,m33,m55,rv32"
    )]
    boards: Vec<Board>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Instructions per multiply-accumulate that CMSIS-NN takes (99f736a, gcc 12.2 -Ofast, counted in the
/// same emulator), of one token and of 16; nothing for RISC-V.
fn cmsis_nn(board: Board, shape: (u64, u64)) -> Option<(f64, f64)> {
    let figures = match board {
        Board::M0 => [(7.60, 7.82), (6.22, 6.45), (6.20, 6.45)],
        Board::M3 => [(3.98, 3.29), (3.45, 2.76), (3.42, 2.76)],
        Board::M4f | Board::M7 | Board::M33 => [(2.67, 2.28), (1.97, 1.69), (1.97, 1.69)],
        Board::M55 => [(0.693, 0.394), (0.495, 0.199), (0.494, 0.199)],
        Board::Rv32 => return None,
    };
    match shape {
        (64, 64) => Some(figures[0]),
        (128, 512) => Some(figures[1]),
        (512, 512) => Some(figures[2]),
        _ => None,
    }
}

/// A layer on a board.
#[derive(Serialize)]
struct Line {
    board: &'static str,
    layout: &'static str,
    rows: u64,
    cols: u64,
    tokens: u64,
    /// Instructions per multiply-accumulate: activations and sums.
    kernel: f64,
    /// From the quantized row to f32 outputs.
    layer: f64,
    cmsis_nn: Option<f64>,
}

impl Line {
    fn new(board: Board, counted: &Counted) -> Self {
        let (rows, cols, tokens) = counted.shape;
        let per_mac = |count: u64| count as f64 / (rows * cols * tokens) as f64;
        let peer = cmsis_nn(board, (rows, cols));
        Self {
            board: board.name(),
            layout: if counted.rows { "rows" } else { "own" },
            rows,
            cols,
            tokens,
            kernel: per_mac(counted.prepare + counted.dots),
            layer: per_mac(counted.prepare + counted.layer),
            cmsis_nn: peer.map(|(one, sixteen)| if tokens == 1 { one } else { sixteen }),
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let toolchain = toolchain::find()?;
    if !args.json {
        println!(
            "instructions per multiply-accumulate in QEMU (not cycles); layer: from quantized rows to f32\n\
             {:<6}{:<8}{:>10}{:>8}{:>10}{:>10}{:>10}{:>8}",
            "board", "layout", "shape", "tokens", "kernel", "layer", "CMSIS-NN", "times"
        );
    }
    let mut lines = Vec::new();
    let mut failed = 0;
    for &board in &args.boards {
        match kernels::count(board, &toolchain) {
            Ok(counted) => {
                for counted in &counted {
                    let line = Line::new(board, counted);
                    if !args.json {
                        print(&line);
                    }
                    lines.push(line);
                }
            }
            Err(error) => {
                failed += 1;
                eprintln!("{:<6}{error:#}", board.name());
            }
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    }
    if failed > 0 {
        bail!("{failed} boards failed");
    }
    Ok(())
}

fn print(line: &Line) {
    print!(
        "{:<6}{:<8}{:>10}{:>8}{:>10.3}{:>10.3}",
        line.board,
        line.layout,
        format!("{}x{}", line.rows, line.cols),
        line.tokens,
        line.kernel,
        line.layer
    );
    match line.cmsis_nn {
        Some(peer) => println!("{peer:>10.3}{:>8.2}", peer / line.layer),
        None => println!("{:>10}{:>8}", "-", "-"),
    }
}
