//! Lines of text from a console that gives bytes.

use heapless::Vec;

/// A line of at most `N` bytes that is being typed.
#[derive(Debug, Default)]
pub struct Line<const N: usize> {
    bytes: Vec<u8, N>,
    complete: bool,
}

impl<const N: usize> Line<N> {
    /// An empty line.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            complete: false,
        }
    }

    /// Takes a byte; gives the line when the byte ends it. Backspace removes a byte, other control
    /// characters and what is too long are ignored, and so are lines that are not UTF-8.
    pub fn push(&mut self, byte: u8) -> Option<&str> {
        if self.complete {
            self.bytes.clear();
            self.complete = false;
        }
        match byte {
            b'\r' | b'\n' => {
                self.complete = true;
                let text = core::str::from_utf8(&self.bytes).ok()?;
                return Some(text).filter(|text| !text.is_empty());
            }
            0x08 | 0x7F => {
                self.bytes.pop();
            }
            0x00..=0x1F => {}
            _ => {
                let _ = self.bytes.push(byte);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn lines_end_and_begin_anew() {
        let mut line = Line::<4>::new();
        let mut lines = std::vec::Vec::new();
        for byte in *b"ab\r\ncx\x08d\nlonger\n\xFF\n" {
            lines.extend(line.push(byte).map(std::string::String::from));
        }
        assert_eq!(lines, ["ab", "cd", "long"]);
    }
}
