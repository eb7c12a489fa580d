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
    let entry = symbols(elf)?.find(|entry| named(elf, *entry, &wanted))?;
    Some(word(elf, entry.at + 4)? & !1)
}

/// The sizes of the symbols with names that are wanted, together.
pub fn symbol_bytes(elf: &[u8], wanted: impl Fn(&str) -> bool) -> u64 {
    let Some(symbols) = symbols(elf) else {
        return 0;
    };
    let sizes = symbols
        .filter(|entry| named(elf, *entry, &wanted))
        .filter_map(|entry| word(elf, entry.at + 8));
    sizes.map(u64::from).sum()
}

/// A symbol's place in the file, and that of all symbols' names.
#[derive(Clone, Copy)]
struct Entry {
    at: u32,
    names: u32,
}

/// The symbols.
fn symbols(elf: &[u8]) -> Option<impl Iterator<Item = Entry>> {
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
    Some(entries.map(move |at| Entry { at, names }))
}

/// Whether a symbol has a name that is wanted.
fn named(elf: &[u8], entry: Entry, wanted: &impl Fn(&str) -> bool) -> bool {
    let name = word(elf, entry.at).and_then(|offset| text(elf, entry.names + offset));
    name.is_some_and(|name| std::str::from_utf8(name).is_ok_and(wanted))
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
