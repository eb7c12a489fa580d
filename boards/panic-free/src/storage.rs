//! Experts from storage.

use core::hint::black_box;

use embedded_storage::ReadStorage;
use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash};
use palmtop::storage::{AsyncStorage, Embedded, NorFlash, Storage, WeightSource};
use palmtop::{Model, Session};

use crate::Opaque;
use crate::model::limits;

/// Storage that gives any bytes, or an error.
struct Any(&'static [u8]);

impl Any {
    fn fill(&self, offset: u32, into: &mut [u8]) -> Option<()> {
        let start = offset as usize;
        let bytes = self.0.get(start..)?;
        for (to, from) in into.iter_mut().zip(bytes) {
            *to = *from;
        }
        (bytes.len() >= into.len()).then_some(())
    }
}

impl ReadStorage for Any {
    type Error = u32;

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), u32> {
        self.fill(offset, into).ok_or(offset)
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl ErrorType for Any {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Any {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        self.fill(offset, into).ok_or(NorFlashErrorKind::Other)
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

/// A paged session, whatever the storage gives.
pub fn paged(opaque: &mut Opaque) {
    let (Ok(model), limits) = (Model::parse_resident(opaque.bytes), limits(opaque)) else {
        return;
    };
    let model = model.with_unit(opaque.number(41));
    let slots = opaque.number(3) as usize;
    black_box(model.slot_bytes());
    black_box(model.paged_arena_bytes(limits, slots));
    let storage = Embedded::new(Any(opaque.bytes), opaque.number(4));
    let session = Session::paged(model, limits, opaque.arena, storage, slots);
    let Ok(mut session) = black_box(session) else {
        return;
    };
    if let Ok(encoded) = session.encode(opaque.ids) {
        let mut decoder = encoded.decoder();
        for &id in opaque.numbers {
            let _ = black_box(decoder.step(id).is_ok());
        }
        let counts = black_box(decoder.session().source().statistics());
        black_box(counts.hit_rate());
    }
    let source = session.source_mut();
    black_box(source.slots());
    black_box(source.is_paged());
    black_box(source.take_error());
    black_box(source.storage());
    source.reset_statistics();
    let _ = black_box(source.expert(limits.source, &model.palm().expert(limits.target)));
}

impl AsyncStorage for Any {
    type Error = u32;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), u32> {
        self.fill(offset, bytes).ok_or(offset)
    }
}

/// An awaited session, without what is `async`.
pub fn awaited(opaque: &mut Opaque) {
    let (Ok(model), limits) = (Model::parse_resident(opaque.bytes), limits(opaque)) else {
        return;
    };
    let model = model.with_unit(opaque.number(41));
    let (slots, storage) = (opaque.number(3) as usize, Any(opaque.bytes));
    let session = Session::awaited(model, limits, opaque.arena, storage, slots);
    let Ok(mut session) = black_box(session) else {
        return;
    };
    let _ = black_box(session.encode(opaque.ids).is_ok());
    let source = session.source_mut();
    black_box((source.slots(), source.statistics(), source.is_paged()));
    black_box(source.take_error());
    black_box(source.storage());
    source.reset_statistics();
}

/// Reads through the adapters.
pub fn adapters(opaque: &mut Opaque) {
    let (base, offset) = (opaque.number(0), opaque.number(1));
    let mut embedded = Embedded::new(Any(opaque.bytes), base);
    let _ = black_box(embedded.read(offset, opaque.arena));
    let Some(mut flash) = black_box(NorFlash::new(Any(opaque.bytes), base)) else {
        return;
    };
    black_box(flash.device());
    let _ = black_box((&mut flash).read(offset, opaque.arena));
}
