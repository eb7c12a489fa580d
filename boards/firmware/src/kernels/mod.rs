//! Runs the kernels by themselves: against their portable twins, and counted.
//!
//! `request.txt` has a line `check SEED` or `count`. At the board's address for models lies a file of
//! random bytes.

mod count;
mod floats;
mod outputs;
mod products;
mod random;

use crate::counter::Counter;
use crate::host::{Console, Lines, MAX_LINE};
use crate::request::read_numbers;
use crate::runner::Stop;

/// A kernel that gave something else than its twin.
pub struct Wrong {
    /// Which kernel.
    what: &'static str,
    /// Its shape, in the order that the check says.
    shape: [usize; 6],
}

/// What the checks get by turns: memory, random numbers, and the file of random bytes.
pub struct Bench<'a> {
    /// Memory at a multiple of 16.
    pub memory: &'a mut [u8],
    /// Random bytes in flash, none of them 0 or 128, nor next to the ends of signed bytes.
    pub file: &'static [u8],
}

/// Does what `request.txt` says.
///
/// # Errors
/// [`Stop`] if a kernel is wrong or the request is not understood.
pub fn run(
    file: &'static [u8],
    memory: &mut [u8],
    counter: &Counter,
    out: &mut Console,
) -> Result<(), Stop> {
    static mut LINE: [u8; MAX_LINE] = [0; MAX_LINE];
    let line = &raw mut LINE;
    // SAFETY: this function runs once, so there is no second reference.
    let Some(mut lines) = Lines::open(c"request.txt", unsafe { &mut *line }) else {
        out.text("error request: no request.txt in the host's folder")
            .end();
        return Err(Stop);
    };
    let mut bench = Bench { memory, file };
    while let Some(line) = lines.next_line() {
        if line == b"count" {
            count::all(&mut bench, counter, out);
        } else if let Some(seed) = line.strip_prefix(b"check ") {
            let mut numbers = [0];
            if read_numbers(seed, &mut numbers) != Some(1) {
                out.text("error request: a seed is no number").end();
                return Err(Stop);
            }
            check(&mut bench, numbers[0], out)?;
        }
    }
    Ok(())
}

/// Every check.
fn check(bench: &mut Bench<'_>, seed: u32, out: &mut Console) -> Result<(), Stop> {
    let checks: [(&str, fn(&mut Bench<'_>, u32) -> Result<u32, Wrong>); 9] = [
        ("four-bit rows", floats::int4),
        ("int8 layers", products::layers),
        ("outputs of int8 layers", outputs::chosen),
        ("dot products of bytes", floats::bytes),
        ("quantization", floats::quantized),
        ("float rows", floats::rows),
        ("int8 products", products::random),
        ("int8 products of long rows", products::long),
        ("activations", products::activations),
    ];
    for (name, check) in checks {
        match check(bench, seed) {
            Ok(cases) => out.text("checked").n(cases).text(" ").text(name).end(),
            Err(wrong) => {
                out.text("error kernel: ").text(wrong.what);
                for size in wrong.shape {
                    out.number(size as u64);
                }
                out.end();
                return Err(Stop);
            }
        }
    }
    Ok(())
}
