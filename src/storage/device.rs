//! Storage that is read at an offset: the trait, and adapters for `embedded-storage` drivers.

use embedded_storage::ReadStorage;
use embedded_storage::nor_flash::ReadNorFlash;

use crate::format::ALIGN;

/// Something that holds a `.palm` file and can be read at any offset: SPI flash, an SD card, a file.
///
/// ```
/// use palmtop::storage::Storage;
/// /// On a host: `std::os::unix::fs::FileExt` or a seek.
/// struct Image(Vec<u8>);
///
/// impl Storage for Image {
///     type Error = &'static str;
///
///     fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
///         let start = offset as usize;
///         let wanted = self.0.get(start..start + bytes.len()).ok_or("short read")?;
///         bytes.copy_from_slice(wanted);
///         Ok(())
///     }
/// }
/// ```
pub trait Storage {
    /// What the device says when it cannot read.
    type Error;

    /// Fills all of `bytes` with those of the file from `offset` on. A [`Paged`](super::Paged)
    /// source asks for one whole expert: offset and length are multiples of 16 and `bytes` lies at a
    /// multiple of 16, so that DMA and word-wise drivers need no buffer of their own.
    ///
    /// # Errors
    /// If not every byte could be read. `bytes` may then hold anything, and the same call may come
    /// again.
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error>;
}

impl<S: Storage + ?Sized> Storage for &mut S {
    type Error = S::Error;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read(offset, bytes)
    }
}

/// The `.palm` file that begins at `base` of a device with `embedded-storage`'s [`ReadStorage`].
#[derive(Debug, Clone, Copy)]
pub struct Embedded<D> {
    /// The device's driver.
    pub device: D,
    /// Where the file begins, in bytes.
    pub base: u32,
}

impl<D: ReadStorage> Embedded<D> {
    /// The file at `base` of `device`.
    pub const fn new(device: D, base: u32) -> Self {
        Self { device, base }
    }
}

impl<D: ReadStorage> Storage for Embedded<D> {
    type Error = D::Error;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        // An offset past the device's address space is past the device: it will say so.
        self.device.read(self.base.saturating_add(offset), bytes)
    }
}

/// The `.palm` file that begins at `base` of a NOR flash with `embedded-storage`'s
/// [`ReadNorFlash`].
///
/// Reads begin at `base` plus a multiple of 16 and have a multiple of 16 bytes, so a driver whose
/// `READ_SIZE` divides 16 gets the alignment that it asks for; another one does not compile.
#[derive(Debug, Clone, Copy)]
pub struct NorFlash<D> {
    device: D,
    base: u32,
}

impl<D: ReadNorFlash> NorFlash<D> {
    /// The file at `base` of `device`; `None` if `base` is not a multiple of the driver's
    /// `READ_SIZE`.
    pub fn new(device: D, base: u32) -> Option<Self> {
        const {
            assert!(
                D::READ_SIZE > 0 && ALIGN.is_multiple_of(D::READ_SIZE),
                "READ_SIZE of the flash must divide 16, the alignment of everything in a .palm file"
            );
        }
        (base as usize)
            .is_multiple_of(D::READ_SIZE)
            .then_some(Self { device, base })
    }

    /// The device's driver.
    pub const fn device(&mut self) -> &mut D {
        &mut self.device
    }
}

impl<D: ReadNorFlash> Storage for NorFlash<D> {
    type Error = D::Error;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.device.read(self.base.saturating_add(offset), bytes)
    }
}
