//! Which instructions the kernels of this machine use: found out once, when the first kernel runs.
//!
//! Every level gives the bits of the portable kernels; only speed differs.

use core::sync::atomic::{AtomicU8, Ordering};

/// A set of instructions that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Level {
    /// None: the portable kernels.
    Portable = 1,
    /// 128-bit vectors of any 64-bit x86 since 2008.
    Sse41 = 2,
    /// 256-bit vectors.
    Avx2 = 3,
    /// 256-bit vectors with byte products.
    AvxVnni = 4,
    /// 512-bit vectors with byte products.
    Avx512 = 5,
    /// 128-bit vectors of any 64-bit Arm.
    Neon = 6,
    /// The same with dot products of four bytes.
    NeonDot = 7,
    /// The same with products of 2×8 and 8×2 bytes.
    NeonMatrix = 8,
}

impl Level {
    /// All of them; of a machine's, the slowest first.
    pub const ALL: [Self; 8] = [
        Self::Portable,
        Self::Sse41,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512,
        Self::Neon,
        Self::NeonDot,
        Self::NeonMatrix,
    ];

    /// Its name, which the environment variable `PALMTOP_LEVEL` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Sse41 => "sse4.1",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512 => "avx512-vnni",
            Self::Neon => "neon",
            Self::NeonDot => "neon-dotprod",
            Self::NeonMatrix => "neon-i8mm",
        }
    }

    /// Whether this machine has what the level needs.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            match self {
                Self::Portable => true,
                Self::Sse41 => has!("sse4.1"),
                Self::Avx2 => has!("avx2"),
                Self::AvxVnni => has!("avx2") && has!("avxvnni"),
                Self::Avx512 => {
                    has!("avx2")
                        && has!("avx512f")
                        && has!("avx512bw")
                        && has!("avx512dq")
                        && has!("avx512vl")
                        && has!("avx512vnni")
                }
                Self::Neon | Self::NeonDot | Self::NeonMatrix => false,
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected as has;
            match self {
                Self::Portable => true,
                Self::Sse41 | Self::Avx2 | Self::AvxVnni | Self::Avx512 => false,
                Self::Neon => has!("neon"),
                Self::NeonDot => has!("dotprod"),
                Self::NeonMatrix => has!("dotprod") && has!("i8mm"),
            }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            self == Self::Portable
        }
    }

    fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|level| *level as u8 == code)
    }
}

/// The level in use; 0 before it is known.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// The level in use: the fastest that this machine has, or the one that the environment variable
/// `PALMTOP_LEVEL` names, if the machine has it.
#[inline]
pub fn level() -> Level {
    match Level::of(LEVEL.load(Ordering::Relaxed)) {
        Some(level) => level,
        None => detect(),
    }
}

#[cold]
fn detect() -> Level {
    let named = std::env::var("PALMTOP_LEVEL").ok();
    let named = Level::ALL
        .into_iter()
        .find(|level| named.as_deref() == Some(level.name()) && level.is_available());
    let fastest = || Level::ALL.into_iter().rfind(|level| level.is_available());
    let level = named.or_else(fastest).unwrap_or(Level::Portable);
    LEVEL.store(level as u8, Ordering::Relaxed);
    level
}

/// Uses `level` from now on, in all threads; says whether this machine has it. For tests and
/// measurements.
pub fn force(level: Level) -> bool {
    let available = level.is_available();
    if available {
        LEVEL.store(level as u8, Ordering::Relaxed);
    }
    available
}
