//! How a fuzzer's bytes become an image.
//!
//! Random bytes never get past a CRC, so the first byte of an input picks one of three ways:
//!
//! | first byte mod 4 | the rest is |
//! |---|---|
//! | 0 | the image, as it is |
//! | 1 | an image whose head CRC is then made right |
//! | 2, 3 | patches of a good image: its number, then (offset u16, width u8, value u32) × n; the head CRC is then made right |
//!
//! Patches reach far: a few bytes of input change a few fields of a file that is otherwise whole.

/// Good images to start from: each family, each kind of numbers, each kind of tokenizer. A patch of
/// the header makes other layouts and routing policies of them, and a model without an encoder.
const SEEDS: [&[u8]; 5] = [
    include_bytes!("../../fixtures/tiny/t5.palm"),
    include_bytes!("../../fixtures/tiny/switch.palm"),
    include_bytes!("../../fixtures/tiny/bart.palm"),
    include_bytes!("../../fixtures/tiny/bytes.palm"),
    include_bytes!("../../fixtures/tiny/palm.palm"),
];

/// Longest image that is looked at.
pub const MOST: usize = 16 * 1024;

/// The same image again and again, at a multiple of 16.
#[derive(Default)]
pub struct Image {
    words: Vec<u128>,
    len: usize,
}

impl Image {
    /// The image that an input stands for; `None` if it stands for none.
    pub fn read(&mut self, input: &[u8]) -> Option<&[u8]> {
        let (way, rest) = input.split_first()?;
        match way % 4 {
            0 => self.set(rest),
            1 => {
                self.set(rest);
                repair(self.bytes());
            }
            _ => {
                let (seed, patches) = rest.split_first()?;
                self.set(SEEDS[usize::from(*seed) % SEEDS.len()]);
                patch(self.bytes(), patches);
                repair(self.bytes());
            }
        }
        Some(self.bytes())
    }

    fn set(&mut self, bytes: &[u8]) {
        self.len = bytes.len().min(MOST);
        self.words.resize(MOST / 16, 0);
        let len = self.len;
        self.bytes().copy_from_slice(&bytes[..len]);
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }
}

/// Writes 1, 2 or 4 bytes of a value at each offset.
fn patch(image: &mut [u8], patches: &[u8]) {
    for patch in patches.chunks_exact(7) {
        let at = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % image.len();
        let width = [1, 2, 4, 4][usize::from(patch[2] % 4)];
        let value = &patch[3..3 + width];
        let end = (at + width).min(image.len());
        image[at..end].copy_from_slice(&value[..end - at]);
    }
}

/// Makes the CRC of the head right, wherever `head_len` says that it ends.
fn repair(image: &mut [u8]) {
    let Some(field) = image.get(12..16) else {
        return;
    };
    let head = u32::from_le_bytes([field[0], field[1], field[2], field[3]]) as usize;
    if head >= 260 && head <= image.len() {
        let crc = palmtop::format::crc32(&image[..head - 4]);
        image[head - 4..head].copy_from_slice(&crc.to_le_bytes());
    }
}
