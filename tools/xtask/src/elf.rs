//! What the checks need of 32-bit little-endian ELF files.

/// A section that takes memory on the target.
pub struct Section<'e> {
    /// Its name.
    pub name: &'e str,
    /// Where it lies when the program runs.
    pub address: u32,
    /// Its bytes.
    pub size: u32,
    /// Whether the file holds its contents, so that flash must.
    pub stored: bool,
}

/// The sections that take memory, in the file's order.
pub fn sections(elf: &[u8]) -> Option<Vec<Section<'_>>> {
    const ALLOCATED: u32 = 2;
    const NO_BITS: u32 = 8;
    let (start, size, count) = (word(elf, 32)?, half(elf, 46)?, half(elf, 48)?);
    let names = start + half(elf, 50)? * size;
    let names = word(elf, names + 16)?;
    let mut found = Vec::new();
    for at in (0..count).map(|index| start + index * size) {
        if word(elf, at + 8)? & ALLOCATED == 0 {
            continue;
        }
        let name = text(elf, names + word(elf, at)?)?;
        found.push(Section {
            name: std::str::from_utf8(name).ok()?,
            address: word(elf, at + 12)?,
            size: word(elf, at + 20)?,
            stored: word(elf, at + 4)? != NO_BITS,
        });
    }
    Some(found)
}

/// The address of the first symbol with a name that is wanted; of a Thumb function that of its first
/// instruction.
pub fn symbol(elf: &[u8], wanted: impl Fn(&str) -> bool) -> Option<u32> {
    let mut found = symbols(elf)?;
    let symbol = found.find(|symbol| symbol.name.is_some_and(&wanted))?;
    Some(symbol.start)
}

/// The sizes of the symbols with names that are wanted, together.
pub fn symbol_bytes(elf: &[u8], wanted: impl Fn(&str) -> bool) -> u64 {
    let all = symbols(elf).into_iter().flatten();
    let found = all.filter(|symbol| symbol.name.is_some_and(&wanted));
    found.map(|symbol| u64::from(symbol.length)).sum()
}

/// A function's place and its mangled name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Address of its first instruction.
    pub start: u32,
    /// Bytes.
    pub length: u32,
    /// Mangled name.
    pub name: String,
}

/// All functions, in the order of their addresses. One whose size is not known, as assembly has
/// them, reaches to the next.
pub fn functions(elf: &[u8]) -> Vec<Function> {
    let all = symbols(elf).into_iter().flatten();
    let mut functions: Vec<Function> = all
        .filter(|symbol| symbol.is_function)
        .map(|symbol| Function {
            start: symbol.start,
            length: symbol.length,
            name: symbol.name.unwrap_or_default().to_owned(),
        })
        .collect();
    functions.sort_by_key(|function| (function.start, function.length == 0));
    functions.dedup_by_key(|function| function.start);
    let starts: Vec<u32> = functions.iter().map(|function| function.start).collect();
    for (function, next) in functions.iter_mut().zip(starts.iter().skip(1)) {
        let room = next - function.start;
        if function.length == 0 || function.length > room {
            function.length = room;
        }
    }
    functions
}

struct Symbol<'e> {
    start: u32,
    length: u32,
    is_function: bool,
    name: Option<&'e str>,
}

/// The table of symbols.
fn symbols(elf: &[u8]) -> Option<impl Iterator<Item = Symbol<'_>>> {
    let (sections, size, count) = (word(elf, 32)?, half(elf, 46)?, half(elf, 48)?);
    let section = |index: u32| Some(sections + index * size).filter(|_| index < count);
    // Type 2 is a table of symbols; its link is the section of their names.
    let table = (0..count)
        .filter_map(section)
        .find(|at| word(elf, at + 4) == Some(2))?;
    let names = section(word(elf, table + 24)?)?;
    let names = word(elf, names + 16)?;
    let (start, length) = (word(elf, table + 16)?, word(elf, table + 20)?);
    let entries = (start..start + length).step_by(16);
    Some(entries.filter_map(move |entry| {
        let name = word(elf, entry).and_then(|offset| text(elf, names + offset));
        Some(Symbol {
            start: word(elf, entry + 4)? & !1,
            length: word(elf, entry + 8)?,
            is_function: *elf.get(entry as usize + 12)? & 15 == 2,
            name: name.and_then(|name| std::str::from_utf8(name).ok()),
        })
    }))
}

/// The u32 at a place.
fn word(elf: &[u8], at: u32) -> Option<u32> {
    let bytes = elf.get(at as usize..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// The u16 at a place.
fn half(elf: &[u8], at: u32) -> Option<u32> {
    let bytes = elf.get(at as usize..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes).into())
}

/// The bytes at a place up to the next zero.
fn text(elf: &[u8], at: u32) -> Option<&[u8]> {
    elf.get(at as usize..)?.split(|byte| *byte == 0).next()
}
