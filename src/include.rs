//! A model inside the program, checked when it is compiled.

/// Bytes at a multiple of 16, as an image must lie.
#[doc(hidden)]
#[repr(C, align(16))]
#[derive(Debug)]
pub struct Aligned<B: ?Sized>(pub B);

/// Includes a `.palm` file in the program and checks its header and tables at compile time; gives
/// a [`Model`](crate::Model) that can stand in a `const`, so that its sizes are constants.
///
/// A file that is damaged, or that this version cannot read, does not compile.
///
/// ```ignore
/// use palmtop::{Arena, Limits, Model, include_model};
/// const G2P: Model = include_model!("g2p.palm");
/// const LIMITS: Limits = Limits { source: 32, target: 48, beams: 1 };
/// static mut ARENA: Arena<{ G2P.arena_bytes(LIMITS) }> = Arena::new();
/// ```
#[macro_export]
macro_rules! include_model {
    ($path:expr) => {{
        static IMAGE: &$crate::Aligned<[u8]> = &$crate::Aligned(*include_bytes!($path));
        const MODEL: $crate::Model<'static> = match $crate::Model::parse(&IMAGE.0) {
            Ok(model) => model,
            Err(_) => panic!("not a .palm file that this version of palmtop can read"),
        };
        MODEL
    }};
}

/// [`include_model!`](crate::include_model) for a file whose experts are read from storage: includes
/// only its resident part.
///
/// ```ignore
/// use palmtop::{Arena, Limits, Model, include_resident_model};
/// const G2P: Model = include_resident_model!("g2p.palm");
/// const LIMITS: Limits = Limits { source: 32, target: 48, beams: 1 };
/// static mut ARENA: Arena<{ G2P.paged_arena_bytes(LIMITS, 2) }> = Arena::new();
/// ```
#[macro_export]
macro_rules! include_resident_model {
    ($path:expr) => {{
        const FILE: &[u8] = include_bytes!($path);
        const LENGTH: usize = match $crate::format::Palm::resident_len(FILE) {
            Ok(length) => length as usize,
            Err(_) => panic!("not a .palm file"),
        };
        static IMAGE: &$crate::Aligned<[u8]> =
            &$crate::Aligned(match FILE.first_chunk::<LENGTH>() {
                Some(resident) => *resident,
                None => panic!("the .palm file is truncated"),
            });
        const MODEL: $crate::Model<'static> = match $crate::Model::parse_resident(&IMAGE.0) {
            Ok(model) => model,
            Err(_) => panic!("not a .palm file that this version of palmtop can read"),
        };
        MODEL
    }};
}
