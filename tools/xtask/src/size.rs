//! `cargo xtask size`: text size of the any-model firmware by crate, read from the linker's map.
//!
//! Only flash is counted: `.text` and `.rodata`. What belongs to the board and its semihosting is
//! shown but not summed with the library's. Constants without a name (the compiler merges them)
//! cannot be told apart by crate; they are counted as the library's.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::boards::Board;
use crate::emulate::grouped;
use crate::{size_features, toolchain, workspace};

/// The crates whose sum is the library's size in flash.
const LIBRARY: [&str; 7] = [
    "palmtop",
    "libm",
    "half",
    "bytemuck",
    "heapless",
    "core",
    "compiler_builtins",
];

/// Constants without a name.
const UNNAMED: &str = "(unnamed constants)";

/// Options of `size`.
#[derive(clap::Args)]
pub struct Args {
    /// The boards; m4f and m0 if none is given.
    boards: Vec<Board>,
    /// The library by module.
    #[arg(long)]
    modules: bool,
    /// What each of the library's features takes, in a firmware for g2p alone.
    #[arg(long, conflicts_with_all = ["boards", "modules"])]
    features: bool,
}

/// Prints the table.
pub fn run(args: &Args) -> Result<()> {
    if args.features {
        return size_features::print(&toolchain::find()?);
    }
    let boards = if args.boards.is_empty() {
        vec![Board::M4f, Board::M0]
    } else {
        args.boards.clone()
    };
    let mut columns = Vec::new();
    for &board in &boards {
        columns.push(measure(board, args.modules)?);
    }
    let mut crates: Vec<&String> = columns.iter().flat_map(BTreeMap::keys).collect();
    crates.sort_by_key(|name| (!is_library(name), *name));
    crates.dedup();
    let line = |name: &str, values: &[u64]| {
        print!("{name:<32}");
        for value in values {
            print!("{:>10}", grouped(*value));
        }
        println!();
    };
    print!("{:<32}", "bytes of flash");
    for board in &boards {
        print!("{:>10}", board.name());
    }
    println!();
    let value = |column: &BTreeMap<String, u64>, name: &str| column.get(name).copied().unwrap_or(0);
    for name in crates.iter().filter(|name| is_library(name)) {
        line(
            name,
            &columns.iter().map(|c| value(c, name)).collect::<Vec<_>>(),
        );
    }
    let sum = |library: bool| -> Vec<u64> {
        let part = |column: &BTreeMap<String, u64>| {
            column
                .iter()
                .filter(|(name, _)| is_library(name) == library)
                .map(|(_, size)| size)
                .sum()
        };
        columns.iter().map(part).collect()
    };
    line("library", &sum(true));
    for name in crates.iter().filter(|name| !is_library(name)) {
        line(
            name,
            &columns.iter().map(|c| value(c, name)).collect::<Vec<_>>(),
        );
    }
    line("board, host and runtime", &sum(false));
    Ok(())
}

/// Bytes of the library in a board's firmware.
pub fn library_bytes(board: Board) -> Result<u64> {
    Ok(measure(board, false)?
        .iter()
        .filter(|(name, _)| is_library(name))
        .map(|(_, size)| size)
        .sum())
}

fn is_library(name: &str) -> bool {
    let of_crate = name.split("::").next().unwrap_or(name);
    LIBRARY.contains(&of_crate) || name == UNNAMED
}

/// Builds the firmware with a map and sums it by crate, the library by module if wanted.
fn measure(board: Board, modules: bool) -> Result<BTreeMap<String, u64>> {
    let map = workspace::board_target().join(format!("{}.map", board.folder()));
    board.build_with(
        &toolchain::find()?,
        &[],
        &[format!("-Map={}", map.display())],
    )?;
    let text = fs::read_to_string(&map).with_context(|| map.display().to_string())?;
    let sizes = by_owner(&text, if modules { module_of } else { crate_of });
    if sizes.is_empty() {
        bail!("{} holds no sections that could be read", map.display());
    }
    Ok(sizes)
}

/// Sums an LLD map: columns VMA, LMA, size (all hexadecimal) and alignment, then, by indentation, an
/// output section, a `file:(input section)`, or a symbol of that input section.
fn by_owner(map: &str, owner_of: fn(&str) -> &str) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    let mut counted = false;
    let mut open: Option<(u64, String)> = None;
    let mut close = |open: &mut Option<(u64, String)>, name: Option<&str>| {
        if let Some((size, fallback)) = open.take() {
            let owner = name.map_or(fallback, |name| owner_of(name).to_owned());
            *sizes.entry(owner).or_insert(0) += size;
        }
    };
    for line in map.lines().skip(1) {
        let Some(columns) = columns(line) else {
            continue;
        };
        match columns.indent {
            0 => {
                close(&mut open, None);
                counted = [".text", ".rodata"].contains(&columns.rest);
            }
            8 => {
                close(&mut open, None);
                if let (true, Some((file, section))) = (counted, columns.rest.rsplit_once(":(")) {
                    open = Some((
                        columns.size,
                        fallback_owner(file, section.trim_end_matches(')')),
                    ));
                }
            }
            // Mapping symbols such as `$t` name no function.
            _ if columns.rest.starts_with('$') => {}
            _ if open
                .as_ref()
                .is_some_and(|(_, owner)| owner == "compiler_builtins") => {}
            _ if columns.rest.starts_with("anon.") || columns.rest.starts_with(".L") => {}
            _ => close(&mut open, Some(columns.rest)),
        }
    }
    close(&mut open, None);
    sizes
}

struct Columns<'a> {
    size: u64,
    indent: usize,
    rest: &'a str,
}

fn columns(line: &str) -> Option<Columns<'_>> {
    let mut rest = line;
    let mut numbers = [""; 4];
    for number in &mut numbers {
        let start = rest.trim_start();
        let end = start.find(' ')?;
        *number = &start[..end];
        rest = &start[end..];
    }
    let rest = rest.strip_prefix(' ')?;
    let text = rest.trim_start();
    let size = u64::from_str_radix(numbers[2], 16).ok()?;
    Some(Columns {
        size,
        indent: rest.len() - text.len(),
        rest: text,
    })
}

/// Whose an input section is when no symbol says so.
fn fallback_owner(file: &str, section: &str) -> String {
    if file.contains("compiler_builtins") {
        "compiler_builtins".into()
    } else if section.starts_with(".rodata") {
        UNNAMED.into()
    } else {
        "(unnamed code)".into()
    }
}

/// The crate in a demangled name: `<&core::fmt::X as a::B>::c` is `core`'s.
fn crate_of(symbol: &str) -> &str {
    const WORDS: [&str; 5] = ["mut ", "dyn ", "const ", "&", "*"];
    // `<[f32] as palmtop::Rows>::sum`: a type without a path, so the trait tells.
    let before_path = symbol.find("::").map_or(symbol, |end| &symbol[..end]);
    let start = before_path.find(" as ").map_or(0, |at| at + 4);
    let mut name = symbol[start..].trim_start_matches(['<', '(', '[']);
    while let Some(shorter) = WORDS.iter().find_map(|word| name.strip_prefix(word)) {
        name = shorter.trim_start_matches(['<', '(', '[']);
    }
    match name.find("::") {
        // Of kernels in assembly.
        None if name.starts_with("palmtop_") && name != "palmtop_mark" => "palmtop",
        Some(end) => &name[..end],
        None if name.starts_with("__aeabi_")
            || name.starts_with("mem")
            || name.starts_with("__") =>
        {
            "compiler_builtins"
        }
        None => "(unmangled)",
    }
}

/// As [`crate_of`], of this library's functions with two modules: `palmtop::kernels::int4`.
fn module_of(symbol: &str) -> &str {
    let name = crate_of(symbol);
    if name != "palmtop" {
        return name;
    }
    let Some(start) = symbol.find("palmtop::") else {
        return "palmtop::kernels (assembly)";
    };
    let path = &symbol[start..];
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let path = &path[..path.find(|c| !is_name(c)).unwrap_or(path.len())];
    // The last part is the function's or the type's.
    let mut ends = path.match_indices("::").map(|(at, _)| at);
    match (ends.next(), ends.next(), ends.next()) {
        (_, _, Some(third)) => &path[..third],
        (_, Some(second), _) => &path[..second],
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_symbols() {
        assert_eq!(crate_of("<palmtop::format::Palm>::parse"), "palmtop");
        assert_eq!(crate_of("<&mut core::fmt::X as a::B>::c"), "core");
        assert_eq!(crate_of("<[f32] as palmtop::kernels::Rows>::c"), "palmtop");
        assert_eq!(crate_of("__aeabi_fadd"), "compiler_builtins");
        assert_eq!(crate_of("Reset"), "(unmangled)");
        for (symbol, module) in [
            ("palmtop::kernels::int4::dot_rows", "palmtop::kernels::int4"),
            ("palmtop::generate::greedy", "palmtop::generate"),
            (
                "<palmtop::format::palm::Palm>::parse",
                "palmtop::format::palm",
            ),
            (
                "palmtop::layers::mixture::router::RouterView::choose",
                "palmtop::layers::mixture",
            ),
            ("palmtop_dots", "palmtop::kernels (assembly)"),
            ("__aeabi_fadd", "compiler_builtins"),
        ] {
            assert_eq!(module_of(symbol), module);
        }
    }

    #[test]
    fn a_map_is_summed() {
        let map = "     VMA      LMA     Size Align Out     In      Symbol
     400      400      a40     4 .text
     400      400       58     4         a.o:(.Reset)
     400      400        0     1                 $t
     401      401       3e     1                 Reset
     458      458       2a     2         a.o:(.text._R)
     458      458        0     1                 $t
     459      459       2a     1                 palmtop::run
     482      482        8     2         libcompiler_builtins-1.rlib(x.o):(.text.m)
     483      483        8     1                 main
     600      600       10     4 .rodata
     600      600       10     4         a.o:(.rodata..Lanon.1)
     610      610       10     4 .data
     610      610       10     4         a.o:(.data.x)
";
        let sizes = by_owner(map, crate_of);
        assert_eq!(sizes["(unmangled)"], 0x58);
        assert_eq!(sizes["palmtop"], 0x2a);
        assert_eq!(sizes["compiler_builtins"], 8);
        assert_eq!(sizes[UNNAMED], 0x10);
        assert_eq!(sizes.values().sum::<u64>(), 0x58 + 0x2a + 8 + 0x10);
    }
}
