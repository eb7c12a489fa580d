//! Files as memory.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

/// The first `len` bytes of a file, or all of them, mapped to be read.
///
/// What another process writes to the file meanwhile may show, or not: results are then as wrong as
/// the file is, checks of its CRCs notwithstanding. If it cuts the file short, reading on ends this
/// process (SIGBUS on Unix). A file that is replaced by another under its name, as
/// [`write_atomically`](crate::write_atomically) does it, does neither: the map keeps the old one.
///
/// # Errors
/// If the file cannot be mapped, is empty, or is shorter than `len`.
#[allow(unsafe_code)]
pub fn map_file(file: &File, len: Option<usize>) -> io::Result<Mmap> {
    let has = file.metadata()?.len();
    if has == 0 {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the file is empty"));
    }
    let mut options = MmapOptions::new();
    if let Some(len) = len {
        if len as u64 > has {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        options.len(len);
    }
    // SAFETY: the map is only read, through slices that lie within it. That its bytes may change
    // if another process writes to the file is what the documentation says; nothing here or in the
    // library takes an address or a length from bytes without a check when it is used.
    unsafe { options.map(file) }
}

/// [`map_file`] of the whole file at a path.
pub(crate) fn map_path(path: &Path) -> io::Result<Mmap> {
    map_file(&File::open(path)?, None)
}
