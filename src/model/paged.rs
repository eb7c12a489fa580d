//! Sessions whose experts are read from storage through a cache at the end of the arena.
//!
//! ```text
//! [ the session's plan, rounded up to 16 | slots | marks of the slots ]
//! ```

use core::future::{Future, poll_fn};
use core::task::Poll;

use super::{Decoder, Encoded, Error, Limits, Model, Progress, Session};
use crate::format::ALIGN;
use crate::storage::{
    AsyncStorage, Awaited, Paged, Storage, StorageError, WeightSource, cache_bytes, slot_bytes,
};
use crate::tensor::turn;

impl<'m> Model<'m> {
    /// Bytes of a slot for one expert: the greatest of the file; 0 if there are none.
    pub const fn slot_bytes(&self) -> usize {
        slot_bytes(&self.palm)
    }

    /// Bytes of a cache of so many slots, for [`Paged::new`]. Saturates where a `usize` cannot hold
    /// the number.
    pub const fn cache_bytes(&self, slots: usize) -> usize {
        cache_bytes(&self.palm, slots)
    }

    /// Bytes of the arena that [`Session::paged`] needs with these limits and so many slots:
    /// exactly so many are enough. Slots beyond the number of experts take nothing. Saturates where
    /// a `usize` cannot hold the number.
    ///
    /// ```ignore
    /// const G2P: Model = include_resident_model!("g2p.palm");
    /// const LIMITS: Limits = Limits { source: 32, target: 48, beams: 1 };
    /// static mut ARENA: Arena<{ G2P.paged_arena_bytes(LIMITS, 2) }> = Arena::new();
    /// ```
    pub const fn paged_arena_bytes(&self, limits: Limits, slots: usize) -> usize {
        let (plan, cache) = (self.arena_bytes(limits), cache_bytes(&self.palm, slots));
        match plan.checked_next_multiple_of(ALIGN) {
            _ if cache == 0 => plan,
            Some(plan) => plan.saturating_add(cache),
            None => usize::MAX,
        }
    }
}

impl<'m, 'a, S: Storage> Session<'m, 'a, Paged<'a, S>> {
    /// A session whose experts are read from `storage`, which holds the whole file, into a cache of
    /// `slots` slots. `model` needs the file's resident part only.
    ///
    /// ```no_run
    /// use palmtop::storage::Storage;
    /// use palmtop::{Error, Model, Session};
    ///
    /// fn run(resident: &[u8], flash: impl Storage, arena: &mut [u8]) -> Result<(), Error> {
    ///     let Ok(model) = Model::parse_resident(resident) else { return Ok(()) };
    ///     let limits = model.default_limits();
    ///     let mut session = Session::paged(model, limits, arena, flash, 2)?;
    ///     let mut decoder = session.encode(&[5, 6, 7])?.decoder();
    ///     decoder.step(0)?;
    ///     let counts = decoder.session().source().statistics();
    ///     println!("{} bytes, hit rate {}", counts.bytes_read, counts.hit_rate());
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Session::with_source`]; [`Error::NoSlots`] if `slots` is 0 and the model has experts;
    /// [`Error::ArenaTooSmall`] with [`Model::paged_arena_bytes`] as the number
    /// that would do.
    pub fn paged(
        model: Model<'m>,
        limits: Limits,
        arena: &'a mut [u8],
        storage: S,
        slots: usize,
    ) -> Result<Self, Error> {
        Self::with_cache(model, limits, (arena, slots), |cache| {
            let source = Paged::new(model.palm(), storage, slots, cache);
            (source.slots(), source)
        })
    }
}

impl<'m, 'a, S: AsyncStorage> Session<'m, 'a, Awaited<'a, S>> {
    /// [`Session::paged`] for storage that is awaited: use [`Session::encode_async`] and
    /// [`Decoder::step_async`].
    ///
    /// # Errors
    /// As [`Session::paged`].
    pub fn awaited(
        model: Model<'m>,
        limits: Limits,
        arena: &'a mut [u8],
        storage: S,
        slots: usize,
    ) -> Result<Self, Error> {
        Self::with_cache(model, limits, (arena, slots), |cache| {
            let pieces = (slots, turn::bytes_of(model.shape().unit));
            let source = Awaited::new(model.palm(), storage, pieces, cache);
            (source.slots(), source)
        })
    }

    /// [`Session::encode`], awaiting experts that are in no slot; if the model has bounded units
    /// ([`Model::with_unit`]), other tasks get their turn after each. Dropped before its end, it is
    /// given up; the session can start over.
    ///
    /// # Errors
    /// As [`Session::encode`].
    pub async fn encode_async(
        &mut self,
        source: &[u32],
    ) -> Result<Encoded<'_, 'm, 'a, Awaited<'a, S>>, Error> {
        let mut encoding = self.start(source)?;
        loop {
            match encoding.poll() {
                Ok(Progress::Pending) => encoding.session.give_way().await,
                Ok(Progress::Ready) => return encoding.finish(),
                Err(error) => load(&mut encoding.session.source, error).await?,
            }
        }
    }
}

impl<'a, S: AsyncStorage> Decoder<'_, '_, 'a, Awaited<'a, S>> {
    /// [`Decoder::step`], awaiting experts that are in no slot, in units as
    /// [`Session::encode_async`]. Dropped before its end, it is given
    /// up: the position is used anew by the next step.
    ///
    /// # Errors
    /// As [`Decoder::step`].
    pub async fn step_async(&mut self, id: u32) -> Result<&[f32], Error> {
        self.begin(id)?;
        loop {
            match self.poll() {
                Ok(Progress::Pending) => self.session.give_way().await,
                Ok(Progress::Ready) => return Ok(self.logits()),
                Err(error) => load(&mut self.session.source, error).await?,
            }
        }
    }
}

/// Loads the expert whose absence is the error; any other error stays one.
async fn load<S: AsyncStorage>(source: &mut Awaited<'_, S>, error: Error) -> Result<(), Error> {
    match error {
        Error::Storage {
            expert,
            reason: StorageError::Absent,
        } => {
            let loaded = source.load().await;
            loaded.map_err(|reason| Error::Storage { expert, reason })
        }
        error => Err(error),
    }
}

impl<'m, 'a, S: WeightSource> Session<'m, 'a, S> {
    /// A session with a source that has a cache of so many slots at the arena's end; `source` makes
    /// it, and says how many slots it got.
    fn with_cache(
        model: Model<'m>,
        limits: Limits,
        (arena, slots): (&'a mut [u8], usize),
        source: impl FnOnce(&'a mut [u8]) -> (usize, S),
    ) -> Result<Self, Error> {
        let (needed, got) = (model.paged_arena_bytes(limits, slots), arena.len());
        let too_small = Error::ArenaTooSmall { needed, got };
        let plan = model.arena_bytes(limits).checked_next_multiple_of(ALIGN);
        let at = plan.unwrap_or(got).min(got);
        let (arena, cache) = arena.split_at_mut_checked(at).unwrap_or_default();
        // Without enough memory the cache has no slots; what is wrong with limits or alignment is
        // said first.
        let (made, source) = source(cache);
        match Self::with_source(model, limits, arena, source) {
            Err(Error::ArenaTooSmall { .. }) => Err(too_small),
            Ok(_) if slots == 0 && model.slot_bytes() > 0 => Err(Error::NoSlots),
            Ok(_) if made == 0 && model.slot_bytes() > 0 => Err(too_small),
            result => result,
        }
    }

    /// Pending once, if units are bounded: other tasks get their turn.
    fn give_way(&self) -> impl Future<Output = ()> + use<S> {
        let mut gave = self.model.shape().unit == usize::MAX;
        poll_fn(move |context| {
            if gave {
                return Poll::Ready(());
            }
            gave = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// The source of the experts' weights: of a paged session, to reset its counts or to get at its
    /// storage.
    pub const fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }
}
