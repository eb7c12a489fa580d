//! An arena in a memory of one's choice.

use core::mem::MaybeUninit;

use palmtop::Arena;

/// Reserves an arena and hands it out as `&'static mut [u8]`; the same place in the program panics
/// when it is reached again.
///
/// Without a section it lies with the other statics. With one it lies where `memory.x` puts that
/// section, and this is how the arena gets into CCM or DTCM:
///
/// ```ignore
/// let arena = arena!(G2P.arena_bytes(LIMITS), in ".ccmram");
/// ```
///
/// ```text
/// SECTIONS { .ccmram (NOLOAD) : ALIGN(16) { *(.ccmram .ccmram.*); } > CCMRAM } INSERT AFTER .bss;
/// ```
///
/// Size reports find the arena by the name of its static, `PALMTOP_ARENA`.
///
/// Start-up code neither copies nor zeroes it; the macro zeroes it when it is handed out.
#[macro_export]
macro_rules! arena {
    ($bytes:expr) => {
        $crate::arena!($bytes, in ".uninit.palmtop_arena")
    };
    ($bytes:expr, in $section:literal) => {{
        static ONCE: $crate::StaticCell<()> = $crate::StaticCell::new();
        #[unsafe(link_section = $section)]
        static mut PALMTOP_ARENA: ::core::mem::MaybeUninit<$crate::Arena<{ $bytes }>> =
            ::core::mem::MaybeUninit::uninit();
        ONCE.init(());
        // SAFETY: `init` has let only one caller come here, so that there is no second reference.
        $crate::zeroed(unsafe { &mut *(&raw mut PALMTOP_ARENA) })
    }};
}

/// Fills an arena with zeros. For [`arena!`].
#[doc(hidden)]
pub fn zeroed<const N: usize>(memory: &mut MaybeUninit<Arena<N>>) -> &mut [u8] {
    // Not by `write(Arena::new())`: that might build the arena on the stack first.
    // SAFETY: the pointer comes from a reference, and zeros are a valid arena.
    unsafe {
        memory.as_mut_ptr().write_bytes(0, 1);
        memory.assume_init_mut().as_mut_slice()
    }
}
