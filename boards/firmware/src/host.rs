//! The host behind the debugger, reached by semihosting: a console for the report, a request file
//! to read line by line, and a file that takes the raw logits.

use core::ffi::CStr;

use semihosting::fs::File;
use semihosting::io::{Read, Stdout, Write, stdout};

/// Writes the report: lines of a key and its values.
pub struct Console(Option<Stdout>);

impl Console {
    /// Opens the host's standard output. Without a host, what is written is dropped.
    #[must_use]
    pub fn open() -> Self {
        Self(stdout().ok())
    }

    /// Writes bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        if let Some(out) = &mut self.0 {
            let _ = out.write_all(bytes);
        }
        self
    }

    /// Writes text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.raw(text.as_bytes())
    }

    /// Writes a space and a decimal number.
    pub fn number(&mut self, value: u64) -> &mut Self {
        let mut digits = [b' '; 21];
        let mut rest = value;
        let mut first = digits.len();
        for (i, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            first = i;
            if rest == 0 {
                break;
            }
        }
        self.text(" ").raw(digits.get(first..).unwrap_or_default())
    }

    /// Writes a space and a decimal number of 32 bits.
    pub fn n(&mut self, value: u32) -> &mut Self {
        self.number(value.into())
    }

    /// Writes bytes of text, with `\\`, `\n` and `\xNN` for what is not printable ASCII.
    pub fn escaped(&mut self, bytes: &[u8]) -> &mut Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        for &byte in bytes {
            match byte {
                b'\\' => self.text("\\\\"),
                b'\n' => self.text("\\n"),
                b' '..=b'~' => self.raw(&[byte]),
                _ => {
                    let high = HEX[usize::from(byte >> 4)];
                    let low = HEX[usize::from(byte & 15)];
                    self.text("\\x").raw(&[high, low])
                }
            };
        }
        self
    }

    /// Ends a line.
    pub fn end(&mut self) {
        self.text("\n");
    }
}

/// Longest line of a request, in bytes.
pub const MAX_LINE: usize = 8 * 1024;

/// A file of the host, read line by line through one buffer.
pub struct Lines<'b> {
    file: File,
    buffer: &'b mut [u8; MAX_LINE],
    /// `buffer[start..end]` is read and not yet handed out.
    start: usize,
    end: usize,
}

impl<'b> Lines<'b> {
    /// Opens a file in the folder where the emulator or debugger runs.
    pub fn open(path: &CStr, buffer: &'b mut [u8; MAX_LINE]) -> Option<Self> {
        let file = File::open(path).ok()?;
        Some(Self {
            file,
            buffer,
            start: 0,
            end: 0,
        })
    }

    /// The next line without its end; `None` after the last. A longer line than [`MAX_LINE`] comes
    /// in pieces.
    pub fn next_line(&mut self) -> Option<&[u8]> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..self.end]
                .iter()
                .position(|&b| b == b'\n')
            {
                self.start = searched + at + 1;
                return Some(&self.buffer[..searched + at]);
            }
            searched = self.end;
            let read = match self.end {
                MAX_LINE => 0,
                end => self.file.read(&mut self.buffer[end..]).unwrap_or(0),
            };
            if read == 0 {
                self.start = self.end;
                return (self.end > 0).then(|| &self.buffer[..self.end]);
            }
            self.end += read;
        }
    }
}

/// A file of the host that takes raw little-endian floats.
pub struct Floats(File);

impl Floats {
    /// Creates a file in the folder where the emulator or debugger runs.
    pub fn create(path: &CStr) -> Option<Self> {
        File::create(path).ok().map(Self)
    }

    /// Appends the values. What the host does not take is missing there, which it sees.
    pub fn write(&mut self, values: &[f32]) {
        // SAFETY: any f32 is four plain bytes, and u8 has no alignment; every target here is
        // little-endian.
        let bytes = unsafe {
            core::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values))
        };
        let _ = self.0.write_all(bytes);
    }
}
