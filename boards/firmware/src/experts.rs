//! Where the experts come from: the mapped model, or, with the feature `paged`, `model.palm` in the
//! host's folder, which stands for SPI flash or an SD card. The file's resident part is mapped then,
//! and not a byte more.

use palmtop::format::{FormatError, Palm};
use palmtop::storage::Statistics;
use palmtop::{Error, Limits, Model, Session};

#[cfg(not(feature = "paged"))]
pub use mapped::Experts;
#[cfg(feature = "paged")]
pub use paged::Experts;

/// The model at the start of `window`, checked.
///
/// # Errors
/// [`FormatError`] if there is no sound model.
pub fn model(window: &'static [u8]) -> Result<Model<'static>, FormatError> {
    let image = |length: u32| window.get(..length as usize).unwrap_or(window);
    let model = if cfg!(feature = "paged") {
        Model::parse_resident(image(Palm::resident_len(window)?))?
    } else {
        Model::parse(image(Palm::total_len(window)?))?
    };
    model.palm().verify()?;
    Ok(model)
}

/// Bytes of the arena for these limits and so many slots, which mapped experts do not need.
#[must_use]
pub fn arena_bytes(model: &Model<'_>, limits: Limits, slots: usize) -> usize {
    if cfg!(feature = "paged") {
        model.paged_arena_bytes(limits, slots)
    } else {
        model.arena_bytes(limits)
    }
}

/// Puts a session into `slot`; it gets exactly the bytes of arena that the plan says, so that a plan
/// that is too small would show. A function of its own, so that the session lies on the stack once
/// and not as often as it is handed on.
///
/// # Errors
/// As the session's.
#[inline(never)]
pub fn open<'v, 'm, 'a>(
    slot: &'v mut Option<Session<'m, 'a, Experts<'m, 'a>>>,
    model: &Model<'m>,
    arena: &'a mut [u8],
    limits: Limits,
    slots: usize,
) -> Result<&'v mut Session<'m, 'a, Experts<'m, 'a>>, Error> {
    let (needed, got) = (arena_bytes(model, limits, slots), arena.len());
    let arena = arena
        .get_mut(..needed)
        .ok_or(Error::ArenaTooSmall { needed, got })?;
    #[cfg(feature = "units")]
    let model = &crate::units::bounded(model);
    #[cfg(feature = "paged")]
    let session = Session::paged(*model, limits, arena, paged::storage(), slots)?;
    #[cfg(not(feature = "paged"))]
    let session = Session::new(*model, limits, arena)?;
    Ok(slot.insert(session))
}

/// What the storage has given so far; nothing where the experts are mapped.
#[must_use]
pub fn statistics(experts: &Experts<'_, '_>) -> Option<Statistics> {
    #[cfg(feature = "paged")]
    return Some(experts.statistics());
    #[cfg(not(feature = "paged"))]
    {
        let _ = experts;
        None
    }
}

#[cfg(not(feature = "paged"))]
mod mapped {
    /// Experts in mapped memory.
    pub type Experts<'m, 'a> = palmtop::storage::Mapped<'m>;
}

#[cfg(feature = "paged")]
mod paged {
    use embedded_storage::ReadStorage;
    use palmtop::storage::{Embedded, Paged};
    use semihosting::fs::File;
    use semihosting::io::{Read, Seek, SeekFrom};

    /// Experts from the host's file.
    pub type Experts<'m, 'a> = Paged<'a, Embedded<HostFile>>;

    /// A file of the host as a device.
    pub struct HostFile(Option<File>);

    /// The host has no such file, or it ends too early.
    #[derive(Debug)]
    pub struct NotRead;

    /// The file that holds the whole model.
    pub fn storage() -> Embedded<HostFile> {
        Embedded::new(HostFile(File::open(c"model.palm").ok()), 0)
    }

    impl ReadStorage for HostFile {
        type Error = NotRead;

        fn read(&mut self, offset: u32, mut bytes: &mut [u8]) -> Result<(), NotRead> {
            let file = self.0.as_mut().ok_or(NotRead)?;
            file.seek(SeekFrom::Start(offset.into()))
                .map_err(|_| NotRead)?;
            while !bytes.is_empty() {
                match file.read(bytes) {
                    Ok(count) if count > 0 => {
                        bytes = bytes.get_mut(count..).unwrap_or_default();
                    }
                    _ => return Err(NotRead),
                }
            }
            Ok(())
        }

        fn capacity(&self) -> usize {
            let length = self.0.as_ref().and_then(|file| file.metadata().ok());
            length.map_or(0, |data| data.len() as usize)
        }
    }
}
