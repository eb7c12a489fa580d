//! What the checks need of 32-bit little-endian ELF files.

/// The address of the first symbol with a name that is wanted; of a Thumb function that of its first
/// instruction.
pub fn symbol(elf: &[u8], wanted: impl Fn(&str) -> bool) -> Option<u32> {
    let (sections, size, count) = (word(elf, 32)?, half(elf, 46)?, half(elf, 48)?);
    let section = |index: u32| Some(sections + index * size).filter(|_| index < count);
    // Type 2 is a table of symbols; its link is the section of their names.
    let table = (0..count)
        .filter_map(section)
        .find(|at| word(elf, at + 4) == Some(2))?;
    let names = section(word(elf, table + 24)?)?;
    let names = word(elf, names + 16)?;
    let (start, length) = (word(elf, table + 16)?, word(elf, table + 20)?);
    let mut entries = (start..start + length).step_by(16);
    let entry = entries.find(|entry| {
        let name = word(elf, *entry).and_then(|offset| text(elf, names + offset));
        name.is_some_and(|name| std::str::from_utf8(name).is_ok_and(&wanted))
    })?;
    Some(word(elf, entry + 4)? & !1)
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
